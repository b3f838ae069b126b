"""Both ends of a copy in a PostgreSQL database."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

from chatd.bridge import Bridge
from chatd.errors import ConfigError, StoreLockedError, StoreLostError
from chatd.storage.copy.files import pages
from chatd.storage.copy.interface import BULK, NEVER_S, Copying, Portions
from chatd.storage.copy.tables import RUNS, Key, Row, Table, tables
from chatd.storage.copy.verify import EVENT_COLUMNS, FLOOR
from chatd.storage.interface import Batch, FoldResult
from chatd.storage.moved import COPYING, GONE
from chatd.storage.postgresql.connection import (
    COPY_LOCK,
    FOLDER_LOCK,
    HUB_LOCK,
    LOCK_CLASS,
    connect,
    database_name,
    holder,
    locked,
    numbered,
    storage_errors,
)
from chatd.storage.postgresql.folder import DEFAULT_SETTINGS, PostgresFolder
from chatd.storage.postgresql.migrate import load_migrations, migrate, plan
from chatd.storage.postgresql.reader import PostgresReader
from chatd.storage.postgresql.store import PostgresSettings, PostgresStore
from chatd.storage.sql_view import SqlView

BATCHES_PER_PAGE = 256
# How long one attempt waits for a lock whose holder was just told to end.
LOCK_WAIT_S = 0.3
ENDED_S, LOCK_PAUSE_S = 5.0, 0.05

_FOUND_EVENTS = (
    f"SELECT {', '.join(f'e.{column}' for column in EVENT_COLUMNS)} "  # noqa: S608
    "FROM unnest(?1::bigint[], ?2::bigint[]) AS wanted(cid, seq) "
    "JOIN LATERAL (SELECT first_id, first_seq FROM event_run r WHERE r.cid = wanted.cid AND r.first_seq <= wanted.seq "
    "ORDER BY first_seq DESC LIMIT 1) AS run ON TRUE "
    "JOIN event e ON e.id = run.first_id + wanted.seq - run.first_seq AND e.cid = wanted.cid AND e.seq = wanted.seq "
    f"WHERE e.seq >= {FLOOR}"
)
_FOUND_SENDS = (
    "SELECT device, cseq, CAST(place ->> 0 AS BIGINT), CAST(place ->> 1 AS BIGINT) FROM ("
    "SELECT wanted.device, wanted.cseq, "
    "CAST(run.sends AS json) -> CAST(wanted.cseq - run.first_cseq AS INTEGER) AS place "
    "FROM unnest(?1::bigint[], ?2::bigint[]) AS wanted(device, cseq) "
    "JOIN LATERAL (SELECT * FROM send_run r WHERE r.device = wanted.device AND r.first_cseq <= wanted.cseq "
    "ORDER BY first_cseq DESC LIMIT 1) AS run ON run.last_cseq >= wanted.cseq) AS runs "
    "UNION ALL SELECT late.device, late.cseq, late.cid, late.seq FROM late_send late "
    "JOIN unnest(?1::bigint[], ?2::bigint[]) AS wanted(device, cseq) "
    "ON late.device = wanted.device AND late.cseq = wanted.cseq"
)
_BATCHES = "SELECT pos, count, blob FROM batch WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3"
_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid = ANY($2)
AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()"""
_SET_META = "INSERT INTO meta VALUES($1, $2) ON CONFLICT(key) DO UPDATE SET value = excluded.value"
_META = "SELECT value FROM meta WHERE key = $1"


