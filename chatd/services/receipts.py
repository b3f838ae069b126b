# Who counts is who may read the event: it lies in one of the member's intervals, whichever it is. Joining counts as
# having read what the conversation's rules show of the time before, as it does for unread counts.
"""Who has received and read one event, from the positions of the members."""

from typing import Any

from chatd.hub import floors
from chatd.hub.core import Interval
from chatd.hub.frames import CallError
from chatd.services.caller import Caller, Result
from chatd.services.seats import seat
from chatd.wire.schema import ErrorCode, Right

LISTED_MEMBERS_MAX = 500
"""Of a larger conversation, and to those who may not see its members, only the counts are told (contract, clause 9)."""


async def get(caller: Caller, cid: int, seq: int) -> Result:
    """RECEIPT_GET: of present members who may read seq, the caller left out."""

    def find() -> Result:
        found = seat(caller, cid)
        own = caller.core.intervals(cid, caller.user) or []
        if not any(_has(interval, seq, found.head_seq) for interval in own) or seq < floors.floor_seq(caller.rows, cid):
            raise CallError(ErrorCode.NOT_FOUND, "no such event for you")
        if found.member_count > LISTED_MEMBERS_MAX or not found.rights & Right.SEE_MEMBERS:
            counts = caller.core.receipt_counts(cid, seq, caller.user) or (0, 0, 0)
            return {1: counts[0], 2: counts[1], 3: counts[2], 4: []}
        intervals = caller.core.members(cid) or []
        readers = {interval[0] for interval in intervals if _has(interval, seq, found.head_seq)}
        listed: list[list[Any]] = [
            [user, delivered_seq >= seq, read_seq >= seq]
            for user, _, _, leave_seq, delivered_seq, read_seq, _ in intervals
            if user != caller.user and user in readers and not leave_seq
        ]
        received, read = (sum(entry[which] for entry in listed) for which in (1, 2))
        return {1: len(listed), 2: received, 3: read, 4: listed}

    result: Result = await caller.hub.lookup(find)
    return result


def _has(interval: Interval, seq: int, head_seq: int) -> bool:
    _, _, join_seq, leave_seq, *_ = interval
    return join_seq <= seq <= (leave_seq or head_seq)
