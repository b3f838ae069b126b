"""What a store keeps for search, as the indexer writes it and the hub reads it. The same on every store.

Searchable messages ("docs") are numbered in the order in which they are indexed, nearly by time, and cut into blocks of
BLOCK_DOCS. A block has its posting of every term that occurs in it, its docs in chunks, and the times between which
they lie. blocks.py has the encodings, index.py says how a query walks.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

BLOCK_DOCS = 8_000
CHUNK_DOCS = 125
CHUNKS_PER_BLOCK = BLOCK_DOCS // CHUNK_DOCS
BLOCKS_PER_PART = 32
"""Of so many blocks together it is known which of them have a term."""

CID_MAX = (1 << 63) - 1

Key = tuple[int, int, int]
"""ts_ms, cid, seq: the order of results, newest last."""


class Doc(NamedTuple):
    """One searchable event. The first three are its Key."""

    ts_ms: int
    cid: int
    seq: int
    sender: int
    kind: int


class Block(NamedTuple):
    """Blocks are numbered from 0; only the last one grows. Times of the oldest and the newest of its docs."""

    number: int
    doc_count: int
    ts_min: int
    ts_max: int


class State(NamedTuple):
    """log_epoch: of the log that is indexed; 0: of none yet. collected_pos: every event up to this journal position is
    indexed or pending. indexed_pos: every one up to this is indexed.
    """

    log_epoch: int
    collected_pos: int
    indexed_pos: int


class Slice(NamedTuple):
    """What one transaction of the indexer changes. heads: cid → highest seq collected. added, done: of the keys that
    are pending. Block, postings and chunks replace what is there under their numbers. fresh: terms that are new in the
    block.
    """

    state: State
    heads: dict[int, int]
    added: list[Key]
    done: list[Key]
    block: Block | None
    postings: dict[str, bytes]
    fresh: list[str]
    chunks: dict[int, bytes]


class SearchView(Protocol):
    """One read transaction. A store that has no index yet shows an empty one."""

    state: State

    def blocks(self) -> list[Block]:
        """Ascending by number."""

    def postings(self, block: int, terms: Iterable[str]) -> dict[str, bytes]:
        """Those of the terms that the block has."""

    def blocks_with(self, part: int, terms: Iterable[str]) -> dict[str, int]:
        """Of the blocks part * BLOCKS_PER_PART and on: bit n is set where block n of them has the term. Terms that none
        has are left out.
        """

    def chunks(self, block: int, first: int, last: int) -> list[bytes]:
        """The docs of chunks first..last of a block, as far as it has them."""

    def heads(self, cids: Iterable[int]) -> dict[int, int]:
        """Highest collected seq; conversations without one are left out."""


class SearchReader(Protocol):
    """For the hub, in threads."""

    def view(self) -> AbstractContextManager[SearchView]: ...
    def discard(self) -> None:
        """Throw the index away; the indexer notices and makes another one."""

    def close(self) -> None: ...


class SearchWriter(SearchView, Protocol):
    """For the one indexer. Reads what it has committed. Raises StoreFullError, StoreFailedError, StoreCorruptError."""

    def pending(self, limit: int) -> list[Key]:
        """The oldest of the keys that were collected and are not indexed."""

    def commit(self, change: Slice) -> None: ...
    def is_current(self) -> bool:
        """False: somebody has thrown the index away; clear() begins a new one."""

    def clear(self) -> None:
        """Forget everything; the next steps index anew. Works on an index that is damaged."""

    def close(self) -> None: ...


# ---------------------------------------------------------------- what search reads of the main database


class ChangedConversation(NamedTuple):
    cid: int
    head_seq: int
    changed_pos: int


class Interval(NamedTuple):
    """One interval of membership; leave_seq 0: still a member."""

    cid: int
    join_seq: int
    leave_seq: int


class FollowedView(Protocol):
    """What somebody asks who follows the main database; part of storage.interface.View."""

    def event_times(self, cid: int, from_seq: int, to_seq: int, limit: int) -> list[tuple[int, int]]: ...
    def conversations_changed(self, since_pos: int, limit: int) -> list[ChangedConversation]: ...
    def conversations_changed_last(self, since_pos: int, limit: int) -> list[ChangedConversation]: ...
    def intervals(self, user: int) -> list[Interval]: ...
