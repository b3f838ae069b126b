# Seats: a conversation as one present member sees it, and what that member may do to it and to others. Every method
# about a conversation begins here, inside its turn. Who is no present member learns nothing, not even that there is
# something. Nothing here walks over the members: a channel has a hundred thousand.
"""Who asks, with which rights, in which conversation; for turns."""

from typing import NamedTuple

from chatd.hub import reads
from chatd.hub.core import Interval
from chatd.hub.flags import ConversationFlag, UserFlag
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.services.caller import Caller
from chatd.storage.interface import ConversationRow, UserRow
from chatd.wire.schema import ConversationKind, ErrorCode, Right, Role

MANAGED = frozenset({ConversationKind.GROUP, ConversationKind.CHANNEL, ConversationKind.WORLD, ConversationKind.DEVICE})
"""Kinds with members to manage, roles and rules."""


class Seat(NamedTuple):
    row: ConversationRow
    head_seq: int
    member_count: int
    own: Interval
    """The caller's open interval."""
    rights: Right

    @property
    def role(self) -> int:
        return self.own[1]


def seat(caller: Caller, cid: int) -> Seat:
    """NOT_FOUND, byte-same, unless the caller is a present member."""
    own = reads.intervals(caller.core, cid, caller.user)
    if not reads.is_member(own):
        raise reads.not_found()
    row = caller.rows.find("conversation", cid)
    state, rights = caller.core.conversation(cid), caller.core.rights(cid, caller.user)
    if state is None or rights is None or row is None:
        raise MissingConversation(cid)
    return Seat(row, state[2], state[6], own[-1], Right(rights))


def managed_seat(caller: Caller, cid: int, *rights: Right) -> Seat:
    """As seat, in a conversation with roles where the caller has all these rights; else FORBIDDEN."""
    found = seat(caller, cid)
    if found.row.kind not in MANAGED:
        text = "a conversation of two, or with a service desk, has no members to manage, no roles and no title"
        raise CallError(ErrorCode.FORBIDDEN, text)
    for right in rights:
        if not found.rights & right:
            text = f"this needs the right {(right.name or '').lower()}, which your role here does not have"
            raise CallError(ErrorCode.FORBIDDEN, text)
    return found


def present(caller: Caller, cid: int, user: int) -> Interval | None:
    """The open interval of a user in a conversation that is loaded."""
    found = caller.core.intervals(cid, user)
    if found is None:
        raise MissingConversation(cid)
    return found[-1] if found and reads.is_member(found) else None


def outranked(caller: Caller, found: Seat, cid: int, user: int) -> Interval | None:
    """The open interval of a user whom the caller outranks, None: not a member. FORBIDDEN for anybody else."""
    if user == caller.user:
        raise CallError(ErrorCode.FORBIDDEN, "not to yourself; use MEMBER_LEAVE to leave")
    interval = present(caller, cid, user)
    roles = caller.hub.roles
    if interval is not None and roles.rank(interval[1]) >= roles.rank(found.role):
        raise CallError(ErrorCode.FORBIDDEN, f"user {user} does not have a lower role than your own")
    return interval


def first_role(row: UserRow | None, wanted: int = Role.MEMBER) -> int:
    """The role with which a user joins: guests are guests everywhere."""
    is_guest = row is not None and row.flags & UserFlag.GUEST
    return Role.GUEST if is_guest and wanted == Role.MEMBER else wanted


def is_deleted(row: ConversationRow) -> bool:
    return bool(row.flags & ConversationFlag.DELETED)
