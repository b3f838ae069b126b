"""The window that searches: words, what was found, and what stands around it."""

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, ListItem, ListView, Static

from chatd.cli.chat.model import Chats
from chatd.cli.show import event_text, local_time, safe
from chatd.client import Client, ClientError, Event, Hit

HITS = 30
AROUND = 3


class Finding(ModalScreen[int]):
    """Enter in the words: search. Enter on a result: what stands around it; once more: its cid is given back."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close")]
    DEFAULT_CSS = """
    Finding { align: center middle; }
    Finding .dialog { width: 90%; height: 90%; }
    Finding ListView { height: 1fr; }
    Finding #context { height: auto; max-height: 9; }
    """

    def __init__(self, client: Client, chats: Chats) -> None:
        super().__init__()
        self._client = client
        self._chats = chats
        self._hits: list[Hit] = []
        self._shown: Hit | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label("Search", classes="title")
            yield Input(placeholder="words", id="words")
            yield ListView(id="hits")
            yield Static(id="context", markup=False)

    def action_leave(self) -> None:
        self.dismiss(0)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip():
            self._find(event.value)

    @work(exclusive=True)
    async def _find(self, words: str) -> None:
        view, context = self.query_one("#hits", ListView), self.query_one("#context", Static)
        try:
            page = await self._client.search_page(words, limit=HITS)
        except ClientError as error:
            context.update(str(error))
            return
        self._hits, self._shown = page.hits, None
        await view.clear()
        await view.extend(ListItem(Label(self._row(hit))) for hit in page.hits)
        context.update("" if page.hits else "nothing was found")
        if page.hits:
            view.index = 0
            view.focus()

    def _row(self, hit: Hit) -> Text:
        row = Text(f"{local_time(hit.time_ms, '%Y-%m-%d %H:%M')} {self._called(hit.sender)}: ")
        for piece, matches in hit.pieces():
            row.append(safe(piece), "bold reverse" if matches else "")
        return row

    def _called(self, user: int) -> str:
        return "you" if user == self._chats.me else safe(self._chats.names.get(user, f"user {user}"))

    async def on_list_view_selected(self, event: ListView.Selected) -> None:
        event.stop()
        hit = self._hits[self.query_one("#hits", ListView).index or 0]
        if hit is self._shown:
            self.dismiss(hit.cid)
            return
        self._shown = hit
        self._look_around(hit)

    @work(exclusive=True)
    async def _look_around(self, hit: Hit) -> None:
        try:
            events = await self._client.around(hit.cid, hit.seq, AROUND, AROUND)
        except ClientError as error:
            self.query_one("#context", Static).update(str(error))
            return
        self.query_one("#context", Static).update("\n".join(map(self._line, events)))

    def _line(self, event: Event) -> str:
        return f"{self._called(event.sender)}: {safe(event_text(event, self._chats.names))}"
