"""`chatd check` on PostgreSQL: does what lies in the database agree with itself?

One snapshot, read only, beside a running server or without. Pages are the server's business (data checksums,
pg_amcheck); this looks at what chatd wrote into them.
"""

from collections.abc import AsyncIterator
from typing import Any

from chatd.bridge import Bridge
from chatd.errors import StorageError
from chatd.storage.check_rules import COUNTED, FINDINGS_MAX, RULES, Words, finding, statement
from chatd.storage.interface import Decoder, Finding, Report
from chatd.storage.postgresql.connection import connect, database_name, storage_errors
from chatd.storage.postgresql.migrate import load_migrations

BATCHES_AHEAD = 64
JOURNAL = "batch"
WORDS = Words(greatest="greatest", join="JOIN", sends="CAST(sends AS json)")


def check_store(dsn: str, decode: Decoder | None = None) -> Report:
    """decode: also decode every journal batch that is still there. Raises StorageError when there is no store."""
    bridge = Bridge("postgresql check")
    try:
        return bridge.wait(_check, dsn, decode)
    finally:
        bridge.close()


async def _check(dsn: str, decode: Decoder | None) -> Report:
    connection = await connect(dsn, "check", command_timeout_s=None)
    try:
        name = await database_name(connection)
        findings: list[Finding] = []
        checked: dict[str, int] = {}
        with storage_errors("check", name):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                if await connection.fetchval("SELECT to_regclass('batch') IS NULL"):
                    raise StorageError(f"{name} has no store of chatd in it")
                findings += [found async for found in _migrations(connection)]
                for rule in RULES:
                    rows = await connection.fetch(statement(rule, WORDS))
                    findings += [finding(rule, row, name) for row in rows]
                for table in COUNTED:
                    checked[table] = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
                findings += [found async for found in _journal(connection, decode, checked)]
        return Report(findings, checked)
    finally:
        connection.terminate()


async def _migrations(connection: Any) -> AsyncIterator[Finding]:
    known = {migration.number: migration.sha256 for migration in load_migrations()}
    for number, name, sha256 in await connection.fetch("SELECT number, name, sha256 FROM migration"):
        if known.pop(number, None) != sha256:
            yield Finding("migration", "migration", f"migration {number:04d}_{name} is not the one of this version")
    for number in known:
        yield Finding("migration", "migration", f"migration {number:04d} has not been applied")


async def _journal(connection: Any, decode: Decoder | None, checked: dict[str, int]) -> AsyncIterator[Finding]:
    """Batches follow each other, each decodes, and what is folded is a part of them."""
    folded_pos = int(await connection.fetchval("SELECT value FROM meta WHERE key = 'folded_pos'"))
    expected = reported = 0
    checked["journal_record"] = 0
    async for pos, count, blob in connection.cursor(
        "SELECT pos, count, blob FROM batch ORDER BY pos", prefetch=BATCHES_AHEAD
    ):
        if expected != pos:
            if expected:
                yield Finding("journal_gap", JOURNAL, f"records {expected} .. {pos - 1} are missing")
            elif pos > folded_pos + 1:
                yield Finding("journal_sequence", JOURNAL, f"records {folded_pos + 1} .. {pos - 1} are missing")
        expected = pos + count
        checked["journal_record"] += count
        try:
            if decode is not None and reported < FINDINGS_MAX:
                decode(pos, count, blob)
        except ValueError as error:
            reported += 1
            yield Finding("journal_batch", JOURNAL, str(error))
    if expected and expected <= folded_pos:
        yield Finding("journal_sequence", JOURNAL, f"the journal ends at {expected - 1}, but {folded_pos} are folded")