class DatabaseEnd:
    """See interface.End. One session for what it does itself, two for views."""

    kind = "postgresql"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._bridge = Bridge("postgresql copy")
        self._reader: PostgresReader | None = None
        self._connection: Any = None
        self.name = "the PostgreSQL database"
        try:
            self._bridge.wait(self._connect)
        except BaseException:
            self._bridge.close()
            raise

    def view(self) -> AbstractContextManager[SqlView]:
        if self._reader is None:
            self._reader = PostgresReader(self._bridge, self._dsn, 2, command_timeout_s=None)
        return self._reader.view()

    def found(self, view: SqlView, of: Table, keys: list[Key], oldest_ms: int) -> list[Row]:
        return self._all(view, of.found_many(oldest_ms), keys)

    def found_events(self, view: SqlView, keys: list[Key]) -> list[Row]:
        return self._all(view, _FOUND_EVENTS, keys)

    def found_sends(self, view: SqlView, keys: list[Key]) -> list[Row]:
        return self._all(view, _FOUND_SENDS, keys)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._bridge.wait(self._disconnect)
        self._bridge.close()

    @staticmethod
    def _all(view: SqlView, sql: str, keys: list[Key]) -> list[Row]:
        return [tuple(row) for row in view.rows(sql, *(list(column) for column in zip(*keys, strict=True)))]

    def forget(self, *keys: str) -> None:
        """Keys of meta."""
        self._bridge.wait(self._fetch, "DELETE FROM meta WHERE key = ANY($1)", list(keys))

    async def _connect(self) -> None:
        self._connection = await connect(self._dsn, "copy", command_timeout_s=None)
        self.name = await database_name(self._connection)

    async def _disconnect(self) -> None:
        self._connection.terminate()

    async def _locked(self, lock: int, otherwise: str) -> None:
        """The server may need a moment to see that a copier before this one is gone."""
        until_s = time.monotonic() + ENDED_S
        with storage_errors("lock", self.name):
            while not await locked(self._connection, lock):
                if time.monotonic() > until_s:
                    raise StoreLockedError(f"{self.name} {otherwise} ({await holder(self._connection, lock)})")
                await asyncio.sleep(LOCK_PAUSE_S)

    async def _fetch(self, sql: str, *bindings: Any) -> list[Any]:
        with storage_errors("copy", self.name):
            found: list[Any] = await self._connection.fetch(sql, *bindings)
        return found

    async def _set_meta(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            await self._connection.execute(_SET_META, key, json.dumps(value))


class DatabaseSource(DatabaseEnd):
    """See interface.Source. ConfigError: there is no store, or one of another version."""

    def __init__(self, dsn: str, portion: Portions) -> None:
        super().__init__(dsn)
        self._portion = portion
        self._store: PostgresStore | None = None
        self._folder: PostgresFolder | None = None
        try:
            self._bridge.wait(self._look)
        except BaseException:
            self.close()
            raise

    def batches(self, after_pos: int, upto_pos: int) -> Iterator[list[Batch]]:
        yield from pages(self._batches(after_pos, upto_pos), after_pos, upto_pos, self.name)

    def take(self, until_s: float) -> None:
        """Sessions that may write are ended by force: their hub asks where the store is before it begins another."""
        while self._store is None:
            self._bridge.wait(self._fetch, _END_OTHERS, LOCK_CLASS, [HUB_LOCK, FOLDER_LOCK])
            try:
                self._store = PostgresStore.open(self._dsn, PostgresSettings(lock_wait_s=LOCK_WAIT_S))
            except StoreLockedError:
                if time.monotonic() > until_s:
                    raise
        while self._folder is None:
            try:
                self._folder = PostgresFolder.open(self._dsn, self._portion)
            except StoreLostError:
                if time.monotonic() > until_s:
                    raise
                self._bridge.wait(self._fetch, _END_OTHERS, LOCK_CLASS, [FOLDER_LOCK])

    def fold(self) -> FoldResult:
        assert self._folder is not None
        return self._folder.fold_once()

    @property
    def end_pos(self) -> int:
        assert self._store is not None
        return self._store.next_pos - 1

    @property
    def boot_count(self) -> int:
        assert self._store is not None
        return self._store.boot_count

    segment = 0

    def let_go(self) -> None:
        for held in (self._folder, self._store):
            if held is not None:
                held.close()
        self._folder = self._store = None

    def gone(self) -> tuple[str, int] | None:
        marked = self._bridge.wait(self._fetch, _META, GONE)
        if not marked:
            return None
        mark = json.loads(marked[0][0])
        return mark["to"], mark["position"]

    def fence(self, to: str, position: int) -> None:
        self._bridge.wait(self._set_meta, {GONE: {"to": to, "position": position}})

    def close(self) -> None:
        self.let_go()
        super().close()

    async def _look(self) -> None:
        """The lock is what folders see: as long as this session lives they delete no folded batch."""
        with storage_errors("copy", self.name):
            if await self._connection.fetchval("SELECT to_regclass('migration') IS NULL"):
                raise ConfigError(f"{self.name} has no store of chatd")
            if (await plan(self._connection, load_migrations())).pending:
                raise ConfigError(f"the store in {self.name} is of an older version: `chatd migrate --store …`")
            if await self._connection.fetchval(_META, COPYING):
                raise ConfigError(f"{self.name} holds an unfinished copy itself")
            await self._locked(COPY_LOCK, "is being copied")

    def _batches(self, after_pos: int, upto_pos: int) -> Iterator[Batch]:
        while page := self._bridge.wait(self._fetch, _BATCHES, after_pos, upto_pos, BATCHES_PER_PAGE):
            for row in page:
                yield Batch(*row)
            after_pos = page[-1][0]


class DatabaseTarget(DatabaseEnd):
    """See interface.Target. portion None: nothing is going to be folded."""

    def __init__(self, dsn: str, portion: Portions | None = None) -> None:
        super().__init__(dsn)
        self._portion = portion
        self._folder: PostgresFolder | None = None
        self._next_pos = 0

    def prepare(self, log_epoch: int) -> Copying:
        return self._bridge.wait(self._prepare, log_epoch)

    def restart(self) -> None:
        self._next_pos = 0
        self._bridge.wait(self._restart)

    def mark(self, copying: Copying, meta: dict[str, int]) -> None:
        self._bridge.wait(self._in_transaction, self._set_meta({**meta, COPYING: copying._asdict()}))

    def replace(self, of: Table, after: Key | None, last: Key | None, rows: list[Row]) -> None:
        self._bridge.wait(self._replace, of, after, last, rows)

    def append(self, batches: list[Batch]) -> None:
        self._bridge.wait(self._append, batches)
        self._next_pos = batches[-1].pos + batches[-1].record_count

    def fold(self) -> FoldResult:
        if self._folder is None:
            assert self._portion is not None
            settings = DEFAULT_SETTINGS._replace(request_keys_s=NEVER_S)
            self._folder = PostgresFolder.open(self._dsn, self._portion, settings)
        return self._folder.fold_once()

    @property
    def next_pos(self) -> int:
        if not self._next_pos:
            end = self._bridge.wait(self._fetch, "SELECT max(pos + count) FROM batch")[0][0]
            folded = self._bridge.wait(self._fetch, _META, "folded_pos")[0][0]
            self._next_pos = max(end or 0, int(folded) + 1)
        return self._next_pos

    def take(self, until_s: float) -> None:
        """`prepare` has taken the lock already, where there was one."""
        self._bridge.wait(self._lock)

    def finish(self) -> None:
        self._end_folding()
        self.forget(COPYING, GONE)
        self._bridge.wait(self._fetch, "SELECT pg_advisory_unlock_all()")

    def close(self) -> None:
        self._end_folding()
        super().close()

    def _end_folding(self) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    # ------------------------------------------------------------ on the bridge

    async def _prepare(self, log_epoch: int) -> Copying:
        connection = self._connection
        await self._lock()
        with storage_errors("copy into", self.name):
            await migrate(connection, load_migrations())
            marked = await connection.fetchval(_META, COPYING)
            if marked:
                copying = Copying(**json.loads(marked))
                if copying.log_epoch != log_epoch:
                    raise ConfigError(
                        f"{self.name} holds an unfinished copy of another store; drop the database, or give another one"
                    )
                return copying
            await self._refuse_another(log_epoch)
        return Copying(log_epoch, "")

    async def _lock(self) -> None:
        """Advisory locks may be taken twice by one session, and finish gives all back."""
        await self._locked(HUB_LOCK, "is in use: another chatd writes to it")

    async def _refuse_another(self, log_epoch: int) -> None:
        """An older copy of the same data, which was moved away, is replaced."""
        epoch = await self._connection.fetchval(_META, "log_epoch")
        if epoch is not None and int(epoch) != log_epoch:
            raise ConfigError(f"{self.name} holds another store; a copy is never mixed into one. Give another database")
        if epoch is not None and not await self._connection.fetchval(_META, GONE):
            raise ConfigError(f"{self.name} holds a store that was not moved away; give another database")

    async def _restart(self) -> None:
        with storage_errors("copy into", self.name):
            names = [of.quoted for of in tables() if of.name not in RUNS]
            await self._connection.execute(f"TRUNCATE {', '.join([*names, 'batch'])}")

    async def _replace(self, of: Table, after: Key | None, last: Key | None, rows: list[Row]) -> None:
        connection = self._connection
        with storage_errors("copy into", self.name):
            sql, bindings = of.page(after, last, len(rows) + 1)
            if [tuple(row) for row in await connection.fetch(numbered(sql), *bindings)] == rows:
                return
            async with connection.transaction():
                condition, bindings = of.span(after, last)
                await connection.execute(f"DELETE FROM {of.quoted} WHERE {numbered(condition)}", *bindings)  # noqa: S608
                await connection.copy_records_to_table(of.name, records=rows, columns=of.columns)

    async def _append(self, batches: list[Batch]) -> None:
        now_ms = time.time_ns() // 1_000_000
        with storage_errors("append to", self.name):
            await self._connection.copy_records_to_table(
                "batch", records=[(pos, count, now_ms, blob) for pos, count, blob in batches]
            )

    async def _in_transaction(self, work: Coroutine[Any, Any, None]) -> None:
        with storage_errors("copy into", self.name):
            async with self._connection.transaction():
                await work


def withdraw(dsn: str, check: Callable[[int], None]) -> None:
    """A finished copy becomes one to be compared anew. check: told where it ends."""
    with closing(DatabaseTarget(dsn)) as target:
        target.take(time.monotonic())
        check(target.next_pos - 1)
        with target.view() as view:
            log_epoch = int(view.meta("log_epoch"))
        target.mark(Copying(log_epoch, BULK), {})


def unmark(dsn: str) -> None:
    """A store that had moved is one to be served again."""
    with closing(DatabaseEnd(dsn)) as end:
        end.forget(GONE)
