"""The target of a copy in a data directory.

It grows in DIRECTORY/incoming, a whole store with its own locks, because the directory may belong to a server that runs
on the store that is copied. `finish` moves the files into place, chatd.db last.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from chatd.errors import ConfigError, StorageError
from chatd.storage.copy.files import SET_META, FilesEnd, gone_to, patiently
from chatd.storage.copy.interface import BULK, NEVER_S, Copying, Portions
from chatd.storage.copy.tables import RUNS, Key, Row, Table, tables
from chatd.storage.interface import Batch, FoldResult
from chatd.storage.lock_file import WRITER_LOCK, LockFile, prepare_directory
from chatd.storage.moved import COPYING, INCOMING
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.database import open_main
from chatd.storage.sqlite.directory import (
    MAIN_NAME,
    Reserve,
    remove_database,
    segment_numbers,
    segment_path,
    sync_directory,
)
from chatd.storage.sqlite.folder import DEFAULT_SETTINGS, SqliteFolder
from chatd.storage.sqlite.journal import Journal
from chatd.storage.sqlite.store import SqliteStore
from chatd.storage.sqlite.synced import FILE_NAME as SYNCED_NAME

# Small batches of the source become one of the copy: one fsync for all of them.
APPEND_BYTES_MAX = 1024 * 1024
# What was written is checkpointed after so many rows: the WAL does not hold the whole store.
ROWS_PER_CHECKPOINT = 200_000


class FilesTarget(FilesEnd):
    """See interface.Target. home: the data directory."""

    def __init__(self, home: Path, portion: Portions) -> None:
        super().__init__(home / INCOMING)
        self.name = str(home)
        self._home = home
        self._portion = portion
        self._main: apsw.Connection | None = None
        self._journal: Journal | None = None
        self._folder: SqliteFolder | None = None
        self._lock: LockFile | None = None
        self._home_lock: LockFile | None = None
        self._written = 0

    def prepare(self, log_epoch: int) -> Copying:
        if (self._home / MAIN_NAME).exists():
            self._refuse_another(log_epoch)
        elif segment_numbers(self._home):
            raise ConfigError(f"{self._home} holds journal files without {MAIN_NAME}; remove them, or give another one")
        prepare_directory(self._directory)
        self._lock = LockFile(self._directory, WRITER_LOCK, "copier")
        main = self._main = open_main(self._directory, None)
        main.pragma("synchronous", 1)
        marked = main.execute("SELECT value FROM meta WHERE key = ?", (COPYING,)).get
        copying = Copying(**json.loads(marked)) if marked else Copying(log_epoch, "")
        if copying.log_epoch != log_epoch:
            raise ConfigError(
                f"{self._directory} holds an unfinished copy of another store; remove it, or give another directory"
            )
        return copying

    def restart(self) -> None:
        self._end_following()
        for number in segment_numbers(self._directory):
            remove_database(segment_path(self._directory, number))
        (self._directory / SYNCED_NAME).unlink(missing_ok=True)
        assert self._lock is not None
        self._lock.write("")
        with self._writing() as main:
            for of in tables():
                if of.name not in RUNS:
                    main.execute(f"DELETE FROM {of.quoted}")  # noqa: S608 names of the schema

    def mark(self, copying: Copying, meta: dict[str, int]) -> None:
        with self._writing() as main:
            main.executemany(SET_META, [*meta.items(), (COPYING, json.dumps(copying._asdict()))])
        self._checkpoint()

    def replace(self, of: Table, after: Key | None, last: Key | None, rows: list[Row]) -> None:
        main = self._opened()
        sql, bindings = of.page(after, last, len(rows) + 1)
        with storage_errors("copy into", self._directory):
            if main.execute(sql, bindings).fetchall() == rows:
                return
        with self._writing() as main:
            condition, bindings = of.span(after, last)
            main.execute(f"DELETE FROM {of.quoted} WHERE {condition}", bindings)  # noqa: S608 names of the schema
            main.executemany(of.insert, rows)
        self._written += len(rows)
        if self._written >= ROWS_PER_CHECKPOINT:
            self._checkpoint()

    def append(self, batches: list[Batch]) -> None:
        journal = self._following()
        for pos, count, blob in _joined(batches):
            journal.append(pos, count, blob)

    def fold(self) -> FoldResult:
        self._following()
        if self._folder is None:
            settings = DEFAULT_SETTINGS._replace(request_keys_s=NEVER_S)
            self._folder = SqliteFolder.open(self._directory, self._portion, settings)
        return self._folder.fold_once()

    @property
    def next_pos(self) -> int:
        return self._following().next_pos

    def take(self, until_s: float) -> None:
        self._home_lock = patiently(lambda: LockFile(self._home, WRITER_LOCK, "hub"), until_s)

    def finish(self) -> None:
        """Old files that are replaced go first; the new ones come in an order that a crash cannot confuse."""
        assert self._home_lock is not None
        self._end_following()
        super().close()
        if self._directory.exists():
            self._complete()
            if (self._directory / MAIN_NAME).exists() and (self._home / MAIN_NAME).exists():
                for number in segment_numbers(self._home):
                    remove_database(segment_path(self._home, number))
                remove_database(self._home / MAIN_NAME)
            install(self._directory, self._home, self._home_lock)
        self._release()

    def close(self) -> None:
        self._end_following()
        super().close()
        if self._main is not None:
            self._main.close()
            self._main = None
        self._release()

    # ------------------------------------------------------------

    def _refuse_another(self, log_epoch: int) -> None:
        """An older copy of the same data, which was moved away, is replaced at the end."""
        with closing(FilesEnd(self._home)) as old:
            gone = gone_to(old)
            with old.view() as view:
                same = int(view.meta("log_epoch")) == log_epoch
        if not same:
            raise ConfigError(
                f"{self._home} holds another store; a copy is never mixed into one. Give another directory"
            )
        if gone is None:
            raise ConfigError(f"{self._home} holds a store that was not moved away; give another directory")

    def _complete(self) -> None:
        """Not a copy any more, and all of it in one file."""
        path = self._directory / MAIN_NAME
        main, self._main = self._main, None
        with storage_errors("complete", path):
            if main is None and path.exists():
                main = connect(path)
            if main is not None:
                main.pragma("synchronous", 2)
                main.execute("DELETE FROM meta WHERE key = ?", (COPYING,))
                main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                main.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def _following(self) -> Journal:
        if self._journal is None:
            main, lock = self._opened(), self._lock
            assert lock is not None

            def folded() -> int:
                return int(main.execute("SELECT value FROM meta WHERE key = 'folded_pos'").get)

            epoch = int(main.execute("SELECT value FROM meta WHERE key = 'log_epoch'").get)
            self._journal = Journal(self._directory, epoch, lock, Reserve(self._directory, 0, 0))
            self._journal.open(folded)
        return self._journal

    def _end_following(self) -> None:
        for used in (self._folder, self._journal):
            if used is not None:
                used.close()
        self._folder = self._journal = None

    def _release(self) -> None:
        for lock in (self._lock, self._home_lock):
            if lock is not None:
                lock.close()
        self._lock = self._home_lock = None

    def _opened(self) -> apsw.Connection:
        if self._main is None:
            raise StorageError(f"the copy in {self._directory} is not open")
        return self._main

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        main = self._opened()
        with storage_errors("copy into", self._directory):
            main.execute("BEGIN IMMEDIATE")
            try:
                yield main
                main.execute("COMMIT")
            finally:
                if main.in_transaction:
                    main.execute("ROLLBACK")

    def _checkpoint(self) -> None:
        self._written = 0
        with storage_errors("checkpoint", self._directory):
            self._opened().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def install(origin: Path, home: Path, home_lock: LockFile) -> None:
    """Move a store that nobody has open: its journal, which segment is in use, and chatd.db last. Goes on after a crash
    in the middle.
    """
    for path in [*origin.glob("journal-*.db"), *origin.glob("journal-*.db-wal"), origin / SYNCED_NAME]:
        if path.exists():
            path.rename(home / path.name)
    sync_directory(home)
    home_lock.write(str(max(segment_numbers(home), default=0)))
    with suppress(FileNotFoundError):
        (origin / MAIN_NAME).rename(home / MAIN_NAME)
    sync_directory(home)
    if origin.name == INCOMING:
        for path in origin.iterdir():
            path.unlink()
        origin.rmdir()


def withdraw(home: Path, check: Callable[[int], None]) -> None:
    """Take a finished copy out of its place again: all of it will be compared anew. check: told where it ends."""
    if not (home / MAIN_NAME).exists():
        return
    with closing(SqliteStore.open(home)) as store:
        check(store.next_pos - 1)
        log_epoch = store.log_epoch
    with closing(connect(home / MAIN_NAME)) as main:
        main.execute(SET_META, (COPYING, json.dumps(Copying(log_epoch, BULK)._asdict())))
        main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    prepare_directory(home / INCOMING)
    with closing(LockFile(home / INCOMING, WRITER_LOCK, "copier")) as lock:
        install(home, home / INCOMING, lock)


def _joined(batches: list[Batch]) -> Iterator[Batch]:
    """Neighbours as one, up to APPEND_BYTES_MAX."""
    part: list[Batch] = []
    size = 0
    for batch in batches:
        if part and size + len(batch.blob) > APPEND_BYTES_MAX:
            yield _one(part)
            part, size = [], 0
        part.append(batch)
        size += len(batch.blob)
    if part:
        yield _one(part)


def _one(part: list[Batch]) -> Batch:
    return Batch(part[0].pos, sum(batch.record_count for batch in part), b"".join(batch.blob for batch in part))
