"""Rows about people, what they may do in conversations, devices and desks, and how a View returns them."""

from typing import NamedTuple, Protocol


class PresenceRow(NamedTuple):
    """audience: who may see when this user is there."""

    uid: int
    audience: int


class LastSeenRow(NamedTuple):
    """seen_ms: when the user's last session ended."""

    uid: int
    seen_ms: int


class PublicNameRow(NamedTuple):
    """cid 0: free again."""

    name: str
    cid: int


class RestrictionRow(NamedTuple):
    """Times are Unix seconds; 0: not muted, not banned."""

    cid: int
    uid: int
    muted_until_s: int
    banned_until_s: int
    by_uid: int
    reason: str
    changed_ms: int


class InvitationRow(NamedTuple):
    id: int
    token: bytes
    cid: int
    by_uid: int
    expires_s: int
    uses_max: int
    uses: int
    flags: int
    created_ms: int


class JoinRequestRow(NamedTuple):
    """state: 1 waits, 0 answered."""

    cid: int
    uid: int
    state: int
    text: str
    created_ms: int


class RelationRow(NamedTuple):
    """How uid stands to other."""

    uid: int
    other: int
    state: int
    text: str
    changed_ms: int


class OwnSettingRow(NamedTuple):
    """How uid has a conversation for himself. hidden: MessagePack list of seqs. cid 0: he has deleted something."""

    uid: int
    cid: int
    muted_until_s: int
    flags: int
    hidden_seq: int
    hidden: bytes | None
    changed_ms: int


class ReportRow(NamedTuple):
    """state: 1 open, 0 resolved."""

    id: int
    cid: int
    seq: int
    uid: int
    by_uid: int
    reason: str
    state: int
    resolved_by: int
    note: str
    created_ms: int


class StreamRow(NamedTuple):
    """A live stream that runs, or was running when its hub died. content: as of the last look at it."""

    cid: int
    stream: int
    uid: int
    device: int
    kind: int
    due_ms: int
    content: bytes


class CommandRow(NamedTuple):
    """A command to a device that waits for its final result. uid: who sent it; accepted: the device said so."""

    cid: int
    seq: int
    uid: int
    accepted: int
    due_ms: int


class DeskRow(NamedTuple):
    """cid: the group of the agents; 0: there is no such desk any more."""

    name: str
    cid: int


class CaseRow(NamedTuple):
    """The conversation of a customer with a desk. agent 0: nobody has it; since_ms: when it came into its state."""

    cid: int
    desk: int
    customer: int
    state: int
    agent: int
    since_ms: int
    stars: int


PEOPLE_TABLES: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    table: (key, frozenset(row._fields) - set(key))
    for table, key, row in (
        ("presence", ("uid",), PresenceRow),
        ("last_seen", ("uid",), LastSeenRow),
        ("public_name", ("name",), PublicNameRow),
        ("restriction", ("cid", "uid"), RestrictionRow),
        ("invitation", ("id",), InvitationRow),
        ("join_request", ("cid", "uid"), JoinRequestRow),
        ("relation", ("uid", "other"), RelationRow),
        ("own_setting", ("uid", "cid"), OwnSettingRow),
        ("report", ("id",), ReportRow),
        ("command", ("cid", "seq"), CommandRow),
        ("live_stream", ("cid", "stream"), StreamRow),
        ("desk", ("name",), DeskRow),
        ("service_case", ("cid",), CaseRow),
    )
}
"""A part of interface.ROW_TABLES: key columns and the others."""


class PeopleView(Protocol):
    """A part of interface.View."""

    def presence(self, user: int) -> PresenceRow | None: ...
    def last_seen(self, user: int) -> LastSeenRow | None: ...
    def public_name(self, name: str) -> PublicNameRow | None: ...
    def public_names(self, prefix: str, after: str, limit: int) -> list[PublicNameRow]:
        """Those in use that begin so, beyond `after`, ascending."""

    def restriction(self, cid: int, user: int) -> RestrictionRow | None: ...
    # What lists of a conversation or a user have: rows that mean nothing any more are left out.
    def restrictions(self, cid: int, after_user: int, limit: int) -> list[RestrictionRow]: ...
    def muted(self, cid: int) -> list[tuple[int, int]]:
        """(user, until_s) of all that are or were muted until a time."""

    def invitation(self, invitation: int) -> InvitationRow | None: ...
    def invitation_by_token(self, token: bytes) -> InvitationRow | None: ...
    def invitations(self, cid: int, after: int, limit: int) -> list[InvitationRow]: ...
    def join_request(self, cid: int, user: int) -> JoinRequestRow | None: ...
    def join_requests(self, cid: int, after_user: int, limit: int) -> list[JoinRequestRow]: ...
    def relation(self, user: int, other: int) -> RelationRow | None: ...
    def relations(self, user: int, after_other: int, limit: int) -> list[RelationRow]: ...
    def own_setting(self, user: int, cid: int) -> OwnSettingRow | None: ...
    def own_settings(self, user: int, after_cid: int, limit: int) -> list[OwnSettingRow]: ...
    def report(self, report: int) -> ReportRow | None: ...
    def reports(self, cid: int, after: int, limit: int) -> list[ReportRow]:
        """Open ones; cid 0: of all conversations and of none."""

    def desk(self, name: str) -> DeskRow | None: ...
    def desks(self, after: str, limit: int) -> list[DeskRow]: ...
    def service_case(self, cid: int) -> CaseRow | None: ...
    def service_cases(self, desk: int, state: int, after_cid: int, limit: int) -> list[CaseRow]:
        """state 0: all."""
