"""Do two stores of one position hold the same? Each side is read and hashed by itself.

`everything` reads all: rows of every table, a hash for each conversation's events, one for each device's sends.
`touched` reads what some journal records have touched: from a position at which everything was the same on, that is
enough.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import msgpack

from chatd.errors import StoreCorruptError
from chatd.storage.copy.tables import RUNS, Key, Row, Table, table, tables
from chatd.storage.interface import Decoder, parse_row
from chatd.storage.sql_view import SqlView

PAGE_ROWS = 4_000
RUNS_PER_PAGE = 200
HASH_BYTES = 16

EVENT_COLUMNS = tuple(column for column in table("event").columns if column != "id")
"""cid and seq come first."""
_EVENT = ", ".join(f"e.{column}" for column in EVENT_COLUMNS)
FLOOR = "coalesce((SELECT floor_seq FROM retention k WHERE k.cid = e.cid), 0)"
_EVENTS = (
    f"SELECT {_EVENT} FROM (SELECT * FROM event_run WHERE {{span}} ORDER BY cid, first_seq LIMIT {RUNS_PER_PAGE}) r "  # noqa: S608
    f"{{join}} event e ON e.id BETWEEN r.first_id AND r.first_id + r.last_seq - r.first_seq WHERE e.seq >= {FLOOR} "
    "ORDER BY e.cid, e.seq"
)
_HIGHEST = "SELECT key, value FROM meta WHERE key LIKE 'highest_%' ORDER BY key"

Progress = Callable[[int], None]
"""Told how many rows have been looked at since it was told last."""


class Side(Protocol):
    """Rows by key, as each store finds many quickest. Keys that have no row are left out."""

    def found(self, view: SqlView, of: Table, keys: list[Key], oldest_ms: int) -> list[Row]: ...
    def found_events(self, view: SqlView, keys: list[Key]) -> list[Row]: ...
    def found_sends(self, view: SqlView, keys: list[Key]) -> list[Row]:
        """(device, cseq, cid, seq); a stored send and a skip of one number may both be there."""


class Summary(NamedTuple):
    """Of one conversation's events, or one device's sends."""

    of: int
    rows: int
    last: int
    hash: str


class Verified(NamedTuple):
    """rows: by table, and events and sends. conversations: whose events were hashed."""

    rows: dict[str, int]
    conversations: int


# ------------------------------------------------------------ everything


def everything(one: SqlView, other: SqlView, oldest_ms: int, progress: Progress = lambda rows: None) -> Verified:
    """Raises StoreCorruptError that names the first difference."""
    counts: dict[str, int] = {}
    _same("highest ids", _meta(one), _meta(other))
    for of in tables():
        if of.name not in RUNS:
            pairs = itertools.zip_longest(rows(one, of, oldest_ms), rows(other, of, oldest_ms))
            counts[of.name] = _compared(f"table {of.name}", pairs, lambda row: 1, progress)
    pairs = itertools.zip_longest(summaries(events(one)), summaries(events(other)))
    seen: list[int] = []

    def count_of(summary: Summary) -> int:
        seen.append(1)
        return summary.rows

    counts["event"] = _compared("conversation", pairs, count_of, progress)
    pairs = itertools.zip_longest(summaries(sends(one)), summaries(sends(other)))
    counts["send"] = _compared("sends of device", pairs, itemgetter(1), progress)
    return Verified(counts, len(seen))


def rows(view: SqlView, of: Table, oldest_ms: int) -> Iterator[Row]:
    after: Key | None = None
    while True:
        sql, bindings = of.compared(after, PAGE_ROWS, oldest_ms)
        page = [tuple(row) for row in view.rows(sql, *bindings)]
        yield from page
        if len(page) < PAGE_ROWS:
            return
        after = page[-1][: len(of.key)]


def events(view: SqlView) -> Iterator[Row]:
    """By conversation and seq."""
    for span, bindings in _pages(view, "event_run"):
        yield from (tuple(row) for row in view.rows(_EVENTS.format(span=span, join=view.dialect.join), *bindings))


def sends(view: SqlView) -> Iterator[Row]:
    """(device, cseq, cid, seq) of every stored one, by device and cseq."""
    return (row for row in merge(_sends_of_runs(view), rows(view, table("late_send"), 0)) if row[3])


def _sends_of_runs(view: SqlView) -> Iterator[Row]:
    for span, bindings in _pages(view, "send_run"):
        sql = f"SELECT device, first_cseq, sends FROM send_run WHERE {span} ORDER BY 1, 2 LIMIT {RUNS_PER_PAGE}"  # noqa: S608
        for device, first, places in view.rows(sql, *bindings):
            for cseq, (cid, seq) in enumerate(json.loads(places), first):
                yield device, cseq, cid, seq


def _pages(view: SqlView, name: str) -> Iterator[tuple[str, Row]]:
    """Conditions under which the runs are read, RUNS_PER_PAGE at a time."""
    of, after = table(name), None
    key = ", ".join(of.key)
    while True:
        span, bindings = of.span(after, None)
        yield span, bindings
        sql = f"SELECT {key} FROM {name} WHERE {span} ORDER BY {key} LIMIT 1 OFFSET {RUNS_PER_PAGE - 1}"  # noqa: S608
        last = list(view.rows(sql, *bindings))
        if not last:
            return
        after = tuple(last[0])


def summaries(ordered: Iterable[Row]) -> Iterator[Summary]:
    for group, members in itertools.groupby(ordered, key=itemgetter(0)):
        digest, count, last = blake2b(digest_size=HASH_BYTES), 0, 0
        for row in members:
            digest.update(msgpack.packb(row))
            count, last = count + 1, row[1]
        yield Summary(group, count, last, digest.hexdigest())


def _compared(what: str, pairs: Iterable[tuple[Any, Any]], count: Callable[[Any], int], progress: Progress) -> int:
    total = told = 0
    for one, other in pairs:
        _same(what, one, other)
        total += count(one)
        if total - told >= PAGE_ROWS:
            progress(total - told)
            told = total
    progress(total - told)
    return total


def _same(what: str, one: object, other: object) -> None:
    if one != other:
        raise StoreCorruptError(f"the copy is not the same: {what}: {_shown(one)} there, {_shown(other)} here")


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 300 else text[:300] + " …"


def _meta(view: SqlView) -> dict[str, int]:
    return {key: int(value) for key, value in view.rows(_HIGHEST)}


# ------------------------------------------------------------ what records have touched


class Touched:
    """Keys of the rows that journal records wrote, by table; `send` for what a device is told of its number."""

    def __init__(self, decode: Decoder) -> None:
        self._decode = decode
        self.keys: defaultdict[str, set[Key]] = defaultdict(set)

    def add(self, pos: int, count: int, blob: bytes) -> None:
        batch_events, batch_sends, _, members, positions, batch_rows, redactions = self._decode(pos, count, blob)
        keys = self.keys
        for cid, seq, _, sender, device, *_ in batch_events:
            keys["event"].add((cid, seq))
            keys["conversation"].add((cid,))
            if device:
                keys["position"].add((cid, sender))
        for device, cseq, _, _ in batch_sends:
            keys["send"].add((device, cseq))
            keys["device"].add((device,))
        keys["membership"].update(member[:3] for member in members)
        keys["position"].update(position[:2] for position in positions)
        keys["event"].update(redaction[:2] for redaction in redactions)
        for _, payload in batch_rows:
            name, values, _ = parse_row(payload)
            keys[name].add(tuple(values[column] for column in table(name).key))


def touched(
    one: tuple[Side, SqlView], other: tuple[Side, SqlView], keys: dict[str, set[Key]], oldest_ms: int
) -> Verified:
    """Raises StoreCorruptError that names the first difference."""
    _same("highest ids", _meta(one[1]), _meta(other[1]))
    counts: dict[str, int] = {}
    for name, wanted in keys.items():
        ordered = sorted(wanted)
        for start in range(0, len(ordered), PAGE_ROWS):
            part = ordered[start : start + PAGE_ROWS]
            there, here = (_found(*side, name, part, oldest_ms) for side in (one, other))
            for key in part:
                _same(f"{name} {key}", there.get(key), here.get(key))
            counts[name] = counts.get(name, 0) + len(here)
    return Verified(counts, len(keys.get("conversation", ())))


def _found(side: Side, view: SqlView, name: str, keys: list[Key], oldest_ms: int) -> dict[Key, Row]:
    if name == "event":
        return {row[:2]: row for row in side.found_events(view, keys)}
    if name == "send":
        return {row[:2]: row for row in sorted(side.found_sends(view, keys), key=itemgetter(3))}
    of = table(name)
    return {row[: len(of.key)]: row for row in side.found(view, of, keys, oldest_ms)}
