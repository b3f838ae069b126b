"""What the hub may know about a store: protocols, the rows it returns, and ROW records.

One process appends (Store), one folds (Folder), any thread reads through views. Positions count journal records from 1.
Timestamps are Unix milliseconds. Every method may raise StorageError; those that can mean something particular say so.
"""

from collections.abc import Awaitable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import msgpack

from chatd.errors import LocalProtocolError
from chatd.storage.bulk import BulkView
from chatd.storage.journal_codec import Decoded, EventTuple, MemberTuple, PositionTuple, RedactTuple, RowTuple
from chatd.storage.message_rows import (
    DraftRow,
    EditRow,
    ExpiryRow,
    Kept,
    MentionRow,
    PinRow,
    ReactionRow,
    RetentionRow,
    ScheduledRow,
)
from chatd.storage.people_rows import PEOPLE_TABLES, CommandRow, PeopleView, StreamRow
from chatd.storage.search.interface import CID_MAX, FollowedView


class Decoder(Protocol):
    """chatd._native.decode_batch, or the reference in journal_codec."""

    def __call__(self, pos: int, count: int, blob: bytes, /) -> Decoded | tuple[Any, ...]: ...


class Portion(Protocol):
    """The records of one fold, added batch by batch, then read by table: chatd._native.Portion, or the reference in
    portion.py. Nothing is added once it has been read.
    """

    members: list[MemberTuple]
    """In journal order, like positions and rows."""
    positions: list[PositionTuple]
    rows: list[RowTuple]
    redactions: list[RedactTuple]

    def add(self, pos: int, count: int, blob: bytes, /) -> None:
        """One batch. Raises ValueError as Decoder does; the portion is of no use then."""

    def events(self) -> Iterable[EventTuple]:
        """By conversation, in journal order within each."""

    def event_runs(self, first_id: int) -> Iterable[tuple[int, int, int, int]]:
        """(cid, first seq, last seq, id of the first) of events that follow each other, when the first of `events` gets
        first_id and each the next one.
        """

    def send_runs(self) -> Iterable[tuple[int, int, int, str]]:
        """(device, first cseq, last cseq, [[cid, seq], …] of each as JSON), up to SEND_RUN_MAX consecutive cseqs of a
        device, ascending; [0, 0] for a skip, unless the send came too.
        """

    def heads(self) -> Iterable[tuple[int, int, int, int, int]]:
        """(cid, head_seq, message_count, last_ts, position of the newest event) of every conversation with events."""

    def senders(self) -> Iterable[tuple[int, int, int, int, int]]:
        """(cid, user, seq, message_count there, position of the conversation's newest event) of each user's newest
        message in each conversation: who writes has read.
        """

    def highest_cseqs(self) -> Iterable[tuple[int, int]]:
        """(device, highest cseq) of every device with sends or skips."""


class Batch(NamedTuple):
    """Records pos .. pos+record_count-1; the arguments of Decoder and of HubCore.replay, in their order."""

    pos: int
    record_count: int
    blob: bytes


class HighestIds(NamedTuple):
    """Ids are dense counters that continue after these; a deleted highest id is not given out again."""

    user: int
    device: int
    api_key: int
    conversation: int
    invitation: int = 0
    report: int = 0


class UserRow(NamedTuple):
    id: int
    name: str
    display_name: str
    password_hash: str | None
    flags: int
    token_epoch: int
    created_ms: int
    about: str = ""
    avatar: str = ""


class DeviceRow(NamedTuple):
    id: int
    uid: int
    label: str
    key: bytes | None
    flags: int
    cseq_max: int
    created_ms: int


class ApiKeyRow(NamedTuple):
    id: int
    uid: int
    label: str
    hash: bytes
    flags: int
    created_ms: int


class ConversationRow(NamedTuple):
    id: int
    kind: int
    title: str
    flags: int
    owner: int
    direct_key: str | None
    head_seq: int
    message_count: int
    last_ts: int
    changed_pos: int
    created_ms: int
    topic: str = ""
    avatar: str = ""
    slow_mode_s: int = 0
    history: int = 0
    denied: bytes | None = None
    public_name: str = ""


class MemberRow(NamedTuple):
    """One interval of membership with the positions of that user; leave_seq 0: still a member."""

    user: int
    role: int
    join_seq: int
    leave_seq: int
    delivered_seq: int
    read_seq: int
    read_count: int


