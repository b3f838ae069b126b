"""The folded view of a conversation: messages as they are now, made of the events that changed them.

Pure: events go in, in any order and any number of times; what comes out depends on which events there were, not on
how they came. A recall or a tombstone wins over every edit; of edits the newest wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chatd.client.model import Event
from chatd.wire.schema import KINDS, Kind


@dataclass(slots=True)
class Message:
    """One message. event: as it was sent. payload: as it is now; b"" when nothing of it is left.

    reactions: emoji → users. pinned_seq, edit_seq: of the events that say so, 0: none.
    """

    event: Event
    payload: bytes
    edit_seq: int = 0
    recalled: bool = False
    pinned: bool = False
    reactions: dict[str, set[int]] = field(default_factory=dict)

    @property
    def edited(self) -> bool:
        return self.edit_seq > 0 and not self.recalled

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", "replace") if self.event.kind in (Kind.TEXT, Kind.MARKDOWN) else ""


class Folded:
    """Add events as they come; ask for messages. Bounded by whoever adds: `forget` lets go of the oldest."""

    def __init__(self) -> None:
        self._events: dict[int, Event] = {}
        self._about: dict[int, set[int]] = {}
        """target → seqs of the events about it."""

    def add(self, event: Event) -> int:
        """Returns the seq of the message that it changes or is; 0 for other events."""
        known = self._events.get(event.seq)
        if known is None or event.tombstone:
            self._events[event.seq] = event
        if event.kind in _CHANGES:
            target = int((known or event).fields.get("target", 0) or event.fields.get("target", 0))
            if target:
                self._about.setdefault(target, set()).add(event.seq)
            return target
        rule = KINDS.get(event.kind)
        return event.seq if rule is not None and rule.message else 0

    def forget(self, before_seq: int) -> None:
        """Let go of messages before that seq, and of what changed them."""
        for seq in [seq for seq in self._events if seq < before_seq]:
            del self._events[seq]
        for target in [target for target in self._about if target < before_seq]:
            del self._about[target]

    def message(self, seq: int, now_ms: int = 0) -> Message | None:
        """As it is now; None: there is no such message here. now_ms: for those that expire."""
        event = self._events.get(seq)
        if event is None or event.kind in _CHANGES:
            return None
        found = Message(event, event.payload, recalled=event.tombstone or 0 < event.expires_ms <= now_ms)
        for about in sorted(self._about.get(seq, ())):
            change = self._events.get(about)
            if change is not None:
                _apply(found, change)
        if found.recalled:
            found.payload, found.edit_seq, found.pinned, found.reactions = b"", 0, False, {}
        return found

    def messages(self, now_ms: int = 0) -> Iterator[Message]:
        """Ascending."""
        for seq, event in sorted(self._events.items()):
            rule = KINDS.get(event.kind)
            if rule is not None and rule.message:
                message = self.message(seq, now_ms)
                if message is not None:
                    yield message


_CHANGES = frozenset({Kind.EDIT, Kind.RECALL, Kind.REACTION, Kind.PIN})


def _apply(message: Message, change: Event) -> None:
    fields = change.fields
    match change.kind:
        case Kind.RECALL:
            message.recalled = True
        case Kind.EDIT if fields:
            message.payload, message.edit_seq = fields["content"], change.seq
        case Kind.PIN:
            message.pinned = bool(fields.get("pinned"))
        case Kind.REACTION if fields.get("added"):
            message.reactions.setdefault(fields["emoji"], set()).add(change.sender)
        case Kind.REACTION if fields:
            users = message.reactions.get(fields["emoji"], set())
            users.discard(change.sender)
            if not users:
                message.reactions.pop(fields["emoji"], None)
