"""Plain numbered SQL, applied once each, in order, with checksums; the same rules for every store.

A file that was applied never changes: the checksum of what this database got must equal the file's. A database with a
migration that this version does not have was written by a newer one; opening it would be guessing.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chatd.errors import StorageError

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    sha256: str


class Plan(NamedTuple):
    """What a database has and what a start would apply."""

    applied: list[Migration]
    pending: list[Migration]


def load_migrations(directory: Path) -> list[Migration]:
    """The files of a directory, numbered 1, 2, 3 … without gaps."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise StorageError(f"{path} is not the migration {len(found) + 1:04d}_name.sql")
        sql = path.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    return found


def plan(database: str, applied: Sequence[Sequence[Any]], migrations: list[Migration]) -> Plan:
    """applied: (number, name, sha256) as the database has them, by number.

    Raises StorageError when the database has a migration that is unknown or was changed.
    """
    for index, (number, name, sha256) in enumerate(applied):
        if index >= len(migrations):
            raise StorageError(
                f"{database} has migration {number:04d}_{name}, which this version of chatd does not know: "
                "it was written by a newer version. Install that one, or restore a backup made before the upgrade"
            )
        if migrations[index].sha256 != sha256:
            raise StorageError(
                f"{database} was made with another text of migration {number:04d}_{name} "
                f"(sha256 {sha256[:16]}, here {migrations[index].sha256[:16]}). Reinstall chatd: the file was changed"
            )
    return Plan(migrations[: len(applied)], migrations[len(applied) :])
