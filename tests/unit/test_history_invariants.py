"""Every invariant accepts a right history and names itself on a wrong one: a checker that cannot fail is none."""

from collections.abc import Callable

import pytest
from support.history import Applied, Connected, History, Interval, Lag, Pulled, Receipt, Seen, Send, Stored
from support.invariants import INVARIANTS, check

ALICE, BOB = 1, 2
PHONE, LAPTOP = 11, 12  # Alice's and Bob's devices
CID = 7


def right() -> History:
    """Alice sends three events to Bob, who reads them live; the second needed a retry."""
    history = History(expected_online={CID: frozenset({LAPTOP})})
    history.add(Connected(100, ALICE, PHONE, at=0.0))
    history.add(Connected(200, BOB, LAPTOP, at=0.0))
    history.add(Interval(ALICE, CID, join_seq=1))
    history.add(Interval(BOB, CID, join_seq=1))
    for n in (1, 2, 3):
        sent = Send(
            ALICE, PHONE, n, CID, f"h{n}", n, transmitted=n, answered=n + 0.5, outcome="ok", seq=n, ts=n, connection=100
        )
        if n == 2:
            history.add(sent._replace(invoked=1.8, answered=1.9, outcome="retryable", seq=0))
        history.add(sent)
        history.add(Stored(CID, n, ALICE, (PHONE, n), ts=n, hash=f"h{n}"))
        history.add(Seen(200, BOB, LAPTOP, CID, n, ALICE, ts=n, hash=f"h{n}", at=n + 0.6))
        history.add(Applied(LAPTOP, CID, n, f"h{n}", at=n + 0.7))
    history.add(Receipt(100, CID, BOB, delivered_seq=2, read_seq=1, at=3.0))
    history.add(Receipt(100, CID, BOB, delivered_seq=3, read_seq=3, at=4.0))
    history.add(Pulled(BOB, CID, begun=5.0, from_seq=1, seqs=(1, 2, 3)))
    return history


def drop_from_log(history: History) -> None:
    history.stored.pop()


def change(kind: str, index: int, **fields: object) -> Callable[[History], None]:
    def apply(history: History) -> None:
        records = getattr(history, kind)
        records[index] = records[index]._replace(**fields)

    return apply


def remove(kind: str, index: int) -> Callable[[History], None]:
    return lambda history: getattr(history, kind).pop(index)


def add(*records: object) -> Callable[[History], None]:
    def apply(history: History) -> None:
        for record in records:
            history.add(record)  # type: ignore[arg-type]

    return apply


WRONG: dict[str, Callable[[History], None]] = {
    "LOST": drop_from_log,
    "PHANTOM": add(Stored(CID, 4, ALICE, (PHONE, 99), ts=4, hash="never sent")),
    "DUP_LOG": add(Stored(CID, 4, ALICE, (PHONE, 3), ts=4, hash="h3")),
    "DIVERGED": change("seen", 1, hash="other"),
    "GAP": change("stored", 2, seq=9),
    "REORDER": change("sends", 0, invoked=2.9),
    "FIFO": change("stored", 2, device_cseq=(PHONE, 1)),
    "SKIP": remove("seen", 1),
    "DUP": add(Seen(200, BOB, LAPTOP, CID, 3, ALICE, ts=3, hash="h3", at=9.0)),
    "STALE": change("pulls", 0, seqs=(1, 2)),
    "RECEIPT": change("receipts", 1, read_seq=0),
    "LEAK": change("intervals", 1, leave_seq=2),
    "CROSS": change("stored", 0, sender=BOB),
    "STUCK": remove("applied", 2),
    "TIME": change("stored", 2, ts=1),
    "GHOST": change("sends", 3, outcome="retryable"),
    "TWIN": add(Connected(101, ALICE, PHONE, at=2.5)),  # the third SEND still came over connection 100
    "INVALID": lambda history: history.stored.clear(),
}


def test_a_right_history_passes() -> None:
    assert check(right()) == []


@pytest.mark.parametrize("word", INVARIANTS)
def test_each_invariant_names_its_violation(word: str) -> None:
    history = right()
    WRONG[word](history)
    assert word in {finding.word for finding in check(history)}


def test_a_retry_that_was_lost_with_its_connection_is_no_violation() -> None:
    history = right()
    history.add(Send(ALICE, PHONE, 4, CID, "h4", invoked=6.0))
    assert check(history) == []


def test_lag_and_own_events_explain_a_step() -> None:
    history = right()
    history.seen.pop(1)
    history.add(Lag(200, CID, 2, 2, at=2.0))
    assert check(history) == []
    history.lags.clear()
    history.stored[1] = history.stored[1]._replace(device_cseq=(LAPTOP, 1), sender=BOB)
    assert "SKIP" not in {finding.word for finding in check(history)}


def test_who_was_no_member_meanwhile_misses_nothing() -> None:
    history = right()
    history.seen.pop(1)
    history.intervals = [Interval(ALICE, CID, 1), Interval(BOB, CID, 1, leave_seq=1), Interval(BOB, CID, 3)]
    assert "SKIP" not in {finding.word for finding in check(history)}
