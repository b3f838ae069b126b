# SEARCH: the newest messages with some words that this user may read. Three places have them: the index, which follows
# the main database by a second or so; events of the main database that are not indexed yet; the tail. They are read in
# the order in which events move, backwards: the index first, then a snapshot of the database, then the tail, so that
# what moves meanwhile is found twice, never not at all. The index only proposes: what is answered is compared with the
# text as it is now, so a recalled, expired or deleted message is gone at once, an edited one is found by its new words
# only, and nothing has to be taken out of the index. The text is that of the newest edit that the reader may see.
# What a user may read are the intervals of membership, as everywhere: those of the snapshot with the unfolded ones over
# them, looked at again after the last read, when nothing awaits any more. When the fold has moved on meanwhile, the two
# may not meet, and everything is read again, as for SYNC.
"""The answer to SEARCH."""

import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from chatd.errors import StorageError
from chatd.hub import floors, frames, reads
from chatd.hub.frames import CallError
from chatd.hub.memberships import Membership
from chatd.hub.searchable import is_text, searchable
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.storage.interface import EventRow, Reader, View
from chatd.storage.search.index import Spans, Wanted, newest, sender_term
from chatd.storage.search.interface import ChangedConversation, Doc, Interval, Key, SearchReader, SearchView
from chatd.storage.search.text import Query
from chatd.wire.schema import BODY_BYTES_MAX, PULL_BYTES_MAX, ErrorCode, Kind

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
    """cid, sender 0: any. kinds empty: any. before: only what is older than this result. now_ms: what has expired by
    then is not found.
    """

    query: Query
    cid: int
    sender: int
    kinds: frozenset[int]
    since_ms: int
    until_ms: int
    before: Key | None
    limit: int
    now_ms: int


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
    """What index and database gave at folded_pos. reached: the index was looked through down to this result only."""

    folded_pos: int
    intervals: list[Interval]
    hits: list[Hit]
    reached: Key | None
    complete: bool


class _Tail(NamedTuple):
    """Of the tail: its hits, which messages (cid, seq) it edits, and the newest text of those that lie elsewhere."""

    hits: list[Hit]
    edited: set[tuple[int, int]]
    elsewhere: dict[tuple[int, int], str]


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
            edited = await self._edited(user, asked, spans, fresh.elsewhere)
            if snapshot.folded_pos >= max(hub.rows.floor_pos, hub.loader.folded_pos):
                # From here on nothing awaits: who was removed meanwhile gets nothing that came later, and what was
                # recalled is a tombstone in the snapshot or still among the redactions that are not folded.
                allowed = spans_of(snapshot.intervals, hub.memberships.of_user(user), asked.cid)
                folded = [hit for hit in snapshot.hits if hit[1:3] not in fresh.edited]
                found = [hit for hit in (*folded, *fresh.hits, *edited) if hit.seq not in hub.redactions.of(hit.cid)]
                return await self._shown(user, _page(snapshot, found, allowed, asked, snapshot.complete and not cut))
        raise too_fast()

    async def rebuild(self) -> None:
        """Throw the index away; the indexer makes it anew."""
        await self._in_thread(self._index.discard, limiter=self._limiter)

    async def _shown(self, user: int, page: Page) -> Page:
        """Without what the user has deleted for him- or herself and what is below a floor: there may be less on a page
        than was asked for.
        """
        rows, cids = self._hub.rows, {hit.cid for hit in page.hits}
        own = await self._hub.lookup(lambda: reads.hidden(rows, user, cids))
        kept = await self._hub.lookup(lambda: floors.rows_of(rows, cids))
        shown = [hit for hit in page.hits if hit.cid not in own or not reads.is_hidden(own[hit.cid], hit.seq)]
        return page._replace(hits=[hit for hit in shown if hit.cid not in kept or hit.seq >= kept[hit.cid].floor_seq])

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

    async def _matching(self, asked: Question, spans: Spans, tail: list[tuple[int, bytes]]) -> _Tail:
        def look() -> _Tail:
            wanted = _wanted(asked, spans)
            return _of_tail(asked, wanted, [row for _, page in tail for row in frames.parse_events(page)])

        if sum(len(page) for _, page in tail) <= TAIL_BYTES_INLINE_MAX:
            return look()
        return await self._in_thread(look, limiter=self._limiter)  # type: ignore[no-any-return]

    async def _edited(
        self, user: int, asked: Question, spans: Spans, elsewhere: dict[tuple[int, int], str]
    ) -> list[Hit]:
        """Messages of the database that have the words since an edit in the tail."""
        wanted, hits = _wanted(asked, spans), list[Hit]()
        for (cid, seq), text in elsewhere.items():
            if asked.query.matches(text):
                rows = await self._hub.lookup(partial(self._hub.events.find_all, cid, [seq], user))
                hits += [hit for row in rows if (hit := _hit(asked, wanted, row, text))]
        return hits


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


