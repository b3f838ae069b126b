"""Making a backup: under another name first, verified, and only then renamed to what it is.

Killed at any point it leaves a hidden directory, which nobody takes for a backup and the next one removes.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from chatd import __version__
from chatd.errors import BackupError, BackupGapError, StoreFullError, StoreLockedError
from chatd.storage.backup.catalogue import Backup, read_catalogue
from chatd.storage.backup.copy import changed_heads, copy_pages, described, one_moment
from chatd.storage.backup.journal_part import check_part, write_part
from chatd.storage.backup.manifest import JOURNAL_NAME, Journal, Manifest, write_manifest
from chatd.storage.backup.manifest import MAIN_NAME as COPY_NAME
from chatd.storage.backup.progress import Pace, Progress, silent
from chatd.storage.backup.source import JournalSource
from chatd.storage.backup.verify import check_copy, hashed
from chatd.storage.interface import Portion
from chatd.storage.lock_file import LockFile
from chatd.storage.sqlite.connection import storage_errors
from chatd.storage.sqlite.database import meta_number
from chatd.storage.sqlite.directory import MAIN_NAME, sync_directory
from chatd.storage.sqlite.kept import release
from chatd.storage.sqlite.synced import synced_pos

BACKUP_LOCK, ROOT_LOCK = "backup.lock", ".lock"
PARTIAL_SUFFIX = ".partial"


class Job(NamedTuple):
    """data: a data directory, served or not. root: where its backups lie. portion: chatd._native.Portion.
    bytes_per_s: how quickly the main database is copied, 0: as quickly as it goes.
    """

    data: Path
    root: Path
    portion: Callable[[], Portion]
    bytes_per_s: int = 0
    report: Progress = silent


def back_up(job: Job, *, incremental: bool) -> Backup:
    """Make one and return it, verified and durable. Its journal continues the newest backup of this store in root.

    Raises BackupGapError when nothing can be continued and only a full one will do, StoreFullError when the target's
    disk is full, BackupError, StorageError.
    """
    if not (job.data / MAIN_NAME).exists():
        raise BackupError(f"{job.data} has no {MAIN_NAME}: is it the data directory of a chatd with a store in files?")
    with locked(job.data, BACKUP_LOCK, "being backed up"), _root(job.root):
        begun_ms = time.time_ns() // 1_000_000
        parent = _newest(job)
        if incremental and parent is None:
            raise BackupGapError(f"{job.root} has no full backup of this store that is whole: make one first")
        time_of_day = f"{datetime.fromtimestamp(begun_ms / 1000, UTC):%Y%m%dT%H%M%S}{begun_ms % 1000:03}Z"
        final = job.root / f"{time_of_day}-{'incremental' if incremental else 'full'}"
        partial = job.root / f".{final.name}{PARTIAL_SUFFIX}"
        try:
            with storage_errors("write", partial):
                partial.mkdir(mode=0o700)
                manifest = _fill(job, partial, parent, incremental, begun_ms)
                write_manifest(partial, manifest)
                sync_directory(partial)
                partial.rename(final)
                sync_directory(job.root)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, StoreFullError):
                raise StoreFullError(
                    f"{error}. Nothing of this backup was left there; earlier ones and the server are not affected. "
                    f"Free space, or keep fewer: `chatd backup prune --to {job.root}`"
                ) from error
            raise
        if manifest.parent:
            release(job.data, manifest.last_pos)
        return Backup(final, manifest)


def store_epoch(data: Path) -> int:
    with one_moment(data / MAIN_NAME) as connection:
        return meta_number(connection, "log_epoch")


@contextmanager
def locked(directory: Path, name: str, what: str) -> Iterator[None]:
    """One at a time, whoever makes it. what: "is …"."""
    try:
        lock = LockFile(directory, name, "backup")
    except StoreLockedError as error:
        raise BackupError(f"{directory} is {what} by another process; wait until that has ended") from error
    with closing(lock):
        yield


@contextmanager
def _root(root: Path) -> Iterator[None]:
    try:
        # Not its parents: a disk that is not mounted must not be replaced by a directory.
        root.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BackupError(f"{root} cannot be made: {error.strerror}. Is the disk for the backups mounted?") from error
    with locked(root, ROOT_LOCK, "written to"):
        for path in root.glob(f".*{PARTIAL_SUFFIX}"):
            shutil.rmtree(path)
        yield


def _newest(job: Job) -> Backup | None:
    line = read_catalogue(job.root).newest(store_epoch(job.data))
    return line.tip if line else None


def _fill(job: Job, partial: Path, parent: Backup | None, incremental: bool, begun_ms: int) -> Manifest:
    """Write the files, sync them, read them again from the disk, compare."""
    with ExitStack() as pinned:
        moment = pinned.enter_context(one_moment(job.data / MAIN_NAME))
        log_epoch, folded_pos = meta_number(moment, "log_epoch"), meta_number(moment, "folded_pos")
        first_pos, main = parent.manifest.last_pos + 1 if parent else folded_pos + 1, None
        known = changed_heads(moment, first_pos)
        if incremental:
            pinned.close()
        else:
            main = described(moment)
            copy_pages(job.data, moment, partial / COPY_NAME, Pace(job.bytes_per_s), job.report)
        # While the moment lasts no checkpoint is complete, so no segment with records behind it is removed.
        try:
            journal = _write_journal(job, partial, first_pos, folded_pos)
        except BackupGapError:
            if incremental:
                raise
            (partial / JOURNAL_NAME).unlink()
            parent, known = None, {}
            journal = _write_journal(job, partial, folded_pos + 1, folded_pos)
    for name in _names(partial):
        settle(partial / name)
    if main is not None:
        check_copy(partial / COPY_NAME, main, job.report)
    check_part(partial / JOURNAL_NAME, journal, job.portion, job.report, (folded_pos, known))
    files = {name: hashed(partial / name, job.report) for name in _names(partial)}
    ended_ms = time.time_ns() // 1_000_000
    parent_id = parent.manifest.id if parent else ""
    return Manifest(secrets.token_hex(16), parent_id, log_epoch, begun_ms, ended_ms, __version__, files, main, journal)


def _write_journal(job: Job, partial: Path, first_pos: int, folded_pos: int) -> Journal:
    """From there to what is on the disk for certain. After a power loss that has not been noted yet, but what is folded
    is."""
    last_pos = max(synced_pos(job.data), folded_pos, first_pos - 1)
    with JournalSource(job.data) as source:
        batches = source.batches(first_pos, last_pos)
        return write_part(partial / JOURNAL_NAME, first_pos, last_pos, batches, job.portion, job.report)


def _names(partial: Path) -> list[str]:
    return sorted(path.name for path in partial.iterdir())


def settle(path: Path) -> None:
    """Onto the disk, and out of memory: whoever reads it next reads the disk, and nobody else's pages had to go."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
