"""The journal of a backup: journal.db, a plain SQLite file with the batches as the hub wrote them.

newest_ms is the time of a batch's newest event, 0 when it has none: a restore to a point in time looks at nothing else.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw

from chatd.errors import BackupError
from chatd.storage.backup.manifest import Head, Journal, heads_digest
from chatd.storage.backup.progress import Progress, watched
from chatd.storage.interface import Batch, Portion
from chatd.storage.sqlite.connection import connect, storage_errors

_SCHEMA = """
CREATE TABLE batch(pos INTEGER PRIMARY KEY, count INTEGER NOT NULL, newest_ms INTEGER NOT NULL, blob BLOB NOT NULL);
"""
_READ = "SELECT pos, count, newest_ms, blob FROM batch WHERE pos > ? ORDER BY pos"
_WRITE = "INSERT INTO batch VALUES(?, ?, ?, ?)"
_REPORT_RECORDS = 10_000
_FINDINGS_MAX = 5


class StoredBatch(NamedTuple):
    batch: Batch
    newest_ms: int


class Heads:
    """Where conversations stand after the batches that it was shown."""

    def __init__(self, portion: Callable[[], Portion]) -> None:
        self._portion = portion
        self.of: dict[int, Head] = {}

    def add(self, batch: Batch) -> int:
        """Time of its newest event, 0: none. BackupError when it cannot be read."""
        portion = self._portion()
        try:
            portion.add(*batch)
        except ValueError as error:
            raise BackupError(f"the journal batch at {batch.pos} is damaged: {error}. Run `chatd check`") from error
        newest_ms = 0
        for cid, head_seq, message_count, last_ts, _ in portion.heads():
            self.of[cid] = Head(cid, head_seq, message_count, last_ts)
            newest_ms = max(newest_ms, last_ts)
        return newest_ms

    def digest(self) -> str:
        return heads_digest(self.of[cid] for cid in sorted(self.of))

    def refuse_other(self, known: dict[int, Head], what: str) -> None:
        """known: where the main database has these conversations at the same position. what: holds these batches."""
        for head in self.of.values():
            if known.get(head.cid) != head:
                raise BackupError(
                    f"{what} ends with {head}, but the main database has {known.get(head.cid)}: run `chatd check`"
                )


def write_part(
    path: Path,
    first_pos: int,
    last_pos: int,
    batches: Iterable[Batch],
    portion: Callable[[], Portion],
    report: Progress,
) -> Journal:
    """A new file, not synced. batches: exactly the records first_pos .. last_pos."""
    heads, newest_ms, reported = Heads(portion), 0, first_pos
    with storage_errors("write", path), closing(connect(path, create=True)) as connection:
        # Nobody looks at it before it is complete and synced.
        connection.pragma("synchronous", 0)
        connection.pragma("journal_mode", "memory")
        connection.execute(_SCHEMA)
        connection.execute("BEGIN")
        for batch in batches:
            batch_ms = heads.add(batch)
            newest_ms = max(newest_ms, batch_ms)
            connection.execute(_WRITE, (batch.pos, batch.record_count, batch_ms, batch.blob))
            if batch.pos >= reported + _REPORT_RECORDS:
                reported = batch.pos
                report("journal", batch.pos - first_pos, last_pos - first_pos + 1)
        connection.execute("COMMIT")
    return Journal(first_pos, last_pos, newest_ms, len(heads.of), heads.digest())


def read_part(path: Path, after_pos: int = 0) -> Iterator[StoredBatch]:
    """The batches that begin beyond after_pos, in order."""
    with storage_errors("read", path), closing(connect(path, write=False)) as connection:
        for pos, count, newest_ms, blob in connection.execute(_READ, (after_pos,)):
            yield StoredBatch(Batch(pos, count, blob), newest_ms)


def check_part(
    path: Path,
    journal: Journal,
    portion: Callable[[], Portion],
    report: Progress,
    known: tuple[int, dict[int, Head]] | None = None,
) -> None:
    """Read it again and compare with what the manifest says.

    known: (position, changed_heads of the source at that position).
    BackupError names the file and what is wrong.
    """
    with storage_errors("check", path), closing(connect(path, write=False)) as connection:
        refuse_damaged_pages(connection, path, report)
    heads, pos, newest_ms = Heads(portion), journal.first_pos, 0
    for batch, batch_ms in read_part(path):
        if batch.pos != pos:
            raise BackupError(f"{path}: records {pos} .. {batch.pos - 1} are missing")
        if heads.add(batch) != batch_ms:
            raise BackupError(f"{path}: the batch at {pos} has events of another time than it says")
        pos += batch.record_count
        newest_ms = max(newest_ms, batch_ms)
        if known is not None and pos - 1 == known[0]:
            heads.refuse_other(known[1], str(path))
        report("check", pos - journal.first_pos, journal.last_pos - journal.first_pos + 1)
    found = Journal(journal.first_pos, pos - 1, newest_ms, len(heads.of), heads.digest())
    if found != journal:
        raise BackupError(f"{path} holds {found}, its manifest says {journal}")


def refuse_damaged_pages(connection: apsw.Connection, path: Path, report: Progress) -> None:
    with watched(connection, report, "check"):
        rows = connection.execute(f"PRAGMA quick_check({_FINDINGS_MAX})").fetchall()
    if found := [str(row[0]) for row in rows if row[0] != "ok"]:
        raise BackupError(f"{path} is damaged: {'; '.join(found)}")
