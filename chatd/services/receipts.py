"""Who has received and read one event, from the positions of the members."""

from typing import Any

from chatd.hub.frames import CallError
from chatd.services.caller import Caller, Result
from chatd.services.seats import seat
from chatd.wire.schema import ErrorCode

LISTED_MEMBERS_MAX = 500
"""Of a larger conversation only the counts are told (contract, clause 9)."""


async def get(caller: Caller, cid: int, seq: int) -> Result:
    """RECEIPT_GET: of present members who were there at seq, the caller left out."""

    def find() -> Result:
        found = seat(caller, cid)
        if not found.own[2] <= seq <= found.head_seq:
            raise CallError(ErrorCode.NOT_FOUND, "no such event for you")
        members = caller.core.present(cid, 0, found.member_count) or []
        listed: list[list[Any]] = [
            [user, delivered_seq >= seq, read_seq >= seq]
            for user, _, join_seq, _, delivered_seq, read_seq, _ in members
            if user != caller.user and join_seq <= seq
        ]
        received, read = (sum(entry[which] for entry in listed) for which in (1, 2))
        return {1: len(listed), 2: received, 3: read, 4: listed if found.member_count <= LISTED_MEMBERS_MAX else []}

    result: Result = await caller.hub.lookup(find)
    return result
