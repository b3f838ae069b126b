"""`chatd why` on a running server: each story names the hop where it went differently, and when."""

import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from support.live import DUP, Peer, peer
from support.processes import is_alive, workers

from chatd.testing import ChatdServer
from chatd.wire.schema import Method, Op

CLOCK_TOLERANCE_MS = 50
SMALL = ("queue.soft_bytes=8192", "queue.low_bytes=4096", "queue.socket_send_bytes=4096", "hub.ledger_entries_max=4096")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    flags = [word for setting in SMALL for word in ("--set", setting)]
    directory = tmp_path_factory.mktemp("why")
    with ChatdServer.start(directory, *flags, "--shards", "2", inline=False) as server:
        yield server


@asynccontextmanager
async def meeting(server: ChatdServer, *names: str) -> AsyncIterator[tuple[list[Peer], int]]:
    """The first of them on shard 0 and owner of the group, the second on shard 1."""
    async with peer(server, names[0], shard=0) as ann, peer(server, names[1], shard=1) as bob:
        yield [ann, bob], await ann.group([bob.user])


async def why(server: ChatdServer, cid: int, seq: int, user: int) -> tuple[dict[str, tuple[int, str]], bool]:
    """hop → (time_ms, detail), and whether something has aged out."""
    async with peer(server, "admin") as boss:
        answer = await boss.call(Method.ADMIN_WHY, {1: cid, 2: seq, 3: user})
    return {hop: (time_ms, detail) for time_ms, hop, detail in answer[1]}, answer[2]


async def why_until(server: ChatdServer, cid: int, seq: int, user: int, hop: str) -> dict[str, tuple[int, str]]:
    """The hops, when the shard of the receiver has come to this one: it may be later than the sender's ack."""
    with trio.fail_after(10):
        while True:
            hops, _ = await why(server, cid, seq, user)
            if hop in hops:
                return hops
            await trio.sleep(0.05)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def between(hops: dict[str, tuple[int, str]], hop: str, begun: int) -> bool:
    return begun - CLOCK_TOLERANCE_MS <= hops[hop][0] <= now_ms() + CLOCK_TOLERANCE_MS


def steps(hops: dict[str, tuple[int, str]]) -> list[str]:
    """What happened, in order: the hops that have a time, behind the fact that the event is stored."""
    return [hop for hop, (time_ms, _) in hops.items() if time_ms and hop != "stored"]


async def test_a_delivered_message_shows_its_whole_way(server: ChatdServer) -> None:
    async with meeting(server, "ann1", "bob1") as ((ann, bob), cid):
        begun = now_ms()
        seq = await ann.say(cid)
        await bob.delivered(cid, seq)
        await bob.barrier()
        hops, aged_out = await why(server, cid, seq, bob.user)
        assert not aged_out
        way = ["accepted", "committed", "pushed", "queued", "written", "acked"]
        assert set(way) <= hops.keys()
        assert all(between(hops, hop, begun) for hop in way)
        times = [hops[hop][0] for hop in way]
        assert times == sorted(times)
        assert hops["written"][1].startswith("shard 1:")


async def test_offline_is_said(server: ChatdServer) -> None:
    async with meeting(server, "ann2", "bob2") as ((ann, bob), cid):
        await bob.stream.aclose()
        await trio.sleep(0.2)
        begun = now_ms()
        seq = await ann.say(cid)
        hops, aged_out = await why(server, cid, seq, bob.user)
        assert not aged_out
        assert between(hops, "offline", begun)
        assert steps(hops) == ["accepted", "committed", "offline"]
        async with peer(server, "bob2", device=bob.device):
            hops, _ = await why(server, cid, seq, bob.user)
            assert "offline" in hops, "still true of that moment"


