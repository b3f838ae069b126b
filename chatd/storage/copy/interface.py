"""The two ends of a copy, as the copier uses them. files.py and database.py have both for their kind of store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from chatd.storage.copy.tables import Key, Row, Table
from chatd.storage.copy.verify import Side
from chatd.storage.interface import Batch, FoldResult, Portion
from chatd.storage.sql_view import SqlView

Portions = Callable[[], Portion]
BULK, FOLLOWING = "bulk", "following"
NEVER_S = 1e9
"""Nothing is forgotten by a copy that the source still has."""


class Copying(NamedTuple):
    """What meta says of a copy under COPYING, as JSON. log_epoch: of the store that is copied. phase: rows come as they
    are, or through the journal; empty: neither yet.
    """

    log_epoch: int
    phase: str


class End(Side, Protocol):
    name: str
    """For messages."""
    kind: str
    """`sqlite` or `postgresql`."""

    def view(self) -> AbstractContextManager[SqlView]:
        """Two at a time at most."""

    def close(self) -> None: ...


class Source(End, Protocol):
    def batches(self, after_pos: int, upto_pos: int) -> Iterator[list[Batch]]:
        """The journal from the record behind after_pos to upto_pos, in pages. StorageError where it is not there any
        more: what is folded stays for half a minute, and longer while a view or this object is open.
        """

    def take(self, until_s: float) -> None:
        """Become the one who may write and fold: those who may let go, by themselves or by force. Until time.monotonic
        says until_s: StoreLockedError.
        """

    def fold(self) -> FoldResult:
        """After take."""

    @property
    def end_pos(self) -> int:
        """The last record of the journal. After take."""

    @property
    def boot_count(self) -> int: ...
    def let_go(self) -> None: ...
    @property
    def segment(self) -> int:
        """Of the journal, which is in use; 0 where there are none."""

    def gone(self) -> tuple[str, int] | None:
        """What `fence` has marked: to, position."""

    def fence(self, to: str, position: int) -> None:
        """A mark in the store itself, durably: nobody serves from it any more."""


class Target(End, Protocol):
    def prepare(self, log_epoch: int) -> Copying:
        """Ready to be written; which phase a former copier has reached. ConfigError: it holds something else."""

    def restart(self) -> None:
        """Begin the rows anew. Of RUNS is kept what is there."""

    def replace(self, of: Table, after: Key | None, last: Key | None, rows: list[Row]) -> None:
        """Rows of that span of keys: these, and no others."""

    def mark(self, copying: Copying, meta: dict[str, int]) -> None:
        """Durable, and numbers of meta with it."""

    def append(self, batches: list[Batch]) -> None: ...
    def fold(self) -> FoldResult: ...
    @property
    def next_pos(self) -> int: ...
    def take(self, until_s: float) -> None:
        """Whatever the place has to be free of before it may serve."""

    def finish(self) -> None:
        """From now on it is a store like any other. After take; again, and without `prepare`, after a crash."""
