"""Presence of users: what a session says of itself, who may see it, and following others."""

from chatd.hub.flags import Relation
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
    await hide(caller)
    return result


async def hide(caller: Caller) -> None:
    """From those who follow the caller and may not see him or her any more."""
    presence = caller.hub.presence

    def unwelcome() -> set[int]:
        own = caller.rows.find("presence", caller.user)
        viewers = presence.followers_of(caller.user)
        states = _relations(caller, [(caller.user, viewer) for viewer in viewers])
        return {viewer for viewer in viewers if not _may_see(viewer, caller.user, own, states[caller.user, viewer])}

    presence.hide(caller.user, await caller.hub.lookup(unwelcome))


async def follow(caller: Caller, users: list[int]) -> Result:
    """PRESENCE_FOLLOW"""
    rows, presence = caller.rows, caller.hub.presence

    def look() -> Result:
        people.existing(rows, users)
        settings, seen = rows.find_all("presence", users), rows.find_all("last_seen", users)
        states = _relations(caller, [(user, caller.user) for user in users])
        visible = [user for user in users if _may_see(caller.user, user, settings.get(user), states[user, caller.user])]
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


def _relations(caller: Caller, pairs: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """What the first of each pair has decided about the second one, as bits of Relation."""
    found = caller.rows.find_all("relation", pairs)
    return {pair: found[pair].state if pair in found else 0 for pair in pairs}


def _may_see(viewer: int, user: int, row: PresenceRow | None, relation: int) -> bool:
    audience = _audience_of(row)
    if viewer == user:
        return True
    if relation & Relation.BLOCKED or audience == Audience.NOBODY:
        return False
    return audience == Audience.EVERYONE or bool(relation & Relation.CONTACT)
