# PULL of many conversations at once: a device that was away for a while needs a few events of each of hundreds, and a
# call of its own for each would cost more than the events. One answer: for each range its events and a PULL_END, as if
# it had been asked for alone, then PULL_END with cid 0, whose next_seq is the number (from 1) of the first range that
# was not looked at any more, 0 when all were. What is not in memory is loaded together, what is in the database is read
# in one transaction. A range is answered up to the end of its span, of the page or of what was read; its PULL_END says
# where to go on. Somebody removed while the thread was reading gets nothing of that conversation but what is readable
# when the answer is put together.
"""The answer to PULL with RANGES."""

from typing import TYPE_CHECKING, NamedTuple

from chatd.hub import floors, frames, reads
from chatd.hub.core import Core
from chatd.hub.frames import CallError, PullCall
from chatd.hub.redactions import shown
from chatd.hub.rows import Missing, Rows
from chatd.storage.interface import EventRow, View
from chatd.wire.schema import PULL_BYTES_MAX, PULL_EVENTS_MAX, ErrorCode, Feature, Op

if TYPE_CHECKING:
    from chatd.hub.calls import Call
    from chatd.hub.loop import Hub


class Range(NamedTuple):
    """to_seq 0: to the head."""

    cid: int
    from_seq: int
    to_seq: int


class _Part(NamedTuple):
    """What of a range lies in the database: seqs first..last; last below first: nothing."""

    cid: int
    first: int
    last: int


async def answer(hub: "Hub", call: "Call", pull: PullCall) -> bytes:
    """The frames for pull.ranges."""
    if pull.cid or not all(cid for cid, _, _ in pull.ranges):
        raise CallError(ErrorCode.BAD_REQUEST, "ranges are asked for with cid 0; each names its own conversation")
    core, wanted = hub.core, [Range(*row) for row in pull.ranges]
    await hub.loader.load("conversation", {row.cid for row in wanted if core.conversation(row.cid) is None})
    await hub.lookup(lambda: reads.hidden(hub.rows, call.user, {row.cid for row in wanted}))
    await hub.lookup(lambda: floors.rows_of(hub.rows, {row.cid for row in wanted}))
    events_max = min(pull.limit or PULL_EVENTS_MAX, PULL_EVENTS_MAX, call.window_frames)
    bytes_max = min(PULL_BYTES_MAX, call.window_bytes)
    parts = [_part(core, hub.rows, call.user, row) for row in wanted]
    hidden = {part.cid: hub.redactions.of(part.cid) for part in parts}

    def read(view: View) -> list[list[EventRow]]:
        found = view.event_ranges([(part.cid, part.first, part.last) for part in parts], events_max, bytes_max)
        return [[shown(row, hidden[row.cid]) for row in rows] for rows in found]

    stored = await hub.loader.read(read) if any(part.first <= part.last for part in parts) else [[] for _ in parts]
    page = _Page(call, events_max, bytes_max)
    for number, (row, part, rows) in enumerate(zip(wanted, parts, stored, strict=True), 1):
        if page.is_full or not page.add(core, hub.rows, row, part, rows):
            return page.ended(number)
    return page.ended(0)


def _part(core: Core, own: Rows, user: int, wanted: Range) -> _Part:
    try:
        may = reads.readable(core, own, wanted.cid, user)
    except (CallError, Missing):
        return _Part(wanted.cid, 1, 0)
    span = reads.span_at(may, max(1, wanted.from_seq), wanted.to_seq)
    if span is None:
        return _Part(wanted.cid, 1, 0)
    return _Part(wanted.cid, span[0], min(span[1], core.tail_floor(wanted.cid, may.head_seq) - 1))


class _Page:
    """No await: everything it looks at is of one moment."""

    def __init__(self, call: "Call", events_max: int, bytes_max: int) -> None:
        self._call = call
        self._events_left = events_max
        self._bytes_left = bytes_max
        self._out: list[bytes] = []

    @property
    def is_full(self) -> bool:
        return self._events_left <= 0 or self._bytes_left <= 0

    def ended(self, next_range: int) -> bytes:
        self._out.append(frames.pull_end(0, next_range, 0, 0))
        return b"".join(self._out)

    def add(self, core: Core, own: Rows, wanted: Range, part: _Part, rows: list[EventRow]) -> bool:
        """False: there was no room for any of it, which is not to be taken for an end."""
        try:
            may = reads.readable(core, own, wanted.cid, self._call.user)
        except CallError as refusal:
            self._out.append(frames.error(Op.PULL, wanted.cid, refusal))
            return True
        except Missing:
            busy = CallError(ErrorCode.BUSY, "this conversation did not stay in memory; ask again", 100)
            self._out.append(frames.error(Op.PULL, wanted.cid, busy))
            return True
        span = reads.span_at(may, max(1, wanted.from_seq), wanted.to_seq)
        seq = 0 if span is None else span[0]
        if span is not None:
            for row in rows:
                if row.seq != seq or row.seq > span[1] or not self._fits(row):
                    break
                seq += 1
            # Behind the part, what was the tail when it was cut may have been folded since; then the next PULL goes on.
            if seq > part.last and seq <= span[1] and core.tail_floor(wanted.cid, may.head_seq) <= seq:
                seq = self._from_tail(core, wanted.cid, seq, span[1])
            if seq == span[0] and self.is_full:
                return False
            following = reads.span_at(may, seq, wanted.to_seq)
            seq = 0 if following is None else following[0]
        self._out.append(frames.pull_end(wanted.cid, seq, may.head_seq, may.floor_seq))
        return True

    def _fits(self, row: EventRow) -> bool:
        encoded = frames.deliver_history(row, self._call.frame_bytes_max)
        if self._events_left <= 0 or len(encoded) > self._bytes_left:
            self._bytes_left = 0
            return False
        self._take(encoded, 1)
        return True

    def _from_tail(self, core: Core, cid: int, seq: int, end: int) -> int:
        call = self._call
        if self.is_full:
            return seq
        found, next_seq = core.tail_events(
            cid,
            seq,
            end,
            self._events_left,
            self._bytes_left,
            call.frame_bytes_max,
            call.user,
            bool(call.features & Feature.LITE),
        )
        self._take(found, next_seq - seq)
        if next_seq <= end:
            self._bytes_left = 0
        return next_seq

    def _take(self, encoded: bytes, count: int) -> None:
        self._out.append(encoded)
        self._events_left -= count
        self._bytes_left -= len(encoded)
