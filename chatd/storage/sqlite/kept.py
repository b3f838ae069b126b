"""Folded segments that wait for the next incremental backup: `kept/` in the data directory.

A segment is linked there before it is unlinked from the journal: no byte is copied, and the journal has nothing to do
with it any more. It gives way: what is kept is bounded in bytes, and the oldest goes when the disk gets short, because
room for new events matters more than a small backup. A gap only means that the next backup has to be a full one.
"""

import logging
import os
import re
from contextlib import closing, suppress
from pathlib import Path

from chatd.errors import StorageError
from chatd.storage.sqlite.connection import storage_errors
from chatd.storage.sqlite.directory import (
    SEGMENT_PATTERN,
    free_bytes,
    remove_database,
    segment_numbers,
    segment_path,
    sync_directory,
)
from chatd.storage.sqlite.segment import open_segment, read_header, read_range, wal_path

log = logging.getLogger(__name__)

KEPT_NAME = "kept"
# Room for the next segments and the reserve: below it nothing is kept.
FREE_BYTES_MIN = 320 * 1024 * 1024


class Kept:
    """The folder's side. Nothing here raises: the journal must not wait for a backup."""

    def __init__(self, directory: Path, bytes_max: int) -> None:
        """bytes_max: 0 keeps nothing, and removes what was kept before."""
        self._directory = directory / KEPT_NAME
        self._bytes_max = bytes_max
        self._drop_beyond(bytes_max)

    def keep(self, segment: Path) -> None:
        """Called before it is unlinked."""
        if not self._bytes_max:
            return
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            # A file without its WAL would be taken for an empty segment, so the WAL comes first.
            for path in (wal_path(segment), segment):
                with suppress(FileExistsError):
                    os.link(path, self._directory / path.name)
            sync_directory(self._directory)
        except OSError as error:
            log.warning("%s is not kept, so the next backup will be a full one: %s", segment.name, error)
        self._drop_beyond(self._bytes_max)

    def make_room(self, *, full: bool) -> None:
        """Called every second or so: the disk may get short without any segment being folded."""
        if self._bytes_max:
            self._drop_beyond(0 if full else self._bytes_max)

    def _drop_beyond(self, bytes_max: int) -> None:
        with suppress(OSError):
            numbers = kept_numbers(self._directory.parent)
            sizes = {number: _size(segment_path(self._directory, number)) for number in numbers}
            for number in numbers:
                short = free_bytes(self._directory) < FREE_BYTES_MIN
                if sum(sizes.values()) <= bytes_max and not short:
                    break
                remove_database(segment_path(self._directory, number))
                del sizes[number]
                if self._bytes_max:
                    why = "the disk gets short" if short or not bytes_max else f"more than {bytes_max} bytes wait"
                    log.warning(
                        "segment %d waits for an incremental backup no longer: %s; the next backup will be a full one. "
                        "Make incremental ones more often, or raise backup.journal_bytes_max",
                        number,
                        why,
                    )


def kept_numbers(directory: Path) -> list[int]:
    """Of a data directory; oldest first."""
    with suppress(FileNotFoundError):
        return segment_numbers(directory / KEPT_NAME)
    return []


def kept_bytes(directory: Path) -> int:
    return sum(_size(segment_path(directory / KEPT_NAME, number)) for number in kept_numbers(directory))


def release(directory: Path, upto_pos: int) -> None:
    """Of a data directory: remove the segments all of whose records are in a backup now."""
    remove_strays(directory)
    for number in kept_numbers(directory):
        path = segment_path(directory / KEPT_NAME, number)
        try:
            with storage_errors("read", path), closing(open_segment(path, None, write=False)) as connection:
                header = read_header(connection, path)
                if header is not None and read_range(connection, header, path).next_pos - 1 > upto_pos:
                    return
        except StorageError:
            # It gave way meanwhile, or nobody can read it: nothing that would have to wait.
            log.debug("segment %d is gone", number)
        remove_database(path)


def remove_strays(directory: Path) -> None:
    """A WAL whose segment is gone: what a crash left of a removal or of a link."""
    with suppress(FileNotFoundError):
        for path in list((directory / KEPT_NAME).iterdir()):
            owner = re.match(SEGMENT_PATTERN, path.name)
            if owner and not path.with_name(owner[0]).exists():
                path.unlink(missing_ok=True)


def _size(segment: Path) -> int:
    size_bytes = 0
    for path in (segment, wal_path(segment)):
        with suppress(FileNotFoundError):
            size_bytes += path.stat().st_size
    return size_bytes
