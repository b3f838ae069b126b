# PULL with FOLDED: messages as they are now. The page is walked as for any PULL; what only changes other events is left
# out and named, so that a reader can still prove that nothing is missing. What became of the messages stands in rows,
# those of all the page's messages read together; of an edited one the newest edit is read, too. A page ends after so
# many events looked at, rows read, bytes and ranges left out: what it costs has a bound, whatever people have done.
# The parts are read one after another and have to meet: when something was folded meanwhile, all of it is read again.
# The answer is put together when nothing awaits any more, from what this reader may see then.
"""The answer to PULL with FOLDED."""

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from chatd.hub import frames, reads
from chatd.hub.frames import CallError, PullCall
from chatd.hub.reads import Readable
from chatd.hub.redactions import shown
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.storage.interface import EventRow, View
from chatd.storage.journal_codec import EVENT_EXT, EVENT_TOMBSTONE
from chatd.storage.message_rows import EditRow, ReactionRow
from chatd.wire import time40, varint
from chatd.wire.schema import (
    BODY_BYTES_MAX,
    EXTENSION_BYTES_MAX,
    EXTENSION_DELIVER_NOW,
    EXTENSION_PULL_END_OMITTED,
    KINDS,
    PULL_BYTES_MAX,
    PULL_EVENTS_MAX,
    TIME_EPOCH_MS,
    ErrorCode,
    Kind,
)

if TYPE_CHECKING:
    from chatd.hub.calls import Call
    from chatd.hub.loop import Hub

CHANGES = frozenset({Kind.EDIT, Kind.RECALL, Kind.REACTION, Kind.PIN})
REACTIONS_SHOWN_MAX = 16
RANGES_MAX = 64
ROWS_READ_MAX = 20_000
PINNED = 1
PULL_END_BYTES_MAX = 64
"""Without its extension."""


class _Found(NamedTuple):
    """Of the database: rows of the page's messages, and the edits that count among them by seq."""

    edits: list[EditRow]
    reactions: list[ReactionRow]
    texts: dict[int, EventRow]


async def answer(hub: "Hub", call: "Call", pull: PullCall) -> bytes:
    """DELIVERs flagged HISTORY with NOW, then PULL_END with OMITTED."""
    if pull.folded or pull.byte_range is not None or pull.ranges:
        raise CallError(ErrorCode.BAD_REQUEST, "FOLDED has no flags yet, and goes with neither BYTE_RANGE nor RANGES")
    from_seq = await reads.first_seq(hub, call.user, pull)
    for _ in range(SNAPSHOTS_PER_PAGE_MAX):
        page = await _read(hub, call, pull, from_seq)
        if page is not None:
            return page
    raise too_fast()


async def _read(hub: "Hub", call: "Call", pull: PullCall, from_seq: int) -> bytes | None:
    """None: something was folded meanwhile."""
    floor_pos = hub.rows.floor_pos
    whole = call._replace(frame_bytes_max=BODY_BYTES_MAX, features=0)
    walk = reads.Walk(hub, whole, pull.cid, PULL_EVENTS_MAX, PULL_BYTES_MAX)
    next_seq, may = await walk.walk(from_seq, pull.to_seq)
    rows = frames.parse_events(b"".join(walk.out))
    targets = [row.seq for row in rows if _is_message(row)]
    found = _Found([], [], {})
    if targets:
        found = await hub.loader.read(lambda view: _of_database(view, pull.cid, targets[0], targets[-1], may))
    await hub.lookup(lambda: hub.rows.find_group("pin", pull.cid))
    may = await hub.lookup(lambda: reads.readable(hub.core, hub.rows, pull.cid, call.user))
    if hub.rows.floor_pos != floor_pos:
        return None
    # From here on nothing awaits.
    with suppress(_Unread):
        return _Page(hub, call, pull, may, found).answer(rows, next_seq)
    return None


class _Unread(Exception):
    """An edit counts that did not count when the database was read: its reader was removed meanwhile."""


def _of_database(view: View, cid: int, first: int, last: int, may: Readable) -> _Found:
    """Rows of the messages first..last, as far as ROWS_READ_MAX reaches: the page ends before what is not known."""
    edits = view.rows_between("edit", cid, first, last, ROWS_READ_MAX)
    reactions = view.rows_between("reaction", cid, first, last, ROWS_READ_MAX)
    newest = {row.target: row.seq for row in edits if _is_in(may, row.seq)}
    texts = {seq: row for seq in newest.values() for row in view.events(cid, seq, seq, 1, 1)}
    return _Found(edits, reactions, texts)


def _is_in(may: Readable, seq: int) -> bool:
    return any(first <= seq <= last for first, last in may.spans)


def _is_message(row: EventRow) -> bool:
    return KINDS[row.kind].message and not row.flags & EVENT_TOMBSTONE


