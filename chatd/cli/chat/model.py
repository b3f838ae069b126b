"""What the terminal client shows, without widgets: conversations, their newest messages, who types, who has read."""

import time
from dataclasses import dataclass, field

from rich.text import Text

from chatd.cli.show import event_text, local_time, safe
from chatd.client import Event, Folded, Message, Overview, RunningStream
from chatd.wire.schema import ConversationKind, Kind

MESSAGES_MAX = 500
TYPING_SHOWN_S = 6.0
ANSWERED_SHOWN_MAX = 24
SHOWN_WITH_THEIR_MESSAGE = frozenset({Kind.EDIT, Kind.RECALL, Kind.REACTION, Kind.PIN})


@dataclass(slots=True)
class Pending:
    """A message that is not stored yet. error: it was refused for good."""

    text: str
    error: str = ""


@dataclass(slots=True)
class Chat:
    """One conversation on the screen. positions: {user: (delivered, read)} of the others."""

    cid: int
    kind: int = ConversationKind.GROUP
    title: str = ""
    unread: int = 0
    head_seq: int = 0
    floor_seq: int = 0
    """Below it nothing can be read (any more)."""
    last_time_ms: int = 0
    events: dict[int, Event] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    typing: dict[int, float] = field(default_factory=dict)
    positions: dict[int, tuple[int, int]] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    streams: list[RunningStream] = field(default_factory=list)
    loaded: bool = False
    folded: Folded = field(default_factory=Folded)
    """The same events as messages: edited, recalled, with reactions."""

    def add(self, event: Event) -> bool:
        """Show an event; the oldest go when there are too many. False: it was there."""
        if event.seq in self.events:
            return False
        self.events[event.seq] = event
        self.folded.add(event)
        self.head_seq = max(self.head_seq, event.seq)
        self.last_time_ms = max(self.last_time_ms, event.time_ms)
        self.typing.pop(event.sender, None)
        if len(self.events) > MESSAGES_MAX:
            del self.events[min(self.events)]
            self.folded.forget(min(self.events))
        return True

    def receipt(self, user: int, delivered_seq: int, read_seq: int) -> None:
        before = self.positions.get(user, (0, 0))
        self.positions[user] = (max(before[0], delivered_seq), max(before[1], read_seq))

    def mark_of(self, event: Event) -> str:
        """✓ stored, ✓✓ delivered to everybody else; `is_read` says whether they have read it."""
        others = list(self.positions.values())
        return "✓✓" if others and all(delivered >= event.seq for delivered, _ in others) else "✓"

    def is_read(self, event: Event) -> bool:
        others = list(self.positions.values())
        return bool(others) and all(read >= event.seq for _, read in others)


