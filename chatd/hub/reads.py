# PULL: events of one conversation, as far as this user may read them. Newest events are in the core's tail, older
# ones in the main database, and the tail lets go of an event only when the database has it. So a page is cut at the
# tail's floor: below it a reader thread, above it the tail. While the thread reads, the floor may rise; the walk then
# simply asks the database again. What a user may read are the seqs of the intervals of membership; a page never
# leaves them, and the intervals are looked at again after every read in a thread: a removal that was acknowledged
# meanwhile counts. A user without any interval gets the same bytes as for a conversation that does not exist.
"""Entitlement and the answer to PULL."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from chatd.hub import floors, frames
from chatd.hub.core import Core, Interval
from chatd.hub.flags import ConversationFlag
from chatd.hub.frames import CallError, PullCall
from chatd.hub.redactions import shown
from chatd.hub.rows import MissingConversation, Rows
from chatd.storage.interface import EventRow, View
from chatd.storage.people_rows import OwnSettingRow
from chatd.wire.schema import BODY_BYTES_MAX, PULL_BYTES_MAX, PULL_EVENTS_MAX, ErrorCode, Feature, Right

if TYPE_CHECKING:
    from chatd.hub.calls import Call
    from chatd.hub.loop import Hub

CHUNKS_PER_PULL_MAX = 64
DATABASE_READS_PER_PULL_MAX = 64


class UnknownConversation(CallError):
    """Absent and foreign look the same."""


def not_found() -> CallError:
    return UnknownConversation(ErrorCode.NOT_FOUND, "no such conversation for you")


def intervals(core: Core, cid: int, user: int) -> list[Interval]:
    """The user's intervals of membership, oldest first. NOT_FOUND when there are none."""
    if not cid:
        # No conversation has this number, so nothing is there to be loaded.
        raise not_found()
    found = core.intervals(cid, user)
    if found is None:
        raise MissingConversation(cid)
    if not found:
        raise not_found()
    return found


def is_member(found: list[Interval]) -> bool:
    return found[-1][3] == 0


def may_write(hub: "Hub", cid: int, user: int) -> bool:
    """As the core says of a SEND of a present member."""
    state = hub.core.conversation(cid)
    is_open = state is not None and not state[1] & ConversationFlag.CLOSED
    is_muted = hub.core.muted_until_s(cid, user) * 1000 > hub.clock.wall_ms()
    return is_open and not is_muted and bool((hub.core.rights(cid, user) or 0) & Right.WRITE)


class Readable(NamedTuple):
    """What one user may read: floor..head, in spans of inclusive seqs."""

    head_seq: int
    floor_seq: int
    spans: list[tuple[int, int]]


def readable(core: Core, rows: Rows, cid: int, user: int) -> Readable:
    """The one place that says which events of a conversation a user may read: those of the intervals of membership that
    retention has left, without what the user has deleted for him- or herself.
    """
    found = intervals(core, cid, user)
    state = core.conversation(cid)
    if state is None:
        raise MissingConversation(cid)
    spans = [(join, leave or state[2]) for _, _, join, leave, *_ in found]
    kept_seq = floors.floor_seq(rows, cid)
    head_seq, floor_seq = max(end for _, end in spans), max(kept_seq, min(start for start, _ in spans))
    spans = [(max(start, kept_seq), end) for start, end in spans if end >= kept_seq]
    own = hidden(rows, user, [cid]).get(cid)
    if own is None:
        return Readable(head_seq, floor_seq, spans)
    return Readable(head_seq, max(floor_seq, own.hidden_seq + 1), without(spans, own.hidden_seq, hidden_seqs(own)))


ANYWHERE = 0
"""own_setting has a row for this cid where the user has ever deleted something for him- or herself: most never do, and
that they did not is one row to remember instead of one for each conversation.
"""


def hidden(rows: Rows, user: int, cids: Iterable[int]) -> dict[int, OwnSettingRow]:
    """What the user has deleted for him- or herself, by conversation."""
    if rows.find("own_setting", (user, ANYWHERE)) is None:
        return {}
    found = rows.find_all("own_setting", [(user, cid) for cid in cids])
    return {cid: own for (_, cid), own in found.items() if own.hidden_seq or own.hidden is not None}


def is_hidden(own: OwnSettingRow, seq: int) -> bool:
    return seq <= own.hidden_seq or seq in hidden_seqs(own)


