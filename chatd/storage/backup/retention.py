"""Which backups may go: whole sets, a full one with its incrementals, never the last good one."""

import shutil
from pathlib import Path
from typing import NamedTuple

from chatd.storage.backup.catalogue import Backup, Line, read_catalogue
from chatd.storage.backup.make import PARTIAL_SUFFIX, ROOT_LOCK, locked
from chatd.storage.sqlite.directory import sync_directory

DAY_MS = 86_400_000


class Keep(NamedTuple):
    """A set goes when its last backup is older than so many days, and so many newer sets are whole (at least one)."""

    days: int
    fulls: int


def superseded(lines: list[Line], log_epoch: int, keep: Keep, now_ms: int) -> list[Line]:
    """Oldest first. Backups of another log are left to the operator: only he knows whether he needs them."""
    own = [one for line in lines if line.full.manifest.log_epoch == log_epoch for one in line.sets()]
    own.sort(key=lambda one: one.full.name)
    return [one for one in own[: -max(1, keep.fulls)] if one.tip.manifest.ended_ms < now_ms - keep.days * DAY_MS]


def prune(root: Path, log_epoch: int, keep: Keep, now_ms: int) -> list[Backup]:
    """Delete what is superseded; what was deleted. Newest first within a set: cut short, what is left is whole."""
    gone: list[Backup] = []
    with locked(root, ROOT_LOCK, "written to"):
        for one in superseded(read_catalogue(root).lines, log_epoch, keep, now_ms):
            for backup in reversed(one.backups):
                # Under a name that nobody takes for a backup, and that the next backup removes.
                hidden = root / f".{backup.name}{PARTIAL_SUFFIX}"
                backup.path.rename(hidden)
                sync_directory(root)
                shutil.rmtree(hidden)
                gone.append(backup)
    return gone
