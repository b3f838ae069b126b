"""What a message has said, one edit after another: for its author and for moderators.

An edit leaves what was there in the log, so moderators find it; a recall and an expiry take all of it away, for
moderators, too, and so does retention.
"""

from typing import Any

from chatd.hub.frames import CallError, payload_of
from chatd.services.caller import Caller, Result
from chatd.services.messages.parts import has_right
from chatd.services.seats import seat
from chatd.storage.interface import EventRow
from chatd.storage.journal_codec import EVENT_TOMBSTONE
from chatd.wire import varint
from chatd.wire.schema import KINDS, ErrorCode, Kind, Right

PAGE_BYTES_MAX = 32_768


async def get(caller: Caller, cid: int, seq: int, after: int) -> Result:
    """EVENT_VERSIONS"""
    result: Result = await caller.hub.lookup(lambda: _page(_versions(caller, cid, seq), after))
    return result


def _versions(caller: Caller, cid: int, seq: int) -> list[EventRow]:
    """The message and its edits, ascending."""
    seat(caller, cid)
    events = caller.hub.events
    found = events.find(cid, seq, caller.user)
    if found is None or not KINDS[found.kind].message:
        raise CallError(ErrorCode.NOT_FOUND, "there is no such message for you")
    if found.flags & EVENT_TOMBSTONE:
        raise CallError(ErrorCode.NOT_FOUND, "that message was recalled or has expired; nobody can read it any more")
    if found.sender != caller.user and not has_right(caller.hub, cid, caller.user, Right.MODERATE):
        raise CallError(ErrorCode.FORBIDDEN, "what a message said before is for its author and for moderators")
    edits = [row.seq for row in caller.rows.find_group("edit", cid, seq)]
    return [found, *events.find_all(cid, edits, caller.user)]


def _page(rows: list[EventRow], after: int) -> Result:
    page: list[list[Any]] = []
    left, later = PAGE_BYTES_MAX, [row for row in rows if row.seq > after]
    for row in later:
        payload = payload_of(row)
        content = payload[varint.decode(payload, 0)[1] :] if row.kind == Kind.EDIT else payload
        left -= len(content)
        if left < 0 and page:
            break
        page.append([row.seq, row.ts_ms, content])
    return {1: page, 2: len(page) < len(later)}
