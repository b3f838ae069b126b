# Members: who may change whom. A change is an event at a seq R with an interval beside it. Who is added joins at R
# and reads from there; who is removed leaves at R, gets that event as the last one, and nothing after it from any
# buffer.
#
#   role     add                 remove             set role
#   owner    members, admins     anyone but self    any; OWNER hands the group over, the former owner becomes admin
#   admin    members             members            -
#   member   -                   -                  -
#
# There is exactly one owner while there are members. When the owner leaves, the longest-serving admin takes over, or
# the longest-serving member where there is no admin; the hand-over is a ROLE_CHANGED event before MEMBER_LEFT.
"""Methods about members of groups, and the member list of any conversation."""

from typing import Any

from chatd.hub.core import Interval
from chatd.hub.frames import CallError
from chatd.services import events, users
from chatd.services.caller import Caller, Result
from chatd.services.conversations import (
    Seat,
    check_conversation_counts,
    group_seat,
    seat,
    too_many_members,
)
from chatd.wire.schema import ErrorCode, Role


async def list_members(caller: Caller, cid: int, after: int, limit: int) -> Result:
    """MEMBER_LIST: present members, ascending by user."""

    def find() -> Result:
        present = sorted(item for item in seat(caller, cid).present.items() if item[0] > after)
        page = present[:limit]
        rows = caller.rows.find_all("user", [user for user, _ in page])
        listed: list[list[Any]] = [
            [user, role, join_seq, delivered_seq, read_seq, users.shown_name(rows.get(user))]
            for user, (_, role, join_seq, _, delivered_seq, read_seq, _) in page
        ]
        return {1: listed, 2: len(present) > limit}

    result: Result = await caller.hub.lookup(find)
    return result


async def add(caller: Caller, cid: int, named: list[int], role: int) -> Result:
    """MEMBER_ADD"""

    def newcomers() -> tuple[Seat, list[int]]:
        found = group_seat(caller, cid, Role.ADMIN)
        if role >= found.role:
            raise CallError(ErrorCode.FORBIDDEN, "you can give a lower role than your own only")
        fresh = [user for user in named if user not in found.present]
        users.existing(caller.rows, fresh)
        return found, fresh

    await check_conversation_counts(caller, (await caller.hub.lookup(newcomers))[1])

    def apply() -> Result:
        found, fresh = newcomers()
        if not fresh:
            return {1: 0}
        if len(found.present) + len(fresh) > caller.hub.settings.group_members_max:
            raise too_many_members(caller)
        seq = found.head_seq + 1
        for user in fresh:
            caller.hub.memberships.stage(cid, user, role, seq)
        staged = events.members_added(caller.core, cid, caller.user, Role(role), fresh)
        assert staged == seq, (staged, seq)
        return {1: seq}

    return await caller.change(apply)


async def remove(caller: Caller, cid: int, named: list[int]) -> Result:
    """MEMBER_REMOVE"""

    def apply() -> Result:
        found = group_seat(caller, cid, Role.ADMIN)
        gone = [found.present[user] for user in named if user in found.present]
        if any(interval[0] == caller.user for interval in gone):
            raise CallError(ErrorCode.FORBIDDEN, "use MEMBER_LEAVE to leave a group yourself")
        if any(interval[1] >= found.role for interval in gone):
            raise CallError(ErrorCode.FORBIDDEN, "you can remove members of a lower role than your own only")
        if not gone:
            return {1: 0}
        seq = events.members_removed(caller.core, cid, caller.user, [interval[0] for interval in gone])
        for interval in gone:
            _close(caller, cid, interval, seq)
        return {1: seq, REMOVED: [interval[0] for interval in gone]}

    return _unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def leave(caller: Caller, cid: int) -> Result:
    """MEMBER_LEAVE"""

    def apply() -> Result:
        found = group_seat(caller, cid, Role.MEMBER)
        others = [interval for user, interval in found.present.items() if user != caller.user]
        if found.role == Role.OWNER and others:
            _set_role(caller, found, min(others, key=_seniority), Role.OWNER)
        seq = events.member_left(caller.core, cid, caller.user)
        _close(caller, cid, found.present[caller.user], seq)
        return {1: seq, REMOVED: [caller.user]}

    return _unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def set_role(caller: Caller, cid: int, user: int, role: int) -> Result:
    """MEMBER_SET_ROLE"""

    def apply() -> Result:
        found = group_seat(caller, cid, Role.OWNER)
        target = found.present.get(user)
        if target is None:
            raise CallError(ErrorCode.NOT_FOUND, f"user {user} is not a member of this group")
        if target[1] == role:
            return {1: 0}
        if user == caller.user:
            raise CallError(ErrorCode.FORBIDDEN, "a group needs an owner; make another member the owner instead")
        seq = _set_role(caller, found, target, Role(role))
        if role == Role.OWNER:
            seq = _set_role(caller, found, found.present[caller.user], Role.ADMIN)
        return {1: seq}

    return await caller.change(apply)


# ---------------------------------------------------------------- parts of turns

REMOVED = -1
"""Key of a result inside the server: whose subscriptions end. Never sent."""


def _seniority(interval: Interval) -> tuple[bool, int, int]:
    user, role, join_seq, *_ = interval
    return (role != Role.ADMIN, join_seq, user)


def _close(caller: Caller, cid: int, interval: Interval, seq: int) -> None:
    user, role, join_seq, *_ = interval
    caller.hub.memberships.stage(cid, user, role, join_seq, seq)


def _set_role(caller: Caller, found: Seat, interval: Interval, role: Role) -> int:
    user, _, join_seq, *_ = interval
    cid = found.row.id
    caller.hub.memberships.stage(cid, user, role, join_seq)
    if role == Role.OWNER:
        caller.rows.stage("conversation", found.row._replace(owner=user))
    return events.role_changed(caller.core, cid, caller.user, user, role)


def _unsubscribe(caller: Caller, cid: int, result: Result) -> Result:
    """After the commit: those who are gone hear nothing ephemeral of it any more."""
    for user in result.pop(REMOVED, ()):
        caller.core.revoke(user, cid)
    return result