def hidden_seqs(own: OwnSettingRow) -> list[int]:
    """Single events that the user has deleted for him- or herself, ascending."""
    return [] if own.hidden is None else list(msgpack.unpackb(own.hidden))


def without(spans: list[tuple[int, int]], upto: int, seqs: list[int]) -> list[tuple[int, int]]:
    """The spans without what is at or below `upto`, and without each of the ascending `seqs`."""
    left = [(max(start, upto + 1), end) for start, end in spans if end > upto]
    for seq in seqs:
        cut: list[tuple[int, int]] = []
        for start, end in left:
            pieces = [(start, seq - 1), (seq + 1, end)] if start <= seq <= end else [(start, end)]
            cut += [(first, last) for first, last in pieces if first <= last]
        left = cut
    return left


async def answer(hub: "Hub", call: "Call", pull: PullCall) -> bytes:
    """The frames of a PULL: DELIVERs flagged HISTORY or CHUNKs, then PULL_END."""
    if pull.byte_range is not None:
        return await _chunks(hub, call, pull)
    events_max = min(pull.limit or PULL_EVENTS_MAX, PULL_EVENTS_MAX, call.window_frames)
    walk = Walk(hub, call, pull.cid, events_max, min(PULL_BYTES_MAX, call.window_bytes))
    next_seq, may = await walk.walk(await first_seq(hub, call.user, pull), pull.to_seq)
    return b"".join((*walk.out, frames.pull_end(pull.cid, next_seq, may.head_seq, may.floor_seq)))


async def first_seq(hub: "Hub", user: int, pull: PullCall) -> int:
    """Where the page begins: as asked, from a time on, and some events earlier."""
    may = await hub.lookup(lambda: readable(hub.core, hub.rows, pull.cid, user))
    seq = pull.from_seq if pull.from_ms is None else await _seq_at(hub, user, pull.cid, may, pull.from_ms)
    return stepped_back(may.spans, seq, pull.before) if pull.before else seq


def stepped_back(spans: list[tuple[int, int]], seq: int, count: int) -> int:
    """The seq with `count` readable ones between it and seq, itself included; the first readable one when there are
    fewer."""
    for start, end in reversed(spans):
        last = min(end, seq - 1)
        if start <= last:
            if last - start + 1 >= count:
                return last - count + 1
            count -= last - start + 1
            seq = start
    return seq


async def _seq_at(hub: "Hub", user: int, cid: int, may: Readable, from_ms: int) -> int:
    """The first readable seq with this time or a later one; behind the head when there is none. Times of a
    conversation never fall, so it is searched by halves: the tail at once, below it the database in a thread.
    """
    core = hub.core
    floor = core.tail_floor(cid, may.head_seq)

    def in_tail(seq: int) -> bool:
        """Is the first readable event from seq on of that time or later? None is: later than everything."""
        found, _ = core.tail_events(cid, seq, may.head_seq, 1, PULL_BYTES_MAX, BODY_BYTES_MAX, user, False)
        events = frames.parse_events(found)
        return not events or events[0][2] >= from_ms

    if floor <= may.head_seq and not in_tail(floor):
        return _first(in_tail, floor + 1, may.head_seq + 1)

    def read(view: View) -> int:
        def in_database(seq: int) -> bool:
            times = view.event_times(cid, seq, below - 1, 1)
            return not times or times[0][1] >= from_ms

        return _first(in_database, may.floor_seq, below)

    below = min(floor, may.head_seq + 1)
    return await hub.loader.read(read) if may.floor_seq < below else below


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The lowest number from low on for which it holds; high when it does not for any below."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


