"""Migrations of the main database; chatd.storage.migrations has the rules."""

from contextlib import closing
from pathlib import Path

import apsw

from chatd.storage import migrations as rules
from chatd.storage.migrations import Migration, Plan
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.directory import MAIN_NAME

DIRECTORY = Path(__file__).parent / "migrations"
# meta holds what the store itself must remember: log_epoch, boot_count, folded_pos, highest ids.
_BOOTSTRAP = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS migration(number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL);
"""


def load_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    return rules.load_migrations(directory)


def plan(connection: apsw.Connection, migrations: list[Migration]) -> Plan:
    """Changes nothing. StorageError as rules.plan."""
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").get
    applied = connection.execute("SELECT number, name, sha256 FROM migration ORDER BY number") if known else ()
    return rules.plan(connection.filename, list(applied), migrations)


def plan_of(directory: Path) -> Plan:
    """Of the main database of a data directory; everything is pending where there is none."""
    path = directory / MAIN_NAME
    if not path.exists():
        return rules.plan(str(path), [], load_migrations())
    with storage_errors("read", path), closing(connect(path, write=False)) as connection:
        return plan(connection, load_migrations())


def migrate(connection: apsw.Connection, migrations: list[Migration]) -> int:
    """Apply what is missing, each in a transaction of its own; returns how many were applied.

    Raises StorageError, before touching anything, when the database has a migration that is unknown or was changed.
    """
    pending = plan(connection, migrations).pending
    connection.execute(_BOOTSTRAP)
    for migration in pending:
        with connection:
            connection.execute(migration.sql)
            connection.execute(
                "INSERT INTO migration VALUES(?, ?, ?)", (migration.number, migration.name, migration.sha256)
            )
    return len(pending)
