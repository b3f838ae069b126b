"""`chatd check`: does what lies on the disk agree with itself?

Reads everything, writes nothing, and may run beside a running server: the main database is read in one transaction,
the journal after it. Every check is a query that returns what is wrong, so a sound store costs no memory, and a damaged
one is reported up to FINDINGS_MAX per check.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw

from chatd.errors import StorageError
from chatd.storage.interface import Decoder
from chatd.storage.sqlite.connection import connect, storage_errors
from chatd.storage.sqlite.database import meta_number
from chatd.storage.sqlite.directory import MAIN_NAME, segment_in_use, segment_numbers, segment_path
from chatd.storage.sqlite.journal import check_sequence
from chatd.storage.sqlite.migrate import load_migrations
from chatd.storage.sqlite.segment import SegmentRange, check_wal_end, open_segment, read_header, read_range

FINDINGS_MAX = 20


class Finding(NamedTuple):
    """check: a stable name. file: where. text: what is wrong, for people."""

    check: str
    file: str
    text: str


class Report(NamedTuple):
    """findings is empty for a sound store. checked: how many rows or files each check looked at."""

    findings: list[Finding]
    checked: dict[str, int]


class Rule(NamedTuple):
    """sql returns one row per violation; text is formatted with its columns."""

    check: str
    sql: str
    text: str


RULES = (
    Rule(
        "event_contiguous",
        "SELECT cid, min(first_seq), max(last_seq), sum(last_seq - first_seq + 1) AS held FROM event_run GROUP BY cid "
        "HAVING min(first_seq) <> 1 OR max(last_seq) <> held",
        "conversation {0}: events run from {1} to {2}, but there are {3}",
    ),
    Rule(
        "event_run",
        "SELECT cid, first_seq, last_seq, first_id FROM event_run r WHERE (SELECT count(*) FROM event e WHERE e.id "
        "BETWEEN first_id AND first_id + last_seq - first_seq AND e.cid = r.cid AND e.seq = first_seq + e.id - first_id"
        ") <> last_seq - first_seq + 1",
        "events {0}:{1} to {2} are not all in the rows from {3} on",
    ),
    Rule(
        "event_count",
        "SELECT * FROM (SELECT (SELECT count(*) FROM event) AS stored, "
        "(SELECT ifnull(sum(last_seq - first_seq + 1), 0) FROM event_run) AS known) WHERE stored <> known",
        "{0} events are stored, but {1} can be found",
    ),
    Rule(
        "head_seq",
        "SELECT c.id, c.head_seq, ifnull((SELECT max(last_seq) FROM event_run r WHERE r.cid = c.id), 0) AS last "
        "FROM conversation c WHERE c.head_seq <> last",
        "conversation {0}: head_seq is {1}, its last event is {2}",
    ),
    Rule(
        "head_counts",
        "SELECT c.id, c.message_count, e.message_count, c.last_ts, e.ts FROM conversation c "
        "JOIN event_run r ON r.cid = c.id AND r.last_seq = c.head_seq JOIN event e ON e.id = r.first_id + r.last_seq "
        "- r.first_seq "
        "WHERE c.message_count <> e.message_count OR c.last_ts <> e.ts",
        "conversation {0}: message_count {1} and last_ts {3}, its last event says {2} and {4}",
    ),
    Rule(
        "event_conversation",
        "SELECT DISTINCT cid FROM event_run WHERE cid NOT IN (SELECT id FROM conversation)",
        "events of conversation {0}, which does not exist",
    ),
    Rule(
        "event_order",
        "SELECT e.cid, e.seq, e.ts, before.ts, e.message_count, ifnull(before.message_count, 0) FROM event_run r "
        "CROSS JOIN event e ON e.id BETWEEN r.first_id AND r.first_id + r.last_seq - r.first_seq "
        "LEFT JOIN event before ON before.id = CASE WHEN e.id > r.first_id THEN e.id - 1 ELSE "
        "(SELECT first_id + last_seq - first_seq FROM event_run p WHERE p.cid = r.cid AND p.first_seq < r.first_seq "
        "ORDER BY p.first_seq DESC LIMIT 1) END "
        "WHERE e.ts < before.ts OR e.message_count - ifnull(before.message_count, 0) NOT IN (0, 1)",
        "event {0}:{1}: time {2} after {3}, message_count {4} after {5}",
    ),
    Rule(
        # With send_event: every send has an event of its own, so equal numbers mean every event has its send.
        "event_send",
        "SELECT device, sum(events), sum(sends) FROM (SELECT device, count(*) AS events, 0 AS sends FROM event "
        "WHERE device <> 0 GROUP BY device UNION ALL "
        "SELECT device, 0, count(*) FROM send WHERE seq <> 0 GROUP BY device) GROUP BY device "
        "HAVING sum(events) <> sum(sends)",
        "device {0}: {1} events, but {2} of its sends are said to be stored",
    ),
    Rule(
        "send_event",
        "SELECT s.device, s.cseq, s.cid, s.seq FROM send s LEFT JOIN event_run r ON r.cid = s.cid AND r.first_seq = "
        "(SELECT max(first_seq) FROM event_run WHERE cid = s.cid AND first_seq <= s.seq) "
        "LEFT JOIN event e ON e.id = r.first_id + s.seq - r.first_seq AND e.cid = s.cid AND e.seq = s.seq "
        "WHERE s.seq <> 0 AND (e.device IS NOT s.device OR e.cseq IS NOT s.cseq)",
        "send {1} of device {0} is said to be event {2}:{3}, which is another one or missing",
    ),
    Rule(
        "send_run",
        "SELECT device, first_cseq, last_cseq FROM (SELECT *, lag(last_cseq, 1, 0) OVER (PARTITION BY device ORDER BY "
        "first_cseq) AS before FROM send_run) "
        "WHERE first_cseq <= before OR json_array_length(sends) <> last_cseq - first_cseq + 1",
        "device {0}: the run of sends {1} to {2} is not as long as it says, or begins before another one ends",
    ),
    Rule(
        "device_cseq_max",
        "SELECT d.id, d.cseq_max, max(ifnull((SELECT max(last_cseq) FROM send_run r WHERE r.device = d.id), 0), "
        "ifnull((SELECT max(cseq) FROM late_send l WHERE l.device = d.id), 0)) AS highest "
        "FROM device d WHERE d.cseq_max <> highest",
        "device {0}: cseq_max is {1}, its highest stored send is {2}",
    ),
    Rule(
        "membership_interval",
        "SELECT m.cid, m.uid, m.join_seq, m.leave_seq, c.head_seq FROM membership m LEFT JOIN conversation c "
        "ON c.id = m.cid WHERE c.id IS NULL OR m.join_seq < 1 OR m.join_seq > c.head_seq OR m.leave_seq > c.head_seq "
        "OR (m.leave_seq <> 0 AND m.leave_seq < m.join_seq)",
        "user {1} in conversation {0}: interval {2} to {3} is impossible, the conversation's head is {4}",
    ),
    Rule(
        "membership_overlap",
        "SELECT cid, uid, join_seq, before_join, before_leave FROM (SELECT cid, uid, join_seq, "
        "lag(join_seq) OVER w AS before_join, lag(leave_seq) OVER w AS before_leave FROM membership "
        "WINDOW w AS (PARTITION BY cid, uid ORDER BY join_seq)) "
        "WHERE before_join IS NOT NULL AND (before_leave = 0 OR before_leave > join_seq)",
        "user {1} in conversation {0}: the interval from {2} begins before the one from {3} to {4} ends",
    ),
    Rule(
        "position",
        "SELECT p.cid, p.uid, p.delivered_seq, p.read_seq, c.head_seq FROM position p LEFT JOIN conversation c "
        "ON c.id = p.cid WHERE c.id IS NULL OR p.delivered_seq > c.head_seq OR p.read_seq > c.head_seq",
        "position of user {1} in conversation {0}: delivered {2}, read {3}, but the head is {4}",
    ),
)


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
                for rule in RULES:
                    findings += violations(connection, rule)
                for table in ("event", "send_run", "conversation", "membership", "position"):
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


def violations(connection: apsw.Connection, rule: Rule) -> Iterator[Finding]:
    for row in connection.execute(f"{rule.sql} LIMIT {FINDINGS_MAX}"):
        yield Finding(rule.check, MAIN_NAME, rule.text.format(*row))


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


def as_json(report: Report) -> dict[str, object]:
    """For `chatd check --json`."""
    return {
        "sound": not report.findings,
        "findings": [finding._asdict() for finding in report.findings],
        "checked": report.checked,
    }
