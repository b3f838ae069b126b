"""Cancel every public operation at its k-th checkpoint, for every k, on trio and asyncio: the client goes on, a send is
stored once, an event is seen once, and leaving leaves nothing behind."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.cancelling import cancelled_at
from support.fake_network import FakeNetwork, fake_network
from support.fake_server import FakeServer

from chatd.client import Client, Credential, Event, Link, Settings
from chatd.wire.schema import Kind

ALICE, BOB, CID = 1, 2, 7
QUICK = Settings(start="beginning", backoff_base_s=0.01, backoff_max_s=0.05)
CHECKPOINTS_MAX = 200
Story = Callable[[FakeNetwork], Awaitable[None]]
Operation = Callable[[Client, int], Awaitable[object]]


@pytest.fixture(params=["trio", "asyncio"])
def play(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    def run(story: Story) -> None:
        async def main() -> None:
            server = FakeServer({ALICE: "alice", BOB: "bob"})
            server.create(CID, ALICE, BOB)
            with anyio.fail_after(60):
                async with fake_network(server) as network:
                    await story(network)

        anyio.run(main, backend=request.param)

    return run


def client(network: FakeNetwork, user: int, state: Path | None = None) -> Client:
    return Client(network.address, Credential.jwt(str(user)), settings=QUICK, wait_s=10.0, state=state)


async def back_again(client: Client) -> None:
    async for signal in client.signals():
        if isinstance(signal, Link) and signal.state == "live" and signal.reason:
            return


OPERATIONS: dict[str, Operation] = {
    "send": lambda client, k: client.send(CID, f"send {k}"),
    "direct": lambda client, _: client.direct(BOB),
    "create_group": lambda client, k: client.create_group(f"group {k}", [BOB]),
    "user_named": lambda client, _: client.user_named("bob"),
    "conversation_list": lambda client, _: client.conversation_list(),
    "members": lambda client, _: client.members(CID),
    "history": lambda client, _: client.history(CID),
    "latest": lambda client, _: client.latest(CID, 5),
    "synced": lambda client, _: client.synced(),
    "event": lambda client, _: anext(client.events()),
    "signal": lambda client, _: back_again(client),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_cancelled_anywhere_leaves_a_client_that_works(name: str, play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, ALICE) as alice:
            reached, k = True, 0
            while reached:
                k += 1
                assert k < CHECKPOINTS_MAX
                if name == "event":
                    network.server.append(CID, BOB, Kind.TEXT, b"something")
                if name in {"event", "signal"}:
                    network.wake()
                    alice.typing(CID)
                    await network.break_connections()
                operation = OPERATIONS[name]
                reached, _ = await cancelled_at(k, lambda: operation(alice, k))  # noqa: B023  called at once
            assert k > 1, "it has a checkpoint"
            sent = await alice.send(CID, "last")
            texts = [event.payload.decode() for event in network.server.logs[CID].events]
            assert sent.seq == len(texts)
            if name == "send":
                assert texts == [f"send {number}" for number in range(1, k + 1)] + ["last"], "each once, in order"

    play(story)


def test_reading_cancelled_anywhere_gives_every_event_once_and_in_order(play: Callable[[Story], None]) -> None:
    count = 60

    async def story(network: FakeNetwork) -> None:
        seen: list[int] = []

        async def read(source: Any) -> None:
            async for update in source:
                assert isinstance(update, Event)
                seen.append(update.seq)
                if len(seen) == count:
                    return

        async with client(network, BOB) as bob, anyio.create_task_group() as tasks:
            tasks.start_soon(write, network, count)
            k = 0
            while len(seen) < count:
                k += 1
                # A new iterator each time, as a program that starts over has.
                await cancelled_at(1 + k % 7, lambda: read(bob.events()))
        assert seen == list(range(1, count + 1))

    play(story)


async def write(network: FakeNetwork, count: int) -> None:
    for number in range(count):
        network.server.append(CID, ALICE, Kind.TEXT, b"%d" % number)
        network.wake()
        await anyio.sleep(0.002)


def test_entering_and_leaving_cancelled_anywhere_free_the_state_file(
    play: Callable[[Story], None], tmp_path: Path
) -> None:
    path = tmp_path / "alice.db"

    async def story(network: FakeNetwork) -> None:
        async def visit(number: int) -> None:
            async with client(network, ALICE, path) as alice:
                alice.queue(CID, f"visit {number}")
                await alice.synced()

        reached, k = True, 0
        while reached:
            k += 1
            assert k < CHECKPOINTS_MAX
            reached, _ = await cancelled_at(k, lambda: visit(k))  # noqa: B023  called at once
        async with client(network, ALICE, path) as alice:
            await alice.send(CID, "last")
            assert alice.device == 1, "one device over all visits"
        await network.until(lambda: not network.server.links)
        texts = [event.payload.decode() for event in network.server.logs[CID].events]
        assert len(set(texts)) == len(texts)
        visits = [int(text.split()[1]) for text in texts[:-1]]
        assert visits == sorted(visits)
        assert visits[-1] == k
        assert texts[-1] == "last"

    play(story)
