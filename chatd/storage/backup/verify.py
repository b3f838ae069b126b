"""Is a backup what its manifest says? Every file is read."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from chatd.errors import BackupError
from chatd.storage.backup.catalogue import Backup
from chatd.storage.backup.copy import described
from chatd.storage.backup.journal_part import check_part, refuse_damaged_pages
from chatd.storage.backup.manifest import JOURNAL_NAME, MAIN_NAME, File, Main
from chatd.storage.backup.progress import Progress, watched
from chatd.storage.interface import Portion
from chatd.storage.sqlite.check import check_rules
from chatd.storage.sqlite.connection import connect, storage_errors

_READ_BYTES = 1024 * 1024


def verify(backup: Backup, portion: Callable[[], Portion], report: Progress) -> None:
    """BackupError names the file that is damaged and what to do."""
    for name, file in backup.manifest.files.items():
        refuse_changed(backup.path / name, file, hashed(backup.path / name, report))
    if backup.manifest.main is not None:
        check_copy(backup.path / MAIN_NAME, backup.manifest.main, report)
    check_part(backup.path / JOURNAL_NAME, backup.manifest.journal, portion, report)


def refuse_changed(path: Path, written: File, found: File) -> None:
    if found != written:
        without = (
            "move it away and an earlier full backup is used"
            if path.name == MAIN_NAME
            else "restore to before it (--until, --position), or name an earlier backup"
        )
        raise BackupError(
            f"{path} is damaged: it is not what was written (sha256 {found.sha256[:16]} instead of "
            f"{written.sha256[:16]}). Put this file back from another copy of the backup; without one {without}"
        )


def hashed(path: Path, report: Progress) -> File:
    digest, size_bytes = hashlib.sha256(), 0
    of = path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
            report("hash", size_bytes, of)
    return File(size_bytes, digest.hexdigest())


def check_copy(path: Path, main: Main, report: Progress) -> None:
    """Pages, the rules of `chatd check`, and the heads that the source had."""
    with storage_errors("check", path), closing(connect(path, write=False)) as connection:
        refuse_damaged_pages(connection, path, report)
        with watched(connection, report, "check"):
            findings = list(check_rules(connection))
            found = described(connection)
    if findings:
        texts = "; ".join(finding.text for finding in findings[:3])
        raise BackupError(f"{path} contradicts itself: {texts}. Run `chatd check` on the data directory")
    if found != main:
        raise BackupError(f"{path} differs from the store it was made of: {found} instead of {main}")
