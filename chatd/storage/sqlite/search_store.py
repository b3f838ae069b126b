"""The index of search in a file of its own, `search.db`. See search/interface.py.

It can always be made anew from the main database, so nothing waits for it to reach the disk: a power loss may take back
the newest steps, whole ones, and they are done again. A file that is damaged or of another layout is removed.
A block is written to by one step after another and lies together, whatever its terms: the key of a posting begins with
the block.
"""

import os
import queue
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from chatd.errors import StoreCorruptError, StoreFullError
from chatd.storage.lock_file import LockFile
from chatd.storage.search.empty import EmptySearchView
from chatd.storage.search.interface import BLOCKS_PER_PART, CHUNKS_PER_BLOCK, Block, Key, Slice, State
from chatd.storage.sqlite.connection import READ_MAP_BYTES, connect, storage_errors
from chatd.storage.sqlite.database import PAGE_BYTES
from chatd.storage.sqlite.directory import remove_database

SEARCH_NAME = "search.db"
INDEXER_LOCK = "search.lock"
LAYOUT = 2
CHECKPOINT_PAGES = 4096
CACHE_BYTES = 64 * 1024 * 1024
# The index is the last thing that a disk which fills up should hold.
FREE_BYTES_MIN = 160 * 1024 * 1024

_SCHEMA = f"""
CREATE TABLE state(id INTEGER PRIMARY KEY, log_epoch INTEGER, collected_pos INTEGER, indexed_pos INTEGER);
INSERT INTO state VALUES(1, 0, 0, 0);
CREATE TABLE head(cid INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE pending(ts INTEGER, cid INTEGER, seq INTEGER, PRIMARY KEY(ts, cid, seq)) WITHOUT ROWID;
CREATE TABLE block(number INTEGER PRIMARY KEY, doc_count INTEGER, ts_min INTEGER, ts_max INTEGER);
CREATE TABLE chunk(id INTEGER PRIMARY KEY, docs BLOB NOT NULL);
CREATE TABLE posting(block INTEGER, term TEXT, docs BLOB NOT NULL, PRIMARY KEY(block, term)) WITHOUT ROWID;
CREATE TABLE summary(part INTEGER, term TEXT, blocks INTEGER NOT NULL, PRIMARY KEY(part, term)) WITHOUT ROWID;
PRAGMA user_version = {LAYOUT};
"""
_STATE = "SELECT log_epoch, collected_pos, indexed_pos FROM state"
_SUMMARY = "SELECT blocks FROM summary WHERE part = ? AND term = ?"
_ADD_BLOCK = "INSERT INTO summary VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET blocks = blocks | excluded.blocks"
_POSTING = "SELECT docs FROM posting WHERE block = ? AND term = ?"


