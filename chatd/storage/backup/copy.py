"""A copy of the main database while the folder goes on writing to it.

Facts: SQLite's online backup begins anew whenever another process has written, and the folder writes every second. But
in WAL mode a read transaction sees one moment for as long as it lasts, and steps taken within one never begin anew.
Consequence: one read transaction, and steps of a megabyte, each synced after a few, so that the disk has no flood of
dirty pages to write when somebody's acknowledgement waits for it. (`bench backup` has VACUUM INTO beside it.)
Price: the write-ahead log of the main database cannot be begun anew meanwhile, so it grows by what is folded; the copy
is given up when the disk gets short.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from chatd.errors import BackupError
from chatd.storage.backup.manifest import Head, Main, heads_digest
from chatd.storage.backup.progress import Pace, Progress
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.database import PAGE_BYTES, meta_number
from chatd.storage.sqlite.directory import MAIN_NAME, free_bytes
from chatd.storage.sqlite.kept import FREE_BYTES_MIN

_STEP_PAGES = 256
_SYNC_EVERY_STEPS = 8
_HEADS = "SELECT id, head_seq, message_count, last_ts FROM conversation ORDER BY id"
_CHANGED_HEADS = "SELECT id, head_seq, message_count, last_ts FROM conversation WHERE changed_pos >= ?"


@contextmanager
def one_moment(path: Path) -> Iterator[apsw.Connection]:
    """A read transaction on a main database."""
    with storage_errors("read", path), closing(connect(path, write=False)) as connection:
        connection.execute("BEGIN")
        # SQLite takes its snapshot with the first read.
        meta_number(connection, "folded_pos")
        yield connection
        connection.execute("ROLLBACK")


def described(connection: apsw.Connection) -> Main:
    newest_ms = connection.execute("SELECT ifnull(max(last_ts), 0) FROM conversation").get
    conversations = connection.execute("SELECT count(*) FROM conversation").get
    heads = heads_digest(connection.execute(_HEADS))
    return Main(meta_number(connection, "folded_pos"), newest_ms, conversations, heads)


def changed_heads(connection: apsw.Connection, first_pos: int) -> dict[int, Head]:
    """By cid, of all conversations with events from this record on, and of some without."""
    return {row[0]: Head(*row) for row in connection.execute(_CHANGED_HEADS, (first_pos,))}


def copy_pages(data: Path, moment: apsw.Connection, path: Path, pace: Pace, report: Progress) -> None:
    """moment: of `one_moment`. path: a new file, complete and synced when this returns."""
    with storage_errors("write", path), closing(connect(path, create=True)) as copy:
        # Nobody looks at it before it is complete and synced.
        copy.pragma("synchronous", 0)
        copy.pragma("journal_mode", "memory")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with copy.backup("main", moment, "main") as steps:
                taken = 0
                while not steps.done:
                    steps.step(_STEP_PAGES)
                    taken += 1
                    if taken % _SYNC_EVERY_STEPS == 0:
                        os.fdatasync(descriptor)
                        refuse_short_disk(data)
                    pace.done(_STEP_PAGES * PAGE_BYTES)
                    report("main", (steps.page_count - steps.remaining) * PAGE_BYTES, steps.page_count * PAGE_BYTES)
        finally:
            os.close(descriptor)
    with storage_errors("write", path), closing(connect(path)) as copy:
        # It came with the mode of its source; a file that stands for itself has no WAL beside it.
        copy.pragma("journal_mode", "delete")


def refuse_short_disk(data: Path) -> None:
    if free_bytes(data) < FREE_BYTES_MIN:
        raise BackupError(
            f"the backup was given up: less than {FREE_BYTES_MIN >> 20} MiB are free beside {data / MAIN_NAME}, whose "
            "write-ahead log grows while it is copied. The server is not affected. Free some space, or allow a quicker "
            "copy (backup.copy_bytes_per_s)"
        )
