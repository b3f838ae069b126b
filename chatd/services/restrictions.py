# Muting and banning. One row for a user and a conversation says until when; the event beside it says so to everybody. A
# mute holds from its event on: the hub's core refuses what comes later. A ban removes and keeps out, whichever way
# somebody tries to come back.
"""Methods of moderators: mute, ban, and who is restricted."""

import time

from chatd.hub.frames import CallError
from chatd.services import events, listing, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.joining import is_banned
from chatd.services.members import REMOVED, close, unsubscribe
from chatd.services.relations import FOR_EVER_S
from chatd.services.seats import managed_seat, outranked
from chatd.storage.interface import View
from chatd.storage.people_rows import RestrictionRow
from chatd.wire.schema import ErrorCode, Right


def _row(caller: Caller, cid: int, user: int) -> RestrictionRow:
    found: RestrictionRow | None = caller.rows.find("restriction", (cid, user))
    return found or RestrictionRow(cid, user, 0, 0, 0, "", 0)


def _check_future(until_s: int) -> None:
    if until_s and until_s <= time.time():
        raise CallError(ErrorCode.BAD_REQUEST, "parameter 3 (until_s) must be a time to come, or 0")


async def mute(caller: Caller, cid: int, user: int, until_s: int) -> Result:
    """MEMBER_MUTE"""
    _check_future(until_s)

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.MODERATE)
        if outranked(caller, found, cid, user) is None:
            raise CallError(ErrorCode.NOT_FOUND, f"user {user} is not a member of this conversation")
        row = _row(caller, cid, user)
        changed = row._replace(muted_until_s=until_s, by_uid=caller.user, changed_ms=now_ms())
        caller.rows.stage("restriction", changed)
        caller.core.change_mute(cid, user, until_s)
        return {1: events.member_muted(caller.core, cid, caller.user, user, until_s)}

    return await caller.change(apply, urgent=True)


async def ban(caller: Caller, cid: int, user: int, until_s: int, reason: str) -> Result:
    """MEMBER_BAN"""
    _check_future(until_s)

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.REMOVE)
        users.existing(caller.rows, [user])
        interval = outranked(caller, found, cid, user)
        until = until_s or FOR_EVER_S
        row = _row(caller, cid, user)
        changed = row._replace(banned_until_s=until, by_uid=caller.user, reason=reason, changed_ms=now_ms())
        caller.rows.stage("restriction", changed)
        if interval is None:
            return {1: 0}
        seq = events.member_banned(caller.core, cid, caller.user, user, until)
        close(caller, cid, interval, seq)
        return {1: seq, REMOVED: [user]}

    return unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def lift(caller: Caller, cid: int, user: int) -> Result:
    """BAN_LIFT"""

    def apply() -> Result:
        managed_seat(caller, cid, Right.REMOVE)
        row = _row(caller, cid, user)
        if not is_banned(row):
            return {1: 0}
        caller.rows.stage("restriction", row._replace(banned_until_s=0, reason="", changed_ms=now_ms()))
        return {1: events.ban_lifted(caller.core, cid, caller.user, user)}

    return await caller.change(apply)


async def list_restrictions(caller: Caller, cid: int, after: int, limit: int) -> Result:
    """RESTRICTION_LIST"""
    await caller.hub.lookup(lambda: managed_seat(caller, cid, Right.MODERATE))

    def read(view: View, start: int, most: int) -> list[RestrictionRow]:
        return view.restrictions(cid, start, most)

    now_s = time.time()
    rows, more = await listing.page(
        caller,
        read,
        lambda: caller.rows.unfolded_of("restriction", cid),
        lambda row: row.uid,
        lambda row: max(row.muted_until_s, row.banned_until_s) > now_s,
        after,
        limit,
    )
    listed = [[row.uid, row.muted_until_s, row.banned_until_s, row.by_uid, row.changed_ms, row.reason] for row in rows]
    return {1: listed, 2: more}
