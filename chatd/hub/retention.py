# Retention: raises the floors of conversations that keep events for some days or up to some number. The operator's
# word is for all conversations, a conversation's own for itself; what keeps less decides. A sweep walks over them in
# small reads, and what it finds is staged in small turns, so a SEND waits for neither. Floors are worked out from what
# is folded: the folder finds everything below one in its database. A floor never goes back, whatever is set later.
"""Which events a conversation does not keep any longer."""

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from chatd.hub import floors
from chatd.hub.frames import CallError
from chatd.storage.interface import View
from chatd.storage.message_rows import Kept

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
PAUSE_S = 0.01
CONVERSATIONS_PER_READ = 200
RAISES_PER_TURN = 50
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SLACK = 8
"""A floor follows the newest events when it has to rise by an eighth of what is kept, not with each of them."""


class Limit(NamedTuple):
    """0: no limit."""

    days: int
    events: int


class Raise(NamedTuple):
    """What a read found: kept as it was then, and where its floor belongs."""

    kept: Kept
    floor_seq: int
    below_count: int


class Retention:
    """One per hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._wake = trio.Event()
        self._expected_pos = 0

    def expect(self, pos: int) -> None:
        """Sweep as soon as the fold has come there: somebody has said how long to keep."""
        self._expected_pos = pos
        self.folded(self._hub.loader.folded_pos)

    def folded(self, folded_pos: int) -> None:
        if 0 < self._expected_pos <= folded_pos:
            self._expected_pos = 0
            self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake = trio.Event()
            try:
                await self.sweep()
            except CallError as refusal:
                log.warning("retention has to wait: %s", refusal.text)
            with trio.move_on_after(INTERVAL_S):
                await self._wake.wait()

    async def sweep(self) -> None:
        """Look at every conversation that does not keep everything, once."""
        hub, after = self._hub, 0
        common = Limit(hub.settings.retention_days, hub.settings.retention_events)
        now_ms = hub.clock.wall_ms()
        while True:
            found = await hub.loader.read(partial(_due, after=after, common=common, now_ms=now_ms))
            for first in range(0, len(found.raises), RAISES_PER_TURN):
                await hub.change(partial(self._raise, found.raises[first : first + RAISES_PER_TURN]))
            if not found.last_cid:
                return
            after = found.last_cid
            await trio.sleep(PAUSE_S)

    def _raise(self, found: list[Raise]) -> None:
        rows = self._hub.rows
        known = floors.rows_of(rows, [change.kept.cid for change in found])
        for kept, floor_seq, below_count in found:
            row = known.get(kept.cid, floors.row_of(rows, kept.cid))
            # Somebody may have changed his mind since the read.
            if row.floor_seq < floor_seq and (row.days, row.events) == (kept.days, kept.events):
                floors.stage(rows, row._replace(floor_seq=floor_seq, below_count=below_count, due_ms=0))


# ---------------------------------------------------------------- in a thread


class _Found(NamedTuple):
    """last_cid: where to go on, 0 at the end."""

    raises: list[Raise]
    last_cid: int


def _due(view: View, after: int, common: Limit, now_ms: int) -> _Found:
    page = view.kept(after, CONVERSATIONS_PER_READ, own_only=common == Limit(0, 0))
    raises = []
    for kept in page:
        floor_seq = floor_of(view, kept, (common, Limit(kept.days, kept.events)), now_ms)
        if floor_seq > max(1, kept.floor_seq):
            raises.append(Raise(kept, floor_seq, view.message_count_at(kept.cid, floor_seq - 1)))
    return _Found(raises, page[-1].cid if len(page) == CONVERSATIONS_PER_READ else 0)


def floor_of(view: View, kept: Kept, limits: tuple[Limit, ...], now_ms: int) -> int:
    """The lowest seq that all limits let stay; head + 1: none."""
    floor_seq = max(1, kept.floor_seq)
    for limit in limits:
        above = kept.head_seq - limit.events + 1
        if limit.events and above - floor_seq >= max(1, limit.events // SLACK):
            floor_seq = above
        if limit.days:
            since_ms = (now_ms - limit.days * DAY_MS) // HOUR_MS * HOUR_MS
            floor_seq = _first_since(view, kept.cid, floor_seq, kept.head_seq, since_ms)
    return floor_seq


def _first_since(view: View, cid: int, low: int, head_seq: int, since_ms: int) -> int:
    """The first seq from low on of that time or a later one: times of a conversation never fall."""
    end = head_seq + 1
    if low < end and view.event_times(cid, low, low, 1)[0][1] >= since_ms:
        return low
    while low < end:
        middle = (low + end) // 2
        low, end = (low, middle) if view.event_times(cid, middle, middle, 1)[0][1] >= since_ms else (middle + 1, end)
    return low