class Chats:
    """Everything that is shown. names: {user: name}, me: our user."""

    def __init__(self) -> None:
        self.me = 0
        self.names: dict[int, str] = {}
        self.by_cid: dict[int, Chat] = {}
        self.current: Chat | None = None

    def chat(self, cid: int) -> Chat:
        return self.by_cid.setdefault(cid, Chat(cid))

    def name(self, user: int) -> str:
        return safe(self.names.get(user, f"user {user}"))

    def sorted(self) -> list[Chat]:
        """Newest first."""
        return sorted(self.by_cid.values(), key=lambda chat: (-chat.last_time_ms, chat.cid))

    def take_overview(self, overview: Overview) -> None:
        chat = self.chat(overview.cid)
        chat.kind = overview.kind
        chat.head_seq = max(chat.head_seq, overview.head_seq)
        chat.last_time_ms = max(chat.last_time_ms, overview.last_time_ms)
        chat.floor_seq = max(chat.floor_seq, overview.floor_seq)
        chat.unread = overview.unread

    # ------------------------------------------------------------ as text

    def title_of(self, chat: Chat) -> str:
        if chat.title:
            return safe(chat.title)
        others = sorted(self.name(user) for user in chat.members if user != self.me)
        return ", ".join(others) if others else f"conversation {chat.cid}"

    def row_of(self, chat: Chat) -> Text:
        """A line of the conversation list."""
        sign = "@" if chat.kind == ConversationKind.DIRECT else "#"
        row = Text(
            f"{sign} {self.title_of(chat)}", style="bold" if chat.unread else "", overflow="ellipsis", no_wrap=True
        )
        if chat.unread:
            row.append(f"  {chat.unread if chat.unread < 1000 else '999+'}", style="bold reverse")
        return row

    def messages_of(self, chat: Chat) -> Text:
        """The message pane: a line per event, then what others are just writing, pending ones last."""
        text = Text()
        day = ""
        if 1 < chat.floor_seq == min(chat.events, default=0):
            text.append("── what was before is not kept, or from before you came ──\n", style="dim")
        for seq in sorted(chat.events):
            event = chat.events[seq]
            if event.kind in SHOWN_WITH_THEIR_MESSAGE:
                continue
            if (today := local_time(event.time_ms, "%A, %d %B %Y")) != day:
                day = today
                text.append(f"── {day} ──\n", style="dim")
            self._append_event(text, chat, event)
        for stream in chat.streams:
            text.append("  …    ", style="dim")
            text.append(f"{self.name(stream.sender)}: ", style="bold cyan")
            text.append(f"{safe(stream.text)}▌\n")
        for pending in chat.pending:
            text.append("  …    ", style="dim")
            text.append("you: ", style="bold")
            text.append(safe(pending.text), style="dim")
            text.append(f"  ✗ {pending.error}\n" if pending.error else "\n", style="red")
        return text

    def _append_event(self, text: Text, chat: Chat, event: Event) -> None:
        text.append(local_time(event.time_ms, "%H:%M"), style="dim")
        who = "you" if event.sender == self.me else self.name(event.sender)
        shown = safe(event_text(event, self.names))
        message = chat.folded.message(event.seq, time.time_ns() // 1_000_000)
        if message is not None and message.recalled:
            text.append(f"  {who} recalled this", style="italic dim")
        elif message is not None and (event.text or not shown):
            text.append(f"  {who}: ", style="bold green" if event.sender == self.me else "bold cyan")
            self._append_answered(text, chat, event)
            text.append(safe(message.text))
            self._append_marks(text, message)
            if event.sender == self.me:
                text.append(f" {chat.mark_of(event)}", style="bold blue" if chat.is_read(event) else "dim")
        else:
            text.append(f"  {who} {shown}", style="italic dim")
        text.append("\n")

    def _append_answered(self, text: Text, chat: Chat, event: Event) -> None:
        """What the message answers or repeats, in front of it."""
        if event.forwarded_from:
            text.append(f"(from {self.name(event.forwarded_from)}) ", style="dim")
        answered = chat.folded.message(event.reply_to) if event.reply_to else None
        if event.reply_to:
            said = safe(answered.text)[:ANSWERED_SHOWN_MAX] if answered is not None and answered.text else "a message"
            text.append(f"↩ {said} │ ", style="dim")

    def _append_marks(self, text: Text, message: Message) -> None:
        if message.event.truncated and not message.edited:
            text.append(" (cut off)", style="dim")
        if message.edited:
            text.append(" (edited)", style="dim")
        if message.pinned:
            text.append(" 📌", style="dim")
        for emoji, users in sorted(message.reactions.items()):
            text.append(f" {safe(emoji)} {len(users)}", style="bold" if self.me in users else "dim")

    def typing_of(self, chat: Chat, now: float) -> str:
        chat.typing = {user: until for user, until in chat.typing.items() if until > now}
        names = sorted(self.name(user) for user in chat.typing)
        if not names:
            return ""
        return f"{names[0]} is typing …" if len(names) == 1 else f"{', '.join(names[:3])} are typing …"
