"""What a view answers for many at once: between hub and database lies a round trip, so nothing is read row by row."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from chatd.storage.interface import EventRow

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class BulkView(Protocol):
    """A part of interface.View."""

    def each(self, read: Callable[[Self, Key], Answer], keys: Iterable[Key]) -> list[Answer]:
        """[read(view, key) for key in keys], however far the database is: use it for whatever is read in a loop. read
        may run more than once for a key, and depends on nothing but its view and its key.
        """

    def event_ranges(
        self, ranges: Sequence[tuple[int, int, int]], events_max: int, bytes_max: int
    ) -> list[list["EventRow"]]:
        """For each (cid, from_seq, to_seq) its events in order; events_max and bytes_max of bodies are for all of them
        together, but at least one event. from_seq beyond to_seq: none.
        """
