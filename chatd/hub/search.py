# SEARCH: the newest messages with some words that this user may read. Three places have them: the index, which follows
# the main database by a second or so; events of the main database that are not indexed yet; the tail. They are read in
# the order in which events move, backwards: the index first, then a snapshot of the database, then the tail, so that
# what moves meanwhile is found twice, never not at all. The index only proposes: what is answered is compared with the
# text as it is now, so a recalled, expired or deleted message is gone at once, and nothing has to be taken out of the
# index in a hurry.
# What a user may read are the intervals of membership, as everywhere: those of the snapshot with the unfolded ones over
# them, looked at again after the last read, when nothing awaits any more. When the fold has moved on meanwhile, the two
# may not meet, and everything is read again, as for SYNC.
"""The answer to SEARCH."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import trio

from chatd.errors import StorageError
from chatd.hub import frames, reads
from chatd.hub.frames import CallError
from chatd.hub.memberships import Membership
from chatd.hub.searchable import searchable
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.storage.interface import EventRow, Reader, View
from chatd.storage.search.index import Spans, Wanted, newest, sender_term
from chatd.storage.search.interface import ChangedConversation, Doc, Interval, Key, SearchReader, SearchView
from chatd.storage.search.text import Query
from chatd.wire.schema import BODY_BYTES_MAX, PULL_BYTES_MAX, ErrorCode

if TYPE_CHECKING:
    from chatd.hub.loading import InThread
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

THREADS_MAX = 2
CHANGED_MAX = 5000
UNINDEXED_EVENTS_MAX = 20_000
"""Of one query. More than that are waiting to be indexed: the answer says that it is not complete."""
TAIL_EVENTS_MAX = 20_000
TAIL_BYTES_INLINE_MAX = 32_768
"""More of the tail than this is looked through in a thread."""
SEQ_END = 1 << 63


class Question(NamedTuple):
    """cid, sender 0: any. kinds empty: any. before: only what is older than this result."""

    query: Query
    cid: int
    sender: int
    kinds: frozenset[int]
    since_ms: int
    until_ms: int
    before: Key | None
    limit: int


class Hit(NamedTuple):
    """Sorted as results are: by time, then by conversation and seq."""

    ts_ms: int
    cid: int
    seq: int
    sender: int
    kind: int
    text: str


class Page(NamedTuple):
    """Newest first. next: where to go on, None at the end. complete: nothing that could match was left out."""

    hits: list[Hit]
    next: Key | None
    complete: bool


class _Snapshot(NamedTuple):
    """What index and database gave at folded_pos. stopped_ms: the index was looked through down to this time only."""

    folded_pos: int
    intervals: list[Interval]
    hits: list[Hit]
    stopped_ms: int | None
    complete: bool


class Search:
    """One per hub. Its connections are its own, so that searches do not wait for pages of PULL, nor these for them."""

    def __init__(self, hub: "Hub", main: Reader, index: SearchReader, in_thread: "InThread") -> None:
        self._hub = hub
        self._main = main
        self._index = index
        self._in_thread = in_thread
        self._limiter = trio.CapacityLimiter(THREADS_MAX)

    def close(self) -> None:
        self._main.close()
        self._index.close()

    async def find(self, user: int, asked: Question) -> Page:
        """One page. CallError BUSY, UNAVAILABLE."""
        hub = self._hub
        if asked.cid:
            await hub.lookup(lambda: reads.intervals(hub.core, asked.cid, user))
        for _ in range(SNAPSHOTS_PER_PAGE_MAX):
            snapshot = await self._read(user, asked)
            unfolded = hub.memberships.of_user(user)
            spans = spans_of(snapshot.intervals, unfolded, asked.cid)
            half_known = [cid for cid in spans if hub.core.conversation(cid) is None and hub.core.touched_pos(cid)]
            if half_known:
                await hub.loader.load("conversation", half_known)
                continue
            tail, cut = self._tail(user, spans, snapshot.folded_pos)
            fresh = await self._matching(asked, spans, tail)
            if snapshot.folded_pos >= max(hub.rows.floor_pos, hub.loader.folded_pos):
                # From here on nothing awaits: who was removed meanwhile gets nothing that came later, and what was
                # recalled is a tombstone in the snapshot or still among the redactions that are not folded.
                allowed = spans_of(snapshot.intervals, hub.memberships.of_user(user), asked.cid)
                found = [hit for hit in (*snapshot.hits, *fresh) if hit.seq not in hub.redactions.of(hit.cid)]
                return await self._shown(user, _page(snapshot, found, allowed, asked, snapshot.complete and not cut))
        raise too_fast()

    async def _shown(self, user: int, page: Page) -> Page:
        """Without what the user has deleted for him- or herself: there may be less on a page than was asked for."""
        own = await self._hub.lookup(lambda: reads.hidden(self._hub.rows, user, {hit.cid for hit in page.hits}))
        shown = [hit for hit in page.hits if hit.cid not in own or not reads.is_hidden(own[hit.cid], hit.seq)]
        return page._replace(hits=shown)

    async def _read(self, user: int, asked: Question) -> _Snapshot:
        unfolded = self._hub.memberships.of_user(user)
        log_epoch = self._hub.store.log_epoch

        def read() -> _Snapshot:
            with self._index.view() as index, self._main.view() as view:
                return _snapshot(index, view, log_epoch, user, unfolded, asked)

        try:
            return await self._in_thread(read, limiter=self._limiter)  # type: ignore[no-any-return]
        except StorageError as error:
            log.exception("a search failed")
            raise CallError(ErrorCode.UNAVAILABLE, "the index could not be read; try again later", 1000) from error

    def _tail(self, user: int, spans: Spans, folded_pos: int) -> tuple[list[tuple[int, bytes]], bool]:
        """(cid, frames) of what may not be in the snapshot, and whether some of it was left out."""
        core, found, left = self._hub.core, list[tuple[int, bytes]](), TAIL_EVENTS_MAX
        for cid in spans:
            state = core.conversation(cid) if core.touched_pos(cid) > folded_pos else None
            if state is None:
                continue
            head_seq = state[2]
            seq = core.tail_floor(cid, head_seq)
            while seq <= head_seq:
                if left <= 0:
                    return found, True
                page, reached = core.tail_events(cid, seq, head_seq, left, PULL_BYTES_MAX, BODY_BYTES_MAX, user, False)
                if reached == seq:
                    break
                found.append((cid, page))
                left -= reached - seq
                seq = reached
        return found, False

    async def _matching(self, asked: Question, spans: Spans, tail: list[tuple[int, bytes]]) -> list[Hit]:
        def look() -> list[Hit]:
            wanted = _wanted(asked, spans)
            rows = (row for _, page in tail for row in frames.parse_events(page))
            return [hit for row in rows if (hit := _hit(asked, wanted, row))]

        if sum(len(page) for _, page in tail) <= TAIL_BYTES_INLINE_MAX:
            return look()
        return await self._in_thread(look, limiter=self._limiter)  # type: ignore[no-any-return]


def spans_of(folded: Iterable[Interval], unfolded: Iterable[Membership], cid: int = 0) -> Spans:
    """What somebody with these intervals may read; the unfolded form of an interval is the newer one."""
    leaves = {(row.cid, row.join_seq): row.leave_seq for row in folded}
    leaves |= {(entry.cid, entry.join_seq): entry.leave_seq for entry in unfolded}
    spans: Spans = {}
    for (found, join_seq), leave_seq in leaves.items():
        if cid in (0, found):
            spans.setdefault(found, []).append((join_seq, leave_seq or SEQ_END))
    return spans


def _wanted(asked: Question, spans: Spans) -> Wanted:
    terms = asked.query.terms
    if asked.sender:
        terms.append(sender_term(asked.sender))
    return Wanted(terms, spans, asked.kinds, asked.since_ms, asked.until_ms, asked.before)


def _hit(asked: Question, wanted: Wanted, event: EventRow) -> Hit | None:
    """The event as a result, when it is one."""
    found = searchable(event)
    if found is None or (asked.sender and event.sender != asked.sender):
        return None
    seq, text = found
    doc = Doc(event.ts_ms, event.cid, seq, event.sender, event.kind)
    return Hit(*doc, text) if wanted.admits(doc) and asked.query.matches(text) else None


# ---------------------------------------------------------------- in a thread


def _snapshot(
    index: SearchView, view: View, log_epoch: int, user: int, unfolded: list[Membership], asked: Question
) -> _Snapshot:
    intervals = view.intervals(user)
    wanted = _wanted(asked, spans_of(intervals, unfolded, asked.cid))
    # Of another log, before a restore: what it proposes is compared with the text like everything, but it lacks some.
    indexed_pos = index.state.indexed_pos if index.state.log_epoch == log_epoch else 0
    changed = view.conversations_changed_last(indexed_pos, CHANGED_MAX)
    hits, cut = _unindexed(index, view, [row for row in changed if row.cid in wanted.spans], asked, wanted)
    complete = not cut and len(changed) < CHANGED_MAX
    seen = {hit[:3] for hit in hits}
    wanted_count, stopped_ms = len(hits) + asked.limit + 1, None
    for doc in newest(index, wanted):
        if isinstance(doc, int):
            stopped_ms = doc
            break
        if doc[:3] in seen:
            continue
        seen.add(doc[:3])
        for row in view.events(doc.cid, doc.seq, doc.seq, 1, 1):
            if hit := _hit(asked, wanted, row):
                hits.append(hit)
        if len(hits) >= wanted_count:
            break
    return _Snapshot(view.folded_pos, intervals, hits, stopped_ms, complete)


def _unindexed(
    index: SearchView, view: View, changed: list[ChangedConversation], asked: Question, wanted: Wanted
) -> tuple[list[Hit], bool]:
    """Of the database, what the index does not have yet, and whether some of it was left out. Newest first: while an
    index is made, what was written last is found.
    """
    hits: list[Hit] = []
    left = UNINDEXED_EVENTS_MAX
    heads = index.heads(row.cid for row in changed)
    for cid, head_seq, _ in changed:
        first = heads.get(cid, 0) + 1
        from_seq = max(first, head_seq - left + 1)
        while from_seq <= head_seq:
            rows = view.events(cid, from_seq, head_seq, 1000, PULL_BYTES_MAX)
            if not rows:
                break
            hits += [hit for row in rows if (hit := _hit(asked, wanted, row))]
            left -= len(rows)
            from_seq = rows[-1].seq + 1
        if left <= 0:
            return hits, True
    return hits, False


def _page(snapshot: _Snapshot, hits: list[Hit], allowed: Spans, asked: Question, complete: bool) -> Page:
    readable = _wanted(asked, allowed)
    found = {hit[1:3]: hit for hit in hits if readable.admits(Doc(*hit[:5]))}
    hits = sorted(found.values(), reverse=True)
    if snapshot.stopped_ms is not None:
        newer = [hit for hit in hits if hit.ts_ms > snapshot.stopped_ms]
        if len(newer) <= asked.limit:
            return Page(newer, (snapshot.stopped_ms + 1, 0, 0), complete)
        hits = newer
    page = hits[: asked.limit]
    return Page(page, page[-1][:3] if len(hits) > len(page) else None, complete)
