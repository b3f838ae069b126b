# Who counts is who may read the event: it lies in one of the member's intervals, whichever it is. Joining counts as
# having read what the conversation's rules show of the time before, as it does for unread counts.
"""Who has received and read one event, from the positions of the members."""

from typing import Any

from chatd.hub import floors
from chatd.hub.core import Interval
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.services.caller import Caller, Result
from chatd.services.seats import seat
from chatd.wire.schema import ErrorCode

LISTED_MEMBERS_MAX = 500
"""Of a larger conversation only the counts are told (contract, clause 9)."""


async def get(caller: Caller, cid: int, seq: int) -> Result:
    """RECEIPT_GET: of present members who may read seq, the caller left out."""

    def find() -> Result:
        found = seat(caller, cid)
        intervals = caller.core.members(cid)
        if intervals is None:
            raise MissingConversation(cid)
        readers = {interval[0] for interval in intervals if _has(interval, seq, found.head_seq)}
        if caller.user not in readers or seq < floors.floor_seq(caller.rows, cid):
            raise CallError(ErrorCode.NOT_FOUND, "no such event for you")
        listed: list[list[Any]] = [
            [user, delivered_seq >= seq, read_seq >= seq]
            for user, _, _, leave_seq, delivered_seq, read_seq, _ in intervals
            if user != caller.user and user in readers and not leave_seq
        ]
        received, read = (sum(entry[which] for entry in listed) for which in (1, 2))
        return {1: len(listed), 2: received, 3: read, 4: listed if found.member_count <= LISTED_MEMBERS_MAX else []}

    result: Result = await caller.hub.lookup(find)
    return result


def _has(interval: Interval, seq: int, head_seq: int) -> bool:
    _, _, join_seq, leave_seq, *_ = interval
    return join_seq <= seq <= (leave_seq or head_seq)
