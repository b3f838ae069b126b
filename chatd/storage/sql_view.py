"""The queries of interface.View, once for every store that speaks SQL.

Placeholders are numbered (`?1`) and everything is SQL that SQLite and PostgreSQL both understand; the few words in
which they differ stand in Dialect. A store adds how to run a statement.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from chatd.storage.interface import (
    GROUPED_ROWS,
    ROW_TABLES,
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
from chatd.storage.message_rows import Kept, MentionRow
from chatd.storage.people_rows import (
    CaseRow,
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
)
from chatd.storage.search.interface import CID_MAX, ChangedConversation, Interval

_DIGEST_MASK = 2**64 - 1
SPEAKERS_EVENTS_MAX = 2000
"""Events that are looked through for those who spoke lately."""

Row = TypeVar("Row")
Key = TypeVar("Key")
Answer = TypeVar("Answer")

_USER = 'SELECT id, name, display_name, password_hash, flags, token_epoch, created_ms, about, avatar FROM "user" '
_DEVICE = "SELECT id, uid, label, key, flags, cseq_max, created_ms FROM device "
_API_KEY = "SELECT id, uid, label, hash, flags, created_ms FROM api_key "
_CONVERSATION = (
    "SELECT id, kind, title, flags, owner, direct_key, head_seq, message_count, last_ts, changed_pos, created_ms, "
    "topic, avatar, slow_mode_s, history, denied, public_name FROM conversation "
)
_MEMBERS = """
SELECT m.uid, m.role, m.join_seq, m.leave_seq,
       coalesce(p.delivered_seq, 0), coalesce(p.read_seq, 0), coalesce(p.read_count, 0)
FROM membership m LEFT JOIN position p ON p.cid = m.cid AND p.uid = m.uid
WHERE m.cid = ?1 """
_MEMBERSHIPS = """
SELECT m.cid, m.role, m.join_seq, m.leave_seq,
       coalesce(p.delivered_seq, 0), coalesce(p.read_seq, 0), coalesce(p.read_count, 0),
       c.kind, c.title, c.head_seq, c.message_count, c.last_ts,
       {greatest}(c.changed_pos, m.changed_pos, coalesce(p.changed_pos, 0)) AS changed
