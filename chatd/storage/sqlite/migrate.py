"""Plain numbered SQL, applied once each, in order, with checksums.

A file that was applied never changes: the checksum of what this database got must equal the file's. A database with a
migration that this version does not have was written by a newer one; opening it would be guessing.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from chatd.errors import StorageError

DIRECTORY = Path(__file__).parent / "migrations"
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# meta holds what the store itself must remember: log_epoch, boot_count, folded_pos, highest ids.
_BOOTSTRAP = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS migration(number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL);
"""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    sha256: str


def load_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """The files of a directory, numbered 1, 2, 3 … without gaps."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise StorageError(f"{path} is not the migration {len(found) + 1:04d}_name.sql")
        sql = path.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    return found


def migrate(connection: apsw.Connection, migrations: list[Migration]) -> int:
    """Apply what is missing, each in a transaction of its own; returns how many were applied.

    Raises StorageError, before touching anything, when the database has a migration that is unknown or was changed.
    """
    connection.execute(_BOOTSTRAP)
    applied: list[Any] = connection.execute("SELECT number, name, sha256 FROM migration ORDER BY number").fetchall()
    for index, (number, name, sha256) in enumerate(applied):
        if index >= len(migrations):
            raise StorageError(
                f"{connection.filename} has migration {number:04d}_{name}, which this version of chatd does not know: "
                "it was written by a newer version. Install that one, or restore a backup made before the upgrade"
            )
        if migrations[index].sha256 != sha256:
            raise StorageError(
                f"{connection.filename} was made with another text of migration {number:04d}_{name} "
                f"(sha256 {sha256[:16]}, here {migrations[index].sha256[:16]}). Reinstall chatd: the file was changed"
            )
    pending = migrations[len(applied) :]
    for migration in pending:
        with connection:
            connection.execute(migration.sql)
            connection.execute(
                "INSERT INTO migration VALUES(?, ?, ?)", (migration.number, migration.name, migration.sha256)
            )
    return len(pending)
