"""The index of a hub that has none: everything is looked for in database and tail."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from chatd.storage.search.interface import Block, State


class EmptySearchView:
    """Where there is no index yet."""

    state = State(0, 0, 0)

    def blocks(self) -> list[Block]:
        return []

    def postings(self, block: int, terms: Iterable[str]) -> dict[str, bytes]:
        del block, terms
        return {}

    def blocks_with(self, part: int, terms: Iterable[str]) -> dict[str, int]:
        del part, terms
        return {}

    def chunks(self, block: int, first: int, last: int) -> list[bytes]:
        del block, first, last
        return []

    def heads(self, cids: Iterable[int]) -> dict[int, int]:
        del cids
        return {}


class EmptySearchReader:
    """See interface.SearchReader."""

    @contextmanager
    def view(self) -> Iterator[EmptySearchView]:
        yield EmptySearchView()

    def discard(self) -> None:
        pass

    def close(self) -> None:
        pass
