# Single events for those who judge: by place, from the tail, else from the main database through a small cache. A
# folded event never changes but by a redaction. Until that is folded its overlay hides the content; the cache is
# emptied with every fold, so what it holds is never older than the overlay.
"""One event by (cid, seq)."""

from collections import OrderedDict
from collections.abc import Iterable

from chatd.hub import floors, frames
from chatd.hub.core import Core
from chatd.hub.redactions import Redactions, shown
from chatd.hub.rows import Missing, MissingConversation, Rows
from chatd.storage.interface import EventRow
from chatd.wire.schema import BODY_BYTES_MAX, PULL_BYTES_MAX

CACHED_EVENTS_MAX = 1024

Place = tuple[int, int]
"""cid, seq"""


class MissingEvents(Missing):
    """They are folded and nobody has asked for them lately."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        super().__init__(f"not loaded: {self.places[:3]}")


class Events:
    """find, as Rows has it. One thread."""

    def __init__(self, core: Core, redactions: Redactions, rows: Rows) -> None:
        self._core = core
        self._rows = rows
        self._redactions = redactions
        self._cache: OrderedDict[Place, EventRow | None] = OrderedDict()

    def find(self, cid: int, seq: int, user: int) -> EventRow | None:
        """The event as this user may see it; None: not at all. MissingConversation, MissingRows and
        MissingEvents: load first.
        """
        state, spans = self._core.conversation(cid), self._core.intervals(cid, user)
        if state is None or spans is None:
            raise MissingConversation(cid)
        if not any(join <= seq <= (leave or state[2]) for _, _, join, leave, *_ in spans):
            return None
        if seq < floors.floor_seq(self._rows, cid):
            return None
        if seq >= self._core.tail_floor(cid, state[2]):
            found, _ = self._core.tail_events(cid, seq, seq, 1, PULL_BYTES_MAX, BODY_BYTES_MAX, user, False)
            return next(iter(frames.parse_events(found)), None)
        if (cid, seq) not in self._cache:
            raise MissingEvents([(cid, seq)])
        self._cache.move_to_end((cid, seq))
        row = self._cache[cid, seq]
        return None if row is None else shown(row, self._redactions.of(cid))

    def find_all(self, cid: int, seqs: Iterable[int], user: int) -> list[EventRow]:
        """Those that the user may see, in the order asked for. What is missing is loaded by one read."""
        found: list[EventRow | None] = []
        missing: list[Place] = []
        for seq in seqs:
            try:
                found.append(self.find(cid, seq, user))
            except MissingEvents as unknown:
                missing += unknown.places
        if missing:
            raise MissingEvents(missing)
        return [row for row in found if row is not None]

    def loaded(self, place: Place, row: EventRow | None) -> None:
        """What a reader found. Its snapshot is not older than the last fold."""
        self._cache[place] = row
        if len(self._cache) > CACHED_EVENTS_MAX:
            self._cache.popitem(last=False)

    def folded(self) -> None:
        self._cache.clear()
