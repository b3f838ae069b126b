"""Restoring: the copy of a full backup, and the journal after it folded up to a commit.

Everything is made under another name, checked, and only then renamed to what was asked for. The log that begins there
has another epoch: clients that were ahead discard their positions and read anew.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from chatd.errors import BackupError
from chatd.storage.backup.catalogue import Backup, Line, read_catalogue
from chatd.storage.backup.copy import changed_heads, described, one_moment
from chatd.storage.backup.journal_part import Heads, StoredBatch, read_part
from chatd.storage.backup.make import locked
from chatd.storage.backup.manifest import JOURNAL_NAME, MANIFEST_NAME, File
from chatd.storage.backup.manifest import MAIN_NAME as COPY_NAME
from chatd.storage.backup.progress import Progress, silent
from chatd.storage.backup.verify import hashed, refuse_changed
from chatd.storage.interface import Batch, Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.directory import MAIN_NAME, sync_directory
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.migrate import load_migrations, migrate
from chatd.storage.sqlite.store import SqliteStore

_COPY_BYTES = 1024 * 1024


class Point(NamedTuple):
    """How far to restore; both 0: to the end. until_ms: up to the last commit before the first event of a later time.
    position: up to the last commit that ends at or before this journal record.
    """

    until_ms: int = 0
    position: int = 0

    def is_beyond(self, stored: StoredBatch) -> bool:
        batch, newest_ms = stored
        if self.position and batch.pos + batch.record_count - 1 > self.position:
            return True
        return bool(self.until_ms) and newest_ms > self.until_ms


class Restored(NamedTuple):
    """What lies there now. position: the last journal record in it. newest_ms: time of its newest event."""

    position: int
    newest_ms: int
    conversations: int
    log_epoch: int
    chain: Line


def restore(
    source: Path, target: Path, point: Point, portion: Callable[[], Portion], report: Progress = silent
) -> Restored:
    """source: a directory of backups, or one backup: what it leads to. target: a directory that is empty or not there.

    Raises BackupError, which says what is wrong with which file, StoreFullError, StorageError.
    """
    target = target.resolve()
    refuse_occupied(target)
    chain = chosen(source.absolute(), point)
    work = target.parent / f".{target.name}.restoring"
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(
            f"{work} cannot be made: {error.strerror}. A restore works beside its target: name a directory below one "
            "of yours, or run it as root and give the result to the server's user (chown -R)"
        ) from error
    with locked(work, "restore.lock", "being restored to"):
        for path in work.iterdir():
            if path.name != "restore.lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            _verified_copy(chain, work, report)
            restored = _replay(chain, work, point, portion, report)
            (work / "restore.lock").unlink()
            sync_directory(work)
            refuse_occupied(target)
            work.rename(target)
            sync_directory(target.parent)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return restored


def refuse_occupied(target: Path) -> None:
    with suppress(FileNotFoundError):
        try:
            occupied = any(target.iterdir())
        except NotADirectoryError:
            occupied = True
        if occupied:
            raise BackupError(
                f"{target} is not empty; a restore overwrites nothing. Name a directory that is not there"
            )


# ------------------------------------------------------------ which backups


def chosen(source: Path, point: Point) -> Line:
    """The full backup from which the point is reached soonest, and what continues it."""
    if (source / MANIFEST_NAME).exists() or not source.is_dir():
        return _leading_to(source, point)
    catalogue = read_catalogue(source)
    chains = [chain for chain in catalogue.chains() if reaches(chain, point)]
    if not chains:
        whole = ", ".join(span(line) for line in catalogue.lines) or "nothing"
        raise BackupError(
            ". ".join(
                [f"no backups in {source} that are whole reach that point; there is {whole}", *catalogue.problems()]
            )
        )
    newest_log = max(chains, key=lambda chain: chain.tip.name).full.manifest.log_epoch
    same_log = [chain for chain in chains if chain.full.manifest.log_epoch == newest_log]
    chain = max(same_log, key=lambda chain: (chain.tip.manifest.last_pos, _folded(chain.full)))
    # What is newest here may not be what was newest: somebody has to say that this is wanted.
    doubts = catalogue.problems(after=chain.tip.name)
    if doubts and not point.position and not 0 < point.until_ms <= chain.tip.manifest.ended_ms:
        raise BackupError(
            f"{'. '.join(doubts)}. To restore what is whole before it: `chatd restore {chain.tip.path}`, or an earlier "
            "--until or --position"
        )
    return chain


def _leading_to(path: Path, point: Point) -> Line:
    """One backup was named."""
    catalogue = read_catalogue(path.parent)
    chain = catalogue.leading_to(path)
    if chain is None:
        raise BackupError(". ".join(catalogue.problems()) or f"{path} is no backup; `chatd backup list` names them")
    if not reaches(chain, point):
        raise BackupError(f"{path} does not reach that point: it leads over {span(chain)}")
    return chain


def reaches(chain: Line, point: Point) -> bool:
    """The full one does not lie beyond it, and for a position the chain does not end before."""
    main = chain.full.manifest.main
    if main is None:
        return False
    if point.position:
        return main.folded_pos <= point.position <= chain.tip.manifest.last_pos
    return not point.until_ms or main.newest_ms <= point.until_ms


def span(chain: Line) -> str:
    return f"positions {_folded(chain.full)} to {chain.tip.manifest.last_pos} ({chain.full.name} to {chain.tip.name})"


def _folded(full: Backup) -> int:
    return full.manifest.main.folded_pos if full.manifest.main else 0


# ------------------------------------------------------------ making it


class BackupJournal:
    """The batches of a chain as the folder reads them, up to the point. See folder.Source."""

    def __init__(self, chain: Line, point: Point, portion: Callable[[], Portion], report: Progress) -> None:
        self.heads = Heads(portion)
        self._parts = [(backup.path / JOURNAL_NAME, backup.manifest.journal) for backup in chain.backups]
        self._point, self._report = point, report
        self._first_pos, self._last_pos = _folded(chain.full) + 1, self._parts[-1][1].last_pos

    def batches_after(self, after_pos: int) -> Iterator[Batch]:
        self._report("replay", after_pos - self._first_pos + 1, self._last_pos - self._first_pos + 1)
        for path, journal in self._parts:
            if journal.last_pos <= after_pos:
                continue
            for stored in read_part(path, after_pos):
                if self._point.is_beyond(stored):
                    return
                self.heads.add(stored.batch)
                yield stored.batch

    def unlink_folded(self, folded_pos: int, age_s: float) -> None:
        """They are somebody's backup."""

    def make_room(self, *, full: bool) -> None:
        """Nothing here is ours."""

    def close(self) -> None:
        """Each part was closed when it had been read."""