class MembershipRow(NamedTuple):
    """One interval of membership of a known user, with what SYNC and listings say of its conversation."""

    cid: int
    role: int
    join_seq: int
    leave_seq: int
    delivered_seq: int
    read_seq: int
    read_count: int
    kind: int
    title: str
    head_seq: int
    message_count: int
    last_ts: int
    changed_pos: int


class EventRow(NamedTuple):
    cid: int
    seq: int
    ts_ms: int
    sender: int
    kind: int
    body: bytes
    """With EVENT_EXT in front of the payload: the extension block. Empty with EVENT_TOMBSTONE."""
    flags: int
    """EVENT_* of journal_codec."""


class StoredSend(NamedTuple):
    """What became of (device, cseq). seq 0: skipped by the client; digest is the unsigned 64-bit number."""

    cid: int
    seq: int
    ts_ms: int
    digest: int


class Counts(NamedTuple):
    users: int
    devices: int
    conversations: int
    events: int


class Finding(NamedTuple):
    """check: a stable name. file: where. text: what is wrong, for people."""

    check: str
    file: str
    text: str


class Report(NamedTuple):
    """Of a check: findings is empty for a sound store. checked: how many rows or files each check looked at."""

    findings: list[Finding]
    checked: dict[str, int]


class FoldResult(NamedTuple):
    """records: how many were folded now. more: unfolded batches remain, call again at once."""

    records: int
    folded_pos: int
    more: bool


class View(PeopleView, FollowedView, BulkView, Protocol):
    """One read transaction: everything in it is of one moment, and `folded_pos` says which. Use it in one thread."""

    folded_pos: int

    def user(self, user: int) -> UserRow | None: ...
    def users(self, ids: Iterable[int]) -> list[UserRow]: ...
    def user_by_name(self, name: str) -> UserRow | None: ...
    def users_by_name(self, names: Iterable[str]) -> list[UserRow]: ...
    def users_after(self, after: int, limit: int) -> list[UserRow]: ...
    def device(self, device: int) -> DeviceRow | None: ...
    def devices(self, ids: Iterable[int]) -> list[DeviceRow]: ...
    def devices_of(self, user: int) -> list[DeviceRow]: ...
    def api_key(self, key_id: int) -> ApiKeyRow | None: ...
    def api_key_by_hash(self, key_hash: bytes) -> ApiKeyRow | None: ...
    def api_keys_after(self, after: int, limit: int) -> list[ApiKeyRow]: ...
    def conversation(self, cid: int) -> ConversationRow | None: ...
    def conversations(self, cids: Iterable[int]) -> list[ConversationRow]: ...
    def direct_conversation(self, direct_key: str | bytes) -> ConversationRow | None: ...
    def members(self, cid: int) -> list[MemberRow]: ...
    def members_after(self, cid: int, after_user: int, limit: int) -> list[MemberRow]: ...
    def memberships(self, user: int, after_cid: int, limit: int) -> list[MembershipRow]: ...
    def memberships_changed(self, user: int, since_pos: int, after_cid: int, limit: int) -> list[MembershipRow]: ...
    def membership(self, cid: int, user: int) -> list[MembershipRow]: ...
    def conversation_ids(self, user: int, after_cid: int, upto_cid: int = CID_MAX) -> list[int]: ...
    def member_count(self, cid: int) -> int: ...
    def conversation_counts(self, users: Iterable[int]) -> dict[int, int]: ...
    def owned_count(self, user: int) -> int: ...
    def events(self, cid: int, from_seq: int, to_seq: int, events_max: int, bytes_max: int) -> list[EventRow]: ...
    def message_count_at(self, cid: int, seq: int) -> int: ...
    def stored_send(self, device: int, cseq: int) -> StoredSend | None: ...
    def request_result(self, user: int, key: bytes) -> bytes | None: ...
    def rows_of(self, table: str, *key: Any) -> list[Any]:
        """Rows of one of GROUPED_ROWS whose key begins so, by key."""

    def rows_between(self, table: str, cid: int, first: int, last: int, limit: int) -> list[Any]:
        """Rows of edit or reaction whose target is first..last, by key."""

    def kept(self, after_cid: int, limit: int, *, own_only: bool) -> list[Kept]:
        """Conversations after that one, ascending. own_only: those that say themselves how long they keep events."""

    def due(self, table: str, until_ms: int, limit: int) -> list[Any]:
        """The rows with the earliest due_ms, up to until_ms."""

    def mentions(self, cid: int, user: int, after_seq: int, to_seq: int, limit: int) -> list[MentionRow]:
        """Of the user and of everyone, by events after_seq+1 .. to_seq."""

    def speakers(self, cid: int, head_seq: int, since_ms: int) -> list[tuple[int, int]]:
        """(user, ts_ms of the newest message) of those who spoke after since_ms, among the last 2,000 events."""

    def meta(self, key: str) -> Any: ...
    def counts(self) -> Counts: ...


