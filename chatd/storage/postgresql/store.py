"""The store on PostgreSQL, as the hub holds it: one session that writes, others that read.

The session is the right to write. It holds an advisory lock for as long as it lives, so exactly one hub owns the
database, and its end is the end of this hub: nothing is retried and nothing guessed here. The next hub gets the lock
when the server has ended the old session, after whatever that one was committing; it reads what is there, and shards
repeat by device and cseq what they have no answer for. (docs/decisions/0010 has the alternatives and the figures.)
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from chatd.bridge import Bridge
from chatd.errors import (
    InternalError,
    StorageError,
    StoreCorruptError,
    StoreFailedError,
    StoreLockedError,
    StoreLostError,
)
from chatd.storage.counters import BOOTS_SKIPPED, IDS_SKIPPED, new_log_epoch, raised
from chatd.storage.interface import Batch, HighestIds
from chatd.storage.lock_file import LockFile
from chatd.storage.moved import COPYING, GONE, refuse_marked
from chatd.storage.postgresql.connection import (
    COMMAND_TIMEOUT_S,
    HUB_LOCK,
    connect,
    database_name,
    holder,
    locked,
    storage_errors,
)
from chatd.storage.postgresql.migrate import load_migrations, migrate
from chatd.storage.postgresql.reader import PostgresReader

ID_TABLES = HighestIds._fields
BATCHES_PER_PAGE = 64
PING_INTERVAL_S = 0.5
# Longer than the server takes to give up a client that vanished (connection.SESSION).
LOCK_WAIT_S, LOCK_PAUSE_S = 15.0, 0.05
OPEN_TIMEOUT_S = 30.0
_INSERT = "INSERT INTO batch(pos, count, created_ms, blob) VALUES($1, $2, $3, $4)"
# From the batch that holds the record on.
_BATCHES = """
SELECT pos, count, blob FROM batch
WHERE pos >= coalesce((SELECT max(pos) FROM batch WHERE pos <= $1), $1) AND pos + count > $1 ORDER BY pos LIMIT $2"""
_END = "SELECT pos + count FROM batch ORDER BY pos DESC LIMIT 1"
_SET_META = "INSERT INTO meta VALUES($1, $2) ON CONFLICT(key) DO UPDATE SET value = excluded.value"
_COUNT_BOOT = "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 2 AS TEXT) WHERE key = 'boot_count' RETURNING value"


class PostgresSettings(NamedTuple):
    """readers_max: connections for reading threads. read_only: after failures of the server's disk; nothing is
    written, every append fails. lock_wait_s: for the hub before this one.
    """

    readers_max: int = 4
    read_only: bool = False
    lock_wait_s: float = LOCK_WAIT_S


DEFAULT_SETTINGS = PostgresSettings()


class PostgresStore:
    """See interface.Store. Make it with `open`; it holds the hub's lock until closed."""

    log_epoch: int
    boot_count: int
    next_pos: int

    def __init__(self, dsn: str, settings: PostgresSettings, lock: LockFile | None) -> None:
        self._dsn = dsn
        self._lock_file = lock
        self._settings = settings
        self._bridge = Bridge("postgresql")
        self._name = "the PostgreSQL database"
        self._connection: Any = None
        self._insert: Any = None
        # The library refuses a second operation on a connection; what comes meanwhile has to wait.
        self._turn = asyncio.Lock()
        self._ended = asyncio.Event()
        self._appended_at = 0.0

    @classmethod
    def open(
        cls, dsn: str, settings: PostgresSettings = DEFAULT_SETTINGS, lock: LockFile | None = None
    ) -> "PostgresStore":
        """Open or create the store of a database. Blocks, for seconds at worst. lock: closed with the store.

        Raises StoreLockedError, StoreLostError (try again later), StoreCorruptError, ConfigError, StorageError.
        """
        store = cls(dsn, settings, lock)
        try:
            store._bridge.wait(store._open, timeout_s=OPEN_TIMEOUT_S)
        except BaseException as error:
            store.close()
            if isinstance(error, TimeoutError):
                raise StoreLostError(f"{store._name} could not be opened within {OPEN_TIMEOUT_S:g} s") from None
            raise
        return store

    def append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        """See interface.Store. Blocks; for whoever has no loop to keep turning."""
        del urgent
        self._check(pos, count)
        self._bridge.wait(self._append, pos, count, blob)

    def begin_append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> Awaitable[None]:
        """See interface.Store."""
        del urgent
        self._check(pos, count)
        return self._bridge.call(self._append, pos, count, blob)

    async def lost(self) -> None:
        """See interface.Store. An end is heard of at once; a silent server is asked now and then."""
        await self._bridge.call(self._watch)

    def replay(self, after_pos: int) -> Iterator[Batch]:
        """See interface.Store."""
        expected = after_pos + 1
        while expected < self.next_pos:
            page = self._fetch(_BATCHES, expected, BATCHES_PER_PAGE)
            for pos, count, blob in page:
                if pos > expected or (pos < expected and expected != after_pos + 1):
                    raise StoreCorruptError(f"{self._name}: journal records {expected} .. {pos - 1} are missing")
                expected = pos + count
                yield Batch(pos, count, blob)
            if not page:
                raise StoreCorruptError(f"{self._name}: the journal ends at {expected - 1}, not at {self.next_pos - 1}")

    def folded_pos(self) -> int:
        return int(self._fetch("SELECT value FROM meta WHERE key = 'folded_pos'")[0][0])

    def first_pos(self) -> int:
        """See interface.Store."""
        return int(self._fetch("SELECT coalesce(min(pos), $1) FROM batch", self.next_pos)[0][0])

    def stored_ids(self) -> HighestIds:
        """See interface.Store."""
        highest = [
            f"""(SELECT greatest((SELECT max(id) FROM "{table}"),
                (SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'highest_{table}'), 0))"""  # noqa: S608 ID_TABLES
            for table in ID_TABLES
        ]
        return HighestIds(*self._fetch(f"SELECT {', '.join(highest)}")[0])

    def highest_ids(self) -> HighestIds:
        """See interface.Store."""
        return raised(self.stored_ids(), self.replay(self.folded_pos()))

    def reader(self) -> PostgresReader:
        """Connections of its own; close it before the store."""
        return PostgresReader(self._bridge, self._dsn, self._settings.readers_max)

    def begin_new_log(self) -> int:
        """The database went back to an earlier state: what was given out after it must not be given out again. Returns
        the new log epoch, which holds from the next opening on."""
        return int(self._bridge.wait(self._begin_new_log, self.highest_ids()))

    def close(self) -> None:
        """Ends the session, and with it the lock, as a crash would."""
        if self._connection is not None:
            self._bridge.wait(self._terminate)
            self._connection = None
        self._bridge.close()
        if self._lock_file is not None:
            self._lock_file.close()

    # ------------------------------------------------------------ on the bridge

    async def _open(self) -> None:
        connection = self._connection = await connect(self._dsn, "hub")
        connection.add_termination_listener(lambda _: self._ended.set())
        self._name = await database_name(connection)
        with storage_errors("open", self._name):
            await self._refuse_moved(connection)
            await self._lock(connection)
            await migrate(connection, load_migrations())
            await self._refuse_moved(connection)
            async with connection.transaction():
                await self._read_meta(connection)
            folded_pos = int(await connection.fetchval("SELECT value FROM meta WHERE key = 'folded_pos'"))
            self.next_pos = await connection.fetchval(_END) or folded_pos + 1
            if self.next_pos <= folded_pos:
                raise StoreCorruptError(
                    f"the journal in {self._name} ends at {self.next_pos - 1}, but {folded_pos} are folded"
                )
            self._insert = await connection.prepare(_INSERT)

    async def _refuse_moved(self, connection: Any) -> None:
        """A copy that is not complete, and a store that was copied elsewhere, are nobody's to serve from."""
        if await connection.fetchval("SELECT to_regclass('meta') IS NULL"):
            return
        marks = dict(await connection.fetch("SELECT key, value FROM meta WHERE key = ANY($1)", [COPYING, GONE]))
        refuse_marked(self._name, marks)

    async def _lock(self, connection: Any) -> None:
        """The server may need a while to see that the hub before us is gone."""
        until = time.monotonic() + self._settings.lock_wait_s
        while not await locked(connection, HUB_LOCK):
            if time.monotonic() > until:
                raise StoreLockedError(
                    f"{self._name} is in use: another chatd writes to it ({await holder(connection, HUB_LOCK)}). "
                    "Stop that one first, or use another database"
                )
            await asyncio.sleep(LOCK_PAUSE_S)

    async def _read_meta(self, connection: Any) -> None:
        for key, value in {"log_epoch": new_log_epoch(), "boot_count": 0, "folded_pos": 0}.items():
            await connection.execute("INSERT INTO meta VALUES($1, $2) ON CONFLICT DO NOTHING", key, str(value))
        self.log_epoch = int(await connection.fetchval("SELECT value FROM meta WHERE key = 'log_epoch'"))
        # Session epochs are built on it and must never repeat. A start that may not write has an odd number.
        count = int(await connection.fetchval("SELECT value FROM meta WHERE key = 'boot_count'"))
        self.boot_count = count + 1 if self._settings.read_only else int(await connection.fetchval(_COUNT_BOOT))

    def _check(self, pos: int, count: int) -> None:
        if pos != self.next_pos or count < 1:
            raise InternalError(f"batch of {count} records at {pos}, but the journal continues at {self.next_pos}")
        if self._settings.read_only:
            raise StoreFailedError(f"{self._name} was opened read-only")

    async def _append(self, pos: int, count: int, blob: bytes) -> None:
        async with self._turn:
            with storage_errors("append to", self._name):
                await self._insert.fetch(pos, count, time.time_ns() // 1_000_000, blob, timeout=COMMAND_TIMEOUT_S)
        self._appended_at = time.monotonic()
        self.next_pos = pos + count

    async def _begin_new_log(self, highest: HighestIds) -> int:
        log_epoch = new_log_epoch()
        values = {"log_epoch": log_epoch, "boot_count": self.boot_count + BOOTS_SKIPPED}
        values |= {f"highest_{table}": number + IDS_SKIPPED for table, number in highest._asdict().items() if number}
        with storage_errors("write to", self._name):
            async with self._turn, self._connection.transaction():
                for key, value in values.items():
                    await self._connection.execute(_SET_META, key, str(value))
        return log_epoch

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_INTERVAL_S):
                    await self._ended.wait()
            if self._ended.is_set():
                raise StoreLostError(f"the session that writes to {self._name} has ended")
            with storage_errors("reach", self._name):
                if time.monotonic() - self._appended_at >= PING_INTERVAL_S:
                    async with self._turn:
                        await self._connection.fetchval("SELECT 1")

    async def _terminate(self) -> None:
        self._connection.terminate()

    async def _query(self, sql: str, *bindings: Any) -> list[Any]:
        async with self._turn:
            with storage_errors("read", self._name):
                found: list[Any] = await self._connection.fetch(sql, *bindings)
        return found

    def _fetch(self, sql: str, *bindings: Any) -> list[Any]:
        if self._connection is None:
            raise StorageError("the store is closed")
        return self._bridge.wait(self._query, sql, *bindings)
