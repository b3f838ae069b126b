"""The store of one data directory, as the hub holds it: journal for writing, main database for reading.

Opening order matters: lock, space, main database, journal, boot count. Nothing is written to a file before the ones it
depends on have been validated, and a directory that contradicts itself is refused, never repaired by deleting.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import trio

from chatd.errors import InternalError, StoreCorruptError
from chatd.storage.counters import BOOTS_SKIPPED, IDS_SKIPPED, new_log_epoch, raised
from chatd.storage.interface import Batch, HighestIds
from chatd.storage.lock_file import WRITER_LOCK, LockFile, prepare_directory
from chatd.storage.moved import COPYING, GONE, refuse_marked
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.database import meta_number, open_main
from chatd.storage.sqlite.directory import (
    MAIN_NAME,
    Reserve,
    remove_orphans,
    segment_numbers,
)
from chatd.storage.sqlite.journal import SEGMENT_BYTES, Journal
from chatd.storage.sqlite.reader import SqliteReader

ID_TABLES = HighestIds._fields


class StoreSettings(NamedTuple):
    """segment_bytes: size at which a new journal segment begins. reserve_bytes: given back when the disk is full,
    which is over when there is room for it and slack_bytes. readers_max: connections for reading threads. read_only:
    after failures of the disk; nothing is written, every append fails. vfs: for fault tests.
    """

    segment_bytes: int = SEGMENT_BYTES
    reserve_bytes: int = 64 * 1024 * 1024
    slack_bytes: int = 8 * 1024 * 1024
    readers_max: int = 4
    read_only: bool = False
    vfs: str | None = None


DEFAULT_SETTINGS = StoreSettings()


class SqliteStore:
    """See interface.Store. Make it with `open`; it holds the directory's lock until closed."""

    log_epoch: int
    boot_count: int

    def __init__(self, directory: Path, settings: StoreSettings, lock: LockFile) -> None:
        self._directory = directory
        self._settings = settings
        self._lock = lock
        self._reserve = Reserve(directory, settings.reserve_bytes, settings.slack_bytes)
        self._journal: Journal | None = None
        self._main: apsw.Connection | None = None

    @classmethod
    def open(
        cls, directory: Path, settings: StoreSettings = DEFAULT_SETTINGS, *, accept_lost_journal: bool = False
    ) -> "SqliteStore":
        """Open or create the store of a directory.

        accept_lost_journal: a main database without its journal (an old copy) is otherwise refused; with it a new log
        begins, so that clients discard their positions.
        Raises StoreLockedError, StoreCorruptError, StoreFullError, StorageError. Takes well under 2 s: the check of the
        main database is cut, recovering a WAL of 64 MiB takes 60 ms.
        """
        prepare_directory(directory)
        store = cls(directory, settings, LockFile(directory, WRITER_LOCK, "hub"))
        try:
            store._open(accept_lost_journal)
        except BaseException:
            store.close()
            raise
        return store

    def append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        """See interface.Store."""
        self._opened().append(pos, count, blob, urgent=urgent)

    def begin_append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        """See interface.Store: an fsync is shorter than any way to wait for it elsewhere."""
        self.append(pos, count, blob, urgent=urgent)

    async def lost(self) -> None:
        """See interface.Store: files do not go away."""
        await trio.sleep_forever()

    def replay(self, after_pos: int) -> Iterator[Batch]:
        """See interface.Store."""
        return self._opened().replay(after_pos)

    @property
    def next_pos(self) -> int:
        return self._opened().next_pos

    @property
    def full(self) -> bool:
        """Ordinary batches are refused until space returns; the next append looks."""
        return self._reserve.full

    def first_pos(self) -> int:
        """The oldest record that replay can still give."""
        return self._opened().first_pos()

    def folded_pos(self) -> int:
        """Records up to here are in the main database. One indexed read."""
        main = self._opened_main()
        with storage_errors("read", self._directory / MAIN_NAME):
            return meta_number(main, "folded_pos")

    def stored_ids(self) -> HighestIds:
        """See interface.Store."""
        main = self._opened_main()
        with storage_errors("read", self._directory / MAIN_NAME):
            return HighestIds(*(stored_highest_id(main, table) for table in ID_TABLES))

    def highest_ids(self) -> HighestIds:
        """See interface.Store."""
        return raised(self.stored_ids(), self.replay(self.folded_pos()))

    def reader(self) -> SqliteReader:
        """Connections of its own; close it before the store."""
        return SqliteReader(self._directory / MAIN_NAME, self._settings.readers_max, self._settings.vfs)

    def close(self) -> None:
        """Leaves every file as a crash would: nothing is checkpointed, removed or synced here."""
        for resource in (self._journal, self._main, self._lock):
            if resource is not None:
                resource.close()
        self._journal = self._main = None

    def _open(self, accept_lost_journal: bool) -> None:
        if not self._settings.read_only:
            remove_orphans(self._directory)
            self._reserve.open()
        lost = not segment_numbers(self._directory)
        path = self._directory / MAIN_NAME
        if not path.exists() and not (lost and not self._lock.text()):
            raise StoreCorruptError(f"{path} is missing beside its journal. Restore it; it is never made anew")
        main = open_main(self._directory, self._settings.vfs)
        with storage_errors("open", path):
            try:
                marks = main.execute("SELECT key, value FROM meta WHERE key IN (?, ?)", (COPYING, GONE))
                refuse_marked(str(path), {str(key): str(mark) for key, mark in marks})
                if lost and accept_lost_journal:
                    begin_new_log(main)
                    self._lock.write("")
                elif lost and (meta_number(main, "folded_pos") or self._lock.text()):
                    raise StoreCorruptError(
                        f"{self._directory} has a main database but no journal files. Acknowledged events may be "
                        "missing: put the journal-*.db files and their -wal files back, or go on without them: "
                        f"`chatd epoch --new --data {self._directory}`"
                    )
                self.log_epoch = meta_number(main, "log_epoch")
                self._journal = Journal(
                    self._directory,
                    self.log_epoch,
                    self._lock,
                    self._reserve,
                    segment_bytes=self._settings.segment_bytes,
                    read_only=self._settings.read_only,
                    vfs=self._settings.vfs,
                )
                self._journal.open(lambda: meta_number(main, "folded_pos"))
                self.boot_count = meta_number(main, "boot_count") + 1 if self._settings.read_only else count_boot(main)
            finally:
                main.close()
            self._main = connect(path, vfs=self._settings.vfs, write=False)

    def _opened(self) -> Journal:
        if self._journal is None:
            raise InternalError("the store is closed")
        return self._journal

    def _opened_main(self) -> apsw.Connection:
        if self._main is None:
            raise InternalError("the store is closed")
        return self._main


