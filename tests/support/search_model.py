"""Search said once more, the plain way: every message is looked at. And a main database that is a dictionary."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chatd.hub.searchable import searchable
from chatd.storage.interface import EventRow
from chatd.storage.search.index import Wanted
from chatd.storage.search.interface import ChangedConversation, Interval
from chatd.storage.search.text import Query


class MainModel:
    """Reader and View of events that are added in the order of the journal."""

    def __init__(self, log_epoch: int = 7) -> None:
        self.log_epoch = log_epoch
        self.folded_pos = 0
        self.log: dict[int, list[EventRow | None]] = {}
        self.changed: dict[int, int] = {}

    def add(self, cid: int, ts_ms: int, sender: int, kind: int, body: str) -> EventRow:
        log = self.log.setdefault(cid, [])
        row = EventRow(cid, len(log) + 1, ts_ms, sender, kind, body.encode(), 0)
        log.append(row)
        self.folded_pos += 1
        self.changed[cid] = self.folded_pos
        return row

    def rows(self) -> Iterator[EventRow]:
        for log in self.log.values():
            yield from filter(None, log)

    # ---- Reader and View, as far as search asks
    @contextmanager
    def view(self) -> Iterator["MainModel"]:
        yield self

    def close(self) -> None:
        pass

    def meta(self, key: str) -> Any:
        return {"log_epoch": self.log_epoch}[key]

    def conversations_changed(self, since_pos: int, limit: int) -> list[ChangedConversation]:
        found = sorted((pos, cid) for cid, pos in self.changed.items() if pos > since_pos)
        return [ChangedConversation(cid, len(self.log[cid]), pos) for pos, cid in found[:limit]]

    def event_times(self, cid: int, from_seq: int, to_seq: int, limit: int) -> list[tuple[int, int]]:
        return [(row.seq, row.ts_ms) for row in self.log[cid][from_seq - 1 : to_seq][:limit] if row]

    def events(self, cid: int, from_seq: int, to_seq: int, events_max: int, bytes_max: int) -> list[EventRow]:
        del bytes_max
        return [row for row in self.log.get(cid, [])[from_seq - 1 : to_seq][:events_max] if row]

    def intervals(self, user: int) -> list[Interval]:
        del user
        return [Interval(cid, 1, 0) for cid in self.log]


def brute_force(rows: Iterator[EventRow], query: Query, wanted: Wanted, sender: int = 0) -> list[tuple[int, int, int]]:
    """Keys (ts_ms, cid, seq) of all results, newest first."""
    found = []
    for row in rows:
        held = searchable(row)
        if (
            held is not None
            and wanted.since_ms <= row.ts_ms <= wanted.until_ms
            and (not wanted.kinds or row.kind in wanted.kinds)
            and sender in (0, row.sender)
            and any(first <= row.seq <= last for first, last in wanted.spans.get(row.cid, []))
            and query.matches(held[1])
        ):
            found.append((row.ts_ms, row.cid, row.seq))
    return sorted(found, reverse=True)
