"""Both stores have the same tables, and their migrations follow the same rules."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
import trio
from support.postgres import Postgres
from support.stores import StorePlace

from chatd.bridge import Bridge
from chatd.errors import StorageError
from chatd.storage.migrations import Migration
from chatd.storage.postgresql import migrate as postgresql
from chatd.storage.postgresql.connection import connect
from chatd.storage.postgresql.store import PostgresStore
from chatd.storage.sqlite import migrate as sqlite
from chatd.storage.stores import migration_plan

ONLY_POSTGRESQL = {"batch"}
"""The journal, which SQLite keeps in files of its own."""
UNTYPED = {
    ("meta", "value"),
    ("conversation", "direct_key"),
    *(("send", name) for name in ("device", "cseq", "cid", "seq")),
}
"""SQLite has no type there; of a view it knows none."""
TYPES = {"INTEGER": "bigint", "TEXT": "text", "BLOB": "bytea"}


class Column(NamedTuple):
    name: str
    type: str
    required: bool
    key: int
    """Its place in the primary key, 0: none."""


def sqlite_columns() -> dict[str, list[Column]]:
    connection = apsw.Connection(":memory:")
    sqlite.migrate(connection, sqlite.load_migrations())
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
    found: dict[str, list[Column]] = {}
    for table in tables:
        columns = connection.execute(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')")
        found[table] = [Column(n, TYPES.get(t, t), bool(required or pk), pk) for n, t, required, pk in columns]
    return found


def postgresql_columns(server: Postgres) -> dict[str, list[Column]]:
    dsn = server.database()
    PostgresStore.open(dsn).close()
    rows = server.sql(
        "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable = 'NO', coalesce(k.ordinal_position, 0) "
        "FROM information_schema.columns c LEFT JOIN information_schema.key_column_usage k "
        "ON k.table_name = c.table_name AND k.column_name = c.column_name AND k.constraint_name LIKE '%_pkey' "
        "WHERE c.table_schema = 'public' ORDER BY c.table_name, c.ordinal_position",
        dsn,
    )
    found: dict[str, list[Column]] = {}
    for line in rows.splitlines():
        table, name, kind, required, key = line.split("|")
        found.setdefault(table, []).append(Column(name, kind, required == "t", int(key)))
    return found


def test_both_dialects_have_the_same_tables_and_columns(postgres: Postgres) -> None:
    files, database = sqlite_columns(), postgresql_columns(postgres)
    assert database.keys() - files.keys() == ONLY_POSTGRESQL
    for table, columns in files.items():
        untyped = [
            column._replace(type="", required=False) if (table, column.name) in UNTYPED else column
            for column in database[table]
        ]
        wanted = [
            column._replace(type="", required=False) if (table, column.name) in UNTYPED else column
            for column in columns
        ]
        assert untyped == wanted, table
    assert [m[:2] for m in sqlite.load_migrations()] == [m[:2] for m in postgresql.load_migrations()]


def test_the_plan_says_what_a_start_would_do(place: StorePlace) -> None:
    migrations = (sqlite if place.name == "sqlite" else postgresql).load_migrations()
    assert migration_plan(place.where, place.directory) == ([], migrations)
    assert migration_plan(place.where, place.directory) == ([], migrations), "it changes nothing"
    place.open().close()
    assert migration_plan(place.where, place.directory) == (migrations, [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE migration SET sha256 = 'x' WHERE number = 1", "another text of migration 0001_base"),
        ("INSERT INTO migration VALUES(99, 'later', 'x')", "a newer version"),
    ],
)
def test_a_database_that_this_version_did_not_make_is_refused(place: StorePlace, change: str, says: str) -> None:
    place.open().close()
    place.execute(change)
    for refuses in (place.open, lambda: migration_plan(place.where, place.directory)):
        with pytest.raises(StorageError, match=says):
            refuses()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge("test")
    yield bridge
    bridge.close()


def further(directory: Path, sql: str) -> list[Migration]:
    """The migrations there are, and one more."""
    shutil.copytree(postgresql.DIRECTORY, directory / "migrations")
    number = len(postgresql.load_migrations()) + 1
    (directory / "migrations" / f"{number:04d}_more.sql").write_text(sql)
    return postgresql.load_migrations(directory / "migrations")


async def test_servers_that_start_together_migrate_one_after_the_other(
    postgres: Postgres, tmp_path: Path, bridge: Bridge
) -> None:
    dsn = postgres.database()
    migrations = further(tmp_path, "SELECT pg_sleep(0.1); CREATE TABLE more(id BIGINT);")
    applied: list[int] = []

    async def migrate() -> int:
        connection = await connect(dsn, "test")
        try:
            return await postgresql.migrate(connection, migrations)
        finally:
            await connection.close()

    async with trio.open_nursery() as nursery:

        async def start() -> None:
            applied.append(await bridge.call(migrate))

        for _ in range(4):
            nursery.start_soon(start)
    assert sorted(applied) == [0, 0, 0, len(migrations)]


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    postgres: Postgres, tmp_path: Path, bridge: Bridge
) -> None:
    dsn = postgres.database()
    PostgresStore.open(dsn).close()
    migrations = further(tmp_path, "CREATE TABLE more(id BIGINT); SELECT 1 / 0;")

    async def migrate() -> None:
        connection = await connect(dsn, "test")
        try:
            await postgresql.migrate(connection, migrations)
        finally:
            await connection.close()

    with pytest.raises(Exception, match="division by zero"):
        bridge.wait(migrate)
    assert postgres.sql("SELECT to_regclass('more') IS NULL, (SELECT max(number) FROM migration)", dsn) == (
        f"t|{len(migrations) - 1}\n"
    )


def test_tables_of_somebody_else_are_left_alone(postgres: Postgres) -> None:
    dsn = postgres.database()
    postgres.sql("CREATE TABLE event(id INT)", dsn)
    with pytest.raises(StorageError, match="something else"):
        PostgresStore.open(dsn)
    assert postgres.sql("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'", dsn) == "1\n"