def _hit(asked: Question, wanted: Wanted, message: EventRow, text: str) -> Hit | None:
    """The message with this text as a result, when it is one."""
    if not is_text(message, asked.now_ms) or (asked.sender and message.sender != asked.sender):
        return None
    doc = Doc(message.ts_ms, message.cid, message.seq, message.sender, message.kind)
    return Hit(*doc, text) if wanted.admits(doc) and asked.query.matches(text) else None


def _of_tail(asked: Question, wanted: Wanted, rows: list[EventRow]) -> _Tail:
    messages: dict[tuple[int, int], tuple[EventRow, str]] = {}
    edits: dict[tuple[int, int], str] = {}
    for row in rows:
        found = searchable(row)
        if found is None or not _may_see(wanted, row.cid, row.seq):
            continue
        seq, text = found
        if row.kind == Kind.EDIT:
            edits[row.cid, seq] = text
        else:
            messages[row.cid, seq] = row, text
    now = ((row, edits.get(place, text)) for place, (row, text) in messages.items())
    hits = [hit for row, text in now if (hit := _hit(asked, wanted, row, text))]
    return _Tail(hits, set(edits), {place: text for place, text in edits.items() if place not in messages})


def _may_see(wanted: Wanted, cid: int, seq: int) -> bool:
    return any(first <= seq <= last for first, last in wanted.spans.get(cid, ()))


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
    wanted_count, reached = len(hits) + asked.limit + 1, None
    for doc in newest(index, wanted):
        if isinstance(doc, int):
            reached = (doc + 1, 0, 0)
            break
        if doc[:3] in seen:
            continue
        seen.add(doc[:3])
        for row in view.events(doc.cid, doc.seq, doc.seq, 1, 1):
            if hit := _hit(asked, wanted, row, _text_now(view, wanted, row)):
                hits.append(hit)
        if len(hits) >= wanted_count:
            reached = doc[:3]
            break
    return _Snapshot(view.folded_pos, intervals, hits, reached, complete)


def _text_now(view: View, wanted: Wanted, message: EventRow) -> str:
    """Of the newest edit that the reader may see, or as it was sent."""
    seqs = [row.seq for row in view.rows_of("edit", message.cid, message.seq)]
    newest_seq = next((seq for seq in reversed(seqs) if _may_see(wanted, message.cid, seq)), message.seq)
    rows = [message] if newest_seq == message.seq else view.events(message.cid, newest_seq, newest_seq, 1, 1)
    found = searchable(rows[0]) if rows else None
    return "" if found is None else found[1]


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
            hits += [hit for row in rows if (hit := _unindexed_hit(view, asked, wanted, row))]
            left -= len(rows)
            from_seq = rows[-1].seq + 1
        if left <= 0:
            return hits, True
    return hits, False


def _unindexed_hit(view: View, asked: Question, wanted: Wanted, event: EventRow) -> Hit | None:
    """The message that this event is, or that it edits, when it is a result as it is now."""
    found = searchable(event)
    if found is None or not asked.query.matches(found[1]):
        return None
    cid, seq = event.cid, found[0]
    for message in [event] if seq == event.seq else view.events(cid, seq, seq, 1, 1):
        return _hit(asked, wanted, message, _text_now(view, wanted, message))
    return None


def _page(snapshot: _Snapshot, hits: list[Hit], allowed: Spans, asked: Question, complete: bool) -> Page:
    readable = _wanted(asked, allowed)
    found = {hit[1:3]: hit for hit in hits if readable.admits(Doc(*hit[:5]))}
    reached = snapshot.reached
    hits = sorted((hit for hit in found.values() if reached is None or hit[:3] >= reached), reverse=True)
    page = hits[: asked.limit]
    return Page(page, page[-1][:3] if len(hits) > len(page) else reached, complete)
