"""Reading in threads: a bounded pool of connections, and views that are read transactions of one snapshot.

The hub takes the tail first and then a view, as with SQLite: the tail lets go only of what a fold has committed, and a
snapshot begun after that has it.
"""

import json
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from chatd.bridge import Bridge
from chatd.errors import StoreLostError
from chatd.storage.interface import EventRow
from chatd.storage.postgresql.connection import COMMAND_TIMEOUT_S, connect, numbered, shown, storage_errors
from chatd.storage.postgresql.together import Answer, Key, Together
from chatd.storage.sql_view import Dialect, SqlView

POOL_WAIT_S = 1.5
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_FOLDED_POS = "SELECT value FROM meta WHERE key = 'folded_pos'"
# From the run in which ?2 lies to the one in which ?3 lies.
_EVENTS = """
SELECT e.cid, e.seq, e.ts, e.sender, e.kind, e.body, e.flags FROM event_run r JOIN event e
ON e.id BETWEEN r.first_id + greatest(?2 - r.first_seq, 0) AND r.first_id + least(?3, r.last_seq) - r.first_seq
WHERE r.cid = ?1 AND r.first_seq <= ?3
AND r.first_seq >= coalesce((SELECT max(first_seq) FROM event_run WHERE cid = ?1 AND first_seq <= ?2), 0)
ORDER BY e.seq LIMIT ?4
"""
_MESSAGE_COUNT = """
SELECT e.message_count FROM event_run r JOIN event e ON e.id = r.first_id + least(?2, r.last_seq) - r.first_seq
WHERE r.cid = ?1 AND r.first_seq <= ?2 ORDER BY r.first_seq DESC LIMIT 1
"""
_STORED_SEND = """
SELECT s.cid, s.seq, coalesce(e.ts, 0), coalesce(e.digest, 0) FROM (
    SELECT cid, seq FROM late_send WHERE device = ?1 AND cseq = ?2
    UNION ALL SELECT CAST(place ->> 0 AS BIGINT), CAST(place ->> 1 AS BIGINT) FROM (
        SELECT CAST(sends AS json) -> CAST(?2 - first_cseq AS INTEGER) AS place FROM send_run
        WHERE device = ?1 AND last_cseq >= ?2
        AND first_cseq = (SELECT max(first_cseq) FROM send_run WHERE device = ?1 AND first_cseq <= ?2)
    ) AS run
) s
LEFT JOIN event_run r ON r.cid = s.cid
AND r.first_seq = (SELECT max(first_seq) FROM event_run WHERE cid = s.cid AND first_seq <= s.seq)
LEFT JOIN event e ON e.id = r.first_id + s.seq - r.first_seq AND e.cid = s.cid AND e.seq = s.seq
ORDER BY s.seq DESC LIMIT 1
"""
# Cut in the server, too: bodies that do not fit the page need not travel. octet_length reads no body.
_EVENTS_OF_BYTES = f"""
SELECT cid, seq, ts, sender, kind, body, flags FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) AS bytes, row_number() OVER (ORDER BY seq) AS number
    FROM ({_EVENTS}) AS events
) AS page WHERE bytes <= ?5 OR number = 1 ORDER BY seq"""  # noqa: S608 our own constant
# The limit of each range is that of all: what comes after it is not even looked for.
_EVENTS_OF_RANGES = f"""
SELECT number, cid, seq, ts, sender, kind, body, flags FROM (
    SELECT *, sum(octet_length(body)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes, row_number() OVER () AS place FROM (
        SELECT part.number, e.* FROM unnest(?1::bigint[], ?2::bigint[], ?3::bigint[]) WITH ORDINALITY
        AS part(cid, first, last, number) CROSS JOIN LATERAL (
            {_EVENTS.replace("?1", "part.cid").replace("?2", "part.first").replace("?3", "part.last")}
        ) AS e LIMIT ?4
    ) AS found
) AS page WHERE bytes <= ?5 OR place = 1"""  # noqa: S608 our own constant