FROM membership m {by_user} {join} conversation c ON c.id = m.cid
LEFT JOIN position p ON p.cid = m.cid AND p.uid = m.uid
WHERE m.uid = ?1 AND m.cid > ?2 """
_CONVERSATION_IDS = (
    "SELECT DISTINCT cid FROM membership {by_user} WHERE uid = ?1 AND cid > ?2 AND cid <= ?3 ORDER BY cid"
)
_CHANGED = (
    "SELECT id, head_seq, changed_pos FROM conversation WHERE changed_pos > ?1 ORDER BY changed_pos {order} LIMIT ?2"
)
_KEPT = """
SELECT c.id, c.head_seq, coalesce(r.days, 0), coalesce(r.events, 0), coalesce(r.floor_seq, 0)
FROM conversation c LEFT JOIN retention r ON r.cid = c.id WHERE c.id > ?1 ORDER BY c.id LIMIT ?2"""
_KEPT_OWN = """
SELECT r.cid, c.head_seq, r.days, r.events, r.floor_seq FROM retention r {join} conversation c ON c.id = r.cid
WHERE r.cid > ?1 AND (r.days > 0 OR r.events > 0) ORDER BY r.cid LIMIT ?2"""
_INTERVALS = "SELECT cid, join_seq, leave_seq FROM membership {by_user} WHERE uid = ?1 ORDER BY cid, join_seq"


def _select(row: type[Any], table: str) -> str:
    return f"SELECT {', '.join(row._fields)} FROM {table} "  # noqa: S608 names of this file


_PUBLIC_NAME = _select(PublicNameRow, "public_name")
_RESTRICTION = _select(RestrictionRow, "restriction")
_INVITATION = _select(InvitationRow, "invitation")
_JOIN_REQUEST = _select(JoinRequestRow, "join_request")
_RELATION = _select(RelationRow, "relation")
_OWN_SETTING = _select(OwnSettingRow, "own_setting")
_REPORT = _select(ReportRow, "report")
_DESK = _select(DeskRow, "desk")
_CASE = _select(CaseRow, "service_case")


class Dialect(NamedTuple):
    """Words and statements in which the stores differ. by_user: names the index of memberships by user, where that can
    be said. join: an inner join that keeps the order of the tables, from a user's memberships to conversations.

    How events and sends lie in their tables is the store's own matter. events: (cid, seq, ts, sender, kind, body,
    flags) of conversation ?1, seqs ?2 to ?3 in order, at most ?4. message_count: that of the last event of ?1 at or
    before ?2. stored_send: (cid, seq, ts, digest) of send ?2 of device ?1, zeros for a skip; a send of that number wins
    over it.
    """

    greatest: str
    by_user: str
    join: str
    events: str
    message_count: str
    stored_send: str


class SqlView(ABC):
    """See interface.View."""

    dialect: ClassVar[Dialect]
    folded_pos: int

    def __init_subclass__(cls) -> None:
        words = cls.dialect._asdict()
        cls._memberships = _MEMBERSHIPS.format(**words)
        cls._conversation_ids = _CONVERSATION_IDS.format(**words)
        cls._intervals = _INTERVALS.format(**words)
        cls._speakers = (
            f"SELECT sender, max(ts) FROM ({cls.dialect.events}) AS found "  # noqa: S608 ours
            "WHERE ts > ?5 AND (flags & 1) = 1 GROUP BY sender"
        )
        cls._kept_own = _KEPT_OWN.format(**words)
        cls._event_times = f"SELECT seq, ts FROM ({cls.dialect.events}) AS found ORDER BY seq"  # noqa: S608 ours

    _memberships: ClassVar[str]
    _conversation_ids: ClassVar[str]
    _intervals: ClassVar[str]
    _event_times: ClassVar[str]
    _speakers: ClassVar[str]
    _kept_own: ClassVar[str]

    @abstractmethod
    def rows(self, sql: str, *bindings: Any) -> Iterable[Sequence[Any]]:
        """Run one statement; what is not iterated over need not be read."""

    @abstractmethod
    def rows_of_keys(self, sql: str, keys: Iterable[Any]) -> Iterable[Sequence[Any]]:
        """The same for a set of keys: `{keys}` in sql becomes a condition that a column is one of them."""

    def each(self, read: Callable[[Self, Key], Answer], keys: Iterable[Key]) -> list[Answer]:
        return [read(self, key) for key in keys]

    def user(self, user: int) -> UserRow | None:
        return self._one(UserRow, _USER + "WHERE id = ?1", user)

    def users(self, ids: Iterable[int]) -> list[UserRow]:
        return self._by_keys(UserRow, _USER + "WHERE id {keys}", ids)

    def user_by_name(self, name: str) -> UserRow | None:
        return self._one(UserRow, _USER + "WHERE name = ?1 AND name <> ''", name)

    def users_by_name(self, names: Iterable[str]) -> list[UserRow]:
        return self._by_keys(UserRow, _USER + "WHERE name <> '' AND name {keys}", names)

    def users_after(self, after: int, limit: int) -> list[UserRow]:
        return self._all(UserRow, _USER + "WHERE id > ?1 ORDER BY id LIMIT ?2", after, limit)

    def device(self, device: int) -> DeviceRow | None:
        return self._one(DeviceRow, _DEVICE + "WHERE id = ?1", device)

    def devices(self, ids: Iterable[int]) -> list[DeviceRow]:
        return self._by_keys(DeviceRow, _DEVICE + "WHERE id {keys}", ids)

    def devices_of(self, user: int) -> list[DeviceRow]:
        return self._all(DeviceRow, _DEVICE + "WHERE uid = ?1 ORDER BY id", user)

    def api_key(self, key_id: int) -> ApiKeyRow | None:
        return self._one(ApiKeyRow, _API_KEY + "WHERE id = ?1", key_id)

    def api_key_by_hash(self, key_hash: bytes) -> ApiKeyRow | None:
        return self._one(ApiKeyRow, _API_KEY + "WHERE hash = ?1", key_hash)

    def api_keys_after(self, after: int, limit: int) -> list[ApiKeyRow]:
        return self._all(ApiKeyRow, _API_KEY + "WHERE id > ?1 ORDER BY id LIMIT ?2", after, limit)

    def conversation(self, cid: int) -> ConversationRow | None:
        return self._one(ConversationRow, _CONVERSATION + "WHERE id = ?1", cid)

    def conversations(self, cids: Iterable[int]) -> list[ConversationRow]:
        return self._by_keys(ConversationRow, _CONVERSATION + "WHERE id {keys}", cids)

    def direct_conversation(self, direct_key: str | bytes) -> ConversationRow | None:
        return self._one(ConversationRow, _CONVERSATION + "WHERE direct_key = ?1", direct_key)

    def members(self, cid: int) -> list[MemberRow]:
        """Every interval, closed ones included, by user and time."""
        return self._all(MemberRow, _MEMBERS + "ORDER BY m.uid, m.join_seq", cid)

    def members_after(self, cid: int, after_user: int, limit: int) -> list[MemberRow]:
        """Present members by user."""
        sql = _MEMBERS + "AND m.uid > ?2 AND m.leave_seq = 0 ORDER BY m.uid LIMIT ?3"
        return self._all(MemberRow, sql, cid, after_user, limit)

    def memberships(self, user: int, after_cid: int, limit: int) -> list[MembershipRow]:
        """Every interval of a user, closed ones included, by conversation and time."""
        return self._all(
            MembershipRow, self._memberships + "ORDER BY m.cid, m.join_seq LIMIT ?3", user, after_cid, limit
        )

    def memberships_changed(self, user: int, since_pos: int, after_cid: int, limit: int) -> list[MembershipRow]:
        """Those whose conversation, interval or own position changed after journal position since_pos.

        A closed interval counts as changed by its own record only: what others wrote later is not for this user.
        """
        sql = self._memberships + (
            "AND (m.changed_pos > ?4 OR p.changed_pos > ?4 OR (m.leave_seq = 0 AND c.changed_pos > ?4)) "
            "ORDER BY m.cid, m.join_seq LIMIT ?3"
        )
        return self._all(MembershipRow, sql, user, after_cid, limit, since_pos)

    def membership(self, cid: int, user: int) -> list[MembershipRow]:
        """The intervals of one user in one conversation, by time."""
        return self._all(MembershipRow, self._memberships + "AND m.cid = ?3 ORDER BY m.join_seq", user, 0, cid)

    def conversation_ids(self, user: int, after_cid: int, upto_cid: int = CID_MAX) -> list[int]:
        """The conversations in this range that the user is or was in, ascending: one walk over an index."""
        return [row[0] for row in self.rows(self._conversation_ids, user, after_cid, upto_cid)]

    def member_count(self, cid: int) -> int:
        return self._number("SELECT count(*) FROM membership WHERE cid = ?1 AND leave_seq = 0", cid)

    def conversation_counts(self, users: Iterable[int]) -> dict[int, int]:
        """In how many conversations each of them is now; those in none are left out."""
        sql = "SELECT uid, count(*) FROM membership WHERE leave_seq = 0 AND uid {keys} GROUP BY uid"
        return dict(self.rows_of_keys(sql, users))  # type: ignore[arg-type]

    def owned_count(self, user: int) -> int:
        """How many groups the user owns now."""
        return self._number("SELECT count(*) FROM membership WHERE uid = ?1 AND leave_seq = 0 AND role = 3", user)

    def events(self, cid: int, from_seq: int, to_seq: int, events_max: int, bytes_max: int) -> list[EventRow]:
        """Events from_seq .. to_seq in order, cut at events_max and before bytes_max of bodies, but at least one."""
        found: list[EventRow] = []
        left = bytes_max
        for row in self.rows(self.dialect.events, cid, from_seq, to_seq, events_max):
            left -= len(row[5])
            if left < 0 and found:
                break
            found.append(EventRow(*row))
        return found

    def event_ranges(
        self, ranges: Sequence[tuple[int, int, int]], events_max: int, bytes_max: int
    ) -> list[list[EventRow]]:
        found: list[list[EventRow]] = []
        any_found, bytes_left = False, bytes_max
        for cid, first_seq, last_seq in ranges:
            found.append([])
            for row in self.rows(self.dialect.events, cid, first_seq, last_seq, events_max) if events_max > 0 else ():
                bytes_left -= len(row[5])
                if bytes_left < 0 and any_found:
                    events_max = 0
                    break
                any_found = True
                found[-1].append(EventRow(*row))
            events_max -= len(found[-1])
        return found

    def event_times(self, cid: int, from_seq: int, to_seq: int, limit: int) -> list[tuple[int, int]]:
        """(seq, ts_ms) of the events from_seq .. to_seq, in order."""
        return [(seq, ts_ms) for seq, ts_ms in self.rows(self._event_times, cid, from_seq, to_seq, limit)]

    def conversations_changed(self, since_pos: int, limit: int) -> list[ChangedConversation]:
        """Those with an event or a row after journal position since_pos, in the order in which they changed last."""
        return self._all(ChangedConversation, _CHANGED.format(order="ASC"), since_pos, limit)

    def conversations_changed_last(self, since_pos: int, limit: int) -> list[ChangedConversation]:
        """The same, those that changed last first."""
        return self._all(ChangedConversation, _CHANGED.format(order="DESC"), since_pos, limit)

    def intervals(self, user: int) -> list[Interval]:
        """Of all conversations that the user is or was in, by conversation and time."""
        return self._all(Interval, self._intervals, user)

    def message_count_at(self, cid: int, seq: int) -> int:
        """message_count of the last event at or before seq; 0 when there is none."""
        return self._number(self.dialect.message_count, cid, seq)

    def stored_send(self, device: int, cseq: int) -> StoredSend | None:
        stored = self._one(StoredSend, self.dialect.stored_send, device, cseq)
        return None if stored is None else stored._replace(digest=stored.digest & _DIGEST_MASK)

    def presence(self, user: int) -> PresenceRow | None:
        return self._one(PresenceRow, "SELECT uid, audience FROM presence WHERE uid = ?1", user)

    def last_seen(self, user: int) -> LastSeenRow | None:
        return self._one(LastSeenRow, "SELECT uid, seen_ms FROM last_seen WHERE uid = ?1", user)

    def public_name(self, name: str) -> PublicNameRow | None:
        return self._one(PublicNameRow, _PUBLIC_NAME + "WHERE name = ?1", name)

    def public_names(self, prefix: str, after: str, limit: int) -> list[PublicNameRow]:
        """A prefix is a range: no pattern, so nothing in it has to be escaped."""
        sql = _PUBLIC_NAME + "WHERE name >= ?1 AND name < ?2 AND name > ?3 AND cid <> 0 ORDER BY name LIMIT ?4"
        return self._all(PublicNameRow, sql, prefix, prefix + "\U0010ffff", after, limit)

    def restriction(self, cid: int, user: int) -> RestrictionRow | None:
        return self._one(RestrictionRow, _RESTRICTION + "WHERE cid = ?1 AND uid = ?2", cid, user)

    def restrictions(self, cid: int, after_user: int, limit: int) -> list[RestrictionRow]:
        sql = _RESTRICTION + (
            "WHERE cid = ?1 AND uid > ?2 AND (muted_until_s > 0 OR banned_until_s > 0) ORDER BY uid LIMIT ?3"
        )
        return self._all(RestrictionRow, sql, cid, after_user, limit)

    def muted(self, cid: int) -> list[tuple[int, int]]:
        sql = "SELECT uid, muted_until_s FROM restriction WHERE cid = ?1 AND muted_until_s > 0"
        return [(user, until_s) for user, until_s in self.rows(sql, cid)]

    def invitation(self, invitation: int) -> InvitationRow | None:
        return self._one(InvitationRow, _INVITATION + "WHERE id = ?1", invitation)

    def invitation_by_token(self, token: bytes) -> InvitationRow | None:
        return self._one(InvitationRow, _INVITATION + "WHERE token = ?1", token)

    def invitations(self, cid: int, after: int, limit: int) -> list[InvitationRow]:
        sql = _INVITATION + "WHERE cid = ?1 AND id > ?2 AND (flags & 1) = 0 ORDER BY id LIMIT ?3"
        return self._all(InvitationRow, sql, cid, after, limit)

    def join_request(self, cid: int, user: int) -> JoinRequestRow | None:
        return self._one(JoinRequestRow, _JOIN_REQUEST + "WHERE cid = ?1 AND uid = ?2", cid, user)

    def join_requests(self, cid: int, after_user: int, limit: int) -> list[JoinRequestRow]:
        sql = _JOIN_REQUEST + "WHERE cid = ?1 AND uid > ?2 AND state = 1 ORDER BY uid LIMIT ?3"
        return self._all(JoinRequestRow, sql, cid, after_user, limit)

    def relation(self, user: int, other: int) -> RelationRow | None:
        return self._one(RelationRow, _RELATION + "WHERE uid = ?1 AND other = ?2", user, other)

    def relations(self, user: int, after_other: int, limit: int) -> list[RelationRow]:
        sql = _RELATION + "WHERE uid = ?1 AND other > ?2 AND state <> 0 ORDER BY other LIMIT ?3"
        return self._all(RelationRow, sql, user, after_other, limit)

    def own_setting(self, user: int, cid: int) -> OwnSettingRow | None:
        return self._one(OwnSettingRow, _OWN_SETTING + "WHERE uid = ?1 AND cid = ?2", user, cid)

    def own_settings(self, user: int, after_cid: int, limit: int) -> list[OwnSettingRow]:
        sql = _OWN_SETTING + "WHERE uid = ?1 AND cid > ?2 ORDER BY cid LIMIT ?3"
        return self._all(OwnSettingRow, sql, user, after_cid, limit)

    def report(self, report: int) -> ReportRow | None:
        return self._one(ReportRow, _REPORT + "WHERE id = ?1", report)

    def reports(self, cid: int, after: int, limit: int) -> list[ReportRow]:
        """Open ones; cid 0: of all conversations and of none."""
        sql = _REPORT + "WHERE state = 1 AND (cid = ?1 OR ?1 = 0) AND id > ?2 ORDER BY id LIMIT ?3"
        return self._all(ReportRow, sql, cid, after, limit)

    def desk(self, name: str) -> DeskRow | None:
        return self._one(DeskRow, _DESK + "WHERE name = ?1", name)

    def desks(self, after: str, limit: int) -> list[DeskRow]:
        return self._all(DeskRow, _DESK + "WHERE name > ?1 AND cid <> 0 ORDER BY name LIMIT ?2", after, limit)

    def service_case(self, cid: int) -> CaseRow | None:
        return self._one(CaseRow, _CASE + "WHERE cid = ?1", cid)

    def service_cases(self, desk: int, state: int, after_cid: int, limit: int) -> list[CaseRow]:
        sql = _CASE + "WHERE desk = ?1 AND cid > ?3 AND (state = ?2 OR ?2 = 0) ORDER BY cid LIMIT ?4"
        return self._all(CaseRow, sql, desk, state, after_cid, limit)

    def speakers(self, cid: int, head_seq: int, since_ms: int) -> list[tuple[int, int]]:
        first_seq = max(1, head_seq - SPEAKERS_EVENTS_MAX + 1)
        rows = self.rows(self._speakers, cid, first_seq, head_seq, SPEAKERS_EVENTS_MAX, since_ms)
        return [(sender, ts_ms) for sender, ts_ms in rows]

    def request_result(self, user: int, key: bytes) -> bytes | None:
        result: bytes | None = self._value("SELECT result FROM request_key WHERE uid = ?1 AND key = ?2", user, key)
        return result

    def rows_of(self, table: str, *key: Any) -> list[Any]:
        row_type = GROUPED_ROWS[table]
        wanted = " AND ".join(f"{column} = ?{at}" for at, column in enumerate(ROW_TABLES[table].key[: len(key)], 1))
        order = ", ".join(ROW_TABLES[table].key)
        sql = f"SELECT {', '.join(row_type._fields)} FROM {table} WHERE {wanted} ORDER BY {order}"  # noqa: S608
        return self._all(row_type, sql, *key)

    def due(self, table: str, until_ms: int, limit: int) -> list[Any]:
        row_type = GROUPED_ROWS[table]
        columns = ", ".join(row_type._fields)
        sql = f"SELECT {columns} FROM {table} WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2"  # noqa: S608
        return self._all(row_type, sql, until_ms, limit)

    def rows_between(self, table: str, cid: int, first: int, last: int, limit: int) -> list[Any]:
        row_type, order = GROUPED_ROWS[table], ", ".join(ROW_TABLES[table].key)
        columns = ", ".join(row_type._fields)
        sql = f"SELECT {columns} FROM {table} WHERE cid = ?1 AND target BETWEEN ?2 AND ?3 ORDER BY {order} LIMIT ?4"  # noqa: S608
        return self._all(row_type, sql, cid, first, last, limit)

    def kept(self, after_cid: int, limit: int, *, own_only: bool) -> list[Kept]:
        return self._all(Kept, self._kept_own if own_only else _KEPT, after_cid, limit)

    def mentions(self, cid: int, user: int, after_seq: int, to_seq: int, limit: int) -> list[MentionRow]:
        sql = (
            "SELECT cid, seq, uid FROM mention WHERE uid IN (?1, 0) AND cid = ?2 AND seq > ?3 AND seq <= ?4 "
            "ORDER BY seq LIMIT ?5"
        )
        return self._all(MentionRow, sql, user, cid, after_seq, to_seq, limit)

    def meta(self, key: str) -> Any:
        return self._value("SELECT value FROM meta WHERE key = ?1", key)

    def counts(self) -> Counts:
        """Events are summed over conversations' heads: one per conversation, not one per event, is read."""
        sql = (
            'SELECT (SELECT count(*) FROM "user"), (SELECT count(*) FROM device), count(*), '
            "CAST(coalesce(sum(head_seq), 0) AS BIGINT) FROM conversation"
        )
        return self._all(Counts, sql)[0]

    def _one(self, row_type: Callable[..., Row], sql: str, *bindings: Any) -> Row | None:
        return next((row_type(*row) for row in self.rows(sql, *bindings)), None)

    def _all(self, row_type: Callable[..., Row], sql: str, *bindings: Any) -> list[Row]:
        return [row_type(*row) for row in self.rows(sql, *bindings)]

    def _by_keys(self, row_type: Callable[..., Row], sql: str, keys: Iterable[Any]) -> list[Row]:
        return [row_type(*row) for row in self.rows_of_keys(sql, keys)]

    def _value(self, sql: str, *bindings: Any) -> Any:
        return next((row[0] for row in self.rows(sql, *bindings)), None)

    def _number(self, sql: str, *bindings: Any) -> int:
        return int(self._value(sql, *bindings) or 0)
