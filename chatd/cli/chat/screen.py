"""The terminal client: widgets and keys over chatd.client.

The client may start without a connection: what is typed waits in its state file and leaves when the server is back. One
worker holds the client open and watches its events and signals; key presses only change the model and ask for a redraw.
"""

import time
from typing import ClassVar

import anyio
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Footer, Input, Label, ListItem, ListView, Static

from chatd.cli.chat.dialogs import Help, new_direct, new_group
from chatd.cli.chat.finding import Finding
from chatd.cli.chat.model import TYPING_SHOWN_S, Chat, Chats, Pending
from chatd.cli.show import users_in
from chatd.client import (
    Client,
    ClientError,
    ClosedError,
    Ephemeral,
    Event,
    Link,
    Receipt,
    Reset,
    SendFailed,
    Signal,
    Streaming,
    Update,
)
from chatd.errors import ChatdError
from chatd.wire import schema
from chatd.wire.schema import EphemeralKind, Topic

PAGE = 50
TYPING_EVERY_S = 3.0
READ_EVERY_S = 0.5


class ChatApp(App[None]):
    """client: not entered yet. user: our name. open_with: a user whose conversation to open. failure: why it ended."""

    TITLE = "chatd"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #list { width: 30; border-right: solid $primary; }
    #banner { background: $warning; color: $text; padding: 0 1; display: none; }
    #banner.shown { display: block; }
    #title { padding: 0 1; text-style: bold; background: $panel; width: 100%; }
    #scroll { height: 1fr; padding: 0 1; }
    #typing { height: 1; padding: 0 1; color: $text-muted; }
    .dialog { width: 64; height: auto; padding: 1 2; border: thick $primary; background: $surface; }
    .dialog .title { text-style: bold; margin-bottom: 1; }
    Dialog, Help { align: center middle; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help"),
        Binding("ctrl+n", "direct", "New"),
        Binding("ctrl+g", "group", "Group"),
        Binding("ctrl+f", "search", "Search", priority=True),
        Binding("ctrl+down", "step(1)", "Next", show=False, priority=True),
        Binding("ctrl+up", "step(-1)", "Previous", show=False, priority=True),
        Binding("pageup", "older", "Older", show=False),
        Binding("pagedown", "newer", "Newer", show=False),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, client: Client, user: str, open_with: str | None = None) -> None:
        super().__init__()
        self.client = client
        self.chats = Chats()
        self.failure: ChatdError | None = None
        self._user = user
        self._open_with = open_with
        self._typing_said_at = 0.0
        self._rows: dict[int, Label] = {}
        self._opens_first = False  # somebody new has nothing to choose from: the first conversation opens by itself

    def compose(self) -> ComposeResult:
        yield Static(id="banner", markup=False)
        with Horizontal():
            yield ListView(id="list")
            with Vertical():
                yield Label(f"{self._user}: choose a conversation, or make one with Ctrl+N", id="title", markup=False)
                with VerticalScroll(id="scroll"):
                    yield Static(id="messages", markup=False)
                yield Static(id="typing", markup=False)
                yield Input(placeholder="message", id="input")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#input", Input).focus()
        self.set_interval(1.0, self._show_typing)
        self.converse()

    # ------------------------------------------------------------ the client

    @work(exclusive=True, group="client")
    async def converse(self) -> None:
        """Hold the client open until the application or the session ends."""
        try:
            async with self.client as client, anyio.create_task_group() as tasks:
                self.chats.me = client.user
                tasks.start_soon(self._watch_signals)
                tasks.start_soon(self._begin)
                async for update in client.events():
                    await self._take_update(update)
        except* ChatdError as group:
            self._end(innermost(group))

    def _end(self, error: ChatdError) -> None:
        """The session is over: nothing more can be done here."""
        self.failure = None if isinstance(error, ClosedError) and error.reason == schema.Close.NORMAL else error
        self.exit()

    async def _begin(self) -> None:
        """Once there is a first connection: titles, members and the conversation asked for."""
        await self.client.wait_live(timeout_s=float("inf"))
        self.chats.me = self.client.user
        await self.client.synced(timeout_s=float("inf"))
        for overview in self.client.conversations():
            self.chats.take_overview(overview)
        for info in await self.client.conversation_list():
            chat = self.chats.chat(info.cid)
            chat.title, chat.kind = info.title, info.kind
        self._show_list()
        for chat in self.chats.sorted()[:PAGE]:
            await self._learn_members(chat)
        self._show_list()
        if self._open_with:
            await self._direct_opened(self._open_with)
        elif self.chats.by_cid and self.chats.current is None:
            await self.open(self.chats.sorted()[0])
        self._opens_first = self.chats.current is None and not self._open_with

    async def _learn_members(self, chat: Chat) -> None:
        try:
            members = await self.client.members(chat.cid)
        except ClientError:
            return
        chat.members = {member.user for member in members}
        for member in members:
            self.chats.names[member.user] = member.name
            if member.user != self.chats.me:
                chat.receipt(member.user, member.delivered_seq, member.read_seq)

    async def _take_update(self, update: Update) -> None:
        if isinstance(update, Reset):
            self.chats.by_cid.clear()
            self.chats.current = None
            self._show_list()
            return
        if not isinstance(update, Event):
            return
        chat = self.chats.chat(update.cid)
        is_new = not chat.members
        chat.add(update)
        if update.own:
            chat.unread = 0
        elif schema.KINDS[update.kind].message if update.kind in schema.KINDS else False:
            chat.unread += 1
        if self._opens_first and self.chats.current is None:
            await self.open(chat)
        if is_new or not users_in(update) <= self.chats.names.keys() or not update.text:
            self._learn(chat)
        if chat is self.chats.current:
            self._show_messages()
            self._mark_read(chat)
        self._show_list()

    @work(group="learn")
    async def _learn(self, chat: Chat) -> None:
        """Members and title anew, beside the stream of events."""
        await self._learn_members(chat)
        try:
            info = await self.client.conversation(chat.cid)
        except ClientError:
            return
        chat.title, chat.kind = info.title, info.kind
        self._show_list()
        if chat is self.chats.current:
            self._show_messages()

    async def _watch_signals(self) -> None:
        async for signal in self.client.signals():
            self._take_signal(signal)

    def _take_signal(self, signal: Signal) -> None:
        match signal:
            case Link():
                self._show_link(signal)
            case Ephemeral(kind=EphemeralKind.TYPING) if signal.sender != self.chats.me:
                chat = self.chats.chat(signal.cid)
                chat.typing[signal.sender] = time.monotonic() + TYPING_SHOWN_S if signal.payload != b"\0" else 0.0
                self._show_typing()
            case Streaming():
                self.chats.chat(signal.cid).streams = self.client.running_streams(signal.cid)
                self._show_messages()
            case Receipt() if signal.user != self.chats.me:
                self.chats.chat(signal.cid).receipt(signal.user, signal.delivered_seq, signal.read_seq)
                self._show_messages()
            case SendFailed():
                self.notify(f"not sent: {signal.error}", severity="error", markup=False)
            case _:
                pass

    # ------------------------------------------------------------ showing

    def _show_link(self, link: Link) -> None:
        words = {
            "connecting": f"connecting … {link.text}",
            "waiting": f"no connection ({link.text}); again in {link.retry_s:.0f} s. What you send waits.",
            "closed": f"the session is over: {link.text}",
        }
        banner = self.query_one("#banner", Static)
        banner.update(words.get(link.state, ""))
        banner.set_class(link.state in {"waiting", "closed"}, "shown")

    def _show_list(self) -> None:
        """Redraw the list; items are only made anew when the order changed."""
        view = self.query_one("#list", ListView)
        order = [chat.cid for chat in self.chats.sorted()]
        if order != list(self._rows):
            # Kept by us: the items find their labels only when they are mounted, which is later.
            self._rows = {chat.cid: Label(self.chats.row_of(chat)) for chat in self.chats.sorted()}
            view.clear()
            view.extend(ListItem(label, name=str(cid)) for cid, label in self._rows.items())
            if self.chats.current is not None and self.chats.current.cid in order:
                view.index = order.index(self.chats.current.cid)
            return
        for cid, label in self._rows.items():
            label.update(self.chats.row_of(self.chats.by_cid[cid]))

    def _show_messages(self) -> None:
        chat = self.chats.current
        if chat is None:
            return
        scroll = self.query_one("#scroll", VerticalScroll)
        at_end = scroll.scroll_y >= scroll.max_scroll_y - 1
        self.query_one("#title", Label).update(self.chats.title_of(chat))
        self.query_one("#messages", Static).update(self.chats.messages_of(chat))
        if at_end:
            self.call_after_refresh(scroll.scroll_end, animate=False)
        self._show_typing()

    def _show_typing(self) -> None:
        chat = self.chats.current
        self.query_one("#typing", Static).update(self.chats.typing_of(chat, time.monotonic()) if chat else "")

    # ------------------------------------------------------------ conversations

    async def open(self, chat: Chat) -> None:
        """Show a conversation: its newest messages, its typing and receipts."""
        before, self.chats.current = self.chats.current, chat
        if before is chat:
            return
        if before is not None:
            self.client.unfollow(before.cid)
        self.client.follow(chat.cid, Topic.EPHEMERAL | Topic.RECEIPTS | Topic.STREAMS)
        self._show_messages()
        self.query_one("#scroll", VerticalScroll).scroll_end(animate=False)
        if not chat.loaded:
            self._load(chat, 0)
        self._mark_read(chat)
        self._show_list()

    @work(group="load")
    async def _load(self, chat: Chat, before_seq: int) -> None:
        try:
            for event in await self.client.latest(chat.cid, PAGE, before_seq):
                chat.add(event)
            await self._learn_members(chat)
            chat.loaded = True
        except ClientError as error:
            self.notify(str(error), severity="warning", markup=False)
        self._show_messages()

    def _mark_read(self, chat: Chat) -> None:
        if chat.head_seq:
            self.client.mark_read(chat.cid, chat.head_seq)
            chat.unread = 0

    async def on_list_view_highlighted(self, event: ListView.Highlighted) -> None:
        if event.item is not None and event.item.name and self.query_one("#list").has_focus:
            await self.open(self.chats.chat(int(event.item.name)))

    async def on_list_view_selected(self, event: ListView.Selected) -> None:
        if event.item.name:
            await self.open(self.chats.chat(int(event.item.name)))
            self.query_one("#input", Input).focus()

    # ------------------------------------------------------------ sending

    def on_input_submitted(self, event: Input.Submitted) -> None:
        text, chat = event.value.strip(), self.chats.current
        if not text or chat is None:
            return
        pending = Pending(text)
        try:
            _, promise = self.client.queue(chat.cid, text)
        except ClientError as error:
            self.notify(f"not sent: {error}", severity="error", markup=False)
            return
        event.input.value = ""
        self._typing_said_at = 0.0
        chat.pending.append(pending)
        self._await_answer(chat, pending, promise)
        self._show_messages()

    @work(group="sends")
    async def _await_answer(self, chat: Chat, pending: Pending, promise: object) -> None:
        try:
            await self.client.answer(promise)  # type: ignore[arg-type]
            chat.pending.remove(pending)
        except ClientError as error:
            pending.error = str(error)
        self._show_messages()

    def on_input_changed(self, event: Input.Changed) -> None:
        now, chat = time.monotonic(), self.chats.current
        if chat is not None and event.value and now >= self._typing_said_at + TYPING_EVERY_S and self.client.is_live:
            self._typing_said_at = now
            self.client.typing(chat.cid)

    # ------------------------------------------------------------ keys

    def action_help(self) -> None:
        self.push_screen(Help())

    async def action_step(self, step: int) -> None:
        chats = self.chats.sorted()
        if chats:
            index = chats.index(self.chats.current) if self.chats.current in chats else -step
            await self.open(chats[(index + step) % len(chats)])
            self.query_one("#list", ListView).index = (index + step) % len(chats)

    def action_older(self) -> None:
        scroll, chat = self.query_one("#scroll", VerticalScroll), self.chats.current
        if chat is not None and scroll.scroll_y <= 0 and chat.events and min(chat.events) > 1:
            self._load(chat, min(chat.events))
        scroll.scroll_page_up()

    def action_newer(self) -> None:
        self.query_one("#scroll", VerticalScroll).scroll_page_down()

    @work(group="dialog")
    async def action_direct(self) -> None:
        """A name that nobody has can be mended."""
        given: dict[str, str] | None = None
        while (given := await self.push_screen_wait(new_direct(given))) is not None:
            if await self._direct_opened(given["name"]):
                return

    @work(group="dialog")
    async def action_group(self) -> None:
        given: dict[str, str] | None = None
        while (given := await self.push_screen_wait(new_group(given))) is not None:
            if await self._group_made(given):
                return

    async def _group_made(self, given: dict[str, str]) -> bool:
        names = [name.strip() for name in given["names"].split(",") if name.strip()]
        try:
            users = await self.client.resolve(names)
            unknown = [name for name in names if name not in users]
            if unknown:
                self.notify(
                    f"there is no user {', '.join(unknown)}: who has logged in once is there",
                    severity="error",
                    markup=False,
                )
                return False
            cid = await self.client.create_group(given["title"], [user.id for user in users.values()])
            await self._opened_new(cid)
        except ClientError as error:
            self.notify(str(error), severity="error", markup=False)
            return False
        return True

    @work(group="dialog")
    async def action_search(self) -> None:
        cid = await self.push_screen_wait(Finding(self.client, self.chats))
        if cid:
            await self.open(self.chats.chat(cid))

    async def _direct_opened(self, name: str) -> bool:
        try:
            await self._opened_new(await self.client.direct((await self.client.user_named(name)).id))
        except ClientError as error:
            self.notify(str(error), severity="error", markup=False)
            return False
        return True

    async def _opened_new(self, cid: int) -> None:
        chat = self.chats.chat(cid)
        info = await self.client.conversation(cid)
        chat.title, chat.kind = info.title, info.kind
        await self._learn_members(chat)
        await self.open(chat)
        self.query_one("#input", Input).focus()


def innermost(group: BaseExceptionGroup[ChatdError]) -> ChatdError:
    """The first reason, however deep the task groups nested it."""
    first = group.exceptions[0]
    return innermost(first) if isinstance(first, BaseExceptionGroup) else first
