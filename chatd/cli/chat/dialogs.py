"""The windows that open over the conversation: new direct, new group, help."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

HELP = """\
Enter       send the message
Tab         between the list and the message
Up, Down    in the list: choose a conversation
Ctrl+Up, Ctrl+Down    the conversation above, below
PageUp, PageDown      scroll; at the top: older messages
Ctrl+N      new conversation with one user
Ctrl+G      new group
Ctrl+F      search; Enter: what stands around it, again: its conversation
F1          this help
Escape      close a window
Ctrl+Q      quit

…  waiting for the server     ✓  stored     ✓✓  delivered to everybody (blue: read)
"""


class Dialog(ModalScreen[dict[str, str] | None]):
    """Some labelled fields. Enter in the last one gives {name: text}, Escape None. given: what they hold at first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close")]

    def __init__(self, title: str, fields: dict[str, str], given: dict[str, str] | None = None) -> None:
        super().__init__()
        self._title = title
        self._fields = fields
        self._given = given or {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label(self._title, classes="title")
            for name, hint in self._fields.items():
                yield Input(self._given.get(name), placeholder=hint, id=f"field-{name}")

    def action_leave(self) -> None:
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        inputs = {name: self.query_one(f"#field-{name}", Input) for name in self._fields}
        empty = next((field for field in inputs.values() if not field.value.strip()), None)
        if empty is not None:
            self.set_focus(empty)  # at once: what is typed next belongs there
        else:
            self.dismiss({name: field.value.strip() for name, field in inputs.items()})


class Help(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,enter,q", "leave", "Close")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label("Keys", classes="title")
            yield Static(HELP, markup=False)

    def action_leave(self) -> None:
        self.dismiss(None)


def new_direct(given: dict[str, str] | None = None) -> Dialog:
    return Dialog("New conversation", {"name": "name of the user"}, given)


def new_group(given: dict[str, str] | None = None) -> Dialog:
    return Dialog("New group", {"title": "title of the group", "names": "names of the members, with commas"}, given)
