"""One journal segment: a SQLite file that only ever grows, in its WAL, and is unlinked whole.

Facts: appending a row to a rowid table and syncing the WAL costs one write of a few pages and one fsync. A checkpoint
would write everything a second time. A reader in another process (the folder) sees a commit only after its fsync,
because SQLite publishes it in the WAL index last.
Consequence: never checkpoint; the WAL is the journal, the file beside it stays almost empty; a segment that has been
folded is removed, not emptied.
Price: SQLite takes the first frame whose checksum is wrong for the end of the WAL. That is right for a torn last write
and wrong for a damaged middle, which would silently drop everything after it. So opening looks behind that end: a torn
write leaves at most one transaction there, since the next one is written only after the fsync of the one before.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import apsw

from chatd.errors import StoreCorruptError
from chatd.storage.interface import Batch
from chatd.storage.sqlite.connection import connect
from chatd.storage.sqlite.directory import removing_on_error, sync_directory

FORMAT = 1
PAGE_BYTES = 4096
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE segment(format INTEGER, log_epoch INTEGER, first_pos INTEGER, created_ms INTEGER);
CREATE TABLE batch(pos INTEGER PRIMARY KEY, count INTEGER NOT NULL, blob BLOB NOT NULL);
COMMIT;
"""
_APPEND = "INSERT INTO batch(pos, count, blob) VALUES(?, ?, ?)"

# sqlite.org/fileformat2.html, section 4.1: header of 32 bytes; frames of 24 bytes (page, size after commit, salts,
# checksums) and a page. Size after commit is 0 but for the last frame of a transaction.
_WAL_HEADER_BYTES = 32
_FRAME_BYTES = 24 + PAGE_BYTES
_WAL_SALTS_OFFSET = 16
_FRAME = Struct(">II8s8s")
# What is written anew at the end of the WAL when a segment is opened, beyond the last batch itself.
_HARDEN_SLACK_BYTES = 256 * 1024


class SegmentHeader(NamedTuple):
    log_epoch: int
    first_pos: int
    created_ms: int


class SegmentRange(NamedTuple):
    """first_pos .. next_pos-1 lie in it, its last batch begins at last_pos; empty when all are equal."""

    first_pos: int
    last_pos: int
    next_pos: int


