"""What lies in a directory of backups: lines that are whole, and what is wrong with the rest.

The journal of every backup, of a full one too, continues the backup before it. So a line goes on through full ones, and
any of them may be the beginning of a restore: a damaged copy of the main database costs time, not messages.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from chatd.errors import BackupError
from chatd.storage.backup.manifest import JOURNAL_NAME, MAIN_NAME, MANIFEST_NAME, File, Manifest, read_manifest

KINDS = ("-full", "-incremental")


class Backup(NamedTuple):
    """Names begin with the time (UTC), so that they sort by it."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.path.name


class Line(NamedTuple):
    """Backups of which each continues the one before it; the first is a full one."""

    backups: tuple[Backup, ...]

    @property
    def full(self) -> Backup:
        return self.backups[0]

    @property
    def tip(self) -> Backup:
        return self.backups[-1]

    def fulls(self) -> Iterator[int]:
        """Their places in it."""
        return (index for index, backup in enumerate(self.backups) if backup.manifest.main is not None)

    def chains(self) -> "Iterator[Line]":
        """What can be restored: from each full one to the end."""
        return (Line(self.backups[index:]) for index in self.fulls())

    def sets(self) -> "list[Line]":
        """Each full one with the incremental ones up to the next: what is kept or deleted together."""
        return [Line(self.backups[begin:end]) for begin, end in pairwise([*self.fulls(), len(self.backups)])]


class Catalogue(NamedTuple):
    """lines: oldest first. damaged: directory → what is wrong with it. orphans: incremental backups without the one
    that they continue.
    """

    lines: list[Line]
    damaged: dict[Path, str]
    orphans: list[Backup]

    def chains(self) -> list[Line]:
        return [chain for line in self.lines for chain in line.chains()]

    def newest(self, log_epoch: int) -> Line | None:
        """Of this log: the one that leads furthest."""
        own = [line for line in self.lines if line.full.manifest.log_epoch == log_epoch]
        return max(own, key=lambda line: (line.tip.manifest.last_pos, line.tip.manifest.begun_ms), default=None)

    def leading_to(self, path: Path) -> Line | None:
        """From the last full one before it, or itself. None: it is in no line that is whole."""
        for one in (one for line in self.lines for one in line.sets()):
            for index, backup in enumerate(one.backups):
                if backup.path == path:
                    return Line(one.backups[: index + 1])
        return None

    def problems(self, after: str = "") -> list[str]:
        """One sentence for everything that is not whole and has a later name."""
        found = {path: text for path, text in self.damaged.items() if path.name > after}
        for orphan in self.orphans:
            if orphan.name > after:
                found[orphan.path] = f"{orphan.path} continues a backup that is not whole or not there"
        return [found[path] for path in sorted(found)]


def read_catalogue(root: Path) -> Catalogue:
    """BackupError when the directory cannot be read; what is in it is judged one by one."""
    good: dict[str, Backup] = {}
    damaged: dict[Path, str] = {}
    for path in _directories(root):
        try:
            manifest = read_manifest(path)
            refuse_incomplete(path / JOURNAL_NAME, manifest.files[JOURNAL_NAME])
        except BackupError as error:
            damaged[path] = str(error)
            continue
        try:
            if manifest.main is not None:
                refuse_incomplete(path / MAIN_NAME, manifest.files[MAIN_NAME])
        except BackupError as error:
            damaged[path] = str(error)
            # Its journal continues a line all the same.
            manifest = manifest._replace(main=None, files={JOURNAL_NAME: manifest.files[JOURNAL_NAME]})
        good[manifest.id] = Backup(path, manifest)
    followers: dict[str, list[Backup]] = {}
    for backup in good.values():
        followers.setdefault(backup.manifest.parent, []).append(backup)
    # A full one whose parent is gone begins a line: retention deletes what is old.
    begins = [one for one in good.values() if one.manifest.main is not None and one.manifest.parent not in good]
    lines = [_line(full, followers) for full in begins]
    linked = {backup.path for line in lines for backup in line.backups}
    orphans = [backup for backup in good.values() if backup.path not in linked]
    return Catalogue(
        sorted(lines, key=lambda line: line.full.name), damaged, sorted(orphans, key=lambda backup: backup.name)
    )


def refuse_incomplete(path: Path, file: File) -> None:
    """BackupError when it is missing or has another size."""
    try:
        size_bytes = path.stat().st_size
    except OSError:
        size_bytes = -1
    if size_bytes != file.size_bytes:
        found = "is missing" if size_bytes < 0 else f"has {size_bytes} bytes instead of {file.size_bytes}"
        raise BackupError(f"{path} {found}. Put it back from another copy of this backup")


def _directories(root: Path) -> list[Path]:
    try:
        found = [path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
    except OSError as error:
        raise BackupError(f"{root} cannot be read: {error.strerror}. Which directory holds the backups?") from error
    # Anything else that an operator keeps there has no manifest, and no name like ours.
    return sorted(path for path in found if (path / MANIFEST_NAME).exists() or path.name.endswith(KINDS))


def _line(full: Backup, followers: dict[str, list[Backup]]) -> Line:
    """Where two continue the same one, the one that leads further."""
    backups = [full]
    while found := followers.get(backups[-1].manifest.id):
        backups.append(max(found, key=lambda backup: backup.manifest.last_pos))
    return Line(tuple(backups))
