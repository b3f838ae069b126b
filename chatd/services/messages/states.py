"""What messages have become, for those who do not want to read the log for it: edits, reactions, pins, mentions."""

from collections import Counter
from typing import Any

from chatd.hub import floors, reads
from chatd.hub.core import Core
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.services.caller import Caller, Result
from chatd.services.messages.mentions import EVERYONE_ID
from chatd.storage.interface import View
from chatd.storage.message_rows import EditRow, ReactionRow

MENTIONS_COUNTED_MAX = 1000
"""In one conversation."""


async def states(caller: Caller, cid: int, targets: list[int]) -> Result:
    """MESSAGE_STATES: of those messages that the caller may read."""

    def find() -> Result:
        spans = reads.readable(caller.core, caller.rows, cid, caller.user).spans
        pinned = {row.target for row in caller.rows.find_group("pin", cid)}
        readable = [target for target in targets if any(first <= target <= last for first, last in spans)]
        keys = [(cid, target) for target in readable]
        edits, reactions = (caller.rows.find_groups(table, keys) for table in ("edit", "reaction"))
        rows = zip(readable, edits, reactions, strict=True)
        return {1: [_state(caller, *row, pinned) for row in rows]}

    result: Result = await caller.hub.lookup(find)
    return result


def _state(
    caller: Caller, target: int, edits: list[EditRow], present: list[ReactionRow], pinned: set[int]
) -> list[Any]:
    counts = Counter(row.emoji for row in present)
    mine = {row.emoji for row in present if row.uid == caller.user}
    reactions = [[emoji, count, emoji in mine] for emoji, count in sorted(counts.items())]
    return [target, edits[-1].seq if edits else 0, reactions, target in pinned]


async def pins(caller: Caller, cid: int) -> Result:
    """PIN_LIST: those the caller may read, newest pin first."""

    def find() -> Result:
        spans = reads.readable(caller.core, caller.rows, cid, caller.user).spans
        rows = sorted(caller.rows.find_group("pin", cid), key=lambda row: -row.seq)
        seen = [row for row in rows if any(first <= row.target <= last for first, last in spans)]
        return {1: [[row.target, row.uid, row.seq] for row in seen]}

    result: Result = await caller.hub.lookup(find)
    return result


async def unread_mentions(caller: Caller, cids: list[int]) -> Result:
    """MENTIONS_UNREAD: counted now, beyond what the user has read on whichever device."""
    hub, user = caller.hub, caller.user

    def bounds() -> dict[int, tuple[int, int]]:
        gone = floors.rows_of(hub.rows, cids)
        found = {cid: _unread_span(hub.core, cid, user) for cid in cids}
        return {
            cid: (max(span[0], gone[cid].floor_seq - 1), span[1]) if cid in gone else span
            for cid, span in found.items()
            if span is not None
        }

    for _ in range(SNAPSHOTS_PER_PAGE_MAX):
        spans = await hub.lookup(bounds)

        def read(view: View, spans: dict[int, tuple[int, int]] = spans) -> tuple[int, dict[int, list[Any]]]:
            most = MENTIONS_COUNTED_MAX
            rows = view.each(lambda view, cid: view.mentions(cid, user, *spans[cid], most), spans)
            return view.folded_pos, dict(zip(spans, rows, strict=True))

        folded_pos, found = await hub.loader.read(read)
        if hub.rows.is_current(folded_pos) and await hub.lookup(bounds) == spans:
            break
    else:
        raise too_fast()
    counted: list[list[int]] = []
    for cid, (after, last) in spans.items():
        rows = hub.rows.overlaid("mention", found[cid], cid)
        seqs = {row.seq for row in rows if row.uid in (user, EVERYONE_ID) and after < row.seq <= last}
        if seqs:
            counted.append([cid, min(len(seqs), MENTIONS_COUNTED_MAX), min(seqs)])
    return {1: counted}


def _unread_span(core: Core, cid: int, user: int) -> tuple[int, int] | None:
    """Behind which seq, and up to which, this member has not read."""
    try:
        found = reads.intervals(core, cid, user)
    except reads.UnknownConversation:
        return None
    state = core.conversation(cid)
    if state is None or not reads.is_member(found):
        return None
    return max(found[-1][5], found[-1][2] - 1), state[2]