class SqliteSearchView:
    """See search.interface.SearchView."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        log_epoch, collected_pos, indexed_pos = connection.execute(_STATE).get
        self.state = State(log_epoch, collected_pos, indexed_pos)

    def blocks(self) -> list[Block]:
        return [Block(*row) for row in self._connection.execute("SELECT * FROM block ORDER BY number")]

    def postings(self, block: int, terms: Iterable[str]) -> dict[str, bytes]:
        found = ((term, self._connection.execute(_POSTING, (block, term)).get) for term in terms)
        return {term: docs for term, docs in found if docs is not None}

    def blocks_with(self, part: int, terms: Iterable[str]) -> dict[str, int]:
        found = ((term, self._connection.execute(_SUMMARY, (part, term)).get) for term in terms)
        return {term: blocks for term, blocks in found if blocks is not None}

    def chunks(self, block: int, first: int, last: int) -> list[bytes]:
        bounds = (block * CHUNKS_PER_BLOCK + first, block * CHUNKS_PER_BLOCK + last)
        return [row[0] for row in self._connection.execute("SELECT docs FROM chunk WHERE id BETWEEN ? AND ?", bounds)]

    def heads(self, cids: Iterable[int]) -> dict[int, int]:
        found = ((cid, self._connection.execute("SELECT seq FROM head WHERE cid = ?", (cid,)).get) for cid in cids)
        return {cid: seq for cid, seq in found if seq is not None}


class SqliteSearchReader:
    """See search.interface.SearchReader. Thread-safe."""

    def __init__(self, directory: Path, connections_max: int = 2) -> None:
        self._path = directory / SEARCH_NAME
        self._idle: queue.LifoQueue[tuple[int, apsw.Connection] | None] = queue.LifoQueue(connections_max)
        for _ in range(connections_max):
            self._idle.put_nowait(None)

    @contextmanager
    def view(self) -> Iterator[SqliteSearchView | EmptySearchView]:
        """A read transaction; blocks while all connections are in use."""
        opened = self._idle.get()
        try:
            opened = self._current(opened)
            if opened is None:
                yield EmptySearchView()
                return
            connection = opened[1]
            with storage_errors("read", self._path):
                connection.execute("BEGIN")
                try:
                    # The indexer may have made the file just now: it is whole or empty, as every transaction.
                    made = connection.pragma("user_version") == LAYOUT
                    yield SqliteSearchView(connection) if made else EmptySearchView()
                finally:
                    connection.execute("ROLLBACK")
        finally:
            self._idle.put_nowait(opened)

    def discard(self) -> None:
        """See search.interface.SearchReader. What belongs to the file goes when the indexer makes another one."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        for _ in range(self._idle.maxsize):
            opened = self._idle.get()
            if opened is not None:
                opened[1].close()

    def _current(self, opened: tuple[int, apsw.Connection] | None) -> tuple[int, apsw.Connection] | None:
        """A connection to the file that bears the name now: the indexer may have made another one."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if opened is not None and opened[0] != inode:
            opened[1].close()
            opened = None
        if opened is None and inode:
            with storage_errors("open", self._path):
                try:
                    connection = connect(self._path, write=False)
                except apsw.CantOpenError:
                    if self._path.exists():
                        raise
                    return None
                connection.pragma("mmap_size", READ_MAP_BYTES)
                opened = (inode, connection)
        return opened


class SqliteSearchWriter(SqliteSearchView):
    """See search.interface.SearchWriter. Holds the lock of the indexer until closed."""

    def __init__(self, directory: Path, connection: apsw.Connection, lock: LockFile) -> None:
        self._path = directory / SEARCH_NAME
        self._lock = lock
        self._use(connection)

    @classmethod
    def open(cls, directory: Path) -> "SqliteSearchWriter":
        """Open or create. Raises StoreLockedError, StoreFullError, StorageError."""
        lock = LockFile(directory, INDEXER_LOCK, "indexer")
        path = directory / SEARCH_NAME
        try:
            try:
                connection = _opened(path)
            except StoreCorruptError:
                remove_database(path)
                connection = _opened(path)
            return cls(directory, connection, lock)
        except BaseException:
            lock.close()
            raise

    def pending(self, limit: int) -> list[Key]:
        sql = "SELECT ts, cid, seq FROM pending ORDER BY ts, cid, seq LIMIT ?"
        rows: list[Any] = self._connection.execute(sql, (limit,)).fetchall()
        return rows

    def commit(self, change: Slice) -> None:
        space = os.statvfs(self._path.parent)
        if space.f_bavail * space.f_frsize < FREE_BYTES_MIN:
            raise StoreFullError(
                f"{self._path.parent} is nearly full: search is not kept up to date until there is room"
            )
        base = 0 if change.block is None else change.block.number * CHUNKS_PER_BLOCK
        number = 0 if change.block is None else change.block.number
        run, run_all = self._connection.execute, self._connection.executemany
        with storage_errors("write", self._path), self._connection:
            run_all("INSERT OR REPLACE INTO head VALUES(?, ?)", sorted(change.heads.items()))
            run_all("INSERT OR IGNORE INTO pending VALUES(?, ?, ?)", change.added)
            run_all("DELETE FROM pending WHERE ts = ? AND cid = ? AND seq = ?", change.done)
            if change.block is not None:
                run("INSERT OR REPLACE INTO block VALUES(?, ?, ?, ?)", change.block)
            run_all("INSERT OR REPLACE INTO chunk VALUES(?, ?)", ((base + at, it) for at, it in change.chunks.items()))
            run_all(
                "INSERT OR REPLACE INTO posting VALUES(?, ?, ?)",
                ((number, term, docs) for term, docs in change.postings.items()),
            )
            part, bit = divmod(number, BLOCKS_PER_PART)
            run_all(_ADD_BLOCK, ((part, term, 1 << bit) for term in change.fresh))
            run("UPDATE state SET log_epoch = ?, collected_pos = ?, indexed_pos = ?", change.state)
        self.state = change.state
        self._checkpoint()

    def is_current(self) -> bool:
        """Is the file still the one that is open? Who wants the index made anew removes it."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_ino == self._inode
        return False

    def clear(self) -> None:
        """Another file: readers notice."""
        self._connection.close(True)
        remove_database(self._path)
        self._use(_opened(self._path))

    def _use(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._inode = self._path.stat().st_ino

    def close(self) -> None:
        self._connection.close()
        self._lock.close()

    def _checkpoint(self) -> None:
        with storage_errors("checkpoint", self._path), suppress(apsw.BusyError):
            in_wal, done = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            if in_wal >= CHECKPOINT_PAGES:
                restart = in_wal >= 4 * CHECKPOINT_PAGES or done == in_wal
                mode = apsw.SQLITE_CHECKPOINT_RESTART if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
                self._connection.wal_checkpoint(mode=mode)


def _opened(path: Path) -> apsw.Connection:
    with storage_errors("open", path):
        connection = connect(path, create=True)
        try:
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", 1)
            connection.pragma("cache_size", -(CACHE_BYTES // 1024))
            connection.pragma("journal_size_limit", 4 * CHECKPOINT_PAGES * PAGE_BYTES)
            layout = connection.pragma("user_version")
            if layout not in (0, LAYOUT):
                raise StoreCorruptError(f"{path} has layout {layout}, this version of chatd makes {LAYOUT}")
            if not layout:
                with connection:
                    connection.execute(_SCHEMA)
        except BaseException:
            connection.close()
            raise
    return connection
