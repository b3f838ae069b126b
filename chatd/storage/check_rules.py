"""What must hold in every store, as queries that return what is wrong, in SQL that all of them understand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from chatd.storage.interface import Finding

FINDINGS_MAX = 20


class Words(NamedTuple):
    """In which the stores differ. join: an inner join that keeps the order of the tables. sends: send_run.sends as what
    json_array_length takes.
    """

    greatest: str
    join: str
    sends: str


class Rule(NamedTuple):
    """sql returns one row per violation, with Words in braces; text is formatted with its columns."""

    check: str
    sql: str
    text: str


RULES = (
    Rule(
        "event_contiguous",
        "SELECT cid, min(first_seq), max(last_seq), sum(last_seq - first_seq + 1), "
        "coalesce((SELECT floor_seq FROM retention k WHERE k.cid = r.cid), 0) FROM event_run r GROUP BY cid "
        "HAVING min(first_seq) < 1 OR max(last_seq) - min(first_seq) + 1 <> sum(last_seq - first_seq + 1) OR "
        "min(first_seq) > coalesce((SELECT floor_seq FROM retention k WHERE k.cid = r.cid AND floor_seq > 0), 1)",
        "conversation {0}: events run from {1} to {2}, but there are {3}; its floor is {4}",
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
        "(SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM event_run) AS known) AS counts WHERE stored <> known",
        "{0} events are stored, but {1} can be found",
    ),
    Rule(
        "head_seq",
        "SELECT * FROM (SELECT c.id, c.head_seq, "
        "coalesce((SELECT max(last_seq) FROM event_run r WHERE r.cid = c.id), 0) AS last FROM conversation c) AS heads "
        "WHERE head_seq <> last",
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
        "SELECT e.cid, e.seq, e.ts, before.ts, e.message_count, coalesce(before.message_count, 0) FROM event_run r "
        "{join} event e ON e.id BETWEEN r.first_id AND r.first_id + r.last_seq - r.first_seq "
        "LEFT JOIN event before ON before.id = CASE WHEN e.id > r.first_id THEN e.id - 1 ELSE "
        "(SELECT first_id + last_seq - first_seq FROM event_run p WHERE p.cid = r.cid AND p.first_seq < r.first_seq "
        "ORDER BY p.first_seq DESC LIMIT 1) END "
        "WHERE e.ts < before.ts OR ((e.seq = 1 OR before.id IS NOT NULL) "
        "AND e.message_count - coalesce(before.message_count, 0) NOT IN (0, 1))",
        "event {0}:{1}: time {2} after {3}, message_count {4} after {5}",
    ),
    Rule(
        # With send_event: every send has an event of its own, so equal numbers mean every event has its send. Of what
        # retention has deleted the sends are still there.
        "event_send",
        "SELECT device, sum(events), sum(sends) FROM (SELECT device, count(*) AS events, 0 AS sends FROM event "
        "WHERE device <> 0 GROUP BY device UNION ALL "
        "SELECT device, 0, count(*) FROM send s WHERE seq <> 0 AND seq >= "
        "coalesce((SELECT min(first_seq) FROM event_run r WHERE r.cid = s.cid), 0) GROUP BY device"
        ") AS both_sides GROUP BY device "
        "HAVING sum(events) <> sum(sends)",
        "device {0}: {1} events, but {2} of its sends are said to be stored",
    ),
    Rule(
        "send_event",
        "SELECT s.device, s.cseq, s.cid, s.seq FROM send s LEFT JOIN event_run r ON r.cid = s.cid AND r.first_seq = "
        "(SELECT max(first_seq) FROM event_run WHERE cid = s.cid AND first_seq <= s.seq) "
        "LEFT JOIN event e ON e.id = r.first_id + s.seq - r.first_seq AND e.cid = s.cid AND e.seq = s.seq "
        "WHERE s.seq <> 0 AND s.seq >= coalesce((SELECT min(first_seq) FROM event_run r WHERE r.cid = s.cid), 0) "
        "AND (e.device IS DISTINCT FROM s.device OR e.cseq IS DISTINCT FROM s.cseq)",
        "send {1} of device {0} is said to be event {2}:{3}, which is another one or missing",
    ),
    Rule(
        "send_run",
        "SELECT device, first_cseq, last_cseq FROM (SELECT *, lag(last_cseq, 1, CAST(0 AS BIGINT)) OVER "
        "(PARTITION BY device ORDER BY first_cseq) AS before FROM send_run) AS runs "
        "WHERE first_cseq <= before OR json_array_length({sends}) <> last_cseq - first_cseq + 1",
        "device {0}: the run of sends {1} to {2} is not as long as it says, or begins before another one ends",
    ),
    Rule(
        "device_cseq_max",
        "SELECT * FROM (SELECT d.id, d.cseq_max, "
        "{greatest}(coalesce((SELECT max(last_cseq) FROM send_run r WHERE r.device = d.id), 0), "
        "coalesce((SELECT max(cseq) FROM late_send l WHERE l.device = d.id), 0)) AS highest FROM device d) AS devices "
        "WHERE cseq_max <> highest",
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
        "WINDOW w AS (PARTITION BY cid, uid ORDER BY join_seq)) AS intervals "
        "WHERE before_join IS NOT NULL AND (before_leave = 0 OR before_leave > join_seq)",
        "user {1} in conversation {0}: the interval from {2} begins before the one from {3} to {4} ends",
    ),
    Rule(
        "retention",
        "SELECT r.cid, r.floor_seq, c.head_seq FROM retention r LEFT JOIN conversation c ON c.id = r.cid "
        "WHERE r.cid <> 0 AND (c.id IS NULL OR r.floor_seq > c.head_seq + 1)",
        "conversation {0}: its floor is {1}, but its head {2}",
    ),
    Rule(
        "position",
        "SELECT p.cid, p.uid, p.delivered_seq, p.read_seq, c.head_seq FROM position p LEFT JOIN conversation c "
        "ON c.id = p.cid WHERE c.id IS NULL OR p.delivered_seq > c.head_seq OR p.read_seq > c.head_seq",
        "position of user {1} in conversation {0}: delivered {2}, read {3}, but the head is {4}",
    ),
)


COUNTED = ("event", "send_run", "conversation", "membership", "position")
"""Tables whose rows a report counts."""


def statement(rule: Rule, words: Words) -> str:
    return f"{rule.sql.format(**words._asdict())} LIMIT {FINDINGS_MAX}"


def finding(rule: Rule, row: Sequence[Any], place: str) -> Finding:
    return Finding(rule.check, place, rule.text.format(*row))
