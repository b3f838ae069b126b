"""The last values of a conversation's telemetry, for those who join."""

from chatd.services.caller import Caller, Result
from chatd.services.seats import seat


async def last(caller: Caller, cid: int, user: int, after_user: int, after_key: int, limit: int) -> Result:
    """TELEMETRY_LAST"""

    def look() -> Result:
        seat(caller, cid)
        now_ms = caller.hub.clock.monotonic_ms()
        values, more = caller.hub.telemetry.last(cid, user, (after_user, after_key), limit)
        listed = [[*place, kept.payload, kept.wall_ms, now_ms - kept.monotonic_ms] for place, kept in values]
        return {1: listed, 2: more}

    result: Result = await caller.hub.lookup(look)
    return result
