"""The reference of chatd._native.Portion: a fold's records in plain lists. See interface.Portion."""

import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from chatd.storage.journal_codec import (
    EVENT_MESSAGE,
    EventTuple,
    IdempotencyTuple,
    MemberTuple,
    PositionTuple,
    RedactTuple,
    RowTuple,
    decode_batch,
)

SEND_RUN_MAX = 256
"""Whoever asks what became of one of them reads them all."""


class Portion:
    """Events are sorted by conversation only: the journal has the seqs of one in order, but not always the cseqs."""

    def __init__(self) -> None:
        self._events: list[EventTuple] = []
        self._sends: list[IdempotencyTuple] = []
        self._changed: dict[int, int] = {}
        self.members: list[MemberTuple] = []
        self.positions: list[PositionTuple] = []
        self.rows: list[RowTuple] = []
        self.redactions: list[RedactTuple] = []

    def add(self, pos: int, count: int, blob: bytes, /) -> None:
        batch = decode_batch(pos, count, blob)
        self._events += batch.events
        self._sends += batch.idempotency
        self._changed |= batch.changed
        self.members += batch.members
        self.positions += batch.positions
        self.rows += batch.rows
        self.redactions += batch.redactions

    def events(self) -> Iterator[EventTuple]:
        return iter(sorted(self._events, key=itemgetter(0)))

    def event_runs(self, first_id: int) -> Iterator[tuple[int, int, int, int]]:
        numbered = enumerate(self.events(), first_id)
        for (cid, _), group in groupby(numbered, key=lambda item: (item[1][0], item[1][1] - item[0])):
            run = [(event[1], row_id) for row_id, event in group]
            yield cid, run[0][0], run[-1][0], run[0][1]

    def send_runs(self) -> Iterator[tuple[int, int, int, str]]:
        became: dict[tuple[int, int], tuple[int, int]] = {}
        for device, cseq, cid, seq in self._sends:
            if became.get((device, cseq), (0, 0))[1] == 0:
                became[device, cseq] = cid, seq
        ordered = enumerate(sorted(became.items()))
        for _, run in groupby(ordered, key=lambda item: (item[1][0][0], item[1][0][1] - item[0])):
            sends = [send for _, send in run]
            for start in range(0, len(sends), SEND_RUN_MAX):
                part = sends[start : start + SEND_RUN_MAX]
                (device, first), (_, last) = part[0][0], part[-1][0]
                yield device, first, last, json.dumps([place for _, place in part], separators=(",", ":"))

    def heads(self) -> list[tuple[int, int, int, int, int]]:
        newest = {event[0]: event for event in self.events()}
        return [(cid, event[1], event[7], event[2], self._changed[cid]) for cid, event in newest.items()]

    def senders(self) -> list[tuple[int, int, int, int, int]]:
        newest = {(event[0], event[3]): event for event in self.events() if event[3] and event[10] & EVENT_MESSAGE}
        return [(cid, sender, event[1], event[7], self._changed[cid]) for (cid, sender), event in newest.items()]

    def highest_cseqs(self) -> list[tuple[int, int]]:
        highest: dict[int, int] = {}
        for device, cseq, _, _ in self._sends:
            highest[device] = max(cseq, highest.get(device, 0))
        return sorted(highest.items())
