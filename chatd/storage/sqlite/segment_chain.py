"""The segments as the folder sees them: read in order while the hub appends, unlinked when done.

Only the hub makes segments, and names one in its lock file once it is complete; only the folder unlinks them, never
that one. So the folder never touches a file that is being made, and a number it has seen stays valid.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import apsw

from chatd.errors import StoreCorruptError
from chatd.storage.interface import Batch
from chatd.storage.sqlite.connection import storage_errors
from chatd.storage.sqlite.directory import (
    remove_database,
    segment_in_use,
    segment_numbers,
    segment_path,
    sync_directory,
)
from chatd.storage.sqlite.kept import Kept
from chatd.storage.sqlite.segment import SegmentHeader, batches_after, now_ms, open_segment, read_header
from chatd.storage.sqlite.synced import synced_pos

# The one being read, and the one being written: others are opened when needed.
_CONNECTIONS_MAX = 2


class SegmentChain:
    """Reads batches from whichever segment holds them; keeps few connections open."""

    def __init__(self, directory: Path, vfs: str | None, kept: Kept) -> None:
        """kept: where folded segments wait for a backup."""
        self._directory = directory
        self._vfs = vfs
        self._kept = kept
        self._connections: dict[int, apsw.Connection] = {}
        self._headers: dict[int, SegmentHeader] = {}

    def batches_after(self, after_pos: int) -> Iterator[Batch]:
        """Batches with records beyond after_pos, in order, as far as they are durable now.

        After a crash SQLite shows one that nobody has synced yet, which the hub that comes back will do.
        """
        durable_pos = synced_pos(self._directory)
        numbers = self._numbers()
        start = 0
        for index, number in enumerate(numbers):
            if self._headers[number].first_pos <= after_pos + 1:
                start = index
        for number in numbers[start:]:
            with storage_errors("read", segment_path(self._directory, number)):
                for batch in batches_after(self._connection(number), after_pos):
                    if batch.pos + batch.record_count - 1 > durable_pos:
                        return
                    yield batch

    def unlink_folded(self, folded_pos: int, age_s: float) -> None:
        """Remove segments below folded_pos that were completed at least age_s ago. The newest always stays."""
        removed = False
        numbers = self._numbers()
        for number, follower in itertools.pairwise(numbers):
            header = self._headers[follower]
            if header.first_pos > folded_pos + 1 or header.created_ms + age_s * 1000 > now_ms():
                break
            self._forget(number)
            self._kept.keep(segment_path(self._directory, number))
            remove_database(segment_path(self._directory, number))
            removed = True
        if removed:
            sync_directory(self._directory)

    def make_room(self, *, full: bool) -> None:
        """What is kept for a backup gives way when the disk gets short, all of it when it is full."""
        self._kept.make_room(full=full)

    def close(self) -> None:
        for number in list(self._connections):
            self._forget(number)

    def _numbers(self) -> list[int]:
        in_use = segment_in_use(self._directory)
        numbers = [number for number in segment_numbers(self._directory) if number <= in_use]
        for number in numbers:
            if number not in self._headers:
                self._headers[number] = self._read_header(number)
        return numbers

    def _read_header(self, number: int) -> SegmentHeader:
        path = segment_path(self._directory, number)
        with storage_errors("read", path):
            header = read_header(self._connection(number), path)
        if header is None:
            raise StoreCorruptError(f"{path} is empty, but batches were written to it")
        return header

    def _connection(self, number: int) -> apsw.Connection:
        if number not in self._connections:
            while len(self._connections) >= _CONNECTIONS_MAX:
                self._connections.pop(min(self._connections)).close()
            self._connections[number] = open_segment(segment_path(self._directory, number), self._vfs, write=False)
        return self._connections[number]

    def _forget(self, number: int) -> None:
        self._headers.pop(number, None)
        connection = self._connections.pop(number, None)
        if connection is not None:
            connection.close()