async def test_lag_is_said(server: ChatdServer) -> None:
    async with peer(server, "ann3", shard=0) as ann, peer(server, "bob3", shard=1, receive_bytes=4096) as bob:
        cid = await ann.group([bob.user])
        begun = now_ms()
        for _ in range(60):
            seq = await ann.say(cid, bytes(3000))
        hops = await why_until(server, cid, seq, bob.user, "lagged")
        assert between(hops, "lagged", begun)
        way = ["accepted", "committed", "pushed", "routed", "lagged"]
        assert steps(hops) in (way, [*way, "lag_sent"])
        await bob.next(Op.LAG, where=lambda lag: bool(lag["to_seq"] >= seq))
        hops = await why_until(server, cid, seq, bob.user, "lag_sent")
        assert between(hops, "lag_sent", begun)
        assert steps(hops)[-2:] == ["lagged", "lag_sent"]


async def test_duplicate_is_said(server: ChatdServer) -> None:
    async with meeting(server, "ann4", "bob4") as ((ann, bob), cid):
        ack = await ann.send(cid, b"once")
        await trio.sleep(0.1)
        begun = now_ms()
        assert (await ann.send(cid, b"once", ack["cseq"])).flags & DUP
        hops, _ = await why(server, cid, ack["seq"], bob.user)
        assert between(hops, "duplicate", begun)
        assert str(ann.device) in hops["duplicate"][1]


async def test_removed_member_is_said(server: ChatdServer) -> None:
    async with meeting(server, "ann5", "bob5") as ((ann, bob), cid):
        begun = now_ms()
        removed_at = (await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]}))[1]
        seq = await ann.say(cid, b"without bob")
        hops, _ = await why(server, cid, seq, bob.user)
        assert hops["not for this user"][1] == f"user {bob.user} was a member only at 1..{removed_at}"
        assert steps(hops) == ["accepted", "committed", "not_member"]
        assert between(hops, "not_member", begun)


async def test_event_that_does_not_exist_is_said(server: ChatdServer) -> None:
    async with meeting(server, "ann6", "bob6") as ((_, bob), cid):
        hops, _ = await why(server, cid, 99, bob.user)
        assert hops.keys() == {"not stored"}


async def test_the_command_prints_it(server: ChatdServer) -> None:
    async with meeting(server, "ann7", "bob7") as ((ann, bob), cid):
        seq = await ann.say(cid)
        await bob.delivered(cid, seq)
        await bob.barrier()
        command = [sys.executable, "-m", "chatd", "why", f"{cid}:{seq}", "--user", "bob7", "--json"]
        done = await trio.run_process(
            [*command, "--server", server.address, "--data", str(server.data)], capture_stdout=True
        )
        hops = [json.loads(line)["hop"] for line in done.stdout.splitlines()]
        assert "written" in hops


async def test_killed_shard_and_restart_are_said(server: ChatdServer) -> None:
    async with meeting(server, "ann8", "bob8") as ((ann, bob), cid):
        said = now_ms()
        seq = await ann.say(cid)
        await bob.delivered(cid, seq)
        await replaced(server, "shard 1")
        hops, aged_out = await why(server, cid, seq, bob.user)
        assert aged_out, "the ledger of the shard died with it"
        assert {"stored", "aged out"} <= hops.keys()
        assert steps(hops) == ["accepted", "committed", "pushed"], "what the hub knows"
        begun = now_ms()
        missed = await ann.say(cid)
        hops, _ = await why(server, cid, missed, bob.user)
        assert between(hops, "offline", begun)
        server.stop()
        server.launch()
        hops, aged_out = await why(server, cid, seq, bob.user)
        assert aged_out
        assert hops.keys() == {"stored", "for this user", "aged out"}
        assert between(hops, "stored", said)


async def replaced(server: ChatdServer, name: str) -> None:
    """Kill a worker and wait until its replacement takes part."""
    old = workers(server.pid)[name]
    os.kill(old, signal.SIGKILL)
    with trio.fail_after(10):
        while is_alive(old) or workers(server.pid).get(name, old) == old:  # noqa: ASYNC110 a process is no event
            await trio.sleep(0.02)
        async with peer(server, "probe", shard=int(name.split()[1])):
            return