def _verified_copy(chain: Line, work: Path, report: Progress) -> None:
    """Every file that is needed is what was written; the full copy lies in `work`."""
    for backup in chain.backups:
        path = backup.path / JOURNAL_NAME
        refuse_changed(path, backup.manifest.files[JOURNAL_NAME], hashed(path, report))
    path = chain.full.path / COPY_NAME
    refuse_changed(path, chain.full.manifest.files[COPY_NAME], copied(path, work / MAIN_NAME, report))
    with storage_errors("prepare", work / MAIN_NAME), closing(connect(work / MAIN_NAME)) as connection:
        if described(connection) != chain.full.manifest.main:
            raise BackupError(f"{path} is not what its manifest says")
        connection.pragma("journal_mode", "wal")
        # It may be of an older version; what is folded into it is written by this one.
        migrate(connection, load_migrations())


def copied(path: Path, to: Path, report: Progress) -> File:
    """What was read and written, in one pass."""
    digest, size_bytes, of = hashlib.sha256(), 0, path.stat().st_size
    with storage_errors("write", to), path.open("rb") as file, to.open("xb") as copy:
        while chunk := file.read(_COPY_BYTES):
            digest.update(chunk)
            size_bytes += copy.write(chunk)
            report("copy", size_bytes, of)
        copy.flush()
        os.fsync(copy.fileno())
    return File(size_bytes, digest.hexdigest())


def _replay(chain: Line, work: Path, point: Point, portion: Callable[[], Portion], report: Progress) -> Restored:
    journal = BackupJournal(chain, point, portion, report)
    settings = FoldSettings(reserve_bytes=0, slack_bytes=0)
    with closing(SqliteFolder.open(work, portion, settings, journal)) as folder:
        while folder.fold_once().more:
            pass
        folder.settle()
    with one_moment(work / MAIN_NAME) as moment:
        main = described(moment)
        journal.heads.refuse_other(changed_heads(moment, _folded(chain.full) + 1), "the journal of these backups")
    with closing(SqliteStore.open(work, accept_lost_journal=True)) as store:
        log_epoch = store.log_epoch
    report("check", 0, 0)
    if findings := check_store(work).findings:
        raise BackupError(f"what was restored contradicts itself: {findings[0].text}. Restore to an earlier point")
    return Restored(main.folded_pos, main.newest_ms, main.conversations, log_epoch, chain)
