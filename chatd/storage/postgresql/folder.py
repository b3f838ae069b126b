"""The fold on PostgreSQL: moves journal batches into their places, as chatd.storage.sqlite.folder does it.

A portion is written in one transaction with `folded_pos`: events by COPY, everything else by statements over arrays. A
fold whose COMMIT was not answered is no question: the next one begins where `folded_pos` says. Batches are deleted when
they are folded and old enough.

Nobody waits for a fold, while the session that appends may want the same cores, and a session of PostgreSQL cannot be
made nice as a thread of ours can. So as long as no more than a portion waits, the fold works in small steps and rests
after each (Pace); with a backlog it does all at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import asyncpg

from chatd.bridge import Bridge
from chatd.errors import StorageError, StoreCorruptError, StoreLostError
from chatd.storage import trim
from chatd.storage.fold_sql import change_of, newest
from chatd.storage.interface import FoldResult, Portion
from chatd.storage.journal_codec import RowTuple
from chatd.storage.postgresql.connection import (
    COPY_LOCK,
    FOLDER_LOCK,
    LOCK_CLASS,
    connect,
    database_name,
    holder,
    locked,
    numbered,
    storage_errors,
)

BATCHES_PER_PAGE = 64
STEP_ROWS = 500
"""Of a polite fold: some milliseconds of the server's work."""
REST_SHARE = 2.0
"""How long it rests after a step, in times of the step."""
Row = TypeVar("Row")
_FOLDED_POS = "SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'folded_pos'"
_BATCHES = "SELECT pos, count, blob FROM batch WHERE pos > $1 ORDER BY pos LIMIT $2"


def _of_arrays(statement: str, columns: str, texts: int = 0) -> str:
    """The braces become a table of the arrays that are bound, one per column: of BIGINT, the last `texts` of TEXT."""
    count = len(columns.split(","))
    types = ["bigint"] * (count - texts) + ["text"] * texts
    bound = ", ".join(f"${number + 1}::{types[number]}[]" for number in range(count))
    return statement.format(f"unnest({bound}) AS portion({columns})")


