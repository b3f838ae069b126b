"""Reading the main database in threads: a bounded pool of connections, and views that are read transactions.

What is not folded yet is not here but in the hub's tail. The hub takes the tail first and then a view: the tail is
freed only after the fold's commit, so an event is in one of them at every moment, or in both.
"""

import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from chatd.storage.interface import (
    ApiKeyRow,
    ConversationRow,
    Counts,
    DeviceRow,
    EventRow,
    MemberRow,
    MembershipRow,
    StoredSend,
    UserRow,
)
from chatd.storage.sqlite.connection import READ_MAP_BYTES, connect, storage_errors
from chatd.storage.sqlite.database import meta_number

_DIGEST_MASK = 2**64 - 1
_IDS_PER_QUERY = 500

Row = TypeVar("Row")

_USER = "SELECT id, name, display_name, password_hash, flags, token_epoch, created_ms FROM user "
_DEVICE = "SELECT id, uid, label, key, flags, cseq_max, created_ms FROM device "
_API_KEY = "SELECT id, uid, label, hash, flags, created_ms FROM api_key "
_CONVERSATION = (
    "SELECT id, kind, title, flags, owner, direct_key, head_seq, message_count, last_ts, changed_pos, created_ms "
    "FROM conversation "
)
_MEMBERS = """
SELECT m.uid, m.role, m.join_seq, m.leave_seq,
       ifnull(p.delivered_seq, 0), ifnull(p.read_seq, 0), ifnull(p.read_count, 0)
FROM membership m LEFT JOIN position p ON p.cid = m.cid AND p.uid = m.uid
WHERE m.cid = ?1 """
# CROSS JOIN keeps the order of the tables: from the user's memberships to conversations, never the other way round.
_MEMBERSHIPS = """
SELECT m.cid, m.role, m.join_seq, m.leave_seq,
       ifnull(p.delivered_seq, 0), ifnull(p.read_seq, 0), ifnull(p.read_count, 0),
       c.kind, c.title, c.head_seq, c.message_count, c.last_ts,
       max(c.changed_pos, m.changed_pos, ifnull(p.changed_pos, 0)) AS changed
FROM membership m INDEXED BY membership_uid CROSS JOIN conversation c ON c.id = m.cid
LEFT JOIN position p ON p.cid = m.cid AND p.uid = m.uid
WHERE m.uid = ?1 AND m.cid > ?2 """
_EVENTS = (
    "SELECT cid, seq, ts, sender, kind, body FROM event WHERE cid = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
)
_STORED_SEND = """
SELECT i.cseq, i.cid, i.seq, ifnull(e.ts, 0), ifnull(e.digest, 0)
FROM idempotency i LEFT JOIN event e ON e.cid = i.cid AND e.seq = i.seq
WHERE i.device = ?1 """


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


