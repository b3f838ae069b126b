"""The journal: every durable record, in one order, appended and synced batch by batch.

Written by one thread of the process that holds the lock. Segments follow each other without gaps; which one is in use
stands in the lock file, so that a segment whose WAL was lost (a copy of *.db alone, for instance) is recognised instead
of being taken for a fresh one.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import apsw

from chatd.errors import (
    InternalError,
    StorageError,
    StoreCorruptError,
    StoreFailedError,
    StoreFullError,
)
from chatd.storage.interface import Batch
from chatd.storage.lock_file import LockFile
from chatd.storage.sqlite.connection import explained, storage_errors
from chatd.storage.sqlite.directory import (
    Reserve,
    remove_database,
    segment_in_use,
    segment_numbers,
    segment_path,
)
from chatd.storage.sqlite.next_segment import NextSegment
from chatd.storage.sqlite.segment import (
    SegmentHeader,
    SegmentRange,
    append_batch,
    batches_after,
    begin_segment,
    check_wal_end,
    harden_end,
    make_segment,
    now_ms,
    open_segment,
    read_header,
    read_range,
    wal_bytes,
    wal_path,
)
from chatd.storage.sqlite.synced import SyncedMark, synced_pos

SEGMENT_BYTES = 64 * 1024 * 1024
# A segment that has come so far has traffic, and the next one is made ready; while so much more is free.
PREPARE_AT_BYTES = 4 * 1024 * 1024
_PREPARE_FREE_SEGMENTS = 4
# A file could not even be created: with less free space than this, the reason is taken to be the space.
_CREATION_BYTES = 1024 * 1024


class JournalEnd(NamedTuple):
    """Where appending goes on."""

    number: int
    next_pos: int


class Journal:
    """Appends batches and replays them. Owned by one thread; close it or let the process end, both are safe."""

    def __init__(
        self,
        directory: Path,
        log_epoch: int,
        lock: LockFile,
        reserve: Reserve,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        read_only: bool = False,
        vfs: str | None = None,
    ) -> None:
        self._directory = directory
        self._log_epoch = log_epoch
        self._lock = lock
        self._reserve = reserve
        self._segment_bytes = segment_bytes
        self._read_only = read_only
        self._vfs = vfs
        self._number = 0
        self._connection: apsw.Connection | None = None
        self._next: NextSegment | None = None
        self._over_zeros = False
        self._mark: SyncedMark | None = None
        self._failed = False
        self.next_pos = 1

    def open(self, folded: Callable[[], int]) -> None:
        """Validate every segment and get ready to append.

        folded: how far the main database has come, while a folder may be running; what is beyond must all be here.
        A last batch that may never have reached the disk is synced now, or left out by who cannot sync (synced.py).
        Raises StoreCorruptError, and StoreFullError when there is no segment and no space for one.
        """
        folded_pos, numbers = folded(), segment_numbers(self._directory)
        in_use = segment_in_use(self._directory)
        if in_use and in_use not in numbers:
            raise StoreCorruptError(
                f"{segment_path(self._directory, in_use)} is missing: the journal was being written there. "
                "Put it back together with its -wal file"
            )
        ranges = {number: self._validate(number, in_use) for number in numbers}
        existing = [(number, found) for number, found in ranges.items() if found is not None]
        check_sequence(self._directory, existing, folded_pos, folded())
        self.next_pos = existing[-1][1].next_pos if existing else folded_pos + 1
        self._number = existing[-1][0] if existing else max(numbers, default=0)
        if self._read_only:
            if existing and max(folded_pos, synced_pos(self._directory)) < self.next_pos - 1:
                self.next_pos = existing[-1][1].last_pos
            return
        if existing:
            path = segment_path(self._directory, self._number)
            with storage_errors("open", path):
                self._connection = open_segment(path, self._vfs, write=True)
                harden_end(self._connection, path)
            self._mark_in_use()
        else:
            self._start_segment(self._number + 1)
        with storage_errors("open", self._directory):
            self._mark = SyncedMark(self._directory)
        self._mark.set(self.next_pos - 1)

    def append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        """See Store.append."""
        if pos != self.next_pos or count < 1:
            raise InternalError(f"batch of {count} records at {pos}, but the journal continues at {self.next_pos}")
        if self._read_only:
            raise StoreFailedError(f"{self._directory} was opened read-only")
        if self._failed:
            raise StoreFailedError("the journal failed before and must be opened anew by a new process")
        if not urgent and self._reserve.full and not self._reserve.restore():
            raise StoreFullError(f"the disk of {self._directory} is full")
        try:
            self._append(pos, count, blob)
        except StoreFullError:
            self._reserve.give_back()
            if not urgent:
                raise
            self._append(pos, count, blob)
        except StoreFailedError:
            self._failed = True
            raise
        self.next_pos = pos + count
        if self._mark is not None:
            self._mark.set(self.next_pos - 1)

    def replay(self, after_pos: int) -> Iterator[Batch]:
        """See Store.replay."""
        expected = None
        for path in self._segments_from(after_pos):
            with storage_errors("replay", path):
                connection = open_segment(path, self._vfs, write=False)
                try:
                    for batch in batches_after(connection, after_pos):
                        if batch.pos >= self.next_pos:
                            break
                        if (expected is None and batch.pos > after_pos + 1) or expected not in {None, batch.pos}:
                            raise StoreCorruptError(
                                f"{path}: records {expected or after_pos + 1} .. {batch.pos - 1} are missing"
                            )
                        expected = batch.pos + batch.record_count
                        yield batch
                finally:
                    connection.close()
        if (expected or after_pos + 1) != self.next_pos:
            raise StoreCorruptError(
                f"the journal ends at {(expected or after_pos + 1) - 1}, not at {self.next_pos - 1}"
            )

    def first_pos(self) -> int:
        """The oldest record that replay can give; next_pos when there is none."""
        for number in segment_numbers(self._directory):
            if header := self._header(number):
                return header.first_pos
        return self.next_pos

    def _close_segment(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        if self._next is not None:
            self._next.abandon()
            self._next = None
        self._close_segment()
        if self._mark is not None:
            self._mark.close()
            self._mark = None

    def _append(self, pos: int, count: int, blob: bytes) -> None:
        if self._connection is None or self._is_over(wal_bytes(self._connection)):
            self._start_segment(self._number + 1)
        connection = self._opened()
        try:
            append_batch(connection, pos, count, blob)
        except apsw.FullError as error:
            self._roll_back(connection)
            raise StoreFullError(f"cannot append to {connection.filename}: the disk is full") from error
        except apsw.Error as error:
            raise StoreFailedError(f"cannot append to {connection.filename}: {explained(error)}") from error

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            raise InternalError("the journal is not open")
        return self._connection

    def _roll_back(self, connection: apsw.Connection) -> None:
        """The statement was a transaction of its own, so SQLite has rolled it back; anything else is a failure."""
        if connection.in_transaction:
            raise StoreFailedError(f"{connection.filename}: a batch that did not fit could not be rolled back")

    def _is_over(self, used_bytes: int) -> bool:
        """Also when the one over zeros is ready and this one is not over zeros."""
        if self._next is None and used_bytes >= PREPARE_AT_BYTES and self._has_room_to_prepare():
            path = segment_path(self._directory, self._number + 1)
            self._next = NextSegment(path, self._segment_bytes, self._vfs)
        early = not self._over_zeros and self._next is not None and self._next.ready
        return early or used_bytes >= self._segment_bytes

    def _has_room_to_prepare(self) -> bool:
        return self._reserve.free_bytes() >= _PREPARE_FREE_SEGMENTS * self._segment_bytes

    def _start_segment(self, number: int) -> None:
        path = segment_path(self._directory, number)
        header = SegmentHeader(self._log_epoch, self.next_pos, now_ms())
        prepared, self._next = self._next.take() if self._next else None, None
        try:
            connection = prepared or make_segment(path, self._vfs)
            begin_segment(connection, path, header)
        except (apsw.FullError, apsw.CantOpenError) as error:
            if isinstance(error, apsw.FullError) or self._reserve.free_bytes() < _CREATION_BYTES:
                raise StoreFullError(f"cannot create {path}: the disk is full ({error})") from error
            raise StoreFailedError(f"cannot create {path}: {explained(error)}") from error
        except (apsw.Error, OSError) as error:
            raise StoreFailedError(f"cannot create {path}: {error}") from error
        self._close_segment()
        self._number, self._connection = number, connection
        self._over_zeros = prepared is not None
        self._mark_in_use()

    def _mark_in_use(self) -> None:
        try:
            self._lock.write(str(self._number))
        except OSError as error:
            raise StoreFailedError(f"cannot write the lock file of {self._directory}: {error}") from error

    def _validate(self, number: int, in_use: int) -> SegmentRange | None:
        """The range of a segment. None when its creation was cut short, in which case it is removed, and when it is
        gone: the folder may unlink it at any time, the file before its WAL.
        """
        path = segment_path(self._directory, number)
        with storage_errors("read", path):
            try:
                connection = open_segment(path, self._vfs, write=False)
            except apsw.CantOpenError:
                if path.exists():
                    raise
                return None
            try:
                check_wal_end(connection, path)
                header = read_header(connection, path)
                found = read_range(connection, header, path) if header else None
            finally:
                connection.close()
        if header is None and path.exists():
            if number <= in_use:
                raise StoreCorruptError(
                    f"{path} is empty, but batches were written to it: is {wal_path(path)} missing?"
                )
            if not self._read_only:
                remove_database(path)
        elif header is not None and header.log_epoch != self._log_epoch:
            raise StoreCorruptError(f"{path} belongs to another data directory (log epoch {header.log_epoch})")
        return found

    def _segments_from(self, after_pos: int) -> list[Path]:
        """Segments that may hold records beyond after_pos. The folder may unlink older ones at any time."""
        wanted: list[Path] = []
        numbers = segment_numbers(self._directory)
        for number in reversed(numbers[: bisect_right(numbers, self._number)]):
            header = self._header(number)
            if header is None:
                break
            wanted.append(segment_path(self._directory, number))
            if header.first_pos <= after_pos + 1:
                break
        return wanted[::-1]

    def _header(self, number: int) -> SegmentHeader | None:
        """None when it is gone."""
        path = segment_path(self._directory, number)
        try:
            connection = open_segment(path, self._vfs, write=False)
            try:
                return read_header(connection, path)
            finally:
                connection.close()
        except apsw.CantOpenError:
            return None
        except apsw.Error as error:
            raise StorageError(f"cannot read {path}: {explained(error)}") from error


def check_sequence(directory: Path, ranges: list[tuple[int, SegmentRange]], folded_pos: int, newest_pos: int) -> None:
    """Segments follow each other; the first unfolded and the last folded record lie within them.

    folded_pos: before the segments were read, newest_pos: after it. A running folder may have gone on in between.
    """
    if not ranges:
        return
    for (_, before), (number, after) in itertools.pairwise(ranges):
        if before.next_pos != after.first_pos:
            raise StoreCorruptError(
                f"{segment_path(directory, number)} begins at record {after.first_pos}, "
                f"but the segment before it ends at {before.next_pos - 1}"
            )
    first, end = ranges[0][1].first_pos, ranges[-1][1].next_pos
    if first > newest_pos + 1:
        raise StoreCorruptError(f"journal records {newest_pos + 1} .. {first - 1} are missing in {directory}")
    if end <= folded_pos:
        raise StoreCorruptError(f"the journal in {directory} ends at {end - 1}, but {folded_pos} are folded")
