"""One worker process fails under a running server (contract, section 11): what the others notice, and for how long.

Times are printed; the asserted bounds are generous, because test machines are busy. bench/ measures.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.live import DUP, Closed, Peer, peer
from support.processes import is_alive, workers

from chatd.testing import ChatdServer
from chatd.wire.schema import Credential, ErrorCode, Op

RECOVERED_WITHIN_S = 10.0
SILENCE_MS = 1500
HUB_WAIT_S = 1.9


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    options = ("--shards", "2", "--set", f"process.silence_timeout_ms={SILENCE_MS}")
    with ChatdServer.start(tmp_path_factory.mktemp("workers"), *options, inline=False) as server:
        yield server


@asynccontextmanager
async def meeting(server: ChatdServer, *names: str) -> AsyncIterator[tuple[Peer, Peer, int]]:
    """The first on shard 0, the second on shard 1, in one group."""
    async with peer(server, names[0], shard=0) as ann, peer(server, names[1], shard=1) as bob:
        yield ann, bob, await ann.group([bob.user])


async def come_back(server: ChatdServer, gone: Peer) -> tuple[Peer, float]:
    """Reconnect until it succeeds. The new connection, and how long it took."""
    begun = time.monotonic()
    with trio.fail_after(RECOVERED_WITHIN_S):
        while True:
            try:
                back = await Peer.connect(server, gone.name)
                if (await back.login(device=gone.device)).op == Op.WELCOME:
                    return back, time.monotonic() - begun
            except (Closed, OSError, trio.BrokenResourceError):
                pass
            await trio.sleep(0.02)


async def test_killed_shard_drops_only_its_connections_and_retry_resolves_its_sends(server: ChatdServer) -> None:
    async with meeting(server, "ann", "bob") as (ann, bob, cid):
        old = workers(server.pid)["shard 1"]
        cseqs = [await bob.post(cid, b"%d" % number) for number in range(40)]
        os.kill(old, signal.SIGKILL)
        begun = time.monotonic()
        await ann.say(cid, b"not disturbed")
        quiet_s = time.monotonic() - begun
        with pytest.raises(Closed):
            await bob.end()
        back, took_s = await come_back(server, bob)
        print(f"others answered in {quiet_s:.3f} s, reconnected after {took_s:.3f} s")
        async with back.stream:
            answers = [await back.send(cid, b"%d" % number, cseq) for number, cseq in enumerate(cseqs)]
            assert all(answer.op == Op.SEND_ACK for answer in answers)
            stored = [payload for _, payload in await back.log(cid, 3) if payload != b"not disturbed"]
            assert stored == [b"%d" % number for number in range(40)], "each once, in order"
            known = {ack["cseq"]: ack["seq"] for ack in bob.take(Op.SEND_ACK)}
            assert all(answer.flags & DUP for answer in answers if answer["cseq"] in known)
            assert all(answer["seq"] == known.get(answer["cseq"], answer["seq"]) for answer in answers)
        await ann.barrier()


async def test_killed_hub_drops_nobody_and_sends_and_logins_wait_for_the_next(server: ChatdServer) -> None:
    async with meeting(server, "carl", "dora") as (carl, dora, cid):
        before = await carl.say(cid, b"before")
        hub = workers(server.pid)["hub"]
        cseqs = [await carl.post(cid, b"%d" % number) for number in range(20)]
        os.kill(hub, signal.SIGKILL)
        begun = time.monotonic()
        later = await carl.say(cid, b"after")
        print(f"hub: answered {time.monotonic() - begun:.3f} s after the kill")
        for cseq in cseqs:
            assert (await carl.answer(cseq)).op == Op.SEND_ACK
        pushed = await dora.delivered(cid, later)
        assert [frame["seq"] for frame in pushed] == list(range(1, later + 1)), "also what was not pushed yet"
        assert later == before + 21
        os.kill(workers(server.pid)["hub"], signal.SIGKILL)
        newcomer = await Peer.connect(server, "erik")
        async with newcomer.stream:
            begun = time.monotonic()
            answer = await newcomer.login()
            if answer.op == Op.ERROR:
                assert answer["code"] == ErrorCode.UNAVAILABLE
                assert time.monotonic() - begun > HUB_WAIT_S, "refused only after waiting for the next hub"
                answer = await newcomer.auth(Credential.JWT, server.token("erik").encode())
            assert answer.op == Op.WELCOME
            print(f"hub: a login took {time.monotonic() - begun:.3f} s")


async def test_killed_folder_is_not_noticed(server: ChatdServer) -> None:
    async with meeting(server, "fred", "gina") as (fred, gina, cid):
        old = workers(server.pid)["folder"]
        os.kill(old, signal.SIGKILL)
        begun = time.monotonic()
        for _ in range(20):
            last = await fred.say(cid)
        print(f"folder: twenty sends in {time.monotonic() - begun:.3f} s")
        assert [frame["seq"] for frame in await gina.delivered(cid, last)] == list(range(1, last + 1))
        assert len(await gina.log(cid)) == last
        await replaced(server, "folder", old)


@pytest.mark.parametrize("name", ["hub", "shard 1"])
async def test_stopped_worker_is_replaced(server: ChatdServer, name: str) -> None:
    suffix = name.replace(" ", "-")
    async with meeting(server, f"hans-{suffix}", f"ines-{suffix}") as (hans, _, cid):
        await hans.say(cid, b"before")
        old = workers(server.pid)[name]
        os.kill(old, signal.SIGSTOP)
        begun = time.monotonic()
        await replaced(server, name, old)
        seq = await hans.say(cid, b"after")
        print(f"{name}: stopped, replaced and answering after {time.monotonic() - begun:.3f} s")
        assert (await hans.log(cid, seq))[0] == (seq, b"after")


async def replaced(server: ChatdServer, name: str, old: int) -> None:
    with trio.fail_after(RECOVERED_WITHIN_S):
        while is_alive(old) or workers(server.pid).get(name, old) == old:  # noqa: ASYNC110 a process is no event
            await trio.sleep(0.02)


async def test_killed_supervisor_takes_all_along_and_a_new_start_goes_on(tmp_path: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "2", inline=False) as server:
        async with meeting(server, "ann", "bob") as (ann, bob, cid):
            seq = await ann.say(cid, b"kept")
            pids = list(workers(server.pid).values())
            server.kill()
            with trio.fail_after(RECOVERED_WITHIN_S):
                while any(map(is_alive, pids)):  # noqa: ASYNC110 a process is no event
                    await trio.sleep(0.02)
            await trio.to_thread.run_sync(server.launch)
            back, took_s = await come_back(server, bob)
            print(f"supervisor: back {took_s:.3f} s after the port answered")
            async with back.stream:
                assert await back.log(cid, seq) == [(seq, b"kept")]
