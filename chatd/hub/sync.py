# SYNC: which conversations of this user changed since a position? The position up to which the answer counts is fixed
# first; then the main database is read in one snapshot, then the core is asked about every conversation of the user
# for what is not folded. A conversation that changes meanwhile is in this page or has a newer position than the
# cursor: pages are stable, nothing falls between. The snapshot and the core must meet: when the fold has moved on
# since the snapshot, the core may have evicted what the snapshot does not hold yet, so the page is read again. A
# conversation that the user has left counts as changed by the end of the membership only, never by what others wrote
# later: its entry ends at leave_seq. Price: 0.2 us per conversation of the user to ask the core; disk and bytes only
# for changed ones.
"""The answer to SYNC."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from chatd.errors import PeerProtocolError
from chatd.hub import floors, frames, reads
from chatd.hub.core import Core
from chatd.hub.frames import CallError, SyncEntry
from chatd.hub.redactions import shown
from chatd.storage.interface import EventRow, MembershipRow, View
from chatd.storage.message_rows import RetentionRow
from chatd.storage.people_rows import OwnSettingRow
from chatd.storage.search.interface import CID_MAX
from chatd.wire import sync_cursor
from chatd.wire.schema import (
    BODY_BYTES_MAX,
    CURSOR_BYTES_MAX,
    KINDS,
    PULL_BYTES_MAX,
    PULL_EVENTS_MAX,
    SYNC_ENTRIES_MAX,
    TIME_EPOCH_MS,
    ErrorCode,
    Kind,
    MemberState,
)
from chatd.wire.sync_cursor import SyncCursor

if TYPE_CHECKING:
    from chatd.hub.calls import Call
    from chatd.hub.loop import Hub

PREVIEW_BYTES_MAX = 96
PAGE_HEAD_BYTES = CURSOR_BYTES_MAX + 8
SNAPSHOTS_PER_PAGE_MAX = 5
TEXT_KINDS = frozenset({Kind.TEXT, Kind.MARKDOWN})


class Snapshot(NamedTuple):
    """What the main database knew at folded_pos. cids: of the user, as far as this page can reach. rows: every interval
    of each changed conversation, by cid.
    """

    folded_pos: int
    cids: list[int]
    rows: dict[int, list[MembershipRow]]
    last_cid: int
    """Changed conversations are complete up to this one; 0: to the end."""


class Draft(NamedTuple):
    """One entry but for its last event."""

    cid: int
    kind: int
    state: MemberState
    last_seq: int
    floor_seq: int
    message_count: int
    """-1: left, to be read from the database"""
    read_seq: int
    read_count: int


async def answer(hub: "Hub", call: "Call") -> bytes:
    """One SYNC_PAGE frame."""
    sync = frames.decode_sync(call.body)
    try:
        cursor = sync_cursor.decode(hub.store.log_epoch, sync.cursor)
    except PeerProtocolError as error:
        raise CallError(ErrorCode.BAD_REQUEST, str(error)) from error
    if not cursor.upto_pos:
        cursor = cursor._replace(upto_pos=max(1, hub.core.committed_pos))
    limit = min(sync.limit or SYNC_ENTRIES_MAX, SYNC_ENTRIES_MAX)
    drafts, more = await _drafts(hub, call.user, cursor, limit)
    last = await _last_events(hub, call.user, drafts)
    cids = [draft.cid for draft in drafts]
    hidden = await hub.lookup(lambda: reads.hidden(hub.rows, call.user, cids))
    kept = await hub.lookup(lambda: floors.rows_of(hub.rows, cids))

    entries: list[bytes] = []
    room = call.frame_bytes_max - PAGE_HEAD_BYTES
    for draft in drafts:
        entry = _kept(_entry(draft, last[draft.cid]), kept.get(draft.cid))
        encoded = frames.sync_entry(_without(entry, hidden.get(draft.cid)))
        room -= len(encoded)
        if room < 0:
            if not entries:
                text = f"one entry of SYNC_PAGE does not fit into your {call.frame_bytes_max} bytes per frame"
                raise CallError(ErrorCode.TOO_LARGE, text)
            more = True
            break
        entries.append(encoded)
        cursor = cursor._replace(after_cid=draft.cid)
    if not more:
        cursor = SyncCursor(cursor.upto_pos)
    return frames.sync_page(sync_cursor.encode(hub.store.log_epoch, cursor), entries, more)


async def _drafts(hub: "Hub", user: int, cursor: SyncCursor, limit: int) -> tuple[list[Draft], bool]:
    """At most `limit` of the changed conversations after the cursor, ascending; and whether there are more."""
    for _ in range(SNAPSHOTS_PER_PAGE_MAX):
        snapshot = await hub.loader.read(lambda view: _snapshot(view, user, cursor, limit))
        unfolded = [entry for entry in hub.memberships.of_user(user) if entry.cid > cursor.after_cid]
        cids = {*snapshot.cids, *(entry.cid for entry in unfolded)}
        halves = half_known(hub.core, cids)
        if halves:
            await hub.loader.load("conversation", halves)
        elif snapshot.folded_pos >= hub.rows.floor_pos:
            break
    else:
        raise too_fast()
    # From here to the return nothing awaits: snapshot, overlay and core are of one moment.
    changed = set(snapshot.rows)
    changed |= {entry.cid for entry in unfolded if entry.pos > cursor.since_pos}
    for cid in cids - changed:
        state = hub.core.conversation(cid)
        if state is not None and state[5] > cursor.since_pos:
            intervals = hub.core.intervals(cid, user)
            if intervals and reads.is_member(intervals):
                changed.add(cid)
    chosen = sorted(cid for cid in changed if not snapshot.last_cid or cid <= snapshot.last_cid)
    drafts = [_draft(hub.core, cid, user, snapshot.rows.get(cid, [])) for cid in chosen[:limit]]
    return [draft for draft in drafts if draft is not None], bool(snapshot.last_cid) or len(chosen) > limit


def too_fast() -> CallError:
    return CallError(ErrorCode.BUSY, "the database changes faster than this page could be read; try again", 500)


def half_known(core: Core, cids: Iterable[int]) -> list[int]:
    """Conversations of which the core has what replay brought, and nobody has asked for the rest yet."""
    return [cid for cid in cids if core.conversation(cid) is None and core.touched_pos(cid)]


def _snapshot(view: View, user: int, cursor: SyncCursor, limit: int) -> Snapshot:
    """In a thread."""
    changed = view.memberships_changed(user, cursor.since_pos, cursor.after_cid, limit + 1)
    last_cid = changed[-1].cid if len(changed) > limit else 0
    changed_cids = list(dict.fromkeys(row.cid for row in changed))
    rows = dict(zip(changed_cids, view.each(lambda view, cid: view.membership(cid, user), changed_cids), strict=True))
    cids = view.conversation_ids(user, cursor.after_cid, last_cid or CID_MAX)
    return Snapshot(view.folded_pos, cids, rows, last_cid)


def _draft(core: Core, cid: int, user: int, rows: list[MembershipRow]) -> Draft | None:
    """From the core when it holds the conversation, else from the database."""
    state, intervals = core.conversation(cid), core.intervals(cid, user)
    if state is not None and intervals:
        spans = [(interval[2], interval[3]) for interval in intervals]
        kind, head_seq, message_count = state[0], state[2], state[3]
        read_seq, read_count = intervals[-1][5], intervals[-1][6]
    elif rows:
        spans = [(row.join_seq, row.leave_seq) for row in rows]
        newest = rows[-1]
        kind, head_seq, message_count = newest.kind, newest.head_seq, newest.message_count
        read_seq, read_count = newest.read_seq, newest.read_count
    else:
        return None
    floor_seq, leave_seq = min(join for join, _ in spans), spans[-1][1]
    if leave_seq:
        return Draft(cid, kind, MemberState.LEFT, leave_seq, floor_seq, -1, read_seq, read_count)
    return Draft(cid, kind, MemberState.MEMBER, head_seq, floor_seq, message_count, read_seq, read_count)


LastEvent = tuple[int, int, int, bytes, int]
"""sender, ts_ms, kind, payload, message_count or -1"""
NO_EVENT: LastEvent = (0, 0, 0, b"", -1)


async def _last_events(hub: "Hub", user: int, drafts: list[Draft]) -> dict[int, LastEvent]:
    found: dict[int, LastEvent] = {}
    wanted: list[Draft] = []
    for draft in drafts:
        event = _last_in_tail(hub.core, user, draft)
        if event is not None:
            found[draft.cid] = event
        if event is None or draft.message_count < 0:
            wanted.append(draft)
    if not wanted:
        return found

    hidden = {draft.cid: hub.redactions.of(draft.cid) for draft in wanted}

    def read_one(view: View, draft: Draft) -> tuple[Draft, EventRow | None, int, int]:
        rows = view.events(draft.cid, draft.last_seq, draft.last_seq, 1, 1)
        conversation = view.conversation(draft.cid)
        count = view.message_count_at(draft.cid, draft.last_seq) if draft.message_count < 0 else -1
        row = shown(rows[0], hidden[draft.cid]) if rows else None
        return draft, row, count, conversation.head_seq if conversation else 0

    for draft, row, folded, folded_seq in await hub.loader.read(lambda view: view.each(read_one, wanted)):
        count = folded
        if folded >= 0 and folded_seq < draft.last_seq:
            count += _messages_in_tail(hub.core, user, draft, folded_seq + 1)
        sender, ts_ms, kind, body, _ = found.get(draft.cid, NO_EVENT)
        if row is not None:
            sender, ts_ms, kind, body = row.sender, row.ts_ms, row.kind, frames.payload_of(row)
        found[draft.cid] = (sender, ts_ms, kind, body, count)
    return found


def _messages_in_tail(core: Core, user: int, draft: Draft, from_seq: int) -> int:
    """Messages among from_seq .. last_seq: who left a moment ago left before the fold could count them."""
    count = 0
    while 0 < from_seq <= draft.last_seq:
        page, next_seq = core.tail_events(
            draft.cid, from_seq, draft.last_seq, PULL_EVENTS_MAX, PULL_BYTES_MAX, BODY_BYTES_MAX, user, False
        )
        if next_seq == from_seq:
            raise too_fast()  # folded, and let go, since the snapshot was taken
        from_seq = next_seq
        count += sum(KINDS[event.kind].message for event in frames.parse_events(page))
    return count


def _last_in_tail(core: Core, user: int, draft: Draft) -> LastEvent | None:
    newest = core.last_event(draft.cid)
    if newest is not None and newest[0] == draft.last_seq:
        return (newest[1], newest[2], newest[3], newest[4], -1)
    event = reads.tail_event(core, draft.cid, draft.last_seq, user) if newest is not None else None
    return None if event is None else (event.sender, event.ts_ms, event.kind, frames.payload_of(event), -1)


def _entry(draft: Draft, last: LastEvent) -> SyncEntry:
    sender, ts_ms, kind, body, message_count = last
    if draft.message_count >= 0:
        message_count = draft.message_count
    return SyncEntry(
        cid=draft.cid,
        kind=draft.kind,
        state=draft.state,
        head_seq=draft.last_seq,
        floor_seq=draft.floor_seq,
        message_count=max(draft.read_count, message_count),
        read_seq=draft.read_seq,
        read_count=draft.read_count,
        last_sender=sender,
        last_ts_ms=ts_ms,
        last_kind=kind,
        last_preview=preview(kind, body),
    )


def _kept(entry: SyncEntry, row: RetentionRow | None) -> SyncEntry:
    """The entry of a conversation that retention has been to: what is gone counts as read."""
    if row is None or not row.floor_seq:
        return entry
    read_count = max(entry.read_count, row.below_count)
    entry = entry._replace(
        floor_seq=max(entry.floor_seq, row.floor_seq),
        message_count=max(read_count, entry.message_count),
        read_count=read_count,
    )
    if entry.head_seq >= row.floor_seq:
        return entry
    return entry._replace(last_sender=0, last_ts_ms=TIME_EPOCH_MS, last_kind=0, last_preview=b"")


def _without(entry: SyncEntry, own: OwnSettingRow | None) -> SyncEntry:
    """The entry for who has deleted part of that conversation."""
    if own is None:
        return entry
    entry = entry._replace(floor_seq=max(entry.floor_seq, own.hidden_seq + 1))
    return entry._replace(last_preview=b"") if reads.is_hidden(own, entry.head_seq) else entry


def preview(kind: int, body: bytes) -> bytes:
    """The first bytes of a payload; text is cut between characters."""
    if len(body) <= PREVIEW_BYTES_MAX and kind not in TEXT_KINDS:
        return body
    cut = body[:PREVIEW_BYTES_MAX]
    return cut.decode(errors="ignore").encode() if kind in TEXT_KINDS else cut