class SqliteView:
    """See interface.View."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.folded_pos = meta_number(connection, "folded_pos")

    def user(self, user: int) -> UserRow | None:
        return self._one(UserRow, _USER + "WHERE id = ?", user)

    def users(self, ids: Iterable[int]) -> list[UserRow]:
        return self._by_keys(UserRow, _USER + "WHERE id IN", ids)

    def user_by_name(self, name: str) -> UserRow | None:
        return self._one(UserRow, _USER + "WHERE name = ?1 AND name <> ''", name)

    def users_by_name(self, names: Iterable[str]) -> list[UserRow]:
        return self._by_keys(UserRow, _USER + "WHERE name <> '' AND name IN", names)

    def users_after(self, after: int, limit: int) -> list[UserRow]:
        return self._all(UserRow, _USER + "WHERE id > ? ORDER BY id LIMIT ?", after, limit)

    def device(self, device: int) -> DeviceRow | None:
        return self._one(DeviceRow, _DEVICE + "WHERE id = ?", device)

    def devices_of(self, user: int) -> list[DeviceRow]:
        return self._all(DeviceRow, _DEVICE + "WHERE uid = ? ORDER BY id", user)

    def api_key(self, key_id: int) -> ApiKeyRow | None:
        return self._one(ApiKeyRow, _API_KEY + "WHERE id = ?", key_id)

    def api_key_by_hash(self, key_hash: bytes) -> ApiKeyRow | None:
        return self._one(ApiKeyRow, _API_KEY + "WHERE hash = ?", key_hash)

    def api_keys_after(self, after: int, limit: int) -> list[ApiKeyRow]:
        return self._all(ApiKeyRow, _API_KEY + "WHERE id > ? ORDER BY id LIMIT ?", after, limit)

    def conversation(self, cid: int) -> ConversationRow | None:
        return self._one(ConversationRow, _CONVERSATION + "WHERE id = ?", cid)

    def conversations(self, cids: Iterable[int]) -> list[ConversationRow]:
        return self._by_keys(ConversationRow, _CONVERSATION + "WHERE id IN", cids)

    def direct_conversation(self, direct_key: str | bytes) -> ConversationRow | None:
        return self._one(ConversationRow, _CONVERSATION + "WHERE direct_key = ?", direct_key)

    def members(self, cid: int) -> list[MemberRow]:
        """Every interval, closed ones included, by user and time."""
        return self._all(MemberRow, _MEMBERS + "ORDER BY m.uid, m.join_seq", cid)

    def members_after(self, cid: int, after_user: int, limit: int) -> list[MemberRow]:
        """Present members by user."""
        sql = _MEMBERS + "AND m.uid > ?2 AND m.leave_seq = 0 ORDER BY m.uid LIMIT ?3"
        return self._all(MemberRow, sql, cid, after_user, limit)

    def memberships(self, user: int, after_cid: int, limit: int) -> list[MembershipRow]:
        """Every interval of a user, closed ones included, by conversation and time."""
        return self._all(MembershipRow, _MEMBERSHIPS + "ORDER BY m.cid, m.join_seq LIMIT ?3", user, after_cid, limit)

    def memberships_changed(self, user: int, since_pos: int, after_cid: int, limit: int) -> list[MembershipRow]:
        """Those whose conversation, interval or own position changed after journal position since_pos.

        A closed interval counts as changed by its own record only: what others wrote later is not for this user.
        """
        sql = _MEMBERSHIPS + (
            "AND (m.changed_pos > ?4 OR p.changed_pos > ?4 OR (m.leave_seq = 0 AND c.changed_pos > ?4)) "
            "ORDER BY m.cid, m.join_seq LIMIT ?3"
        )
        return self._all(MembershipRow, sql, user, after_cid, limit, since_pos)

    def membership(self, cid: int, user: int) -> list[MembershipRow]:
        """The intervals of one user in one conversation, by time."""
        return self._all(MembershipRow, _MEMBERSHIPS + "AND m.cid = ?3 ORDER BY m.join_seq", user, 0, cid)

    def conversation_ids(self, user: int, after_cid: int) -> list[int]:
        """All conversations the user is or was in, ascending: one walk over an index."""
        sql = "SELECT DISTINCT cid FROM membership INDEXED BY membership_uid WHERE uid = ? AND cid > ? ORDER BY cid"
        return [row[0] for row in self._connection.execute(sql, (user, after_cid))]

    def member_count(self, cid: int) -> int:
        sql = "SELECT count(*) FROM membership WHERE cid = ? AND leave_seq = 0"
        return int(self._connection.execute(sql, (cid,)).get)

    def conversation_counts(self, users: Iterable[int]) -> dict[int, int]:
        """In how many conversations each of them is now; those in none are left out."""
        wanted, found = list(users), dict[int, int]()
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            part = wanted[start : start + _IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            sql = f"SELECT uid, count(*) FROM membership WHERE leave_seq = 0 AND uid IN ({marks}) GROUP BY uid"  # noqa: S608
            found |= dict(self._connection.execute(sql, part))
        return found

    def owned_count(self, user: int) -> int:
        """How many groups the user owns now."""
        sql = "SELECT count(*) FROM membership WHERE uid = ? AND leave_seq = 0 AND role = 3"
        return int(self._connection.execute(sql, (user,)).get)

    def events(self, cid: int, from_seq: int, to_seq: int, events_max: int, bytes_max: int) -> list[EventRow]:
        """Events from_seq .. to_seq in order, cut at events_max and before bytes_max of bodies, but at least one."""
        found: list[EventRow] = []
        left = bytes_max
        for row in self._connection.execute(_EVENTS, (cid, from_seq, to_seq, events_max)):
            left -= len(row[5])
            if left < 0 and found:
                break
            found.append(EventRow(*row))
        return found

    def message_count_at(self, cid: int, seq: int) -> int:
        """message_count of the last event at or before seq; 0 when there is none."""
        sql = "SELECT message_count FROM event WHERE cid = ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
        return self._connection.execute(sql, (cid, seq)).get or 0

    def stored_send(self, device: int, cseq: int) -> StoredSend | None:
        row = self._connection.execute(_STORED_SEND + "AND i.cseq = ?2", (device, cseq)).fetchone()
        return None if row is None else _stored_send(row)

    def stored_sends(self, device: int, limit: int) -> list[tuple[int, StoredSend]]:
        """The newest `limit` of a device as (cseq, what it became), highest cseq first."""
        rows = self._connection.execute(_STORED_SEND + "ORDER BY i.cseq DESC LIMIT ?2", (device, limit))
        return [(row[0], _stored_send(row)) for row in rows]

    def request_result(self, user: int, key: bytes) -> bytes | None:
        result: bytes | None = self._connection.execute(
            "SELECT result FROM request_key WHERE uid = ? AND key = ?", (user, key)
        ).get
        return result

    def meta(self, key: str) -> Any:
        return self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).get

    def counts(self) -> Counts:
        """Events are summed over conversations' heads: one per conversation, not one per event, is read."""
        sql = (
            "SELECT (SELECT count(*) FROM user), (SELECT count(*) FROM device), count(*), ifnull(sum(head_seq), 0) "
            "FROM conversation"
        )
        return self._all(Counts, sql)[0]

    def _one(self, row_type: Callable[..., Row], sql: str, *bindings: Any) -> Row | None:
        row = self._connection.execute(sql, bindings).fetchone()
        return None if row is None else row_type(*row)

    def _all(self, row_type: Callable[..., Row], sql: str, *bindings: Any) -> list[Row]:
        return [row_type(*row) for row in self._connection.execute(sql, bindings)]

    def _by_keys(self, row_type: Callable[..., Row], sql: str, keys: Iterable[Any]) -> list[Row]:
        """sql ends in `IN`. Queries of _IDS_PER_QUERY keys, so that the number of bindings has a bound."""
        wanted, found = list(keys), list[Row]()
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            part = wanted[start : start + _IDS_PER_QUERY]
            found += self._all(row_type, f"{sql} ({','.join('?' * len(part))})", *part)
        return found


def _stored_send(row: tuple[int, int, int, int, int]) -> StoredSend:
    return StoredSend(row[1], row[2], row[3], row[4] & _DIGEST_MASK)
