"""The journal of a data directory, read by position while a server appends to it and removes folded segments.

Everything is read through hard links of this process' own, so that no segment goes away under it.
"""

import os
import shutil
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

from chatd.errors import BackupError, BackupGapError
from chatd.storage.interface import Batch
from chatd.storage.sqlite.connection import storage_errors
from chatd.storage.sqlite.directory import segment_in_use, segment_numbers, segment_path
from chatd.storage.sqlite.kept import KEPT_NAME, kept_numbers
from chatd.storage.sqlite.segment import batches_after, open_segment, read_header, wal_path

LINKS_NAME = "backup.links"


class JournalSource:
    """One at a time per data directory: the caller holds its lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._links = directory / LINKS_NAME
        self._firsts: dict[int, int] = {}
        self._numbers: list[int] = []

    def __enter__(self) -> Self:
        self._remove_links()
        self._links.mkdir(mode=0o700)
        in_use = segment_in_use(self._directory)
        # In this order: what is folded meanwhile goes from the first place to the second.
        live = [number for number in segment_numbers(self._directory) if number <= in_use]
        places = [(number, self._directory) for number in live]
        places += [(number, self._directory / KEPT_NAME) for number in kept_numbers(self._directory)]
        places += [(number, self._directory / KEPT_NAME) for number in live]
        for number, place in places:
            if number not in self._numbers and self._link(segment_path(place, number)):
                self._numbers.append(number)
        self._numbers.sort()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove_links()

    def batches(self, first_pos: int, last_pos: int) -> Iterator[Batch]:
        """Those with the records first_pos .. last_pos, which begin and end batches. BackupGapError when they are not
        all there any more."""
        pos = first_pos
        while pos <= last_pos:
            begun = pos
            for batch in self._batches_from(pos, last_pos):
                if batch.pos != pos:
                    break
                pos += batch.record_count
                yield batch
            if pos == begun:
                raise BackupGapError(
                    f"the journal records from {pos} on are not kept in {self._directory} any more, so nothing can "
                    "continue the last backup: make a full one. Set backup.directory, or raise "
                    "backup.journal_bytes_max, and they will be kept until the next incremental backup"
                )

    def _link(self, segment: Path) -> bool:
        """False: it is not there (any more). The WAL first: a segment without one would look empty."""
        try:
            for path in (wal_path(segment), segment):
                (self._links / path.name).unlink(missing_ok=True)
                os.link(path, self._links / path.name)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise BackupError(
                f"{segment} cannot be linked into {self._links}: {error.strerror}. A backup needs to write to the data "
                "directory, as the user of the server, on a file system with hard links"
            ) from error
        return True

    def _batches_from(self, pos: int, last_pos: int) -> Iterator[Batch]:
        at = bisect_right(self._numbers, pos, key=self._first_pos) - 1
        if at < 0:
            return
        path = segment_path(self._links, self._numbers[at])
        with storage_errors("read", path), closing(open_segment(path, None, write=False)) as connection:
            for batch in batches_after(connection, pos - 1):
                if batch.pos > last_pos:
                    return
                yield batch

    def _first_pos(self, number: int) -> int:
        if number not in self._firsts:
            path = segment_path(self._links, number)
            with storage_errors("read", path), closing(open_segment(path, None, write=False)) as connection:
                header = read_header(connection, path)
            if header is None:
                raise BackupError(f"{path} is empty, but batches were written to it. Run `chatd check`")
            self._firsts[number] = header.first_pos
        return self._firsts[number]

    def _remove_links(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self._links)
