"""What a folder does below the floor of a conversation, for every store that speaks SQL.

A floor is one row of `retention`; from the moment it is committed nobody reads below it. What lies there goes in small
steps, the oldest first, each one transaction: first the content with everything that hangs on it, then the rows. A row
stays, empty, until it is SENDS_KNOWN_MS old: a send that is repeated until then is recognised by it. So does the row of
the newest event, which says where the conversation is.

`steps` asks for one statement after another and is sent the rows of each; the folder runs them in one transaction. The
statements are SQL that SQLite and PostgreSQL both understand.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from chatd.storage.journal_codec import EVENT_TOMBSTONE

EVENTS_PER_STEP = 500
SENDS_KNOWN_MS = 7 * 86_400_000
NEVER_MS = 1 << 62

_DUE = (
    "SELECT r.cid, r.floor_seq, r.erased_seq, c.head_seq FROM retention r JOIN conversation c ON c.id = r.cid "
    "WHERE r.due_ms <= ?1 ORDER BY r.due_ms LIMIT 1"
)
_RUNS = (
    "SELECT first_seq, last_seq, first_id FROM event_run WHERE cid = ?1 AND first_seq <= ?3 AND last_seq >= ?2 "  # noqa: S608
    f"ORDER BY first_seq LIMIT {EVENTS_PER_STEP}"
)
_ERASE = "UPDATE event SET body = ?3, flags = flags | ?4 WHERE id BETWEEN ?1 AND ?2"
_HANGS_ON = (
    "DELETE FROM edit WHERE cid = ?1 AND target BETWEEN ?2 AND ?3",
    "DELETE FROM reaction WHERE cid = ?1 AND target BETWEEN ?2 AND ?3",
    "DELETE FROM pin WHERE cid = ?1 AND target BETWEEN ?2 AND ?3",
    "DELETE FROM mention WHERE cid = ?1 AND seq BETWEEN ?2 AND ?3",
    "DELETE FROM expiry WHERE cid = ?1 AND seq BETWEEN ?2 AND ?3",
)
_ERASED = "UPDATE retention SET erased_seq = ?2 WHERE cid = ?1"
# Times of a conversation never fall: what is old enough is the beginning of a run.
_OLD = "SELECT count(*) FROM event WHERE id BETWEEN ?1 AND ?2 AND ts < ?3"
_DELETE = "DELETE FROM event WHERE id BETWEEN ?1 AND ?2"
_DELETE_RUN = "DELETE FROM event_run WHERE cid = ?1 AND first_seq = ?2"
_SHORTEN_RUN = "UPDATE event_run SET first_seq = ?3, first_id = ?4 WHERE cid = ?1 AND first_seq = ?2"
_TIME = "SELECT ts FROM event WHERE id = ?1"
_LATER = "UPDATE retention SET due_ms = ?2 WHERE cid = ?1"

Rows = Sequence[Sequence[Any]]


class Statement(NamedTuple):
    sql: str
    bindings: tuple[Any, ...]


Steps = Generator[Statement, Rows, bool]
"""What it returns: there may be more to do at once."""


def steps(now_ms: int) -> Steps:
    """One step for the conversation that has waited longest."""
    due = yield Statement(_DUE, (now_ms,))
    if not due:
        return False
    cid, floor_seq, erased_seq, head_seq = due[0]
    last = min(floor_seq - 1, head_seq)
    if erased_seq < last:
        yield from _erase(cid, erased_seq + 1, min(last, erased_seq + EVENTS_PER_STEP))
        return True
    due_ms = yield from _delete(cid, min(last, head_seq - 1), now_ms)
    yield Statement(_LATER, (cid, due_ms))
    return True


def _erase(cid: int, first: int, last: int) -> Generator[Statement, Rows, None]:
    for sql in _HANGS_ON:
        yield Statement(sql, (cid, first, last))
    runs = yield Statement(_RUNS, (cid, first, last))
    for first_seq, last_seq, first_id in runs:
        ids = (first_id + max(0, first - first_seq), first_id + min(last, last_seq) - first_seq)
        yield Statement(_ERASE, (*ids, b"", EVENT_TOMBSTONE))
    yield Statement(_ERASED, (cid, last))


def _delete(cid: int, last: int, now_ms: int) -> Generator[Statement, Rows, int]:
    """Rows up to last that are old enough. Returns when to come again."""
    left = EVENTS_PER_STEP
    runs = yield Statement(_RUNS, (cid, 0, last))
    for first_seq, last_seq, first_id in runs:
        if not left:
            return now_ms
        until = min(last_seq, last, first_seq + left - 1)
        old = yield Statement(_OLD, (first_id, first_id + until - first_seq, now_ms - SENDS_KNOWN_MS))
        count = int(old[0][0])
        if count:
            yield Statement(_DELETE, (first_id, first_id + count - 1))
            if first_seq + count > last_seq:
                yield Statement(_DELETE_RUN, (cid, first_seq))
            else:
                yield Statement(_SHORTEN_RUN, (cid, first_seq, first_seq + count, first_id + count))
        if count <= until - first_seq:
            times = yield Statement(_TIME, (first_id + count,))
            return int(times[0][0]) + SENDS_KNOWN_MS + 1
        left -= count
    return NEVER_MS if left and len(runs) < EVENTS_PER_STEP else now_ms


def run(steps: Steps, execute: Callable[[Statement], Rows]) -> bool:
    """All statements of one step, for folders that do not await."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send(execute(statement))
    except StopIteration as end:
        return bool(end.value)