_NEXT_EVENT_ID = "SELECT coalesce(max(id), 0) + 1 FROM event"
# What does not continue its conversation gets no id, which NOT NULL refuses.
_EVENT_RUNS = _of_arrays(
    "INSERT INTO event_run SELECT portion.cid, first, last, CASE WHEN first = 1 + coalesce((SELECT head_seq "
    "FROM conversation WHERE conversation.id = portion.cid), first - 1) THEN portion.id END FROM {}",
    "cid, first, last, id",
)
_SEND_RUNS = _of_arrays(
    "INSERT INTO send_run SELECT portion.* FROM {} WHERE first > coalesce((SELECT last_cseq FROM send_run r "
    "WHERE r.device = portion.device ORDER BY first_cseq DESC LIMIT 1), 0)",
    "device, first, last, sends",
    texts=1,
)
# A skip may be followed by the send it gave up, when the client changed its mind; a stored send is never replaced.
_LATE_SENDS = _of_arrays(
    "INSERT INTO late_send SELECT portion.device, first + number - 1, CAST(place ->> 0 AS BIGINT), "
    "CAST(place ->> 1 AS BIGINT) FROM {}, json_array_elements(CAST(sends AS json)) WITH ORDINALITY AS s(place, number) "
    "WHERE NOT EXISTS (SELECT 1 FROM send_run r WHERE r.device = portion.device AND r.first_cseq = first "
    "AND r.sends = portion.sends) ON CONFLICT(device, cseq) DO UPDATE SET cid = excluded.cid, seq = excluded.seq "
    "WHERE late_send.seq = 0",
    "device, first, last, sends",
    texts=1,
)
# The bit is EVENT_TOMBSTONE of the journal's codec.
_REDACTIONS = _of_arrays(
    "WITH gone AS MATERIALIZED (SELECT (SELECT first_id + portion.seq - first_seq FROM event_run r "
    "WHERE r.cid = portion.cid AND first_seq <= portion.seq ORDER BY first_seq DESC LIMIT 1) AS id FROM {}) "
    "UPDATE event SET body = '', flags = flags | 4 FROM gone WHERE event.id = gone.id",
    "cid, seq, pos",
)
_HEADS = _of_arrays(
    """
UPDATE conversation SET head_seq = seq, message_count = messages, last_ts = ts, changed_pos = pos
FROM {} WHERE id = cid""",
    "cid, seq, messages, ts, pos",
)
_DEVICES = _of_arrays(
    """
UPDATE device SET cseq_max = greatest(cseq_max, cseq) FROM {} WHERE id = sender""",
    "sender, cseq",
)
_MEMBERSHIPS = _of_arrays(
    """
INSERT INTO membership SELECT * FROM {}
ON CONFLICT(cid, uid, join_seq) DO UPDATE
SET leave_seq = excluded.leave_seq, role = excluded.role, changed_pos = excluded.changed_pos""",
    "cid, uid, join_seq, leave_seq, role, pos",
)
_POSITIONS = _of_arrays(
    """
INSERT INTO position SELECT * FROM {}
ON CONFLICT(cid, uid) DO UPDATE SET delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq,
read_count = excluded.read_count, changed_pos = excluded.changed_pos""",
    "cid, uid, delivered_seq, read_seq, read_count, pos",
)
# See the SQLite folder: who sends has read what he sent.
_SENDERS = _of_arrays(
    """
INSERT INTO position SELECT cid, uid, seq, seq, messages, pos FROM {}
ON CONFLICT(cid, uid) DO UPDATE SET delivered_seq = greatest(position.delivered_seq, excluded.read_seq),
read_seq = excluded.read_seq, read_count = excluded.read_count WHERE position.read_seq < excluded.read_seq""",
    "cid, uid, seq, messages, pos",
)
_RAISE_HIGHEST = (
    "INSERT INTO meta VALUES($1, $2) ON CONFLICT(key) DO UPDATE SET "
    "value = CAST(greatest(CAST(meta.value AS BIGINT), CAST(excluded.value AS BIGINT)) AS TEXT)"
)
_FORGET_REQUESTS = (
    "DELETE FROM request_key WHERE (uid, key) IN "
    "(SELECT uid, key FROM request_key WHERE created_ms < $1 ORDER BY created_ms LIMIT $2)"
)
_SET_FOLDED_POS = "UPDATE meta SET value = $2 WHERE key = 'folded_pos' AND value = $1"
# The newest batch stays: it says where the journal ends.
# Nor does anything while somebody copies the store: the copy follows the journal.
_DELETE_FOLDED = (
    "DELETE FROM batch WHERE pos <= $1 AND created_ms < $2 AND pos < (SELECT max(pos) FROM batch) AND NOT EXISTS ("  # noqa: S608
    f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND objid = {COPY_LOCK} "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


class PostgresFoldSettings(NamedTuple):
    """portion_records: at most this many in one transaction. batch_age_s: folded batches stay this long, a hub that
    comes back replays from them. delete_interval_s: between two deletions. request_keys_s, request_keys_forgotten: as
    with SQLite.
    """

    portion_records: int = 100_000
    batch_age_s: float = 30.0
    delete_interval_s: float = 1.0
    request_keys_s: float = 7 * 86_400.0
    request_keys_forgotten: int = 10_000


DEFAULT_SETTINGS = PostgresFoldSettings()


class PostgresFolder:
    """See interface.Folder. Make it with `open` after the store was opened once; holds the folder's lock."""

    def __init__(self, dsn: str, portion: Callable[[], Portion], settings: PostgresFoldSettings) -> None:
        self._dsn = dsn
        self._portion = portion
        self._settings = settings
        self._bridge = Bridge("postgresql fold")
        self._name = "the PostgreSQL database"
        self._connection: Any = None
        self._deleted_at = time.monotonic()
        self._behind = False

    @classmethod
    def open(
        cls, dsn: str, portion: Callable[[], Portion], settings: PostgresFoldSettings = DEFAULT_SETTINGS
    ) -> "PostgresFolder":
        """portion: chatd._native.Portion. Raises StoreLostError when there is no server, store or lock yet."""
        folder = cls(dsn, portion, settings)
        try:
            folder._bridge.wait(folder._connected)
        except BaseException:
            folder.close()
            raise
        return folder

    def fold_once(self) -> FoldResult:
        """See interface.Folder. A connection that has ended is made anew by the next call."""
        try:
            return self._bridge.wait(self._fold)
        except StorageError:
            self._bridge.wait(self._disconnect)
            raise

    def trim(self) -> bool:
        """See interface.Folder."""
        try:
            return self._bridge.wait(self._trim)
        except StorageError:
            self._bridge.wait(self._disconnect)
            raise

    def settle(self) -> None:
        """See interface.Folder."""
        self._bridge.wait(self._delete_folded)

    def close(self) -> None:
        """Leaves everything as a crash would."""
        self._bridge.wait(self._disconnect)
        self._bridge.close()

    # ------------------------------------------------------------ on the bridge

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            connection = self._connection = await connect(self._dsn, "folder", command_timeout_s=None)
            with storage_errors("open", self._name):
                self._name = await database_name(connection)
                if not await locked(connection, FOLDER_LOCK):
                    raise StoreLostError(
                        f"another folder still works on {self._name}: {await holder(connection, FOLDER_LOCK)}"
                    )
                if await connection.fetchval("SELECT to_regclass('batch') IS NULL"):
                    raise StoreLostError(f"{self._name} has no store to fold into yet: the hub makes it")
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _fold(self) -> FoldResult:
        connection = await self._connected()
        with storage_errors("fold into", self._name):
            folded_pos = await connection.fetchval(_FOLDED_POS)
            pace = Pace(polite=not self._behind)
            portion, end_pos, self._behind = await self._read_portion(connection, folded_pos, pace)
            if end_pos > folded_pos:
                try:
                    async with connection.transaction():
                        await self._write_portion(connection, portion, pace)
                        if await connection.execute(_SET_FOLDED_POS, str(folded_pos), str(end_pos)) != "UPDATE 1":
                            raise StoreCorruptError(f"{self._name}: somebody else folds, too, or meta was changed")
                except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, ValueError) as error:
                    raise StoreCorruptError(
                        f"the journal records {folded_pos + 1} .. {end_pos} contradict {self._name}: {error}. "
                        "Run `chatd check`; nothing of them was folded, and nothing is lost"
                    ) from error
        if time.monotonic() - self._deleted_at >= self._settings.delete_interval_s:
            await self._delete_folded()
        return FoldResult(end_pos - folded_pos, end_pos, self._behind)

    async def _read_portion(self, connection: Any, folded_pos: int, pace: "Pace") -> tuple[Portion, int, bool]:
        """At most portion_records records, but at least one batch; where they end; whether more wait."""
        portion, end_pos = self._portion(), folded_pos
        while page := await connection.fetch(_BATCHES, end_pos, BATCHES_PER_PAGE):
            for pos, count, blob in page:
                if pos != end_pos + 1:
                    raise StoreCorruptError(f"journal records {end_pos + 1} .. {pos - 1} are missing in {self._name}")
                if end_pos > folded_pos and pos + count - 1 - folded_pos > self._settings.portion_records:
                    return portion, end_pos, True
                try:
                    portion.add(pos, count, blob)
                except ValueError as error:
                    raise StoreCorruptError(f"the journal batch at {pos} cannot be read: {error}") from error
                end_pos = pos + count - 1
            await pace.rest()
        return portion, end_pos, False

    async def _write_portion(self, connection: Any, portion: Portion, pace: "Pace") -> None:
        """Rows first: a conversation exists before its head moves, a device before its highest cseq."""
        await apply_rows(connection, portion.rows)
        oldest_ms = int((time.time() - self._settings.request_keys_s) * 1000)
        await connection.execute(_FORGET_REQUESTS, oldest_ms, self._settings.request_keys_forgotten)
        first_id = await connection.fetchval(_NEXT_EVENT_ID)
        numbered_events = ((number, *event) for number, event in enumerate(portion.events(), first_id))
        for records in pace.steps(numbered_events):
            await connection.copy_records_to_table("event", records=records)
            await pace.rest()
        for runs in pace.steps(portion.send_runs()):
            sends = arrays(runs)
            if await connection.execute(_SEND_RUNS, *sends) != f"INSERT 0 {len(runs)}":
                await connection.execute(_LATE_SENDS, *sends)
            await pace.rest()
        tables: tuple[tuple[str, Iterable[tuple[Any, ...]]], ...] = (
            (_EVENT_RUNS, portion.event_runs(first_id)),
            (_REDACTIONS, portion.redactions),
            (_HEADS, portion.heads()),
            (_DEVICES, portion.highest_cseqs()),
            (_MEMBERSHIPS, newest(portion.members, key_columns=3)),
            (_POSITIONS, newest(portion.positions, key_columns=2)),
            (_SENDERS, portion.senders()),
        )
        for statement, rows in tables:
            for step in pace.steps(rows):
                await connection.execute(statement, *arrays(step))
                await pace.rest()

    async def _trim(self) -> bool:
        connection = await self._connected()
        steps = trim.steps(int(time.time() * 1000))
        with storage_errors("delete from", self._name):
            async with connection.transaction():
                try:
                    statement = next(steps)
                    while True:
                        rows = await connection.fetch(numbered(statement.sql), *statement.bindings)
                        statement = steps.send(rows)
                except StopIteration as end:
                    return bool(end.value)

    async def _delete_folded(self) -> None:
        connection = await self._connected()
        self._deleted_at = time.monotonic()
        with storage_errors("delete folded batches of", self._name):
            folded_pos = await connection.fetchval(_FOLDED_POS)
            oldest_ms = int((time.time() - self._settings.batch_age_s) * 1000)
            await connection.execute(_DELETE_FOLDED, folded_pos, oldest_ms)


