"""The fold: moves journal batches into their places in the main database.

Facts: an event inserted straight into its place dirties one or two pages of its own when traffic is spread over
thousands of conversations. Sorted by conversation, a hundred thousand of them still dirtied 22,000 pages, because every
full one is split and evened out with its neighbours; behind all older events they fill 3,400.
Consequence: read a bounded portion of the journal, sort every table by its key, put events and sends behind all others
with one small row that says where those of a conversation or device are, and write all of it together with `folded_pos`
in one transaction. A crash anywhere leaves the transaction whole or absent, and the next fold begins where `folded_pos`
says: nothing is folded twice, nothing is left out.
Then checkpoint, which syncs, and only then unlink segments that lie below what was checkpointed (database.py says why
that is safe). Price: journal and database hold the newest events twice for a while, and the history of a conversation
lies in as many places as folds brought something to it.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import apsw

from chatd.errors import StorageError, StoreCorruptError, StoreFullError
from chatd.storage import trim
from chatd.storage.fold_sql import change_of, newest
from chatd.storage.interface import Batch, FoldResult, Portion
from chatd.storage.journal_codec import EVENT_TOMBSTONE, RowTuple
from chatd.storage.lock_file import FOLDER_LOCK, LockFile
from chatd.storage.sqlite.connection import BUSY_TIMEOUT_MS, WAL_BYTES_KEPT, connect, storage_errors
from chatd.storage.sqlite.database import PAGE_BYTES, meta_number
from chatd.storage.sqlite.directory import MAIN_NAME, Reserve
from chatd.storage.sqlite.kept import Kept
from chatd.storage.sqlite.segment import rewrite_wal
from chatd.storage.sqlite.segment_chain import SegmentChain

# Without an id each gets the one behind the highest.
_INSERT_EVENT = (
    "INSERT INTO event(cid, seq, ts, sender, device, cseq, kind, message_count, digest, body, flags) "
    "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_NEXT_EVENT_ID = "SELECT ifnull(max(id), 0) + 1 FROM event"
# What does not continue its conversation gets no id, which NOT NULL refuses.
_INSERT_EVENT_RUN = (
    "INSERT INTO event_run VALUES(?1, ?2, ?3, "
    "CASE WHEN ?2 = 1 + ifnull((SELECT head_seq FROM conversation WHERE id = ?1), ?2 - 1) THEN ?4 END)"
)
_REDACT_EVENT = (
    "UPDATE event SET body = x'', flags = flags | ?3 WHERE id = (SELECT first_id + ?2 - first_seq FROM event_run "
    "WHERE cid = ?1 AND first_seq <= ?2 ORDER BY first_seq DESC LIMIT 1)"
)
_INSERT_SEND_RUN = (
    "INSERT INTO send_run SELECT ?1, ?2, ?3, ?4 "
    "WHERE ?2 > ifnull((SELECT last_cseq FROM send_run WHERE device = ?1 ORDER BY first_cseq DESC LIMIT 1), 0)"
)
# A skip may be followed by the send it gave up, when the client changed its mind; a stored send is never replaced.
_INSERT_LATE_SENDS = (
    "INSERT INTO late_send SELECT ?1, ?2 + key, value ->> 0, value ->> 1 FROM json_each(?4) "
    "WHERE NOT EXISTS (SELECT 1 FROM send_run WHERE device = ?1 AND first_cseq = ?2 AND sends = ?4) "
    "ON CONFLICT DO UPDATE SET cid = excluded.cid, seq = excluded.seq WHERE seq = 0"
)
_UPDATE_CONVERSATION = (
    "UPDATE conversation SET head_seq = ?2, message_count = ?3, last_ts = ?4, changed_pos = ?5 WHERE id = ?1"
)
_UPDATE_DEVICE = "UPDATE device SET cseq_max = max(cseq_max, ?2) WHERE id = ?1"
_UPSERT_MEMBERSHIP = "INSERT OR REPLACE INTO membership VALUES(?, ?, ?, ?, ?, ?)"
_UPSERT_POSITION = "INSERT OR REPLACE INTO position VALUES(?, ?, ?, ?, ?, ?)"
# Who sends has read what he sent, and no POSITION record says so. SYNC sees the conversation change already, so a row
# that exists keeps its place in the index of changes.
_RAISE_SENDER = (
    "INSERT INTO position VALUES(?1, ?2, ?3, ?3, ?4, ?5) ON CONFLICT(cid, uid) DO UPDATE SET "
    "delivered_seq = max(delivered_seq, ?3), read_seq = ?3, read_count = ?4 WHERE read_seq < ?3"
)
# Results that no client asks for any more, oldest first; the index on created_ms leads to them.
_FORGET_REQUESTS = (
    "DELETE FROM request_key WHERE (uid, key) IN "
    "(SELECT uid, key FROM request_key WHERE created_ms < ? ORDER BY created_ms LIMIT ?)"
)
# Ids of deleted rows are not given out again.
_RAISE_HIGHEST = "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"
_SET_FOLDED_POS = "UPDATE meta SET value = ? WHERE key = 'folded_pos'"


class FoldSettings(NamedTuple):
    """portion_records: at most this many in one transaction. cache_bytes: of the writer's page cache; below 128 MiB a
    portion spills into the WAL early. segment_age_s: folded segments stay this long, a hub that comes back replays
    from them. checkpoint_bytes, checkpoint_interval_s: whichever comes first; readers keep the WAL from being reused,
    so from restart_bytes on the checkpoint waits for them. request_keys_s: the answer to a request with an idempotency
    key is kept so long by the wall clock; one fold forgets at most request_keys_forgotten. kept_bytes_max: of folded
    segments that wait for an incremental backup, 0: none does.
    """

    portion_records: int = 100_000
    cache_bytes: int = 256 * 1024 * 1024
    segment_age_s: float = 30.0
    checkpoint_bytes: int = WAL_BYTES_KEPT
    checkpoint_interval_s: float = 5.0
    restart_bytes: int = 4 * WAL_BYTES_KEPT
    request_keys_s: float = 7 * 86_400.0
    request_keys_forgotten: int = 10_000
    reserve_bytes: int = 64 * 1024 * 1024
    slack_bytes: int = 8 * 1024 * 1024
    kept_bytes_max: int = 0
    vfs: str | None = None


DEFAULT_SETTINGS = FoldSettings()
# How long a checkpoint waits for readers so that the WAL can begin anew. One of them may be a backup, which takes
# minutes, while the hub's tail waits for the next fold.
RESTART_WAIT_MS = 200


class Source(Protocol):
    """What is folded: the segments of the journal, or those of a backup."""

    def batches_after(self, after_pos: int) -> Iterator[Batch]: ...
    def unlink_folded(self, folded_pos: int, age_s: float) -> None: ...
    def make_room(self, *, full: bool) -> None: ...
    def close(self) -> None: ...


class SqliteFolder:
    """See interface.Folder. Make it with `open` after the store was opened once; holds the folder's lock until closed.

    cost_ns: CPU time by stage since it was opened, for metrics and benchmarks.
    """

    def __init__(
        self,
        directory: Path,
        portion: Callable[[], Portion],
        settings: FoldSettings,
        lock: LockFile,
        source: Source | None,
    ) -> None:
        self._path = directory / MAIN_NAME
        self._portion = portion
        self._settings = settings
        self._lock = lock
        self._reserve = Reserve(directory, settings.reserve_bytes, settings.slack_bytes)
        self._main: apsw.Connection | None = None
        self._chain = source or SegmentChain(directory, settings.vfs, Kept(directory, settings.kept_bytes_max))
        self._checkpointed_at = time.monotonic()
        self.cost_ns = dict.fromkeys(("read", "event", "send", "other", "commit", "checkpoint"), 0)

    @classmethod
    def open(
        cls,
        directory: Path,
        portion: Callable[[], Portion],
        settings: FoldSettings = DEFAULT_SETTINGS,
        source: Source | None = None,
    ) -> "SqliteFolder":
        """portion: chatd._native.Portion. source: instead of the directory's journal.

        Raises StoreLockedError, StorageError when there is no store.
        """
        if not (directory / MAIN_NAME).exists():
            raise StorageError(f"{directory} has no store to fold into: the hub makes it")
        folder = cls(directory, portion, settings, LockFile(directory, FOLDER_LOCK, "folder"), source)
        try:
            folder._main = folder._connect()
        except BaseException:
            folder.close()
            raise
        return folder

    def fold_once(self) -> FoldResult:
        """See interface.Folder."""
        try:
            result = self._fold_portion()
            if result.records:
                self._checkpoint_if_due(result.folded_pos)
        except StoreFullError:
            self._reserve.give_back()
            self._chain.make_room(full=True)
            raise
        self._chain.make_room(full=False)
        if self._reserve.full:
            self._reserve.restore()
        return result

    def trim(self) -> bool:
        """See interface.Folder."""
        main = self._opened()
        with storage_errors("delete from", self._path), self._costs("other"):
            try:
                main.execute("BEGIN IMMEDIATE")
                more = trim.run(
                    trim.steps(int(time.time() * 1000)),
                    lambda statement: main.execute(statement.sql, statement.bindings).fetchall(),
                )
                main.execute("COMMIT")
            finally:
                if main.in_transaction:
                    main.execute("ROLLBACK")
        if more:
            self._checkpoint_if_due(self._folded_pos())
        return more

    def settle(self) -> None:
        """Checkpoint now and unlink what may go: before a quiet time, and in tests."""
        self._checkpoint(self._folded_pos())

    def close(self) -> None:
        """Leaves every file as a crash would."""
        self._chain.close()
        if self._main is not None:
            self._main.close()
            self._main = None
        self._lock.close()

    def _connect(self) -> apsw.Connection:
        with storage_errors("open", self._path):
            main = connect(self._path, vfs=self._settings.vfs, unshared=True)
            main.pragma("synchronous", 1)
            main.pragma("cache_size", -(self._settings.cache_bytes // 1024))
            main.pragma("journal_size_limit", WAL_BYTES_KEPT)
            # A folder whose fsync failed has ended, and the pages concerned may be clean though they never reached the
            # disk; the next checkpoint would then trust a WAL that is not there (see segment.harden_end).
            main.execute("BEGIN IMMEDIATE")
            rewrite_wal(self._path)
            main.execute("ROLLBACK")
        return main

    def _fold_portion(self) -> FoldResult:
        folded_pos = self._folded_pos()
        with self._costs("read"):
            portion, end_pos, more = self._read_portion(folded_pos)
        if end_pos == folded_pos:
            return FoldResult(0, folded_pos, more=False)
        main = self._opened()
        with storage_errors("fold into", self._path):
            try:
                main.execute("BEGIN IMMEDIATE")
                self._write_portion(main, portion)
                main.execute(_SET_FOLDED_POS, (end_pos,))
                with self._costs("commit"):
                    main.execute("COMMIT")
            except (apsw.ConstraintError, OverflowError) as error:
                raise StoreCorruptError(
                    f"the journal records {folded_pos + 1} .. {end_pos} contradict {self._path}: {error}. "
                    "Run `chatd check`; nothing of them was folded, and nothing is lost"
                ) from error
            finally:
                if main.in_transaction:
                    main.execute("ROLLBACK")
        return FoldResult(end_pos - folded_pos, end_pos, more)

    def _read_portion(self, folded_pos: int) -> tuple[Portion, int, bool]:
        """At most portion_records records, but at least one batch; where they end; whether more wait."""
        portion, end_pos = self._portion(), folded_pos
        for pos, count, blob in self._chain.batches_after(folded_pos):
            if pos != end_pos + 1:
                raise StoreCorruptError(f"journal records {end_pos + 1} .. {pos - 1} are missing beside {self._path}")
            if end_pos > folded_pos and pos + count - 1 - folded_pos > self._settings.portion_records:
                return portion, end_pos, True
            try:
                portion.add(pos, count, blob)
            except ValueError as error:
                raise StoreCorruptError(f"the journal batch at {pos} cannot be read: {error}") from error
            end_pos = pos + count - 1
        return portion, end_pos, False

    def _write_portion(self, main: apsw.Connection, portion: Portion) -> None:
        """Rows first: a conversation exists before its head moves, a device before its highest cseq."""
        with self._costs("other"):
            apply_rows(main, portion.rows)
            oldest_ms = int((time.time() - self._settings.request_keys_s) * 1000)
            main.execute(_FORGET_REQUESTS, (oldest_ms, self._settings.request_keys_forgotten))
        with self._costs("event"):
            next_id = main.execute(_NEXT_EVENT_ID).get
            main.executemany(_INSERT_EVENT, portion.events())
            main.executemany(_INSERT_EVENT_RUN, portion.event_runs(next_id))
            main.executemany(_REDACT_EVENT, ((cid, seq, EVENT_TOMBSTONE) for cid, seq, _ in portion.redactions))
        with self._costs("send"):
            if left_out(main, _INSERT_SEND_RUN, portion.send_runs()):
                main.executemany(_INSERT_LATE_SENDS, portion.send_runs())
        with self._costs("other"):
            main.executemany(_UPDATE_CONVERSATION, portion.heads())
            main.executemany(_UPDATE_DEVICE, portion.highest_cseqs())
            main.executemany(_UPSERT_MEMBERSHIP, newest(portion.members, key_columns=3))
            main.executemany(_UPSERT_POSITION, newest(portion.positions, key_columns=2))
            main.executemany(_RAISE_SENDER, portion.senders())

    def _checkpoint_if_due(self, folded_pos: int) -> None:
        overdue = time.monotonic() - self._checkpointed_at >= self._settings.checkpoint_interval_s
        if overdue or self._wal_bytes()[0] >= self._settings.checkpoint_bytes:
            self._checkpoint(folded_pos)

    def _checkpoint(self, folded_pos: int) -> None:
        """Only this process writes, so what is in the WAL now ends with folded_pos."""
        restart = sum(self._wal_bytes()) >= self._settings.restart_bytes
        mode = apsw.SQLITE_CHECKPOINT_RESTART if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
        with self._costs("checkpoint"), storage_errors("checkpoint", self._path):
            self._opened().set_busy_timeout(RESTART_WAIT_MS)
            try:
                in_wal, checkpointed = self._opened().wal_checkpoint(mode=mode)
            except apsw.BusyError:
                return
            finally:
                self._opened().set_busy_timeout(BUSY_TIMEOUT_MS)
        self._checkpointed_at = time.monotonic()
        if in_wal == checkpointed:
            self._chain.unlink_folded(folded_pos, self._settings.segment_age_s)

    def _folded_pos(self) -> int:
        with storage_errors("read", self._path):
            return meta_number(self._opened(), "folded_pos")

    def _wal_bytes(self) -> tuple[int, int]:
        """Of the main database: (still to be checkpointed, checkpointed but not begun anew because of readers)."""
        in_wal, checkpointed = self._opened().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        return (in_wal - checkpointed) * PAGE_BYTES, checkpointed * PAGE_BYTES

    def _opened(self) -> apsw.Connection:
        if self._main is None:
            raise StorageError(f"the folder of {self._path} is closed")
        return self._main

    @contextmanager
    def _costs(self, stage: str) -> Iterator[None]:
        begin = time.thread_time_ns()
        try:
            yield
        finally:
            self.cost_ns[stage] += time.thread_time_ns() - begin


def left_out(main: apsw.Connection, sql: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Insert all rows; of how many the statement made nothing."""
    before, seen = main.total_changes(), itertools.count()
    main.executemany(sql, (row for row, _ in zip(rows, seen, strict=False)))
    return next(seen) - (main.total_changes() - before)


def apply_rows(main: apsw.Connection, rows: Iterable[RowTuple]) -> None:
    """Within the caller's transaction."""
    highest: dict[str, int] = {}
    for pos, payload in rows:
        change = change_of(pos, payload)
        main.execute(change.sql, change.bindings)
        if change.table:
            highest[change.table] = max(highest.get(change.table, 0), change.id)
    main.executemany(_RAISE_HIGHEST, [(f"highest_{table}", value) for table, value in highest.items()])
