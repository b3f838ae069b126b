"""The reference of chatd._native.Portion: a fold's records in plain lists. See interface.Portion."""

from collections.abc import Iterator
from operator import itemgetter

from chatd.storage.journal_codec import (
    EventTuple,
    IdempotencyTuple,
    MemberTuple,
    PositionTuple,
    RowTuple,
    decode_batch,
)


class Portion:
    """Sorting is stable and by the first key column only: the journal has the seqs and cseqs of one id in order."""

    def __init__(self) -> None:
        self._events: list[EventTuple] = []
        self._sends: list[IdempotencyTuple] = []
        self._changed: dict[int, int] = {}
        self.members: list[MemberTuple] = []
        self.positions: list[PositionTuple] = []
        self.rows: list[RowTuple] = []

    def add(self, pos: int, count: int, blob: bytes, /) -> None:
        batch = decode_batch(pos, count, blob)
        self._events += batch.events
        self._sends += batch.idempotency
        self._changed |= batch.changed
        self.members += batch.members
        self.positions += batch.positions
        self.rows += batch.rows

    def events(self) -> Iterator[EventTuple]:
        return iter(sorted(self._events, key=itemgetter(0)))

    def sends(self) -> Iterator[IdempotencyTuple]:
        return iter(sorted(self._sends, key=itemgetter(0)))

    def heads(self) -> list[tuple[int, int, int, int, int]]:
        newest = {event[0]: event for event in self.events()}
        return [(cid, event[1], event[7], event[2], self._changed[cid]) for cid, event in newest.items()]

    def senders(self) -> list[tuple[int, int, int, int, int]]:
        newest = {(event[0], event[3]): event for event in self.events() if event[4]}
        return [(cid, sender, event[1], event[7], self._changed[cid]) for (cid, sender), event in newest.items()]

    def highest_cseqs(self) -> list[tuple[int, int]]:
        highest: dict[int, int] = {}
        for device, cseq, _, _ in self.sends():
            highest[device] = max(cseq, highest.get(device, 0))
        return list(highest.items())
