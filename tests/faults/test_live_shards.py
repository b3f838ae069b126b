"""One of three shards dies: connections of the others do not notice, and who waits in its listen queue is served.

How much the others feel is measured (docs/internals/process.md), not asserted.
"""

import os
import signal
from collections.abc import Iterator

import pytest
import trio
from support.live import Peer, peer
from support.processes import is_alive, workers

from chatd.testing import ChatdServer
from chatd.wire.schema import Credential, Op

VICTIM = "shard 2"
WAITING = 24
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    options = ("--shards", "3", "--set", "process.silence_timeout_ms=1500")
    with ChatdServer.start(tmp_path_factory.mktemp("shards"), *options, inline=False) as server:
        yield server


async def replaced(server: ChatdServer, old: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while is_alive(old) or workers(server.pid).get(VICTIM, old) == old:  # noqa: ASYNC110 a process is no event
            await trio.sleep(0.02)


async def test_a_killed_shard_costs_the_others_neither_connection_nor_message(server: ChatdServer) -> None:
    async with peer(server, "ann", shard=0) as ann, peer(server, "bob", shard=1) as bob:
        cid = await ann.group([bob.user])
        lasts = dict.fromkeys((ann, bob), 0)
        killed = trio.Event()

        async def talk(one: Peer) -> None:
            for _ in range(150):
                lasts[one] = await one.say(cid)
                await trio.sleep(0.005)

        async def kill() -> None:
            while min(lasts.values()) < 30:  # noqa: ASYNC110 both are in the middle of it
                await trio.sleep(0.005)
            old = workers(server.pid)[VICTIM]
            os.kill(old, signal.SIGKILL)
            killed.set()
            await replaced(server, old)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for task in (kill, lambda: talk(ann), lambda: talk(bob)):
                    nursery.start_soon(task)
        assert killed.is_set()
        head = max(lasts.values())
        # Own events come as acks, those of the other as DELIVERs: together the whole log, on the first connection.
        logs = {one: {seq for seq, _ in await one.log(cid)} for one in (ann, bob)}
        assert logs[ann] == logs[bob] == set(range(1, head + 1))
        for one in (ann, bob):
            await one.barrier()
            pushed = [frame["seq"] for frame in one.take(Op.DELIVER) if frame["cid"] == cid]
            assert pushed == sorted(set(pushed)), "in order, none twice"
            assert len(pushed) >= 150, "every message of the other"


@pytest.mark.parametrize("then_killed", [True, False], ids=["killed", "silent"])
async def test_connections_in_the_listen_queue_of_a_dead_shard_are_served_by_the_next(
    server: ChatdServer, then_killed: bool
) -> None:
    """The supervisor holds the sockets: what the kernel has queued stays there."""
    old = workers(server.pid)[VICTIM]
    os.kill(old, signal.SIGSTOP)
    served: set[int] = set()

    async def log_in(number: int) -> None:
        client = await Peer.connect(server, f"waiting{number}")
        async with client.stream:
            await client.hello()
            answer = await client.auth(Credential.JWT, server.token(client.name).encode())
            assert answer.op == Op.WELCOME, answer
        served.add(number)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(WAITING):
                nursery.start_soon(log_in, number)
            await trio.sleep(0.7)
            assert 0 < len(served) < WAITING, "some wait for the stopped shard, others are served meanwhile"
            if then_killed:
                os.kill(old, signal.SIGKILL)
    assert len(served) == WAITING
    await replaced(server, old)
