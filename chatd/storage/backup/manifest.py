"""What a backup says about itself: manifest.json, written last and renamed into place with its directory.

It carries its own digest, so that a damaged one is recognised, and those of all files beside it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chatd.errors import BackupError

FORMAT = 1
MANIFEST_NAME, MAIN_NAME, JOURNAL_NAME = "manifest.json", "chatd.db", "journal.db"


class Head(NamedTuple):
    cid: int
    head_seq: int
    message_count: int
    last_ts: int


class File(NamedTuple):
    size_bytes: int
    sha256: str


class Main(NamedTuple):
    """A copy of the main database: all records up to folded_pos. newest_ms: time of its newest event, 0: none."""

    folded_pos: int
    newest_ms: int
    conversations: int
    heads: str
    """heads_digest of all conversations."""


class Journal(NamedTuple):
    """Records first_pos .. last_pos, whole batches; last_pos = first_pos - 1: none."""

    first_pos: int
    last_pos: int
    newest_ms: int
    conversations: int
    heads: str
    """heads_digest of those with events among these records, as of last_pos."""


class Manifest(NamedTuple):
    """id: random. parent: the backup that an incremental one continues, "" for a full one."""

    id: str
    parent: str
    log_epoch: int
    begun_ms: int
    ended_ms: int
    version: str
    files: dict[str, File]
    main: Main | None
    journal: Journal

    @property
    def kind(self) -> str:
        return "full" if self.main else "incremental"

    @property
    def last_pos(self) -> int:
        return self.journal.last_pos

    @property
    def newest_ms(self) -> int:
        """Time of the newest event that it brings."""
        return max(self.journal.newest_ms, self.main.newest_ms if self.main else 0)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


def heads_digest(heads: Iterable[Sequence[Any]]) -> str:
    """heads: Head or rows of the same order, by cid."""
    digest = hashlib.sha256()
    for head in heads:
        digest.update(b"%d %d %d %d\n" % tuple(head))
    return digest.hexdigest()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Durable when it returns, but for the directory's entry."""
    content = as_json(manifest)
    content["sha256"] = _digest(content)
    with (directory / MANIFEST_NAME).open("x", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_manifest(directory: Path) -> Manifest:
    """BackupError when it is not as it was written, or of a format that this version does not know."""
    path = directory / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("sha256")
        known = content.pop("format")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackupError(f"{path} cannot be read ({error}). Put it back from another copy of this backup") from error
    if digest != _digest(content | {"format": known}):
        raise BackupError(f"{path} is damaged: its digest is another. Put it back from another copy of this backup")
    if known != FORMAT:
        raise BackupError(
            f"{path} has format {known}, this version of chatd reads {FORMAT}: install the one that made it"
        )
    content["files"] = {name: File(**file) for name, file in content["files"].items()}
    content["main"] = Main(**content["main"]) if content["main"] else None
    content["journal"] = Journal(**content["journal"])
    return Manifest(**content)


def as_json(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = {"format": FORMAT, **manifest._asdict()}
    content["files"] = {name: file._asdict() for name, file in manifest.files.items()}
    content["main"] = manifest.main._asdict() if manifest.main else None
    content["journal"] = manifest.journal._asdict()
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
