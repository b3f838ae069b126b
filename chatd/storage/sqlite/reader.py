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

# From the run in which ?2 lies to the one in which ?3 lies.
_EVENTS = """
SELECT e.cid, e.seq, e.ts, e.sender, e.kind, e.body, e.flags FROM event_run r CROSS JOIN event e
ON e.id BETWEEN r.first_id + max(?2 - r.first_seq, 0) AND r.first_id + min(?3, r.last_seq) - r.first_seq
WHERE r.cid = ?1 AND r.first_seq <= ?3
AND r.first_seq >= ifnull((SELECT max(first_seq) FROM event_run WHERE cid = ?1 AND first_seq <= ?2), 0)
ORDER BY r.first_seq, e.id LIMIT ?4
"""
_MESSAGE_COUNT = """
SELECT e.message_count FROM event_run r CROSS JOIN event e ON e.id = r.first_id + min(?2, r.last_seq) - r.first_seq
WHERE r.cid = ?1 AND r.first_seq <= ?2 ORDER BY r.first_seq DESC LIMIT 1
"""
_STORED_SEND = """
SELECT s.cid, s.seq, ifnull(e.ts, 0), ifnull(e.digest, 0) FROM (
    SELECT cid, seq FROM late_send WHERE device = ?1 AND cseq = ?2
    UNION ALL SELECT sends -> (?2 - first_cseq) ->> 0, sends -> (?2 - first_cseq) ->> 1 FROM send_run
    WHERE device = ?1 AND last_cseq >= ?2
    AND first_cseq = (SELECT max(first_cseq) FROM send_run WHERE device = ?1 AND first_cseq <= ?2)
) s
LEFT JOIN event_run r ON r.cid = s.cid
AND r.first_seq = (SELECT max(first_seq) FROM event_run WHERE cid = s.cid AND first_seq <= s.seq)
LEFT JOIN event e ON e.id = r.first_id + s.seq - r.first_seq AND e.cid = s.cid AND e.seq = s.seq
ORDER BY s.seq DESC LIMIT 1
"""


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
    dialect: ClassVar[Dialect] = Dialect(
        greatest="max",
        by_user="INDEXED BY membership_uid",
        join="CROSS JOIN",
        events=_EVENTS,
        message_count=_MESSAGE_COUNT,
        stored_send=_STORED_SEND,
    )

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
