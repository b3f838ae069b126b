"""The shell: the same client on trio and on asyncio, over real sockets, against the fake server."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from support.fake_network import FakeNetwork, fake_network
from support.fake_server import FakeServer

from chatd.client import (
    AuthError,
    Client,
    ClosedError,
    Credential,
    Ephemeral,
    Event,
    ForbiddenError,
    Link,
    NoAnswerError,
    NotFoundError,
    Reset,
    Settings,
    UnreachableError,
)
from chatd.wire.schema import Close, ErrorCode, Kind, Method

ALICE, BOB = 1, 2
QUICK = Settings(start="beginning", backoff_base_s=0.01, backoff_max_s=0.05)
Story = Callable[[FakeNetwork], Awaitable[None]]


@pytest.fixture(params=["trio", "asyncio"])
def play(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Run a story on this backend, with a server that has conversation 7 of alice and bob."""

    def run(story: Story) -> None:
        async def main() -> None:
            server = FakeServer()
            server.create(7, ALICE, BOB)
            with anyio.fail_after(30):
                async with fake_network(server) as network:
                    await story(network)

        anyio.run(main, backend=request.param)

    return run


def client(network: FakeNetwork, user: int, **options: object) -> Client:
    options = {"settings": QUICK, "wait_s": 10.0} | options
    return Client(network.address, Credential.jwt(str(user)), **options)  # type: ignore[arg-type]


async def take(source: Client, count: int, auto: bool = True) -> list[Event]:
    events: list[Event] = []
    async for update in source.events(auto):
        assert isinstance(update, Event)
        events.append(update)
        if not auto:
            update.done()
        if len(events) == count:
            return events
    raise AssertionError("events ended")


def test_a_send_returns_its_place_and_reaches_the_other(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, ALICE) as alice, client(network, BOB) as bob:
            sent = await alice.send(7, "hi")
            assert (sent.cid, sent.seq, sent.dup) == (7, 1, False)
            (event,) = await take(bob, 1)
            assert (event.cid, event.seq, event.sender, event.text, event.own) == (7, 1, ALICE, "hi", False)
            (own,) = await take(alice, 1)
            assert own.own
            assert own.text == "hi"

    play(story)


def test_sends_survive_broken_connections(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, ALICE) as alice, anyio.create_task_group() as tasks:
            places: list[int] = []

            async def send(number: int) -> None:
                places.append((await alice.send(7, f"number {number}")).seq)

            for number in range(50):
                tasks.start_soon(send, number)
                if number % 10 == 5:
                    await network.break_connections()
                    await anyio.sleep(0.01)
        assert sorted(places) == list(range(1, 51))
        assert len(network.server.logs[7].events) == 50

    play(story)