def wal_path(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def make_segment(path: Path, vfs: str | None) -> apsw.Connection:
    """A new, durable, empty segment without a header. Whatever fails, no file stays behind. Raises apsw.Error and
    OSError."""
    with removing_on_error(path):
        connection = connect(path, vfs=vfs, create=True)
        try:
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", 2)
            connection.pragma("cache_spill", 0)
            connection.execute(_SCHEMA)
            sync_directory(path.parent)
        except BaseException:
            connection.close(True)
            raise
    return connection


def begin_segment(connection: apsw.Connection, path: Path, header: SegmentHeader) -> None:
    """Give it its header, which makes it part of the journal. Whatever fails, no file stays behind."""
    with removing_on_error(path):
        try:
            connection.execute("INSERT INTO segment VALUES(?, ?, ?, ?)", (FORMAT, *header))
        except BaseException:
            connection.close(True)
            raise


def open_segment(path: Path, vfs: str | None, *, write: bool) -> apsw.Connection:
    connection = connect(path, vfs=vfs, write=write)
    # Synced with every commit, and the directory entry of the WAL with its first.
    connection.pragma("synchronous", 2)
    # A batch may be larger than the cache, and still goes into the WAL in one piece.
    connection.pragma("cache_spill", 0)
    return connection


def read_header(connection: apsw.Connection, path: Path) -> SegmentHeader | None:
    """None when it never got one: its creation was cut short, or its WAL is gone."""
    if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'segment'").get == 0:
        return None
    row = connection.execute("SELECT format, log_epoch, first_pos, created_ms FROM segment").fetchone()
    if row is None:
        return None
    if row[0] != FORMAT:
        raise StoreCorruptError(f"{path} has journal format {row[0]}, this version reads {FORMAT}")
    return SegmentHeader(*row[1:])


def read_range(connection: apsw.Connection, header: SegmentHeader, path: Path) -> SegmentRange:
    """Which positions it holds. Raises StoreCorruptError when some are missing in between."""
    row = connection.execute("SELECT min(pos), max(pos), sum(count) FROM batch").fetchone()
    first, last, records = row or (None, 0, 0)
    if first is None:
        return SegmentRange(header.first_pos, header.first_pos, header.first_pos)
    last_count = connection.execute("SELECT count FROM batch WHERE pos = ?", (last,)).get
    if first != header.first_pos or last + last_count - first != records:
        raise StoreCorruptError(
            f"{path} is incomplete: it begins at {header.first_pos} and ends at {last + last_count - 1}, "
            f"but holds {records} records from {first} on"
        )
    return SegmentRange(first, last, last + last_count)


def append_batch(connection: apsw.Connection, pos: int, count: int, blob: bytes) -> None:
    connection.execute(_APPEND, (pos, count, blob))


def wal_bytes(connection: apsw.Connection) -> int:
    """How much of the WAL is in use; the file may be longer."""
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return _WAL_HEADER_BYTES + frames * _FRAME_BYTES


def batches_after(connection: apsw.Connection, after_pos: int) -> Iterator[Batch]:
    """Batches with records beyond after_pos, in order; the first may begin at or before it."""
    begin = connection.execute("SELECT max(pos) FROM batch WHERE pos <= ?", (after_pos + 1,)).get
    for row in connection.execute("SELECT pos, count, blob FROM batch WHERE pos >= ? ORDER BY pos", (begin or 0,)):
        if row[0] + row[1] > after_pos + 1:
            yield Batch(*row)


def check_wal_end(connection: apsw.Connection, path: Path) -> None:
    """Refuse a WAL that is damaged before its end. Reads frame heads only, behind the end that SQLite recognised.

    A damaged *last* transaction looks like a torn write and cannot be told from one.
    """
    begin = wal_bytes(connection)
    try:
        descriptor = os.open(wal_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        salts = os.pread(descriptor, 8, _WAL_SALTS_OFFSET)
        size = os.fstat(descriptor).st_size
        commits = 0
        for offset in range(begin, size - _FRAME.size, _FRAME_BYTES):
            _, pages_after_commit, frame_salts, _ = _FRAME.unpack(os.pread(descriptor, _FRAME.size, offset))
            commits += pages_after_commit != 0 and frame_salts == salts
    finally:
        os.close(descriptor)
    if commits > 1:
        raise StoreCorruptError(
            f"{wal_path(path)} is damaged after byte {begin}: {commits} committed batches lie behind it. "
            "Restore the file from a backup or replica; do not delete it, those batches were acknowledged"
        )


def harden_end(connection: apsw.Connection, path: Path) -> None:
    """Cut off what lies behind the end of the WAL, write its last batch anew and sync both.

    A batch whose fsync failed lies complete behind the end while another process (the folder) keeps the WAL index that
    does not count it. Mostly the next batch is written over it; but when that one begins a new segment, and the index
    is made anew one day, the old segment would have grown by a batch that nobody was promised.

    A process killed between write and fsync leaves a batch that recovery takes for committed though it lies in the page
    cache only. After a failed fsync Linux even calls those pages clean, so that another fsync would lie
    (wiki.postgresql.org/wiki/Fsync_Errors). Writing the same bytes makes them dirty again; at most the last batch is
    concerned, since every earlier one had its fsync.
    """
    last_bytes = connection.execute("SELECT length(blob) FROM batch ORDER BY pos DESC LIMIT 1").get or 0
    end = wal_bytes(connection)
    cut_wal(path, end)
    rewrite_wal(path, max(0, end - 2 * last_bytes - _HARDEN_SLACK_BYTES), end)


def cut_wal(path: Path, size_bytes: int) -> None:
    """Make the WAL of `path` no longer than this. Nobody else may write meanwhile; nobody reads behind its end."""
    with suppress(FileNotFoundError):
        if wal_path(path).stat().st_size > size_bytes:
            os.truncate(wal_path(path), size_bytes)


def rewrite_wal(path: Path, begin: int = 0, end: int | None = None) -> None:
    """Write these bytes of the WAL of `path` as they are, and sync it. Nobody else may write meanwhile. end: that of
    the file without one."""
    try:
        descriptor = os.open(wal_path(path), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(descriptor).st_size
        offset, end = begin, size if end is None else min(size, end)
        while offset < end:
            chunk = os.pread(descriptor, min(1024 * 1024, end - offset), offset)
            os.pwrite(descriptor, chunk, offset)
            offset += len(chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
