"""The indexer: follows the main database and keeps the index of search behind it by a second or so.

It asks which conversations have changed since the position it has come to, collects the keys of their new events, and
indexes the oldest of what is collected. Collecting comes first, so that an index that is made anew is filled in the
order of time, on which early endings of queries rest (index.py). Every step is bounded and one transaction; a crash
loses the step and nothing else. Nobody waits for it: what is not indexed yet is searched by the hub itself.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from chatd.storage.interface import EventRow, Reader, View
from chatd.storage.search.blocks import DOC_BYTES, encode_docs, extend_posting
from chatd.storage.search.index import cid_term, sender_term
from chatd.storage.search.interface import BLOCK_DOCS, CHUNK_DOCS, Block, Doc, Key, SearchWriter, Slice, State
from chatd.storage.search.text import index_terms

CONVERSATIONS_PER_STEP = 1000
KEYS_PER_STEP = 50_000
DOCS_PER_STEP = 8_000
BYTES_PER_STEP = 16 * 1024 * 1024

Searchable = Callable[[EventRow], tuple[int, str] | None]
"""What search finds of an event: seq of the message (another one's when the event edits it) and text; None: nothing."""


class Indexer:
    """Of one store. Nothing is kept between steps."""

    def __init__(self, reader: Reader, writer: SearchWriter, searchable: Searchable) -> None:
        self._reader = reader
        self._writer = writer
        self._searchable = searchable

    def step(self) -> bool:
        """One transaction at most. True: there is more to do at once. Raises StorageError."""
        with self._reader.view() as view:
            log_epoch = int(view.meta("log_epoch"))
            if self._writer.state.log_epoch not in (0, log_epoch):
                self._writer.clear()
            before = self._writer.state
            keys, heads, collected_pos = self._collect(view, before.collected_pos)
            pending, taken, docs = list[Key](), list[Key](), list[tuple[Doc, str]]()
            if collected_pos == view.folded_pos:
                pending = self._writer.pending(DOCS_PER_STEP + 1)
                taken, docs = self._read(view, sorted([*pending, *keys])[: self._room()])
            more = collected_pos < view.folded_pos or len(taken) < len(pending) + len(keys)
        state = State(log_epoch, collected_pos, before.indexed_pos if more else collected_pos)
        if state != before:
            gone = set(taken)
            added = [key for key in keys if key not in gone]
            done = [key for key in pending if key in gone]
            self._writer.commit(Slice(state, heads, added, done, *self._indexed(docs)))
        elif taken:
            self._writer.commit(Slice(state, heads, [], taken, *self._indexed(docs)))
        return more

    def _room(self) -> int:
        """Of the block that is being filled, which a step does not exceed."""
        last = self._writer.blocks()[-1:]
        left = BLOCK_DOCS - last[0].doc_count if last else BLOCK_DOCS
        return min(DOCS_PER_STEP, left or BLOCK_DOCS)

    def _collect(self, view: View, since_pos: int) -> tuple[list[Key], dict[int, int], int]:
        """Keys of events that are new, the heads to remember, and the position up to which that is complete."""
        changed = view.conversations_changed(since_pos, CONVERSATIONS_PER_STEP)
        known = self._writer.heads(row.cid for row in changed)
        keys: list[Key] = []
        heads: dict[int, int] = {}
        for cid, head_seq, changed_pos in changed:
            times = view.event_times(cid, known.get(cid, 0) + 1, head_seq, KEYS_PER_STEP - len(keys))
            if times:
                keys += [(ts_ms, cid, seq) for seq, ts_ms in times]
                heads[cid] = times[-1][0]
            if len(keys) >= KEYS_PER_STEP:
                return keys, heads, since_pos
            since_pos = changed_pos
        return keys, heads, since_pos if len(changed) == CONVERSATIONS_PER_STEP else view.folded_pos

    def _read(self, view: View, keys: list[Key]) -> tuple[list[Key], list[tuple[Doc, str]]]:
        """What is to be indexed of these events, and the keys that this covers: memory has a bound."""
        docs: list[tuple[Doc, str]] = []
        left = BYTES_PER_STEP
        for index, event in enumerate(_events(view, keys)):
            left -= len(event.body) if event else 0
            if left < 0 and index:
                return keys[:index], docs
            found = self._searchable(event) if event else None
            if event and found:
                seq, text = found
                origin = event if seq == event.seq else next(iter(view.events(event.cid, seq, seq, 1, 1)), None)
                if origin and self._searchable(origin):
                    docs.append((Doc(origin.ts_ms, origin.cid, origin.seq, origin.sender, origin.kind), text))
        return keys, docs

    def _indexed(
        self, docs: list[tuple[Doc, str]]
    ) -> tuple[Block | None, dict[str, bytes], list[str], dict[int, bytes]]:
        """The block with these docs behind those it has: block, postings that change, terms new in it, chunks."""
        if not docs:
            return None, {}, [], {}
        blocks = self._writer.blocks()
        block = blocks[-1] if blocks else Block(0, 0, docs[0][0].ts_ms, 0)
        if block.doc_count == BLOCK_DOCS:
            block = Block(block.number + 1, 0, docs[0][0].ts_ms, 0)
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, (doc, text) in enumerate(docs, block.doc_count):
            for term in (cid_term(doc.cid), sender_term(doc.sender), *index_terms(text)):
                places[term].append(place)
        known = self._writer.postings(block.number, places) if block.doc_count else {}
        postings = {term: extend_posting(known.get(term, b""), found) for term, found in sorted(places.items())}
        times = [doc.ts_ms for doc, _ in docs]
        grown = Block(block.number, block.doc_count + len(docs), min(block.ts_min, *times), max(block.ts_max, *times))
        fresh = [term for term in postings if term not in known]
        return grown, postings, fresh, self._chunks(block, encode_docs(doc for doc, _ in docs))

    def _chunks(self, block: Block, added: bytes) -> dict[int, bytes]:
        first, used = divmod(block.doc_count, CHUNK_DOCS)
        content = b"".join(self._writer.chunks(block.number, first, first)) + added if used else added
        size = CHUNK_DOCS * DOC_BYTES
        return {first + at // size: content[at : at + size] for at in range(0, len(content), size)}


def _events(view: View, keys: list[Key]) -> Iterator[EventRow | None]:
    """The events of these keys in their order; None for one that is gone."""
    for _, cid, seq in keys:
        yield next(iter(view.events(cid, seq, seq, 1, 1)), None)
