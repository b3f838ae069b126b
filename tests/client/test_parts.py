"""The parts of the session machine by themselves: back-off, acks, outbox, state file."""

import hmac
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.client.acks import EVERY_S, INTERVAL_MIN_S, AckPolicy
from chatd.client.backoff import Backoff
from chatd.client.connection import Connection
from chatd.client.errors import InvalidError, OutboxFullError, StateError, UnavailableError, WithdrawnError, refused
from chatd.client.login import Credential, auth
from chatd.client.model import Sent, Settings
from chatd.client.outbox import Outbox
from chatd.client.state import State
from chatd.wire import Framer, schema
from chatd.wire.schema import ErrorCode, Kind

RNG = random.Random(1)


# ------------------------------------------------------------ back-off


@given(st.integers(0, 2**32), st.integers(0, 60_000))
def test_backoff_jitters_over_the_whole_interval_above_retry_after(seed: int, retry_after_ms: int) -> None:
    backoff = Backoff(0.2, 30.0, random.Random(seed).random)
    for tries in range(12):
        delay = backoff.next_delay_s(retry_after_ms) - retry_after_ms / 1000
        assert -1e-9 <= delay <= min(30.0, 0.2 * 2**tries)
    backoff.succeeded()
    assert backoff.next_delay_s() <= 0.2


# ------------------------------------------------------------ acks


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 40)), max_size=60))
def test_acks_are_sparse_cumulative_and_in_time(script: list[tuple[float, int]]) -> None:
    now, sent_at, waiting_since = 100.0, [], None
    acks = AckPolicy(1024, 1 << 20, now)
    for pause, count in script:
        now += pause
        due = acks.due_at()
        if waiting_since is not None:
            assert due is not None
            assert due <= max(waiting_since + EVERY_S, (sent_at or [0.0])[-1] + INTERVAL_MIN_S)
        if (said := acks.take(now)) is not None:
            assert said == acks.released
            assert not sent_at or now - sent_at[-1] >= INTERVAL_MIN_S - 1e-9
            sent_at.append(now)
            waiting_since = None
        for _ in range(count):
            acks.on_received()
            acks.release(64, now)
            waiting_since = now if waiting_since is None else waiting_since
        assert acks.sent <= acks.released <= acks.received


def test_half_a_window_of_bytes_is_acknowledged_before_its_time() -> None:
    acks = AckPolicy(1024, 1000, 0.0)
    acks.on_received()
    acks.release(600, 0.0)
    assert acks.take(INTERVAL_MIN_S) == 1


# ------------------------------------------------------------ outbox


def outbox(state: State | None = None, **bounds: int) -> Outbox:
    return Outbox(state or State(), Settings(**bounds), RNG.random)


def leaving(box: Outbox, now: float) -> list[int]:
    return [row.cseq for row in box.due(now)]


def test_what_was_refused_goes_first_and_nothing_overtakes_it() -> None:
    box = outbox()
    for _ in range(3):
        box.enqueue(7, Kind.TEXT, b"x")
    box.enqueue(8, Kind.TEXT, b"other conversation")
    assert leaving(box, 0.0) == [1, 2, 3, 4]
    box.on_nak(1, ErrorCode.BUSY, "", 100, True, 0.0)
    box.enqueue(7, Kind.TEXT, b"new")
    assert leaving(box, 1.0) == [], "2 and 3 are still in flight: what leaves now could overtake them"
    box.on_nak(2, ErrorCode.OUT_OF_ORDER, "", 0, True, 1.0)
    assert leaving(box, 1.0) == []
    box.on_nak(3, ErrorCode.OUT_OF_ORDER, "", 0, True, 1.0)
    assert leaving(box, 1.0) == [1, 2, 3, 5]


def test_a_refusal_waits_for_retry_after() -> None:
    box = outbox()
    box.enqueue(7, Kind.TEXT, b"x")
    assert leaving(box, 0.0) == [1]
    box.on_nak(1, ErrorCode.RATE_LIMITED, "", 500, True, 0.0)
    assert leaving(box, 0.49) == []
    deadline = box.deadline()
    assert deadline is not None
    assert 0.5 <= deadline <= 0.56
    assert leaving(box, deadline) == [1]


