"""The data directory: which files there are, who may write, and the space kept for hard times.

chatd.db                 the main database          journal-NNNNNNNN.db   segments, see segment.py
lock                     flock of the one writer; its text names the segment in use
folder.lock              flock of the one folder
synced                   one word: how far the journal is on the disk for certain, see synced.py
reserve                  bytes given back when the disk is full, so that what frees space can still be done
kept/                    folded segments that wait for the next incremental backup, see kept.py
backup.lock              flock of the one backup; backup.links: what it reads; backup.json: how the last one went
secrets/                 not ours; made by `chatd init`
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chatd.storage.lock_file import WRITER_LOCK

MAIN_NAME = "chatd.db"
RESERVE_NAME = "reserve"
SEGMENT_PATTERN = re.compile(r"journal-(\d{8})\.db")
SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"journal-{number:08d}.db"


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the segments that exist, oldest first."""
    matches = (SEGMENT_PATTERN.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def segment_in_use(directory: Path) -> int:
    """The segment that the writer appends to; 0 when there is none yet. It is complete, as are all before it."""
    try:
        text = (directory / WRITER_LOCK).read_text("ascii").strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0


def remove_database(path: Path) -> None:
    """Unlink a SQLite file and what belongs to it. The file itself goes first: a WAL alone is recognised as rubbish."""
    for name in (path, *(path.with_name(path.name + suffix) for suffix in SQLITE_SUFFIXES)):
        with suppress(FileNotFoundError):
            name.unlink()


def remove_orphans(directory: Path) -> None:
    """Drop what a crash in the middle of remove_database or of a creation left behind."""
    for path in list(directory.iterdir()):
        owner = re.fullmatch(r"(journal-\d{8}\.db|chatd\.db\.new)(-wal|-shm|-journal)", path.name)
        if path.name == MAIN_NAME + ".new" or (owner and not (directory / owner[1]).exists()):
            path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make creations, renames and removals in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(directory: Path) -> int:
    """What this user may still write to its disk."""
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize


class Reserve:
    """A file of zeros that keeps space occupied until the disk is full; then it is given back.

    While `full`, ordinary batches are refused without trying: the space set free is for folding and for administrative
    batches. It is over when there is room for the reserve itself and some slack.
    """

    def __init__(self, directory: Path, size_bytes: int, slack_bytes: int) -> None:
        self._directory = directory
        self._path = directory / RESERVE_NAME
        self._size_bytes = size_bytes
        self._slack_bytes = slack_bytes
        self.full = False

    def open(self) -> None:
        """Make the reserve, or start in the state `full` when there is no room for it."""
        if self._occupied() >= self._size_bytes:
            self.full = self.free_bytes() < self._slack_bytes
            if self.full:
                self.give_back()
        else:
            self.full = True
            self.restore()

    def give_back(self) -> None:
        self.full = True
        with suppress(FileNotFoundError):
            os.truncate(self._path, 0)

    def restore(self) -> bool:
        """End the state `full` if there is room again; True when it is over. Two system calls when there is not."""
        if self.full and self.free_bytes() >= self._size_bytes + self._slack_bytes:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size_bytes)
                self.full = False
            except OSError:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
        return not self.full

    def free_bytes(self) -> int:
        return free_bytes(self._directory)

    def _occupied(self) -> int:
        try:
            return self._path.stat().st_blocks * 512
        except FileNotFoundError:
            return 0


@contextmanager
def removing_on_error(path: Path) -> Iterator[None]:
    """A database that could not be created completely must not stay."""
    try:
        yield
    except BaseException:
        remove_database(path)
        raise