class _Page:
    """One answer, put together without an await."""

    def __init__(self, hub: "Hub", call: "Call", pull: PullCall, may: Readable, found: _Found) -> None:
        self._hub = hub
        self._call = call
        self._cid = pull.cid
        self._to_seq = pull.to_seq
        self._may = may
        self._now_ms = hub.clock.wall_ms()
        self._events_left = min(pull.limit or PULL_EVENTS_MAX, PULL_EVENTS_MAX, call.window_frames)
        self._bytes_left = min(PULL_BYTES_MAX, call.window_bytes)
        self._hidden = hub.redactions.of(pull.cid)
        self._texts = found.texts
        self._edits = {row.target: list[EditRow]() for row in found.edits}
        self._reactions = {row.target: list[ReactionRow]() for row in found.reactions}
        for edit in found.edits:
            self._edits[edit.target].append(edit)
        for reaction in found.reactions:
            self._reactions[reaction.target].append(reaction)
        cut = [part[-1].target for part in (found.edits, found.reactions) if len(part) == ROWS_READ_MAX]
        self._known_to = min(cut) - 1 if cut else 1 << 63
        self._pinned = {row.target for row in hub.rows.find_group("pin", pull.cid)}
        self._out: list[bytes] = []
        self._omitted: list[tuple[int, int]] = []

    def answer(self, rows: list[EventRow], next_seq: int) -> bytes:
        for row in rows:
            if not self._readable(row.seq):
                continue
            if not self._add(row):
                next_seq = row.seq
                break
        span = reads.span_at(self._may, next_seq, self._to_seq) if next_seq else None
        self._out.append(self._end(0 if span is None else span[0]))
        return b"".join(self._out)

    def _add(self, row: EventRow) -> bool:
        """False: there is no room for it."""
        if row.kind in CHANGES:
            return self._omit(row.seq)
        if self._events_left <= 0 or (row.seq > self._known_to and self._out):
            return False
        now = self._now(shown(row, self._hidden))
        encoded = frames.deliver_history(now, self._call.frame_bytes_max)
        if len(encoded) > self._bytes_left and self._out:
            return False
        self._out.append(encoded)
        self._events_left -= 1
        self._bytes_left -= len(encoded)
        return True

    def _omit(self, seq: int) -> bool:
        if self._omitted and sum(self._omitted[-1]) == seq:
            first, count = self._omitted[-1]
            self._omitted[-1] = (first, count + 1)
            return True
        room = min(EXTENSION_BYTES_MAX, self._call.frame_bytes_max - PULL_END_BYTES_MAX)
        if len(self._omitted) == RANGES_MAX or len(self._ranges()) + 2 * len(varint.encode(seq)) > room:
            return False
        self._omitted.append((seq, 1))
        return True

    def _ranges(self) -> bytes:
        encoded = [varint.encode(first) + varint.encode(count) for first, count in self._omitted]
        return varint.encode(len(encoded)) + b"".join(encoded)

    def _end(self, next_seq: int) -> bytes:
        omitted = {EXTENSION_PULL_END_OMITTED: self._ranges()} if self._omitted else {}
        return frames.pull_end(self._cid, next_seq, self._may.head_seq, self._may.floor_seq, omitted)

    def _now(self, row: EventRow) -> EventRow:
        """The message as it is now, for this reader."""
        if not _is_message(row):
            return row
        if 0 < frames.expires_ms(row) <= self._now_ms:
            return row._replace(body=b"", flags=EVENT_TOMBSTONE)
        edit = self._newest_edit(row.seq)
        counts, mine = self._reactions_of(row.seq)
        is_pinned = row.seq in self._pinned
        if edit is None and not counts and not is_pinned:
            return row
        payload = frames.payload_of(row)
        edit_seq, edited = 0, time40.encode(TIME_EPOCH_MS)
        if edit is not None:
            edit_seq, edited = edit.seq, time40.encode(edit.ts_ms)
            content = frames.payload_of(edit)
            payload = content[varint.decode(content, 0)[1] :]
        head = varint.encode(PINNED if is_pinned else 0) + varint.encode(edit_seq) + edited
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        block = _block(frames.extensions_of(row), head, most, mine)
        return row._replace(body=varint.encode(len(block)) + block + payload, flags=row.flags | EVENT_EXT)

    def _newest_edit(self, target: int) -> EventRow | None:
        """Of those that the reader may see."""
        edits = self._hub.rows.overlaid("edit", self._edits.get(target, []), self._cid, target)
        for edit in reversed(edits):
            if self._readable(edit.seq):
                row = self._texts.get(edit.seq)
                row = row or reads.tail_event(self._hub.core, self._cid, edit.seq, self._call.user)
                if row is None:
                    raise _Unread
                return row
        return None

    def _reactions_of(self, target: int) -> tuple[Counter[str], set[str]]:
        present = self._hub.rows.overlaid("reaction", self._reactions.get(target, []), self._cid, target)
        seen = [row for row in present if self._readable(row.seq)]
        return Counter(row.emoji for row in seen), {row.emoji for row in seen if row.uid == self._call.user}

    def _readable(self, seq: int) -> bool:
        return _is_in(self._may, seq)


def _reaction(emoji: str, count: int, mine: bool) -> bytes:
    text = emoji.encode()
    return varint.encode(len(text)) + text + varint.encode(count) + bytes((mine,))


def _block(own: dict[int, bytes], head: bytes, most: list[tuple[str, int]], mine: set[str]) -> bytes:
    """The extensions of the message and NOW, with as many reactions as fit; where not even it does, NOW alone."""
    listed = range(min(len(most), REACTIONS_SHOWN_MAX), -1, -1)
    for entries, count in [*((own, count) for count in listed), ({}, 0)]:
        reactions = b"".join(_reaction(emoji, users, emoji in mine) for emoji, users in most[:count])
        now = head + varint.encode(len(most) - count) + varint.encode(count) + reactions
        block = frames.extension_block({**entries, EXTENSION_DELIVER_NOW: now})
        if len(block) <= EXTENSION_BYTES_MAX:
            return block
    raise AssertionError("NOW without reactions always fits")
