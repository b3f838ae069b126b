"""The terminal client by its keys, in Textual's pilot, against the fake server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain

import anyio
from support.fake_network import FakeNetwork, fake_network
from support.fake_server import FakeServer
from textual.pilot import Pilot
from textual.widgets import Input, Static

from chatd.cli.chat.dialogs import Dialog, Help
from chatd.cli.chat.finding import Finding
from chatd.cli.chat.model import Chats
from chatd.cli.chat.screen import ChatApp
from chatd.client import Client, Credential, Event, Overview, Settings
from chatd.wire import make
from chatd.wire.schema import Kind, Op, Topic

ALICE, BOB, CAROL = 1, 2, 3
NAMES = {ALICE: "alice", BOB: "bob", CAROL: "carol"}


def people() -> FakeServer:
    server = FakeServer(NAMES)
    server.create(7, ALICE, BOB)
    server.create(8, ALICE, BOB, CAROL)
    server.append(8, CAROL, Kind.TEXT, b"lunch?")
    server.append(7, BOB, Kind.TEXT, b"hello alice")
    return server


@asynccontextmanager
async def screen(network: FakeNetwork) -> AsyncIterator[tuple[ChatApp, Pilot[None]]]:
    settings = Settings(backoff_base_s=0.1, backoff_max_s=0.3)
    client = Client(network.address, Credential.jwt("1"), wait_s=0, settings=settings)
    app = ChatApp(client, "alice")
    async with app.run_test(size=(100, 30)) as pilot:
        yield app, pilot


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await pilot.pause(0.02)


def play(story: Callable[[FakeNetwork, ChatApp, Pilot[None]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with fake_network(people()) as network, screen(network) as (app, pilot):
            await until(pilot, lambda: app.chats.current is not None and app.chats.current.loaded)
            await story(network, app, pilot)

    asyncio.run(main())


def shown(app: ChatApp, selector: str) -> str:
    return str(app.query_one(selector, Static).render())


def test_the_newest_conversation_opens_with_its_messages() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        del network, pilot
        assert "hello alice" in shown(app, "#messages")
        assert "bob" in shown(app, "#title")
        assert [chat.cid for chat in app.chats.sorted()] == [7, 8]

    play(story)


def test_typed_text_is_sent_and_ticked_off() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: "you: hi ✓" in shown(app, "#messages"))
        assert network.server.logs[7].events[-1].payload == b"hi"
        assert app.query_one("#input", Input).value == ""
        for delivered, read in ((2, 1), (2, 2)):
            entries = [{"user": BOB, "delivered_seq": delivered, "read_seq": read}]
            network.server.links[0].emit(make(Op.RECEIPT, cid=7, entries=entries))
        network.wake()
        await until(pilot, lambda: "you: hi ✓✓" in shown(app, "#messages"))

    play(story)


def test_others_messages_count_as_unread_until_opened() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        network.server.append(8, CAROL, Kind.TEXT, b"one")
        network.server.append(8, CAROL, Kind.TEXT, b"two")
        network.wake()
        before = app.chats.chat(8).unread
        await until(pilot, lambda: app.chats.chat(8).unread >= before + 2 or app.chats.chat(8).unread == 3)
        assert [chat.cid for chat in app.chats.sorted()] == [8, 7]
        await pilot.press("ctrl+up")
        await until(pilot, lambda: app.chats.current is app.chats.chat(8))
        await until(pilot, lambda: "two" in shown(app, "#messages"))
        assert app.chats.chat(8).unread == 0
        await until(pilot, lambda: any(frame.op == Op.READ for frame in network.server.links[0].seen))

    play(story)


def test_a_broken_connection_is_shown_and_what_is_typed_waits() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        network.refusing = True
        await network.break_connections()
        await until(pilot, lambda: app.query_one("#banner").has_class("shown"))
        assert "What you send waits" in shown(app, "#banner")
        await pilot.press(*"later", "enter")
        await until(pilot, lambda: "you: later" in shown(app, "#messages"))
        assert "✓" not in shown(app, "#messages")
        network.refusing = False
        await until(pilot, lambda: "you: later ✓" in shown(app, "#messages"))
        assert not app.query_one("#banner").has_class("shown")

    play(story)


def test_typing_is_shown_while_it_lasts() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        typing = {"cid": 7, "sender": BOB, "kind": 1}
        network.server.links[0].emit(make(Op.EPHEMERAL, **typing, payload=b"\x01"))
        network.wake()
        await until(pilot, lambda: "bob is typing" in shown(app, "#typing"))
        network.server.links[0].emit(make(Op.EPHEMERAL, **typing, payload=b"\x00"))
        network.wake()
        await until(pilot, lambda: not shown(app, "#typing"))

    play(story)


def test_a_stream_is_shown_while_it_is_written() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        link = network.server.links[0]
        await until(
            pilot, lambda: any(frame.op == Op.SUBSCRIBE and frame["topics"] & Topic.STREAMS for frame in link.seen)
        )
        link.emit(make(Op.STREAM_SNAPSHOT, cid=7, stream=5, sender=BOB, kind=1, payload=b"Once"))
        link.emit(make(Op.STREAM_DELTA, cid=7, stream=5, offset=4, payload=b" upon"))
        network.wake()
        await until(pilot, lambda: "bob: Once upon▌" in shown(app, "#messages"))
        network.server.append(7, BOB, Kind.TEXT, b"Once upon a time")
        link.emit(make(Op.STREAM_END, cid=7, stream=5, cseq=0))
        network.wake()
        await until(pilot, lambda: "bob: Once upon a time" in shown(app, "#messages"))
        await until(pilot, lambda: "▌" not in shown(app, "#messages"))

    play(story)


def test_new_conversations_are_made_by_name() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+n")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press(*"carol", "enter")
        await until(pilot, lambda: app.chats.current is not None and app.chats.current.cid == 1003)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press(*"Team", "enter", *"bob,carol", "enter")
        await until(pilot, lambda: app.chats.current is not None and app.chats.current.title == "Team")
        created = network.server.logs[app.chats.current.cid] if app.chats.current else None
        assert created is not None
        assert set(created.members) == {ALICE, BOB, CAROL}

    play(story)


def test_names_that_nobody_has_can_be_mended() -> None:
    """What was typed stands in the next window."""

    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        del network
        for key, typed in (("ctrl+n", ["carl", "enter"]), ("ctrl+g", ["Team", "enter", "bob,carl", "enter"])):
            before = app.chats.current
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Dialog))
            first = app.screen
            await pilot.press(*chain.from_iterable([word] if word == "enter" else word for word in typed))
            await until(pilot, lambda first=first: isinstance(app.screen, Dialog) and app.screen is not first)
            last = app.screen.query(Input).last()
            assert last.value.endswith("carl")
            last.value = last.value.replace("carl", "carol")
            last.focus()
            await pilot.press("enter")
            await until(pilot, lambda before=before: app.chats.current is not before)

    play(story)


def test_help_opens_and_closes() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        del network
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, Help))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Help))

    play(story)


def test_the_model_bounds_what_it_keeps_and_orders_by_time() -> None:
    chats = Chats()
    for cid, time_ms in ((1, 10), (2, 30), (3, 20)):
        chats.take_overview(Overview(cid, last_time_ms=time_ms, message_count=5, read_count=2))
    assert [chat.cid for chat in chats.sorted()] == [2, 3, 1]
    assert chats.chat(1).unread == 3
    chat = chats.chat(1)
    for seq in range(1, 1001):
        chat.add(Event(1, seq, BOB, seq, Kind.TEXT, b"x"))
    assert (len(chat.events), min(chat.events)) == (500, 501)


def test_the_pane_says_that_nothing_earlier_is_kept() -> None:
    chats = Chats()
    chats.take_overview(Overview(1, floor_seq=5))
    chat = chats.chat(1)
    chat.add(Event(1, 6, BOB, 6, Kind.TEXT, b"x"))
    assert "not kept" not in str(chats.messages_of(chat))
    chat.add(Event(1, 5, BOB, 5, Kind.TEXT, b"y"))
    assert "not kept" in str(chats.messages_of(chat))


def test_search_shows_what_stands_around_a_result_and_opens_its_conversation() -> None:
    async def story(network: FakeNetwork, app: ChatApp, pilot: Pilot[None]) -> None:
        network.server.append(8, BOB, Kind.TEXT, b"at noon")
        await pilot.press("ctrl+f")
        await until(pilot, lambda: isinstance(app.screen, Finding))
        await pilot.press(*"lunch", "enter")
        await until(pilot, lambda: app.screen.query("#hits ListItem"))
        await pilot.press("enter")
        await until(pilot, lambda: "lunch?" in str(app.screen.query_one("#context", Static).render()))
        assert "at noon" in str(app.screen.query_one("#context", Static).render())
        await pilot.press("enter")
        await until(pilot, lambda: app.chats.current is not None and app.chats.current.cid == 8)

    play(story)