def count_boot(main: apsw.Connection) -> int:
    """One more start, durably: session epochs are built on it and must never repeat.

    Steps of two: the numbers between belong to read-only starts, which cannot count.
    """
    main.pragma("synchronous", 2)
    count = main.execute("UPDATE meta SET value = value + 2 WHERE key = 'boot_count' RETURNING value").get
    return int(count)


def begin_new_log(main: apsw.Connection) -> None:
    """The log may have gone back: what was given out after this state (positions, ids) must not be given out again,
    durably."""
    main.pragma("synchronous", 2)
    with main:
        main.execute("UPDATE meta SET value = ? WHERE key = 'log_epoch'", (new_log_epoch(),))
        main.execute("UPDATE meta SET value = value + ? WHERE key = 'boot_count'", (BOOTS_SKIPPED,))
        for table in ID_TABLES:
            if highest := stored_highest_id(main, table):
                skipped = (f"highest_{table}", highest + IDS_SKIPPED)
                main.execute("INSERT INTO meta VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", skipped)


def stored_highest_id(main: apsw.Connection, table: str) -> int:
    """Of the rows that exist and of those that were deleted."""
    exists: int = main.execute(f'SELECT ifnull(max(id), 0) FROM "{table}"').get  # noqa: S608 names from ID_TABLES
    return max(exists, meta_number(main, f"highest_{table}"))