class Reader(Protocol):
    """A bounded pool of read-only connections, for threads."""

    def view(self) -> AbstractContextManager[View]:
        """Begin a read transaction; blocks while all connections are in use. Keep it short: it pins the WAL."""

    def close(self) -> None: ...


class Store(Protocol):
    """The writer's side. One process at a time holds it; append and space calls belong to one thread."""

    @property
    def log_epoch(self) -> int: ...
    @property
    def boot_count(self) -> int: ...
    @property
    def next_pos(self) -> int: ...

    def append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        """Make one batch durable: it survives a power loss once this returns.

        pos must be next_pos. urgent: administrative batches that may use the reserve while the disk is full.
        Raises StoreFullError (nothing was written, next_pos unchanged) or StoreFailedError (end the process).
        """

    def begin_append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> Awaitable[None] | None:
        """As append, but without keeping a loop from turning: durable when this returns None, else once the awaitable
        returned it; that has to be awaited at once, and nothing is appended meanwhile. Either may raise as append,
        and StoreLostError: whether the batch is stored is not known here (end the process, a new start knows).
        """

    async def lost(self) -> None:
        """Wait until this store cannot write any more because what it writes to has gone; then raise StoreLostError.
        Never returns.
        """

    def replay(self, after_pos: int) -> Iterator[Batch]:
        """Batches that hold records beyond after_pos, in order, without gaps up to next_pos.

        The first batch may begin before after_pos+1. Raises StoreCorruptError for a gap, and for an after_pos whose
        successor is in no segment any more.
        """

    def folded_pos(self) -> int: ...
    def first_pos(self) -> int:
        """The oldest record that replay can still give."""

    def stored_ids(self) -> HighestIds:
        """Of the main database alone; whoever replays the rest raises them by the rows that replay brings."""

    def highest_ids(self) -> HighestIds:
        """Of the main database and of what is not folded yet. Reads all of that: 0.4 s for a million records."""

    def reader(self) -> Reader: ...
    def close(self) -> None: ...


class Folder(Protocol):
    """Moves the journal into the main database. One process at a time."""

    def fold_once(self) -> FoldResult:
        """Fold one bounded portion. Does nothing when everything is folded.

        Raises StoreFullError, StoreLostError (call again later), StoreFailedError (end the process) or
        StoreCorruptError.
        """

    def trim(self) -> bool:
        """Erase and delete a bounded number of events below the floor of a conversation. True: there may be more to do
        at once. Raises as fold_once.
        """

    def settle(self) -> None:
        """Leave as little as possible to do for the next start: before a quiet time."""

    def close(self) -> None: ...


class RowTable(NamedTuple):
    """Which columns ROW records may write; the key comes first and is required."""

    key: tuple[str, ...]
    columns: frozenset[str]
    derived: frozenset[str] = frozenset()


_HEADS = frozenset({"head_seq", "message_count", "last_ts", "changed_pos"})
ROW_TABLES = {
    "user": RowTable(("id",), frozenset(UserRow._fields) - {"id"}),
    "device": RowTable(("id",), frozenset({"uid", "label", "key", "flags", "created_ms"}), frozenset({"cseq_max"})),
    "api_key": RowTable(("id",), frozenset({"uid", "label", "hash", "flags", "created_ms"})),
    "conversation": RowTable(
        ("id",),
        frozenset(ConversationRow._fields) - {"id", *_HEADS},
        _HEADS,
    ),
    **{table: RowTable(key, columns) for table, (key, columns) in PEOPLE_TABLES.items()},
    "request_key": RowTable(("uid", "key"), frozenset({"result", "created_ms"})),
    "edit": RowTable(("cid", "target", "seq"), frozenset()),
    "reaction": RowTable(("cid", "target", "uid", "emoji"), frozenset({"seq"})),
    "pin": RowTable(("cid", "target"), frozenset({"uid", "seq"})),
    "mention": RowTable(("cid", "seq", "uid"), frozenset()),
    "expiry": RowTable(("cid", "seq"), frozenset({"due_ms"})),
    "scheduled": RowTable(("uid", "number"), frozenset({"cid", "due_ms", "kind", "has_ext", "content"})),
    "draft": RowTable(("uid", "cid"), frozenset({"content", "changed_ms"})),
    "retention": RowTable(("cid",), frozenset({"days", "events", "floor_seq", "below_count", "due_ms"})),
}
GROUPED_ROWS: dict[str, type[Any]] = {
    "edit": EditRow,
    "reaction": ReactionRow,
    "pin": PinRow,
    "mention": MentionRow,
    "expiry": ExpiryRow,
    "scheduled": ScheduledRow,
    "draft": DraftRow,
    "command": CommandRow,
    "live_stream": StreamRow,
    "retention": RetentionRow,
}
"""Tables that are read by the beginning of their key."""


