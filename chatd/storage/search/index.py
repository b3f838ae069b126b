"""The newest docs that have some terms and lie where the reader may look.

Results are ordered by (time, cid, seq), newest first. Docs are numbered nearly by time, so the walk goes through the
blocks backwards and merges what they hold: a block is opened only when it, or one before it, may hold something newer
than the best result at hand. Within a block the postings of all terms are intersected first, then the column of
conversations says which docs the reader may see, and only what is left is looked at one by one.

What a query costs does not depend on how frequent its terms are, but on how many blocks it has to open: frequent terms
fill a page from the newest block or two, and for others one look-up says of 32 blocks which have all of them, and some
of the reader's conversations when these are few. Only words that lie in many blocks and never in one message open all.
"""

import heapq
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from chatd.storage.search.blocks import CID, DOC_WORDS, KIND_BITS, TIME_KIND, doc_at, places, posting_set
from chatd.storage.search.interface import BLOCKS_PER_PART, CHUNK_DOCS, Block, Doc, Key, SearchView

NARROW_CIDS_MAX = 32
"""Up to so many conversations are looked up by their own postings, more by the column of conversations."""
NEWEST_TAKEN_FIRST = 100
BLOCKS_PER_PAGE_MAX = 1000
"""8 million docs; a page that has looked at so many ends, and the next one goes on there."""

Spans = dict[int, list[tuple[int, int]]]
"""cid → what of it the reader may see: inclusive ranges of seqs."""


class Wanted(NamedTuple):
    """terms: all of them. kinds: empty for any. since_ms, until_ms: inclusive. before: results older than this one."""

    terms: list[str]
    spans: Spans
    kinds: frozenset[int] = frozenset()
    since_ms: int = 0
    until_ms: int = (1 << 47) - 1
    before: Key | None = None

    def admits(self, doc: Doc) -> bool:
        return (
            self.since_ms <= doc.ts_ms <= self.until_ms
            and (not self.kinds or doc.kind in self.kinds)
            and (self.before is None or doc[:3] < self.before)
            and any(first <= doc.seq <= last for first, last in self.spans.get(doc.cid, ()))
        )


def cid_term(cid: int) -> str:
    """A term that no text has: the docs of a conversation."""
    return f"\x01c{cid}"


def sender_term(sender: int) -> str:
    return f"\x01s{sender}"


def newest(view: SearchView, wanted: Wanted) -> Iterator[Doc | int]:
    """Docs, newest first; a doc that was indexed twice may come twice. An int is the end of a page that looked at too
    much: everything newer than that time has come, go on with `before` = (that time + 1, 0, 0).
    """
    blocks, worth = view.blocks(), _Worth(view, wanted)
    older = [0, *accumulate((block.ts_max for block in blocks), max)]
    opened = 0
    heap: list[tuple[int, int, int, Doc, Iterator[Doc]]] = []

    def push(docs: Iterator[Doc]) -> None:
        for doc in docs:
            heapq.heappush(heap, (-doc.ts_ms, -doc.cid, -doc.seq, doc, docs))
            return

    upto_ms = wanted.until_ms if wanted.before is None else min(wanted.until_ms, wanted.before[0])
    while blocks or heap:
        if blocks and (not heap or -heap[0][0] <= older[len(blocks)]):
            if older[len(blocks)] < wanted.since_ms:
                blocks.clear()
                continue
            resume = (older[len(blocks)] + 1, 0, 0)
            # Blocks whose times overlap are opened again by the next page: it must get further than this one began.
            if opened >= BLOCKS_PER_PAGE_MAX and (wanted.before is None or resume < wanted.before):
                yield older[len(blocks)]
                return
            block = blocks.pop()
            if block.ts_min <= upto_ms and block.ts_max >= wanted.since_ms and worth.opening(block.number):
                opened += 1
                push(_Opened(view, block, wanted).docs())
            continue
        _, _, _, doc, docs = heapq.heappop(heap)
        push(docs)
        yield doc


class _Worth:
    """Which blocks can hold anything of one query; asked for descending numbers, a part of them at a time."""

    def __init__(self, view: SearchView, wanted: Wanted) -> None:
        self._view = view
        self._wanted = wanted
        self._part, self._blocks = -1, 0

    def opening(self, number: int) -> bool:
        part, bit = divmod(number, BLOCKS_PER_PART)
        if part != self._part:
            self._part, self._blocks = part, self._with_all(part)
        return bool(self._blocks >> bit & 1)

    def _with_all(self, part: int) -> int:
        wanted, view = self._wanted, self._view
        found = view.blocks_with(part, wanted.terms)
        if len(found) < len(wanted.terms):
            return 0
        blocks = -1
        for having in found.values():
            blocks &= having
        if len(wanted.spans) <= NARROW_CIDS_MAX and blocks:
            own = 0
            for having in view.blocks_with(part, map(cid_term, wanted.spans)).values():
                own |= having
            blocks &= own
        return blocks


class _Opened:
    """One block of one query."""

    def __init__(self, view: SearchView, block: Block, wanted: Wanted) -> None:
        self._view = view
        self._block = block
        self._wanted = wanted

    def docs(self) -> Iterator[Doc]:
        """Those that are wanted, newest first."""
        chosen = self._chosen()
        if not chosen:
            return
        found = self._readable(places(chosen))
        if len(found) > NEWEST_TAKEN_FIRST:
            # Nearly in order already, and a page takes a few.
            cut_ms = heapq.nlargest(NEWEST_TAKEN_FIRST, (time_kind for time_kind, _ in found))[-1] >> KIND_BITS
            early = [doc for time_kind, doc in found if time_kind >> KIND_BITS >= cut_ms]
            late = [doc for time_kind, doc in found if time_kind >> KIND_BITS < cut_ms]
            parts = [early, late]
        else:
            parts = [[doc for _, doc in found]]
        for part in parts:
            yield from sorted(filter(self._wanted.admits, map(self._doc, part)), reverse=True)

    def _chosen(self) -> int:
        """The set of docs with all terms, of the reader's conversations when these are few."""
        wanted, view, number = self._wanted, self._view, self._block.number
        chosen = -1
        for posting in view.postings(number, wanted.terms).values():
            chosen &= posting_set(posting)
        if len(wanted.spans) <= NARROW_CIDS_MAX and chosen:
            own = 0
            for posting in view.postings(number, map(cid_term, wanted.spans)).values():
                own |= posting_set(posting)
            chosen &= own
        return chosen

    def _readable(self, candidates: list[int]) -> list[tuple[int, int]]:
        """(time and kind, index into _words) of those in the reader's conversations."""
        first, last = candidates[0] // CHUNK_DOCS, candidates[-1] // CHUNK_DOCS
        self._words = array("Q", b"".join(self._view.chunks(self._block.number, first, last)))
        skipped, spans = first * CHUNK_DOCS, self._wanted.spans
        cids, times = self._words[CID::DOC_WORDS], self._words[TIME_KIND::DOC_WORDS]
        return [(times[at - skipped], at - skipped) for at in candidates if cids[at - skipped] in spans]

    def _doc(self, index: int) -> Doc:
        return doc_at(self._words, index)
