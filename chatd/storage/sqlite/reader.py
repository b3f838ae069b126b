"""Reading the main database in threads: a bounded pool of connections, and views that are read transactions.

What is not folded yet is not here but in the hub's tail. The hub takes the tail first and then a view: the tail is
freed only after the fold's commit, so an event is in one of them at every moment, or in both.
"""

import queue
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import apsw

from chatd.storage.sql_view import Dialect, SqlView
from chatd.storage.sqlite.connection import READ_MAP_BYTES, connect, storage_errors
from chatd.storage.sqlite.database import meta_number

_KEYS_PER_QUERY = 500


class SqliteReader:
    """See interface.Reader. Thread-safe; connections are opened when first needed."""

    def __init__(self, path: Path, connections_max: int, vfs: str | None = None) -> None:
        self._path = path
        self._vfs = vfs
        self._idle: queue.LifoQueue[apsw.Connection | None] = queue.LifoQueue(connections_max)
        for _ in range(connections_max):
            self._idle.put_nowait(None)

    @contextmanager
    def view(self) -> Iterator["SqliteView"]:
        """A read transaction for one thread; blocks while all connections are in use."""
        connection = self._idle.get()
        try:
            with storage_errors("read", self._path):
                connection = connection or self._connect()
                connection.execute("BEGIN")
                try:
                    yield SqliteView(connection)
                finally:
                    connection.execute("ROLLBACK")
        finally:
            self._idle.put_nowait(connection)

    def close(self) -> None:
        """Close all connections; blocks until the open views end."""
        for _ in range(self._idle.maxsize):
            connection = self._idle.get()
            if connection is not None:
                connection.close()

    def _connect(self) -> apsw.Connection:
        connection = connect(self._path, vfs=self._vfs, write=False)
        connection.pragma("mmap_size", READ_MAP_BYTES)
        return connection


class SqliteView(SqlView):
    """See interface.View; the queries are SqlView's."""

    # CROSS JOIN keeps the order of the tables, which the planner would turn round.
    dialect: ClassVar[Dialect] = Dialect(greatest="max", by_user="INDEXED BY membership_uid", join="CROSS JOIN")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.folded_pos = meta_number(connection, "folded_pos")

    def rows(self, sql: str, *bindings: Any) -> Iterable[Sequence[Any]]:
        return self._connection.execute(sql, bindings)

    def rows_of_keys(self, sql: str, keys: Iterable[Any]) -> Iterator[Sequence[Any]]:
        """In queries of _KEYS_PER_QUERY keys, so that the number of bindings has a bound."""
        wanted = list(keys)
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            part = wanted[start : start + _KEYS_PER_QUERY]
            yield from self._connection.execute(sql.format(keys=f"IN ({','.join('?' * len(part))})"), part)
