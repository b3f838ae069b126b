# Members: who may change whom. A change is an event at a seq R with an interval beside it. Who is added joins at R
# and reads from there, or as far back as the conversation's rules say (joining.py); who is removed leaves at R, gets
# that event as the last one, and nothing after it from any buffer.
# Adding needs INVITE, removing REMOVE, giving a role ROLES; and nobody changes a member of the same or a higher rank,
# or gives a role that is not lower than the own one. There is exactly one owner while there are members: OWNER is
# given by the owner alone, who becomes admin. When the owner leaves, the longest-serving admin takes over, or the
# longest-serving member where there is no admin; the hand-over is a ROLE_CHANGED event before MEMBER_LEFT.
"""Methods about members of groups, and the member list of any conversation."""

from typing import Any

from chatd.hub.core import Interval
from chatd.hub.frames import CallError
from chatd.services import events, joining, relations, users
from chatd.services.caller import Caller, Result
from chatd.services.seats import Seat, first_role, managed_seat, outranked, present, seat
from chatd.wire.schema import ErrorCode, Right, Role


async def list_members(caller: Caller, cid: int, after: int, limit: int) -> Result:
    """MEMBER_LIST: present members, ascending by user."""

    def find() -> Result:
        found = seat(caller, cid)
        if not found.rights & Right.SEE_MEMBERS:
            raise CallError(ErrorCode.FORBIDDEN, "the members of this conversation are not shown to your role")
        members = caller.core.present(cid, after, limit + 1) or []
        page = members[:limit]
        rows = caller.rows.find_all("user", [member[0] for member in page])
        listed: list[list[Any]] = [
            [user, role, join_seq, delivered_seq, read_seq, users.shown_name(rows.get(user))]
            for user, role, join_seq, _, delivered_seq, read_seq, _ in page
        ]
        return {1: listed, 2: len(members) > limit}

    result: Result = await caller.hub.lookup(find)
    return result


async def list_roles(caller: Caller) -> Result:
    """ROLE_LIST"""
    rules = sorted(caller.hub.roles.by_code.values())
    return {1: [[rule.code, rule.name, rule.rank, int(rule.rights)] for rule in rules]}


async def add(caller: Caller, cid: int, named: list[int], role: int) -> Result:
    """MEMBER_ADD"""

    def newcomers() -> tuple[Seat, list[int]]:
        found = managed_seat(caller, cid, Right.INVITE)
        _check_given(caller, found, role)
        fresh = [user for user in named if present(caller, cid, user) is None]
        relations.check_reachable(caller, fresh)
        joining.check_bans(caller, cid, fresh)
        return found, fresh

    await joining.check_conversation_counts(caller, (await caller.hub.lookup(newcomers))[1])

    def apply() -> Result:
        found, fresh = newcomers()
        if not fresh:
            return {1: 0}
        joining.check_room(caller, found.row.kind, found.member_count + len(fresh))
        rows = users.existing(caller.rows, fresh)
        seq = found.head_seq
        for given in sorted({first_role(rows[user], role) for user in fresh}):
            seq = _stage_added(caller, found, given, [user for user in fresh if first_role(rows[user], role) == given])
        return {1: seq}

    return await caller.change(apply)


def _stage_added(caller: Caller, found: Seat, role: int, fresh: list[int]) -> int:
    cid = found.row.id
    state = caller.core.conversation(cid)
    assert state is not None, cid
    seq = state[2] + 1
    for user in fresh:
        joining.stage_interval(caller, found.row, user, role, seq)
    staged = events.members_added(caller.core, cid, caller.user, role, fresh)
    assert staged == seq, (staged, seq)
    joining.stage_read(caller, cid, fresh, seq)
    return seq


async def remove(caller: Caller, cid: int, named: list[int]) -> Result:
    """MEMBER_REMOVE"""

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.REMOVE)
        gone = [interval for user in named if (interval := outranked(caller, found, cid, user)) is not None]
        if not gone:
            return {1: 0}
        seq = events.members_removed(caller.core, cid, caller.user, [interval[0] for interval in gone])
        for interval in gone:
            close(caller, cid, interval, seq)
        return {1: seq, REMOVED: [interval[0] for interval in gone]}

    return unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def leave(caller: Caller, cid: int) -> Result:
    """MEMBER_LEAVE"""

    def apply() -> Result:
        found = managed_seat(caller, cid)
        if found.role == Role.OWNER and found.member_count > 1:
            members = caller.core.present(cid, 0, found.member_count) or []
            others = [interval for interval in members if interval[0] != caller.user]
            _set_role(caller, found, min(others, key=_seniority), Role.OWNER)
        seq = events.member_left(caller.core, cid, caller.user)
        close(caller, cid, found.own, seq)
        return {1: seq, REMOVED: [caller.user]}

    return unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def set_role(caller: Caller, cid: int, user: int, role: int) -> Result:
    """MEMBER_SET_ROLE"""

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.ROLES)
        if present(caller, cid, user) is None:
            raise CallError(ErrorCode.NOT_FOUND, f"user {user} is not a member of this conversation")
        if user == caller.user:
            if role == found.role:
                return {1: 0}
            text = "nobody changes the own role; the owner makes another member the owner, or leaves"
            raise CallError(ErrorCode.FORBIDDEN, text)
        target = outranked(caller, found, cid, user)
        assert target is not None
        if target[1] == role:
            return {1: 0}
        if role != Role.OWNER or found.role != Role.OWNER:
            _check_given(caller, found, role)
            return {1: _set_role(caller, found, target, role)}
        _set_role(caller, found, target, Role.OWNER)
        return {1: _set_role(caller, found, found.own, Role.ADMIN)}

    return await caller.change(apply)


# ---------------------------------------------------------------- parts of turns

REMOVED = -1
"""Key of a result inside the server: whose subscriptions end. Never sent."""


def _check_given(caller: Caller, found: Seat, role: int) -> None:
    roles = caller.hub.roles
    if role not in roles.by_code:
        raise CallError(ErrorCode.BAD_REQUEST, f"there is no role {role}; ROLE_LIST has those that are")
    if roles.rank(role) >= roles.rank(found.role):
        raise CallError(ErrorCode.FORBIDDEN, "you can give a lower role than your own only")


def _seniority(interval: Interval) -> tuple[bool, int, int]:
    user, role, join_seq, *_ = interval
    return (role != Role.ADMIN, join_seq, user)


def close(caller: Caller, cid: int, interval: Interval, seq: int) -> None:
    """The membership ends with the event at seq."""
    user, role, join_seq, *_ = interval
    caller.hub.memberships.stage(cid, user, role, join_seq, seq)


def _set_role(caller: Caller, found: Seat, interval: Interval, role: int) -> int:
    user, _, join_seq, *_ = interval
    cid = found.row.id
    caller.hub.memberships.stage(cid, user, role, join_seq)
    if role == Role.OWNER:
        caller.rows.stage("conversation", found.row._replace(owner=user))
    return events.role_changed(caller.core, cid, caller.user, user, role)


def unsubscribe(caller: Caller, cid: int, result: Result) -> Result:
    """After the commit: those who are gone hear nothing ephemeral of it any more."""
    for user in result.pop(REMOVED, ()):
        caller.core.revoke(user, cid)
    return result
