# Redactions not folded yet, by conversation. The core turns what it has in its tail into tombstones by itself; what is
# in the main database shows its content until the folder has taken it away. Readers therefore ask here BEFORE they
# begin: whatever is not listed then is folded, and in every snapshot that begins later.
"""REDACT records between commit and fold."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from chatd.hub.core import Core
from chatd.hub.frames import CallError
from chatd.storage.interface import EventRow
from chatd.storage.journal_codec import EVENT_TOMBSTONE
from chatd.wire.schema import ErrorCode

UNFOLDED_REDACTIONS_MAX = 200_000
RECALLED, EXPIRED = 1, 2
"""Why: journal_redact.reason."""


class _Redaction(NamedTuple):
    cid: int
    seq: int
    pos: int


class Redactions:
    """The same life as Rows: staged, then committed or rejected, then folded."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._by_cid: dict[int, set[int]] = {}
        self._order: deque[_Redaction] = deque(maxlen=UNFOLDED_REDACTIONS_MAX + 10_000)
        self._staged = 0

    def of(self, cid: int) -> frozenset[int]:
        """Seqs whose content must not be shown, whatever the main database still has."""
        return frozenset(self._by_cid.get(cid, ()))

    def check_room(self) -> None:
        if len(self._order) >= UNFOLDED_REDACTIONS_MAX:
            raise CallError(ErrorCode.BUSY, "too many recalls wait to be folded; try again later", 1000)

    def stage(self, cid: int, seqs: Iterable[int], reason: int) -> None:
        hidden = self._by_cid.get(cid, ())
        for seq in sorted(set(seqs).difference(hidden)):
            self._put(_Redaction(cid, seq, self._core.stage_redact(cid, seq, reason)))
            self._staged += 1

    def replayed(self, cid: int, seq: int, pos: int) -> None:
        self._put(_Redaction(cid, seq, pos))

    def _put(self, new: _Redaction) -> None:
        self._by_cid.setdefault(new.cid, set()).add(new.seq)
        self._order.append(new)

    def committed(self) -> None:
        self._staged = 0

    def rejected(self) -> None:
        for _ in range(self._staged):
            self._forget(self._order.pop())
        self._staged = 0

    def folded(self, folded_pos: int) -> None:
        while self._order and self._order[0].pos <= folded_pos:
            self._forget(self._order.popleft())

    def _forget(self, entry: _Redaction) -> None:
        seqs = self._by_cid.get(entry.cid)
        if seqs is not None:
            seqs.discard(entry.seq)
            if not seqs:
                del self._by_cid[entry.cid]


def shown(row: EventRow, hidden: frozenset[int]) -> EventRow:
    """The row as a reader may see it. hidden: Redactions.of, taken before the read began."""
    return row._replace(body=b"", flags=EVENT_TOMBSTONE) if row.seq in hidden else row