# What a column may hold. A value that SQLite's NOT NULL would refuse has to fail before it is durable, not in the fold.
_TEXT, _NUMBER, _BYTES, _NOTHING = (str,), (int,), (bytes,), (type(None),)
COLUMN_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("audience", "seen_ms"), _NUMBER),
    **dict.fromkeys(("id", "uid", "kind", "flags", "owner", "token_epoch", "created_ms", "changed_ms"), _NUMBER),
    **dict.fromkeys(("cid", "seq", "other", "state", "slow_mode_s", "history", "hidden_seq"), _NUMBER),
    **dict.fromkeys(("target", "due_ms", "number", "has_ext", "stream", "device"), _NUMBER),
    **dict.fromkeys(("days", "events", "floor_seq", "below_count"), _NUMBER),
    **dict.fromkeys(("muted_until_s", "banned_until_s", "expires_s", "uses_max", "uses"), _NUMBER),
    **dict.fromkeys(("by_uid", "resolved_by"), _NUMBER),
    **dict.fromkeys(("accepted", "desk", "customer", "agent", "since_ms", "stars"), _NUMBER),
    **dict.fromkeys(("name", "display_name", "label", "title", "emoji", "topic", "about", "avatar"), _TEXT),
    **dict.fromkeys(("public_name", "reason", "note", "text"), _TEXT),
    **dict.fromkeys(("denied", "hidden"), _BYTES + _NOTHING),
    "token": _BYTES,
    "password_hash": _TEXT + _NOTHING,
    "hash": _BYTES,
    "content": _BYTES,
    "result": _BYTES + _NOTHING,
    "direct_key": _TEXT + _NOTHING,
    "key": _TEXT + _BYTES + _NOTHING,
}


def row_record(table: str, values: dict[str, Any], *, deleted: bool = False) -> bytes:
    """The MessagePack content of a ROW record, checked, so that the fold can never refuse it.

    values: column → value, key columns included. deleted: only the key columns, that row goes away.
    Raises LocalProtocolError for a table or column that rows may not write.
    """
    content = dict(values, deleted=True) if deleted else dict(values)
    checked_row(table, content)
    packed: bytes = msgpack.packb([table, content])
    return packed


def parse_row(payload: bytes) -> tuple[str, dict[str, Any], bool]:
    """table, values and whether the row is deleted. ValueError when it is not what row_record makes."""
    try:
        table, content = msgpack.unpackb(payload, strict_map_key=True)
        checked_row(table, content)
    except (LocalProtocolError, TypeError, AttributeError, ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not a row record: {error}") from error
    deleted = content.pop("deleted", False) is True
    for column in ROW_TABLES[table].derived:
        content.pop(column, None)
    return table, content, deleted


def checked_row(table: str, content: dict[str, Any]) -> None:
    known = ROW_TABLES.get(table)
    if known is None:
        raise LocalProtocolError("BAD_ROW", f"rows cannot be written to table {table!r}")
    missing = [column for column in known.key if content.get(column) is None]
    unknown = content.keys() - known.columns - known.derived - set(known.key) - {"deleted"}
    if missing or unknown:
        raise LocalProtocolError("BAD_ROW", f"row of {table}: missing {missing}, unknown {sorted(unknown)}")
    for column, value in content.items():
        if column in COLUMN_TYPES and not isinstance(value, COLUMN_TYPES[column]):
            raise LocalProtocolError("BAD_ROW", f"row of {table}: {column} cannot be a {type(value).__name__}")
        if isinstance(value, str) and "\0" in value:
            raise LocalProtocolError("BAD_ROW", f"row of {table}: {column} has a character that no database takes")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise LocalProtocolError("BAD_ROW", f"row of {table}: {column} does not fit 64 bits")
