"""The values that the client hands to the application, and the promise that carries an answer to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from chatd.wire.errors import WireError
from chatd.wire.layout import decode_fields
from chatd.wire.payload import decode_payload
from chatd.wire.schema import (
    EXTENSION_DELIVER_EXPIRES,
    EXTENSION_DELIVER_FORWARDED,
    EXTENSION_DELIVER_MENTIONS,
    EXTENSION_DELIVER_NOW,
    EXTENSION_DELIVER_REPLY_TO,
    EXTENSION_DELIVER_STREAM,
    EXTENSIONS,
    ConversationKind,
    Kind,
    Op,
    PresenceState,
)
from chatd.wire.time40 import to_unix_ms

Value = TypeVar("Value")


class Promise(Generic[Value]):
    """An answer that comes later, without a clock or a loop: `listeners` are called once, when it is there."""

    __slots__ = ("_error", "_value", "done", "listeners")

    def __init__(self) -> None:
        self.done = False
        self.listeners: list[Callable[[], None]] = []
        self._value: Value | None = None
        self._error: Exception | None = None

    def resolve(self, value: Value) -> None:
        if not self.done:
            self._value = value
            self._settle()

    def fail(self, error: Exception) -> None:
        if not self.done:
            self._error = error
            self._settle()

    def _settle(self) -> None:
        self.done = True
        for listener in self.listeners:
            listener()

    def result(self) -> Value:
        """The value, or the error raised. Only when `done`."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored event of ours. time_ms: the server's clock, Unix milliseconds. dup: an earlier try had stored it."""

    cid: int
    seq: int
    time_ms: int
    dup: bool = False


@dataclass(frozen=True, slots=True)
class Reaction:
    """How many users reacted so to a message. mine: this one, too."""

    emoji: str
    count: int
    mine: bool


@dataclass(frozen=True, slots=True)
class Now:
    """What became of a message. edit_seq: of its newest edit, 0: as it was sent. reactions: the most frequent first;
    other_reactions: how many emoji more there are.
    """

    pinned: bool = False
    edit_seq: int = 0
    edited_ms: int = 0
    reactions: tuple[Reaction, ...] = ()
    other_reactions: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a conversation's log, known by (cid, seq).

    own: this user sent it. stub: the payload was too large for this client, `payload` is empty and `size` its length.
    extensions: by tag, as they came. tombstone: recalled or expired, nothing of the content is left.
    """

    cid: int
    seq: int
    sender: int
    time_ms: int
    kind: int
    payload: bytes
    own: bool = False
    stub: bool = False
    size: int = 0
    extensions: Mapping[int, bytes] = field(default_factory=dict)
    tombstone: bool = False
    confirm: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The payload as text; "" for kinds that are not text."""
        return self.payload.decode("utf-8", "replace") if self.kind in (Kind.TEXT, Kind.MARKDOWN) else ""

    @property
    def fields(self) -> dict[str, Any]:
        """The payload by field names; {} for kinds whose payload is free, for tombstones, stubs and what is broken."""
        if self.tombstone or self.stub:
            return {}
        try:
            return dict(decode_payload(self.kind, self.payload) or {})
        except WireError:
            return {}

    def extension(self, tag: int) -> dict[str, Any]:
        """The fields of a known extension; {}: it has none, or a broken one."""
        content = self.extensions.get(tag)
        try:
            return {} if content is None else dict(decode_fields(EXTENSIONS[Op.DELIVER, tag], content))
        except WireError:
            return {}

    @property
    def reply_to(self) -> int:
        """The seq it answers; 0: none."""
        return int(self.extension(EXTENSION_DELIVER_REPLY_TO).get("seq", 0))

    @property
    def mentions(self) -> set[int]:
        """Users whom it calls; 0 is everyone."""
        fields = self.extension(EXTENSION_DELIVER_MENTIONS)
        named = {int(entry["user"]) for entry in fields.get("users", ())}
        return named | {0} if fields.get("flags") else named

    @property
    def forwarded_from(self) -> int:
        """The user who had written it first; 0: it is not forwarded."""
        return int(self.extension(EXTENSION_DELIVER_FORWARDED).get("sender", 0))

    @property
    def expires_ms(self) -> int:
        """When nothing of it is to be shown any more, Unix time; 0: never."""
        seconds = int(self.extension(EXTENSION_DELIVER_EXPIRES).get("seconds", 0))
        return self.time_ms + 1000 * seconds if seconds else 0

    @property
    def stream(self) -> int:
        """The live stream that became this event; 0: none."""
        return int(self.extension(EXTENSION_DELIVER_STREAM).get("stream", 0))

    @property
    def truncated(self) -> bool:
        """Whoever wrote the stream has not ended it: this is what had come."""
        return bool(self.extension(EXTENSION_DELIVER_STREAM).get("flags", 0) & 1)

    @property
    def now(self) -> "Now":
        """Of an event of a folded page: what became of it."""
        fields = self.extension(EXTENSION_DELIVER_NOW)
        if not fields:
            return Now()
        reactions = tuple(Reaction(row["emoji"], row["count"], bool(row["mine"])) for row in fields["reactions"])
        edited_ms = to_unix_ms(fields["edited"]) if fields["edit_seq"] else 0
        return Now(bool(fields["flags"] & 1), fields["edit_seq"], edited_ms, reactions, fields["others"])

    def done(self) -> None:
        """The application has dealt with this and all earlier events of the conversation: the position is stored."""
        if self.confirm is not None:
            self.confirm()