class PostgresReader:
    """See interface.Reader. Thread-safe; connections are opened when first needed, and anew when one has ended."""

    def __init__(
        self, bridge: Bridge, dsn: str, connections_max: int, *, command_timeout_s: float | None = COMMAND_TIMEOUT_S
    ) -> None:
        self._bridge = bridge
        self._dsn = dsn
        self._command_timeout_s = command_timeout_s
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue(connections_max)
        for _ in range(connections_max):
            self._idle.put_nowait(None)

    @contextmanager
    def view(self) -> Iterator["PostgresView"]:
        """A read transaction for one thread. StoreLostError when no connection is free in time, or none can be had."""
        try:
            connection = self._idle.get(timeout=POOL_WAIT_S)
        except queue.Empty:
            raise StoreLostError(f"all {self._idle.maxsize} connections to {shown(self._dsn)} are in use") from None
        try:
            with storage_errors("read", shown(self._dsn)):
                connection, folded_pos = self._bridge.wait(self._begin, connection)
                try:
                    yield PostgresView(self._bridge, connection, folded_pos)
                finally:
                    connection = self._bridge.wait(self._end, connection)
        finally:
            self._idle.put_nowait(connection)

    def close(self) -> None:
        """Close all connections; waits until the open views end."""
        for _ in range(self._idle.maxsize):
            connection = self._idle.get()
            if connection is not None:
                self._bridge.wait(_terminate, connection)

    async def _begin(self, connection: Any) -> tuple[Any, int]:
        """One that lies here may have ended with its server: then another one is tried, once."""
        if connection is not None and not connection.is_closed():
            try:
                return connection, await _begin(connection)
            except Exception:  # noqa: BLE001 whatever it is, a fresh connection will say it again
                connection.terminate()
        connection = await connect(self._dsn, "reader", self._command_timeout_s)
        try:
            return connection, await _begin(connection)
        except BaseException:
            connection.terminate()
            raise

    async def _end(self, connection: Any) -> Any:
        """The connection for the next view; None when it cannot be used again."""
        try:
            await connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 the view was read; what ended the connection is told to the next one
            connection.terminate()
            return None
        return connection


async def _begin(connection: Any) -> int:
    await connection.execute(_BEGIN)
    return int(await connection.fetchval(_FOLDED_POS))


async def _terminate(connection: Any) -> None:
    connection.terminate()


class PostgresView(SqlView):
    """See interface.View; the queries are SqlView's."""

    dialect: ClassVar[Dialect] = Dialect(
        greatest="greatest",
        by_user="",
        join="JOIN",
        events=_EVENTS,
        message_count=_MESSAGE_COUNT,
        stored_send=_STORED_SEND,
    )

    def __init__(self, bridge: Bridge, connection: Any, folded_pos: int) -> None:
        self._bridge = bridge
        self._connection = connection
        self.folded_pos = folded_pos

    def rows(self, sql: str, *bindings: Any) -> Iterable[Sequence[Any]]:
        return self._fetch(numbered(sql), *bindings)

    def rows_of_keys(self, sql: str, keys: Iterable[Any]) -> Iterable[Sequence[Any]]:
        return self._fetch(sql.format(keys="= ANY($1)"), list(keys))

    def each(self, read: Callable[[Self, Key], Answer], keys: Iterable[Key]) -> list[Answer]:
        together = Together(self._fetch)
        view = type(self)(self._bridge, self._connection, self.folded_pos)
        view.rows = together.ask  # type: ignore[method-assign]
        return together.answers(lambda key: read(view, key), list(keys))

    def events(self, cid: int, from_seq: int, to_seq: int, events_max: int, bytes_max: int) -> list[EventRow]:
        return self._all(EventRow, _EVENTS_OF_BYTES, cid, from_seq, to_seq, events_max, bytes_max)

    def event_ranges(
        self, ranges: Sequence[tuple[int, int, int]], events_max: int, bytes_max: int
    ) -> list[list[EventRow]]:
        found: list[list[EventRow]] = [[] for _ in ranges]
        if ranges:
            columns = [list(column) for column in zip(*ranges, strict=True)]
            for number, *row in self.rows(_EVENTS_OF_RANGES, *columns, events_max, bytes_max):
                found[number - 1].append(EventRow(*row))
        return found

    def meta(self, key: str) -> Any:
        value = super().meta(key)
        return None if value is None else json.loads(value)

    def _fetch(self, statement: str, *bindings: Any) -> Iterable[Sequence[Any]]:
        """One round trip."""
        found: Iterable[Sequence[Any]] = self._bridge.wait(self._connection.fetch, statement, *bindings)
        return found