class Pace:
    """How fast a fold may go."""

    def __init__(self, *, polite: bool) -> None:
        self._polite = polite
        self._began_at = time.monotonic()

    def steps(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        """The rows as lists, each for one statement; none where there is no row."""
        left = iter(rows)
        while step := list(islice(left, STEP_ROWS if self._polite else None)):
            yield step

    async def rest(self) -> None:
        """After every statement or COPY of a step."""
        if self._polite:
            await asyncio.sleep((time.monotonic() - self._began_at) * REST_SHARE)
            self._began_at = time.monotonic()


async def apply_rows(connection: Any, rows: Iterable[RowTuple]) -> None:
    """Within the caller's transaction; neighbours with the same statement travel together."""
    highest: dict[str, int] = {}
    waiting: list[tuple[Any, ...]] = []
    sql = ""
    for pos, payload in rows:
        change = change_of(pos, payload)
        if change.sql != sql and waiting:
            await connection.executemany(numbered(sql), waiting)
            waiting = []
        sql = change.sql
        waiting.append(change.bindings)
        if change.table:
            highest[change.table] = max(highest.get(change.table, 0), change.id)
    if waiting:
        await connection.executemany(numbered(sql), waiting)
    for table, value in highest.items():
        await connection.execute(_RAISE_HIGHEST, f"highest_{table}", str(value))


def arrays(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Columns instead of rows."""
    return list(zip(*rows, strict=True))