@dataclass(frozen=True, slots=True)
class Gap:
    """Events from_seq..to_seq will not come: retention dropped them, or this user may not read them."""

    cid: int
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The server was restored from a backup: positions were discarded, a known (cid, seq) may be another event now."""

    log_epoch: int


Update = Event | Gap | Reset


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """Typing and the like: never stored, may be missed. kind: an EphemeralKind; key: of a TELEMETRY, which value."""

    cid: int
    sender: int
    kind: int
    payload: bytes
    key: int = 0


@dataclass(frozen=True, slots=True)
class Streaming:
    """A live stream has gone on: `data` stands at byte `begin` of it, nothing of what was behind that is left. over: it
    has ended, and became an event unless nothing was written. `Client.running_streams` has all of it.
    """

    cid: int
    stream: int
    sender: int
    kind: int
    begin: int
    data: bytes
    over: bool = False


@dataclass(slots=True)
class RunningStream:
    """A live stream of somebody else while it runs. stale: something is missing, a snapshot is on its way."""

    cid: int
    stream: int
    sender: int
    kind: int
    content: bytes
    stale: bool = False

    @property
    def text(self) -> str:
        """As far as it is whole characters; "" for kinds that are not text."""
        return self.content.decode("utf-8", "ignore") if self.kind in (Kind.TEXT, Kind.MARKDOWN) else ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a member has received and read a conversation."""

    cid: int
    user: int
    delivered_seq: int
    read_seq: int


@dataclass(frozen=True, slots=True)
class Followed:
    """topics: what of the conversation's ephemeral side we now get; 0 when it has ended."""

    cid: int
    topics: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A push of the server about the account or itself."""

    topic: int
    content: dict[int, object]


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a user who is followed is there; last_seen_ms: Unix milliseconds, 0 while there or when not told."""

    user: int
    state: PresenceState
    last_seen_ms: int


@dataclass(frozen=True, slots=True)
class Link:
    """The state of the connection: "connecting", "live", "waiting" (retry_s says for how long) or "closed".

    reason: the close reason that ended the last connection, 0 when there was none.
    """

    state: str
    retry_s: float = 0.0
    text: str = ""
    reason: int = 0


@dataclass(frozen=True, slots=True)
class SendFailed:
    """A queued send was refused for good (it may have been queued by an earlier run of the program)."""

    cid: int
    kind: int
    payload: bytes
    error: Exception


Signal = Ephemeral | Streaming | Receipt | Followed | Notice | Presence | Link | SendFailed


@dataclass(slots=True)
class Overview:
    """What is known of a conversation without its events: enough for a list. unread counts messages, not events.
    Below floor_seq nothing can be read (any more).
    """

    cid: int
    kind: int = ConversationKind.DIRECT
    member: bool = True
    head_seq: int = 0
    floor_seq: int = 0
    message_count: int = 0
    read_seq: int = 0
    read_count: int = 0
    last_sender: int = 0
    last_time_ms: int = 0
    last_kind: int = 0
    last_preview: bytes = b""

    @property
    def unread(self) -> int:
        return max(0, self.message_count - self.read_count)


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of the client. Units are in the names.

    start: where to begin with conversations when the state is new: "now" or "beginning".
    """

    start: str = "now"
    outbox_max: int = 4096
    ready_max: int = 4096
    held_per_conversation_max: int = 256
    conversations_max: int = 100_000
    requests_max: int = 64
    signals_max: int = 1024
    window_frames: int = 0
    window_bytes: int = 0
    agent: str = "chatd-python"
    backoff_base_s: float = 0.2
    backoff_max_s: float = 30.0
    # A connection whose login takes longer is given up.
    login_timeout_s: float = 10.0
    # With answers outstanding and nothing heard for this long, the server is asked for a PONG ...
    probe_after_s: float = 5.0
    # ... and when nothing at all comes for this much longer, the connection is lost.
    probe_timeout_s: float = 10.0
    # How long a hole before a pushed event may wait for the SEND_ACK of our own event that belongs there.
    own_gap_s: float = 1.0
