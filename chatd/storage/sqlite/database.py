"""The main database file: created whole or not at all, checked before it is trusted.

Settings and why they are safe. `synchronous=NORMAL` in WAL mode: a commit is not synced, so a power loss may take back
the newest folds, but never half of one and never their order. Nothing is lost by that, because a fold's rows and its
`folded_pos` are one transaction and a segment is unlinked only after a checkpoint, which syncs the WAL before and the
database after it. So what a power loss takes back is still in the journal and is folded again.
"""

import time
from pathlib import Path

import apsw

from chatd.errors import StoreCorruptError
from chatd.storage.counters import new_log_epoch
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.directory import MAIN_NAME, remove_database, removing_on_error, sync_directory
from chatd.storage.sqlite.migrate import load_migrations, migrate

# Measured (2 cores, 2026-11): 4 KiB folds fastest, 8 KiB costs 1 us a row more in WAL and checkpoint.
PAGE_BYTES = 4096
# The first check of a start is cut here; `chatd check` reads everything.
START_CHECK_MS = 500
_START_CHECK_FINDINGS = 20
_PROGRESS_STEPS = 10_000


def open_main(directory: Path, vfs: str | None) -> apsw.Connection:
    """Open the main database for writing, created if the directory has none, migrated and checked.

    The caller holds the writer's lock. Raises StoreCorruptError with the check's findings.
    """
    path = directory / MAIN_NAME
    if not path.exists():
        _create(directory, vfs)
    if path.stat().st_size == 0:
        raise StoreCorruptError(f"{path} is empty. Restore it from a backup; it is never made anew")
    with storage_errors("open", path):
        connection = connect(path, vfs=vfs)
        try:
            connection.pragma("synchronous", 1)
            refuse_if_damaged(connection, path)
            migrate(connection, load_migrations())
        except BaseException:
            connection.close(True)
            raise
    return connection


def _create(directory: Path, vfs: str | None) -> None:
    """Complete under another name first: a file called chatd.db always has its schema and its log epoch."""
    path = directory / (MAIN_NAME + ".new")
    remove_database(path)
    with storage_errors("create", path), removing_on_error(path):
        connection = connect(path, vfs=vfs, create=True)
        connection.pragma("page_size", PAGE_BYTES)
        connection.pragma("synchronous", 2)
        migrate(connection, load_migrations())
        meta = {"log_epoch": new_log_epoch(), "boot_count": 0, "folded_pos": 0}
        connection.executemany("INSERT INTO meta VALUES(?, ?)", meta.items())
        connection.pragma("journal_mode", "wal")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        connection.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(directory / MAIN_NAME)
        sync_directory(directory)


def refuse_if_damaged(connection: apsw.Connection, path: Path) -> None:
    """quick_check for START_CHECK_MS at most: all of a small database, the first part of a large one."""
    deadline = time.monotonic() + START_CHECK_MS / 1000
    findings: list[str] = []
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
    try:
        rows = connection.execute(f"PRAGMA quick_check({_START_CHECK_FINDINGS})")
        findings = [str(row[0]) for row in rows if row[0] != "ok"]
    except apsw.InterruptError:
        pass
    except (apsw.CorruptError, apsw.NotADBError) as error:
        findings = [str(error)]
    finally:
        connection.set_progress_handler(None)
    if findings:
        raise StoreCorruptError(
            f"{path} is damaged and will not be opened. Restore it from a backup; keep the journal files. Found:",
            tuple(findings),
        )


def meta_number(connection: apsw.Connection, key: str) -> int:
    value = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).get
    return int(value) if value is not None else 0