def test_confirmed_events_do_not_come_again_after_a_restart(play: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(network: FakeNetwork) -> None:
        for number in range(5):
            network.server.append(7, ALICE, Kind.TEXT, b"%d" % number)
        path = tmp_path / "bob.db"
        async with client(network, BOB, state=path) as bob:
            assert [event.seq for event in await take(bob, 3, auto=False)] == [1, 2, 3]
            device = bob.device
        async with client(network, BOB, state=path) as bob:
            assert [event.seq for event in await take(bob, 2)] == [4, 5]
            assert bob.device == device

    play(story)


def test_a_slow_reader_is_pushed_no_more_than_the_window(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, BOB) as bob:
            first = bob.events()
            network.server.append(7, ALICE, Kind.TEXT, b"0")
            network.wake()
            await anext(first)
            for number in range(100):
                network.server.append(7, ALICE, Kind.TEXT, b"%d" % number)
            network.wake()
            link = network.server.links[0]
            await anyio.sleep(0.3)
            assert link.acked <= 1, "what the application has not taken is not acknowledged"
            for _ in range(100):
                await anext(first)
            await network.until(lambda: link.acked == link.delivered)

    play(story)


def test_who_reads_no_events_does_not_stop_the_server(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, BOB) as bob:
            await bob.synced()
            for number in range(100):
                network.server.append(7, ALICE, Kind.TEXT, b"%d" % number)
            network.wake()
            link = network.server.links[0]
            await network.until(lambda: link.acked == 100)
            assert bob.conversations()[0].unread == 100
            assert [event.seq for event in await take(bob, 100)] == list(range(1, 101))

    play(story)


def test_history_does_not_touch_positions(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        for number in range(10):
            network.server.append(7, ALICE, Kind.TEXT, b"%d" % number)
        async with client(network, BOB) as bob:
            assert [event.seq for event in await bob.latest(7, 5)] == [6, 7, 8, 9, 10]
            page = await bob.history(7, 1, 2)
            assert ([event.seq for event in page.events], page.head_seq) == ([1, 2], 10)
            assert [event.seq for event in await take(bob, 10)] == list(range(1, 11))
            with pytest.raises(NotFoundError):
                await bob.history(8)

    play(story)


def test_requests_are_repeated_with_one_idempotency_key(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, ALICE) as alice:
            network.server.reply_silence = 1
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alice.direct, BOB)
                await network.until(lambda: network.server.requests)
                await network.break_connections()
            (_, first), (_, second) = network.server.requests
            assert first == second
            assert len(first[0]) == 16
            with pytest.raises(ForbiddenError, match="MEMBER_ADD: FORBIDDEN: not for you"):
                await alice.add_members(7, [3])
            with pytest.raises(NotFoundError, match="there is no user 'nobody'"):
                await alice.user_named("nobody")
            network.server.reply_silence = 1
            with pytest.raises(NoAnswerError, match="whether it was done is unknown"):
                await alice.request(Method.MEMBER_LEAVE, {1: 7}, timeout_s=0.1)

    play(story)


def test_typing_and_the_state_of_the_connection_are_signals(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, ALICE) as alice, client(network, BOB) as bob:
            bob.follow(7)
            assert alice.typing(7)
            links = []
            async for signal in bob.signals():
                if isinstance(signal, Link):
                    links.append(signal.state)
                if isinstance(signal, Ephemeral):
                    assert (signal.cid, signal.sender, signal.payload) == (7, ALICE, b"\x01")
                    break
            assert links == ["connecting", "live"]

    play(story)


def test_takeover_ends_the_older_client(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        async with client(network, ALICE) as alice:
            network.server.links[0].close(Close.TAKEN_OVER)
            network.wake()
            with pytest.raises(ClosedError, match="TAKEN_OVER") as caught:
                await take(alice, 1)
            assert caught.value.reason == Close.TAKEN_OVER
            with pytest.raises(ClosedError):
                await alice.send(7, "too late")

    play(story)


def test_a_refused_login_is_an_error_at_once(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        network.server.refuse_login = ErrorCode.AUTH_FAILED
        with pytest.raises(AuthError, match="login: AUTH_FAILED"):
            async with client(network, ALICE):
                pass

    play(story)


def test_a_credential_source_is_asked_again_when_its_token_is_refused(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        network.server.refuse_login = ErrorCode.TOKEN_EXPIRED
        asked = 0

        async def source() -> Credential:
            nonlocal asked
            asked += 1
            if asked == 2:
                network.server.refuse_login = 0
            return Credential.jwt(str(ALICE))

        async with Client(network.address, source, settings=QUICK, wait_s=10) as alice:
            assert alice.user == ALICE
        assert asked == 2

    play(story)


def test_no_server_is_said_with_its_address(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        del network
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 .*refused"):
            async with Client("127.0.0.1:1", Credential.guest(), wait_s=0.2):
                pass

    play(story)


def test_a_restored_server_resets_positions_and_says_so(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        network.server.append(7, ALICE, Kind.TEXT, b"old")
        async with client(network, BOB) as bob:
            await take(bob, 1)
            network.server.log_epoch = 2
            network.server.logs[7].events[:] = []
            network.server.append(7, ALICE, Kind.TEXT, b"new")
            await network.break_connections()
            updates = bob.events()
            assert await anext(updates) == Reset(2)
            event = await anext(updates)
            assert isinstance(event, Event)
            assert (event.seq, event.text) == (1, "new")

    play(story)


def test_a_member_added_later_starts_at_the_first_readable_event(play: Callable[[Story], None]) -> None:
    async def story(network: FakeNetwork) -> None:
        network.server.create(8, ALICE)
        for number in range(5):
            network.server.append(8, ALICE, Kind.TEXT, b"%d" % number)
        async with client(network, BOB) as bob:
            await bob.synced()
            network.server.add_member(8, BOB, by=ALICE)
            network.server.append(8, ALICE, Kind.TEXT, b"welcome")
            network.wake()
            assert [(event.cid, event.seq) for event in await take(bob, 2)] == [(8, 6), (8, 7)]

    play(story)