def test_a_lost_connection_repeats_everything_in_order() -> None:
    box = outbox()
    for cid in (7, 8, 7):
        box.enqueue(cid, Kind.TEXT, b"x")
    assert leaving(box, 0.0) == [1, 2, 3]
    box.on_nak(1, ErrorCode.BUSY, "", 60_000, True, 0.0)
    box.on_lost()
    box.on_live(0)
    assert leaving(box, 1.0) == [1, 2, 3]


def test_lost_state_never_uses_a_stored_cseq_again() -> None:
    box = outbox()
    assert box.on_live(41)
    assert box.enqueue(7, Kind.TEXT, b"x")[0] == 42
    assert not box.on_live(41)


def test_unanswered_sends_are_in_the_state_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state = State(path)
    outbox(state).enqueue(7, Kind.TEXT, b"kept")
    state.close()
    box = outbox(State(path))
    (row,) = box.due(0.0)
    assert (row.cseq, row.payload) == (1, b"kept")
    assert box.on_ack(1, Sent(7, 1, 0)) == row
    assert box.enqueue(7, Kind.TEXT, b"next")[0] == 2


def test_withdrawn_sends_are_skipped_and_say_so() -> None:
    box = outbox()
    cseq, promise = box.enqueue(7, Kind.TEXT, b"x")
    assert leaving(box, 0.0) == [1]
    box.withdraw(cseq)
    (row,) = box.due(0.0)
    assert row.skip
    box.on_ack(cseq, None)
    with pytest.raises(WithdrawnError):
        promise.result()
    assert len(box) == 0


def test_the_outbox_refuses_what_cannot_be_sent() -> None:
    box = outbox(outbox_max=1)
    with pytest.raises(InvalidError, match=r"UNSUPPORTED: kind 32 cannot be sent"):
        box.enqueue(7, Kind.CONVERSATION_CREATED, b"")
    with pytest.raises(InvalidError, match=r"TOO_LARGE: 8193 bytes; TEXT takes 8192"):
        box.enqueue(7, Kind.TEXT, b"x" * 8193)
    box.enqueue(7, Kind.TEXT, b"x")
    with pytest.raises(OutboxFullError):
        box.enqueue(7, Kind.TEXT, b"x")


# ------------------------------------------------------------ state file and credentials


def test_a_state_file_has_one_user_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state = State(path)
    with pytest.raises(StateError, match="in use by another chatd client"):
        State(path, busy_timeout_s=0.05)
    state.set_session(1, 5, 1, b"ticket")
    with pytest.raises(StateError, match="belongs to user 1"):
        state.set_session(2, 6, 1, b"ticket")
    state.close()
    assert State(path).device == 5
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_state_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"my diary, definitely not a database" * 40)
    with pytest.raises(StateError, match="move it away"):
        State(path)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StateError, match="another version"):
        State(other)


def test_device_keys_prove_themselves_without_leaving() -> None:
    frame = auth(Credential.device_key(9, b"k" * 32), 0, "label", b"n" * 16)
    assert frame["device"] == 9
    # protocol/schema.toml, credential DEVICE_KEY
    expected = hmac.new(b"k" * 32, b"chatd.v1 device" + b"n" * 16 + (9).to_bytes(8, "big"), "sha256").digest()
    assert frame["proof"] == expected
    assert "kkkk" not in repr(Credential.device_key(9, b"k" * 32))


def test_errors_know_what_a_program_should_do() -> None:
    error = refused(ErrorCode.UNAVAILABLE, "restarting", 250, what="send")
    assert isinstance(error, UnavailableError)
    assert (error.name, error.retry_after_ms, str(error)) == ("UNAVAILABLE", 250, "send: UNAVAILABLE: restarting")
    assert refused(999).name == "error 999"


def test_a_ping_that_wants_an_answer_wakes_the_server() -> None:
    """A lone frame without a body may lie in the server's kernel until the heartbeat is due: too late for a probe."""
    connection = Connection(Settings(), 0.0)
    for now in (10.0, 20.0, 30.0):
        connection.keep_alive(now, expects_answer=True)
    probes = [frame for frame in Framer().feed(connection.take(30.0)) if frame.flags & schema.FLAG_PING_REPLY_WANTED]
    assert len(probes) == 1
    assert probes[0]["echo"]
