"""`chatd check`: does what lies on the disk agree with itself?

Reads everything, writes nothing, and may run beside a running server: the main database is read in one transaction,
the journal after it. Every check is a query that returns what is wrong, so a sound store costs no memory, and a damaged
one is reported up to FINDINGS_MAX per check.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw

from chatd.errors import StorageError
from chatd.storage.check_rules import COUNTED, FINDINGS_MAX, RULES, Words, finding, statement
from chatd.storage.interface import Decoder, Finding, Report
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.database import meta_number
from chatd.storage.sqlite.directory import MAIN_NAME, segment_in_use, segment_numbers, segment_path
from chatd.storage.sqlite.journal import check_sequence
from chatd.storage.sqlite.migrate import load_migrations
from chatd.storage.sqlite.segment import SegmentRange, check_wal_end, open_segment, read_header, read_range

WORDS = Words(greatest="max", join="CROSS JOIN", sends="sends")


def check_store(directory: Path, decode: Decoder | None = None, *, vfs: str | None = None) -> Report:
    """Check every file of a data directory. decode: also decode every journal batch that is still there.

    Raises StorageError only when the directory has no store at all; damage is a finding.
    """
    main = directory / MAIN_NAME
    if not main.exists():
        raise StorageError(f"{directory} has no {MAIN_NAME}: is it a data directory of chatd?")
    findings: list[Finding] = []
    checked: dict[str, int] = {}
    folded_pos = -1
    try:
        with storage_errors("check", main), closing(connect(main, vfs=vfs, write=False)) as connection:
            connection.execute("BEGIN")
            folded_pos = meta_number(connection, "folded_pos")
            findings += check_pages(connection, main)
            if not findings:
                findings += check_migrations(connection)
                findings += check_rules(connection)
                for table in COUNTED:
                    checked[table] = int(connection.execute(f"SELECT count(*) FROM {table}").get)  # noqa: S608
    except StorageError as error:
        findings.append(Finding("readable", MAIN_NAME, str(error)))
    findings += check_journal(directory, folded_pos, decode, checked, vfs)
    return Report(findings, checked)


def check_pages(connection: apsw.Connection, path: Path) -> list[Finding]:
    rows = connection.execute(f"PRAGMA quick_check({FINDINGS_MAX})").fetchall()
    return [Finding("quick_check", path.name, str(row[0])) for row in rows if row[0] != "ok"]


def check_migrations(connection: apsw.Connection) -> Iterator[Finding]:
    known = {migration.number: migration.sha256 for migration in load_migrations()}
    for number, name, sha256 in connection.execute("SELECT number, name, sha256 FROM migration"):
        if known.pop(number, None) != sha256:
            yield Finding("migration", MAIN_NAME, f"migration {number:04d}_{name} is not the one of this version")
    for number in known:
        yield Finding("migration", MAIN_NAME, f"migration {number:04d} has not been applied")


def check_rules(connection: apsw.Connection) -> Iterator[Finding]:
    """Of a main database."""
    for rule in RULES:
        for row in connection.execute(statement(rule, WORDS)):
            yield finding(rule, row, MAIN_NAME)


def check_journal(
    directory: Path, folded_pos: int, decode: Decoder | None, checked: dict[str, int], vfs: str | None
) -> list[Finding]:
    """Each segment by itself, then their sequence against folded_pos (-1: unknown)."""
    findings: list[Finding] = []
    ranges: list[tuple[int, SegmentRange]] = []
    in_use = segment_in_use(directory)
    checked["segment"] = checked["journal_record"] = 0
    for number in segment_numbers(directory):
        path = segment_path(directory, number)
        if number > in_use:
            continue
        try:
            with storage_errors("check", path), closing(open_segment(path, vfs, write=False)) as connection:
                findings += check_pages(connection, path)
                check_wal_end(connection, path)
                header = read_header(connection, path)
                if header is None:
                    findings.append(Finding("segment", path.name, "it is empty: is its -wal file missing?"))
                    continue
                found = read_range(connection, header, path)
                findings += check_batches(connection, path, decode)
        except StorageError as error:
            if path.exists():
                findings.append(Finding("segment", path.name, str(error)))
            continue
        ranges.append((number, found))
        checked["segment"] += 1
        checked["journal_record"] += found.next_pos - found.first_pos
    if in_use and not segment_path(directory, in_use).exists():
        findings.append(Finding("segment", segment_path(directory, in_use).name, "the segment in use is missing"))
    if folded_pos >= 0 and not findings:
        try:
            check_sequence(directory, ranges, folded_pos, folded_meanwhile(directory, vfs))
        except StorageError as error:
            findings.append(Finding("journal_sequence", "journal", str(error)))
    return findings


def folded_meanwhile(directory: Path, vfs: str | None) -> int:
    """A running folder may have unlinked segments since the main database was read."""
    with storage_errors("check", directory / MAIN_NAME), closing(connect(directory / MAIN_NAME, vfs=vfs)) as connection:
        return meta_number(connection, "folded_pos")


def check_batches(connection: apsw.Connection, path: Path, decode: Decoder | None) -> Iterator[Finding]:
    """Batches follow each other, and each decodes."""
    expected, reported = None, 0
    for pos, count, blob in connection.execute("SELECT pos, count, blob FROM batch ORDER BY pos"):
        if expected not in {None, pos}:
            yield Finding("journal_gap", path.name, f"records {expected} .. {pos - 1} are missing")
        expected = pos + count
        try:
            if decode is not None and reported < FINDINGS_MAX:
                decode(pos, count, blob)
        except ValueError as error:
            reported += 1
            yield Finding("journal_batch", path.name, str(error))
