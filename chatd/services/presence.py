"""Presence of users: what a session says of itself, who may see it, and following others."""

from chatd.hub.frames import CallError
from chatd.hub.presence import LEASE_S, Session
from chatd.services import users as people
from chatd.services.caller import Caller, Result
from chatd.storage.people_rows import PresenceRow
from chatd.wire.schema import Audience, ErrorCode, PresenceState


def _session(caller: Caller) -> Session:
    """The caller's session. A connection that has ended meanwhile gets an answer that nobody reads."""
    for shard, handle, device, epoch in caller.core.sessions(caller.user):
        if (shard, handle, device) == (caller.call.shard, caller.call.handle, caller.device):
            return Session(caller.user, device, epoch)
    raise CallError(ErrorCode.NOT_ALLOWED_NOW, "this session has ended")


async def set_state(caller: Caller, state: int) -> Result:
    """PRESENCE_SET"""
    caller.hub.presence.set_state(_session(caller), PresenceState(state))
    return {}


async def audience(caller: Caller, wanted: int | None) -> Result:
    """PRESENCE_AUDIENCE"""

    def apply() -> Result:
        if wanted is not None:
            caller.rows.stage("presence", PresenceRow(caller.user, wanted))
            return {1: wanted}
        return {1: _audience_of(caller.rows.find("presence", caller.user))}

    if wanted is None:
        found: Result = await caller.hub.lookup(apply)
        return found
    result = await caller.change(apply)
    if wanted == Audience.NOBODY:
        caller.hub.presence.hidden(caller.user)
    return result


async def follow(caller: Caller, users: list[int]) -> Result:
    """PRESENCE_FOLLOW"""
    rows, presence = caller.rows, caller.hub.presence

    def look() -> Result:
        people.existing(rows, users)
        settings, seen = rows.find_all("presence", users), rows.find_all("last_seen", users)
        visible = [user for user in users if _may_see(caller.user, user, settings.get(user))]
        untold = presence.follow(_session(caller), visible)
        listed = []
        for user in users:
            state = presence.state(user) if user in visible else PresenceState.OFFLINE
            told_ms = presence.seen_ms(user, seen.get(user)) if user in visible and not state else 0
            listed.append([user, int(state), told_ms])
        return {1: listed, 2: int(LEASE_S * 1000), 3: untold}

    result: Result = await caller.hub.lookup(look)
    return result


async def unfollow(caller: Caller, users: list[int]) -> Result:
    """PRESENCE_UNFOLLOW"""
    caller.hub.presence.unfollow(_session(caller), users)
    return {}


def _audience_of(row: PresenceRow | None) -> Audience:
    return Audience.EVERYONE if row is None else Audience(row.audience)


def _may_see(viewer: int, user: int, row: PresenceRow | None) -> bool:
    return viewer == user or _audience_of(row) == Audience.EVERYONE
