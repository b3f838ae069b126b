# Rows: users, devices, keys, conversations' static columns and request keys, as they are now. A row is written as a
# ROW record of the journal and reaches the main database only when the folder has moved it there. So a row is read
# from three places: staged in this batch, committed but not folded, main database. This file keeps the first two
# completely (the overlay) and the third as a bounded cache, and gives one answer. The hub is the only writer: a
# cached row, or the cached knowledge that there is none, stays true until a row is staged here. What a reader brings
# is true only if its snapshot is not older than the overlay's floor, the position up to which the overlay has let go;
# an older one may miss rows that were folded and dropped meanwhile, and is read again. The cache is as large as the
# logins of a moment need (a call of 256 asks for 512 rows, and is asked again when they have been read): whoever stays
# connected lives in the core's tables, and a row in Python is larger than all the core keeps of a connection. Price: a
# name or key not seen lately costs one read in a thread.
"""The overlay of rows that are not folded yet, and caches of those that are."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

from chatd.hub.core import Core
from chatd.hub.frames import CallError
from chatd.storage.interface import ROW_TABLES, ApiKeyRow, ConversationRow, DeviceRow, HighestIds, UserRow, row_record
from chatd.storage.message_rows import (
    DraftRow,
    EditRow,
    ExpiryRow,
    MentionRow,
    PinRow,
    ReactionRow,
    RetentionRow,
    ScheduledRow,
)
from chatd.storage.people_rows import (
    CaseRow,
    CommandRow,
    DeskRow,
    InvitationRow,
    JoinRequestRow,
    LastSeenRow,
    OwnSettingRow,
    PresenceRow,
    PublicNameRow,
    RelationRow,
    ReportRow,
    RestrictionRow,
    StreamRow,
)
from chatd.wire.schema import ErrorCode

UNFOLDED_ROWS_MAX = 200_000
CACHED_ROWS_MAX = 1024


class RequestKeyRow(NamedTuple):
    uid: int
    key: bytes
    result: bytes
    created_ms: int


class Table(NamedTuple):
    """How rows of one table are named. unique: a second column that, unless empty, names one row and never changes.
    groups: key columns whose first so many are also looked for together.
    """

    name: str
    row: Callable[..., Any]
    key: Callable[[Any], Hashable]
    unique: str | None = None
    groups: tuple[int, ...] = ()
    listed_by: str | None = None
    """Column by which unfolded_of finds rows."""


TABLES = {
    table.name: table
    for table in (
        Table("user", UserRow, lambda row: row.id, unique="name"),
        Table("device", DeviceRow, lambda row: row.id),
        Table("api_key", ApiKeyRow, lambda row: row.id),
        Table("conversation", ConversationRow, lambda row: row.id, unique="direct_key"),
        Table("public_name", PublicNameRow, lambda row: row.name),
        Table("restriction", RestrictionRow, lambda row: (row.cid, row.uid), listed_by="cid"),
        Table("invitation", InvitationRow, lambda row: row.id, unique="token", listed_by="cid"),
        Table("join_request", JoinRequestRow, lambda row: (row.cid, row.uid), listed_by="cid"),
        Table("relation", RelationRow, lambda row: (row.uid, row.other), listed_by="uid"),
        Table("own_setting", OwnSettingRow, lambda row: (row.uid, row.cid), listed_by="uid"),
        Table("report", ReportRow, lambda row: row.id),
        Table("request_key", RequestKeyRow, lambda row: (row.uid, row.key)),
        Table("presence", PresenceRow, lambda row: row.uid),
        Table("last_seen", LastSeenRow, lambda row: row.uid),
        Table("edit", EditRow, lambda row: row, groups=(2,)),
        Table("reaction", ReactionRow, lambda row: row[:4], groups=(2,)),
        Table("pin", PinRow, lambda row: row[:2], groups=(1,)),
        Table("mention", MentionRow, lambda row: row, groups=(1, 2)),
        Table("expiry", ExpiryRow, lambda row: row[:2], groups=(0,)),
        Table("scheduled", ScheduledRow, lambda row: row[:2], groups=(0, 1)),
        Table("draft", DraftRow, lambda row: row[:2], groups=(1,)),
        Table("command", CommandRow, lambda row: row[:2], groups=(0, 1)),
        Table("desk", DeskRow, lambda row: row.name),
        Table("service_case", CaseRow, lambda row: row.cid, listed_by="desk"),
        Table("live_stream", StreamRow, lambda row: row[:2], groups=(0,)),
        Table("retention", RetentionRow, lambda row: row[:1]),
    )
}


class Name(NamedTuple):
    """One row by its key, or by its unique column; or all whose key begins so (group)."""

    table: str
    value: Hashable
    unique: bool = False
    group: bool = False


class Missing(Exception):
    """What a turn or a look-up needs is not in memory: load it, then try again. Raised before anything is staged."""


class MissingConversation(Missing):
    """The core does not hold it."""

    def __init__(self, cid: int) -> None:
        super().__init__(cid)
        self.cid = cid


class MissingRows(Missing):
    """Rows that nobody knows anything about yet."""

    def __init__(self, names: Iterable[Name]) -> None:
        self.names = tuple(names)
        super().__init__(f"not loaded: {self.names[:3]}")


def _listing(name: Name, row: Any) -> tuple[str, Hashable] | None:
    column = TABLES[name.table].listed_by
    return None if column is None or name.unique else (name.table, getattr(row, column))


class _Unfolded(NamedTuple):
    pos: int
    row: Any


class Rows:
    """find, then stage. One thread; everything staged is settled by committed() or rejected()."""

    def __init__(self, core: Core, ids: HighestIds) -> None:
        self._core = core
        self.floor_pos = 0
        """Snapshots below this position are too old to be believed."""
        self._unfolded: dict[Name, _Unfolded] = {}
        self._lists: dict[tuple[str, Hashable], set[Name]] = {}
        self._order: deque[tuple[int, Name]] = deque(maxlen=UNFOLDED_ROWS_MAX + 1)
        self._cache: OrderedDict[Name, Any] = OrderedDict()
        self._cached_max = CACHED_ROWS_MAX
        self._undo: list[tuple[Name, _Unfolded | None]] = []
        self._groups: dict[Name, dict[Hashable, None]] = {}
        """Keys of unfolded rows, by the group they are in."""
        self._ids = ids._asdict()

    # ------------------------------------------------------------ reading

    def find(self, table: str, value: Hashable, *, unique: bool = False) -> Any:
        """The row, or None when there is none. MissingRows: ask a reader first."""
        name = Name(table, value, unique)
        unfolded = self._unfolded.get(name)
        if unfolded is not None:
            return unfolded.row
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        raise MissingRows([name])

    def is_absent(self, table: str, value: Hashable) -> bool:
        """It is known that there is no such row."""
        name = Name(table, value)
        return name not in self._unfolded and name in self._cache and self._cache[name] is None

    def find_all(self, table: str, values: Iterable[Hashable], *, unique: bool = False) -> dict[Any, Any]:
        """Those that exist, by value. MissingRows names all that nobody knows, so that one read brings them."""
        found = {}
        missing: list[Name] = []
        wanted = list(values)
        # A group may be made of more users than are kept otherwise, and the second look needs all of them.
        self._cached_max = max(self._cached_max, 4 * len(wanted))
        for value in wanted:
            try:
                row = self.find(table, value, unique=unique)
            except MissingRows as unknown:
                missing += unknown.names
            else:
                if row is not None:
                    found[value] = row
        if missing:
            raise MissingRows(missing)
        return found

    def find_group(self, table: str, *key: Hashable) -> list[Any]:
        """All rows whose key begins so, by key. MissingRows: ask a reader first."""
        name = Name(table, key, group=True)
        if name not in self._cache:
            raise MissingRows([name])
        self._cache.move_to_end(name)
        return self.overlaid(table, self._cache[name], *key)

    def find_groups(self, table: str, keys: Iterable[tuple[Hashable, ...]]) -> list[list[Any]]:
        """find_group for each key. MissingRows names all that nobody knows, so that one read brings them."""
        wanted = list(keys)
        self._cached_max = max(self._cached_max, 4 * len(wanted))
        names = [Name(table, key, group=True) for key in wanted]
        missing = [name for name in names if name not in self._cache]
        if missing:
            raise MissingRows(missing)
        return [self.find_group(table, *key) for key in wanted]

    def overlaid(self, table: str, read: Iterable[Any], *key: Hashable) -> list[Any]:
        """What a reader found of a group, as it is now."""
        found = {TABLES[table].key(row): row for row in read}
        for changed in self._groups.get(Name(table, key, group=True), ()):
            found[changed] = self._unfolded[Name(table, changed)].row
        return [row for _, row in sorted(found.items()) if row is not None]

    def unfolded_row(self, table: str, key: Hashable) -> Any:
        """The row if it waits to be folded, else None: whatever a reader says is then as good."""
        unfolded = self._unfolded.get(Name(table, key))
        return None if unfolded is None else unfolded.row

    def newest(self, table: str, row: Any) -> Any:
        """The row as it is now, given what a reader of the main database brought."""
        return self.unfolded_row(table, TABLES[table].key(row)) or row

    def unfolded(self, table: str) -> list[Any]:
        """All rows of a table that are not folded yet, each once. For listings; the caller merges."""
        return [
            entry.row
            for name, entry in self._unfolded.items()
            if name.table == table and not name.unique and entry.row is not None
        ]

    def unfolded_of(self, table: str, group: Hashable) -> list[Any]:
        """The same of one group: the value of the table's column listed_by."""
        return [self._unfolded[name].row for name in self._lists.get((table, group), ())]

    def is_current(self, folded_pos: int) -> bool:
        """False: a snapshot of that position is too old to be believed, read again."""
        return folded_pos >= self.floor_pos

    def loaded(self, folded_pos: int, name: Name, row: Any) -> bool:
        """Remember what a reader found. False: its snapshot is too old, read again."""
        if not self.is_current(folded_pos):
            return False
        if name not in self._unfolded:
            self._remember(name, row)
        return True

    # ------------------------------------------------------------ writing

    def next_id(self, counter: str) -> int:
        """A fresh id of a table that HighestIds has. One whose batch is rejected is not used again:
        the core may remember it.
        """
        self._ids[counter] += 1
        fresh: int = self._ids[counter]
        return fresh

    def check_room(self) -> None:
        """CallError BUSY when the folder is too far behind for more rows. Call it before staging anything."""
        if len(self._order) >= UNFOLDED_ROWS_MAX:
            raise CallError(ErrorCode.BUSY, "too many changes wait to be folded; try again later", 1000)

    def stage(self, table: str, row: Any) -> None:
        """Write the whole row in this batch; visible to find() at once."""
        spec = TABLES[table]
        columns = ROW_TABLES[table].columns | set(ROW_TABLES[table].key)
        values = {column: value for column, value in row._asdict().items() if column in columns}
        pos = self._core.stage_row(row_record(table, values))
        self._put(pos, Name(table, spec.key(row)), row)
        if spec.unique is not None and getattr(row, spec.unique):
            self._put(pos, Name(table, getattr(row, spec.unique), unique=True), row)

    def remove(self, table: str, row: Any) -> None:
        """The row goes away in this batch. Of tables with groups only: others never lose a row."""
        key = TABLES[table].key(row)
        columns = dict(zip(ROW_TABLES[table].key, row, strict=False))
        self._put(self._core.stage_row(row_record(table, columns, deleted=True)), Name(table, key), None)

    def _put(self, pos: int, name: Name, row: Any) -> None:
        self._undo.append((name, self._unfolded.get(name)))
        self._unfolded[name] = _Unfolded(pos, row)
        self._order.append((pos, name))
        for group in self._groups_of(name):
            self._groups.setdefault(group, {})[name.value] = None
        listing = _listing(name, row)
        if listing is not None:
            self._lists.setdefault(listing, set()).add(name)

    @staticmethod
    def _groups_of(name: Name) -> list[Name]:
        key: Any = name.value
        return [Name(name.table, tuple(key[:columns]), group=True) for columns in TABLES[name.table].groups]

    def _let_go(self, name: Name) -> None:
        """The row is not unfolded any more; what was read of its groups before is old."""
        listing = _listing(name, self._unfolded.pop(name).row)
        if listing is not None:
            self._lists[listing].discard(name)
            if not self._lists[listing]:
                del self._lists[listing]
        for group in self._groups_of(name):
            self._cache.pop(group, None)
            del self._groups[group][name.value]
            if not self._groups[group]:
                del self._groups[group]

    def committed(self) -> None:
        self._undo.clear()

    def rejected(self) -> None:
        """The batch was not stored: everything staged since committed() never happened."""
        for name, before in reversed(self._undo):
            self._order.pop()
            if before is None:
                self._let_go(name)
            else:
                self._unfolded[name] = before
        self._undo.clear()

    def replayed(self, pos: int, table: str, values: dict[str, Any], deleted: bool) -> None:
        """A ROW record of a batch that is not folded yet, at start."""
        spec = TABLES.get(table)
        if spec is None:
            return
        if deleted:
            self._put(pos, Name(table, tuple(values[column] for column in ROW_TABLES[table].key)), None)
            self._undo.clear()
            return
        if table in self._ids:
            self._ids[table] = max(self._ids[table], values["id"])
        defaults = dict.fromkeys(ROW_TABLES[table].derived, 0)
        row = spec.row(**(defaults | values))
        self._put(pos, Name(table, spec.key(row)), row)
        if spec.unique is not None and getattr(row, spec.unique):
            self._put(pos, Name(table, getattr(row, spec.unique), unique=True), row)
        self._undo.clear()

    def folded(self, folded_pos: int) -> None:
        """The main database holds everything up to folded_pos: the overlay lets go of it."""
        self.floor_pos = max(self.floor_pos, folded_pos)
        while self._order and self._order[0][0] <= folded_pos:
            pos, name = self._order.popleft()
            unfolded = self._unfolded.get(name)
            if unfolded is not None and unfolded.pos == pos:
                self._let_go(name)
                self._remember(name, unfolded.row)

    def _remember(self, name: Name, row: Any) -> None:
        self._cache[name] = row
        self._cache.move_to_end(name)
        if len(self._cache) > self._cached_max:
            self._cache.popitem(last=False)
