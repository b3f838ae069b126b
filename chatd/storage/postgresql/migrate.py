"""Migrations of a PostgreSQL database; chatd.storage.migrations has the rules.

Whoever migrates holds an advisory lock: two servers that start at the same moment migrate one after the other, and the
second finds nothing to do. All of it is one transaction, so a failure leaves the database as it was.
"""

from pathlib import Path
from typing import Any

from chatd.bridge import Bridge
from chatd.errors import StorageError
from chatd.storage import migrations as rules
from chatd.storage.migrations import Migration, Plan
from chatd.storage.postgresql.connection import (
    LOCK_CLASS,
    MIGRATION_LOCK,
    connect,
    database_name,
    storage_errors,
)

DIRECTORY = Path(__file__).parent / "migrations"
# Values of meta are JSON text: SQLite keeps any type in one column.
_BOOTSTRAP = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS migration(number BIGINT PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL);
"""


def load_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    return rules.load_migrations(directory)


async def plan(connection: Any, migrations: list[Migration]) -> Plan:
    """Changes nothing. StorageError as rules.plan, and for tables of somebody else."""
    name = await database_name(connection)
    if await connection.fetchval("SELECT to_regclass('migration') IS NULL"):
        foreign = await connection.fetchval(
            "SELECT to_regclass('event') IS NOT NULL OR to_regclass('batch') IS NOT NULL"
        )
        if foreign:
            raise StorageError(f"{name} has tables of something else; give chatd a database of its own")
        return rules.plan(name, [], migrations)
    applied = await connection.fetch("SELECT number, name, sha256 FROM migration ORDER BY number")
    return rules.plan(name, applied, migrations)


def plan_of(dsn: str) -> Plan:
    """Of a database that need not have been opened before."""
    bridge = Bridge("postgresql plan")
    try:
        return bridge.wait(_plan_of, dsn)
    finally:
        bridge.close()


async def _plan_of(dsn: str) -> Plan:
    connection = await connect(dsn, "plan")
    try:
        with storage_errors("read", await database_name(connection)):
            return await plan(connection, load_migrations())
    finally:
        connection.terminate()


async def migrate(connection: Any, migrations: list[Migration]) -> int:
    """Apply what is missing; returns how many were applied. Raises StorageError as plan, before touching anything."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK_CLASS, MIGRATION_LOCK)
        pending = (await plan(connection, migrations)).pending
        if pending:
            await connection.execute(_BOOTSTRAP)
        for migration in pending:
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO migration VALUES($1, $2, $3)", migration.number, migration.name, migration.sha256
            )
    return len(pending)