class Walk:
    """One page: ascending over what the user may read, tail and database. out: its DELIVERs."""

    def __init__(self, hub: "Hub", call: "Call", cid: int, events_max: int, bytes_max: int) -> None:
        self._hub = hub
        self._call = call
        self._cid = cid
        self._events_left = events_max
        self._bytes_left = bytes_max
        self.out: list[bytes] = []

    async def walk(self, from_seq: int, to_seq: int) -> tuple[int, Readable]:
        """Where to go on, 0 at the end of the range; and what the user may read. Someone removed while a thread was
        reading must not get what came after the removal: what was read is within an earlier, not larger, Readable.
        """
        core = self._hub.core
        seq = max(1, from_seq)
        for reads_left in range(DATABASE_READS_PER_PULL_MAX, -1, -1):
            may = await self._hub.lookup(lambda: readable(core, self._hub.rows, self._cid, self._call.user))
            span = span_at(may, seq, to_seq)
            if span is None:
                return 0, may
            seq, end = span
            if self._events_left <= 0 or self._bytes_left <= 0 or not reads_left:
                return seq, may
            floor = self._tail_floor()
            if floor <= seq:
                seq = self._from_tail(seq, end)
            else:
                end = min(end, floor - 1)
                seq = await self._from_database(seq, end)
            if seq <= end:
                self._bytes_left = 0  # it was cut by a bound of the page
        raise AssertionError("the last round returns")

    def _tail_floor(self) -> int:
        state = self._hub.core.conversation(self._cid)
        return 1 << 62 if state is None else self._hub.core.tail_floor(self._cid, state[2])

    def _from_tail(self, seq: int, end: int) -> int:
        """The next seq. No await: what it reads is what `may` was made of."""
        call = self._call
        found, next_seq = self._hub.core.tail_events(
            self._cid,
            seq,
            end,
            self._events_left,
            self._bytes_left,
            call.frame_bytes_max,
            call.user,
            bool(call.features & Feature.LITE),
        )
        self._add(found, next_seq - seq)
        return next_seq

    async def _from_database(self, seq: int, end: int) -> int:
        call, cid = self._call, self._cid
        events_max, bytes_max = self._events_left, self._bytes_left
        hidden = self._hub.redactions.of(cid)

        def read(view: View) -> tuple[bytes, int]:
            found = bytearray()
            next_seq = seq
            for row in view.events(cid, seq, end, events_max, bytes_max):
                encoded = frames.deliver_history(shown(row, hidden), call.frame_bytes_max)
                if len(found) + len(encoded) > bytes_max:
                    break
                found += encoded
                next_seq = row.seq + 1
            return bytes(found), next_seq

        found, next_seq = await self._hub.loader.read(read)
        self._add(found, next_seq - seq)
        return next_seq

    def _add(self, found: bytes, count: int) -> None:
        self.out.append(found)
        self._events_left -= count
        self._bytes_left -= len(found)


def span_at(may: Readable, seq: int, to_seq: int) -> tuple[int, int] | None:
    """The readable part at or after seq, up to to_seq (0: head)."""
    last = min(to_seq, may.head_seq) if to_seq else may.head_seq
    for start, end in may.spans:
        first = max(seq, start)
        if first <= min(end, last):
            return first, min(end, last)
    return None


# ---------------------------------------------------------------- single events


async def _chunks(hub: "Hub", call: "Call", pull: PullCall) -> bytes:
    """A byte range of one event: CHUNK frames that fit the client, then PULL_END.

    Its next_seq is 0, or the event's own seq when the range had to be cut and the client has to ask for the rest.
    """
    assert pull.byte_range is not None
    offset, length = pull.byte_range
    may = await hub.lookup(lambda: readable(hub.core, hub.rows, pull.cid, call.user))
    if span_at(may, pull.from_seq, pull.from_seq) is None:
        raise not_found()
    payload = await _payload(hub, pull.cid, pull.from_seq, call.user)
    may = await hub.lookup(lambda: readable(hub.core, hub.rows, pull.cid, call.user))
    if payload is None or span_at(may, pull.from_seq, pull.from_seq) is None:
        raise not_found()
    end = len(payload) if length == 0 else min(len(payload), offset + length)
    found, reached = frames.chunks(
        pull.cid, pull.from_seq, payload, offset, end - offset, call.frame_bytes_max, CHUNKS_PER_PULL_MAX
    )
    next_seq = pull.from_seq if reached < end else 0
    return found + frames.pull_end(pull.cid, next_seq, may.head_seq, may.floor_seq)


def tail_event(core: Core, cid: int, seq: int, user: int) -> EventRow | None:
    """An event that the user may see, while it is in the tail; else None."""
    state = core.conversation(cid)
    if state is None or not core.tail_floor(cid, state[2]) <= seq <= state[2]:
        return None
    found, _ = core.tail_events(cid, seq, seq, 1, PULL_BYTES_MAX, BODY_BYTES_MAX, user, False)
    events = frames.parse_events(found)
    return events[0] if events else None


async def _payload(hub: "Hub", cid: int, seq: int, user: int) -> bytes | None:
    event = tail_event(hub.core, cid, seq, user)
    if event is not None:
        return frames.payload_of(event)
    hidden = hub.redactions.of(cid)
    rows = await hub.loader.read(lambda view: view.events(cid, seq, seq, 1, PULL_BYTES_MAX))
    return frames.payload_of(shown(rows[0], hidden)) if rows else None
