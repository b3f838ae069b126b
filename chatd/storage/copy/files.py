"""What both ends of a copy in a data directory have in common, and the source."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TypeVar

from chatd.errors import ConfigError, StorageError, StoreLockedError
from chatd.storage.copy.interface import Portions
from chatd.storage.copy.tables import Key, Row, Table
from chatd.storage.copy.verify import EVENT_COLUMNS, FLOOR
from chatd.storage.interface import Batch, FoldResult
from chatd.storage.moved import GONE
from chatd.storage.sql_view import SqlView
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.directory import MAIN_NAME, segment_in_use
from chatd.storage.sqlite.folder import SqliteFolder
from chatd.storage.sqlite.kept import Kept
from chatd.storage.sqlite.migrate import plan_of
from chatd.storage.sqlite.reader import SqliteReader
from chatd.storage.sqlite.segment_chain import SegmentChain
from chatd.storage.sqlite.store import SqliteStore

BATCHES_PER_PAGE = 256
PAUSE_S = 0.02

Taken = TypeVar("Taken")

_FOUND_EVENT = (
    f"SELECT {', '.join(f'e.{column}' for column in EVENT_COLUMNS)} FROM event_run r CROSS JOIN event e "  # noqa: S608
    "ON e.id = r.first_id + ?2 - r.first_seq WHERE r.cid = ?1 AND r.first_seq = "
    "(SELECT max(first_seq) FROM event_run WHERE cid = ?1 AND first_seq <= ?2) AND e.cid = ?1 AND e.seq = ?2 "
    f"AND e.seq >= {FLOOR}"
)
_FOUND_SEND = (
    "SELECT device, cseq, cid, seq FROM late_send WHERE device = ?1 AND cseq = ?2 UNION ALL "
    "SELECT device, ?2, sends -> (?2 - first_cseq) ->> 0, sends -> (?2 - first_cseq) ->> 1 FROM send_run "
    "WHERE device = ?1 AND last_cseq >= ?2 "
    "AND first_cseq = (SELECT max(first_cseq) FROM send_run WHERE device = ?1 AND first_cseq <= ?2)"
)
SET_META = "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value"


class FilesEnd:
    """See interface.End."""

    kind = "sqlite"

    def __init__(self, directory: Path) -> None:
        self.name = str(directory)
        self._directory = directory
        self._reader: SqliteReader | None = None

    def view(self) -> AbstractContextManager[SqlView]:
        if self._reader is None:
            self._reader = SqliteReader(self._directory / MAIN_NAME, 2)
        return self._reader.view()

    def found(self, view: SqlView, of: Table, keys: list[Key], oldest_ms: int) -> list[Row]:
        return self._each(view, of.found(oldest_ms), keys)

    def found_events(self, view: SqlView, keys: list[Key]) -> list[Row]:
        return self._each(view, _FOUND_EVENT, keys)

    def found_sends(self, view: SqlView, keys: list[Key]) -> list[Row]:
        return self._each(view, _FOUND_SEND, keys)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @staticmethod
    def _each(view: SqlView, sql: str, keys: list[Key]) -> list[Row]:
        return [tuple(row) for key in keys for row in view.rows(sql, *key)]


class FilesSource(FilesEnd):
    """See interface.Source. ConfigError: there is no store, or one of another version."""

    def __init__(self, directory: Path, portion: Portions) -> None:
        super().__init__(directory)
        if not (directory / MAIN_NAME).exists():
            raise ConfigError(f"{directory} has no {MAIN_NAME}: is it a data directory of chatd?")
        if plan_of(directory).pending:
            raise ConfigError(f"the store in {directory} is of an older version: `chatd migrate --data {directory}`")
        self._portion = portion
        self._store: SqliteStore | None = None
        self._folder: SqliteFolder | None = None

    def batches(self, after_pos: int, upto_pos: int) -> Iterator[list[Batch]]:
        chain = SegmentChain(self._directory, None, Kept(self._directory, 0))
        try:
            found = itertools.takewhile(lambda batch: batch.pos <= upto_pos, chain.batches_after(after_pos))
            yield from pages(found, after_pos, upto_pos, self.name)
        finally:
            chain.close()

    def take(self, until_s: float) -> None:
        """As a hub that starts: what only the page cache has of the journal is made durable first."""
        self._store = patiently(lambda: SqliteStore.open(self._directory), until_s)
        self._folder = patiently(lambda: SqliteFolder.open(self._directory, self._portion), until_s)

    def fold(self) -> FoldResult:
        assert self._folder is not None
        return self._folder.fold_once()

    @property
    def end_pos(self) -> int:
        assert self._store is not None
        return self._store.next_pos - 1

    @property
    def boot_count(self) -> int:
        assert self._store is not None
        return self._store.boot_count

    @property
    def segment(self) -> int:
        return segment_in_use(self._directory)

    def let_go(self) -> None:
        for held in (self._folder, self._store):
            if held is not None:
                held.close()
        self._folder = self._store = None

    def gone(self) -> tuple[str, int] | None:
        return gone_to(self)

    def fence(self, to: str, position: int) -> None:
        """Synced with its commit."""
        _set_meta(self._directory, GONE, {"to": to, "position": position})

    def close(self) -> None:
        self.let_go()
        super().close()


def patiently(take: Callable[[], Taken], until_s: float) -> Taken:
    """Whoever holds it was asked to let go."""
    while True:
        try:
            return take()
        except StoreLockedError:
            if time.monotonic() > until_s:
                raise
            time.sleep(PAUSE_S)


def pages(batches: Iterator[Batch], after_pos: int, upto_pos: int, name: str) -> Iterator[list[Batch]]:
    end_pos = after_pos
    while page := list(itertools.islice(batches, BATCHES_PER_PAGE)):
        for pos, count, _ in page:
            if pos != end_pos + 1:
                raise StorageError(f"the journal of {name} does not reach back to record {end_pos + 1} any more")
            end_pos = pos + count - 1
        yield page
    if end_pos != upto_pos:
        raise StorageError(f"the journal of {name} ends at {end_pos}, not at {upto_pos}")


def gone_to(end: FilesEnd) -> tuple[str, int] | None:
    """Where a store has moved, and its last record."""
    with end.view() as view:
        marked = view.meta(GONE)
    if marked is None:
        return None
    mark = json.loads(marked)
    return mark["to"], mark["position"]


def unmark(home: Path) -> None:
    """A store that had moved is one to be served again."""
    _set_meta(home, GONE, None)


def _set_meta(directory: Path, key: str, value: dict[str, object] | None) -> None:
    path = directory / MAIN_NAME
    with storage_errors("mark", path), closing(connect(path)) as main:
        main.pragma("synchronous", 2)
        if value is None:
            main.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            main.execute(SET_META, (key, json.dumps(value)))
