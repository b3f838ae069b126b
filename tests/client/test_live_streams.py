"""The client's streams alone: what is lost on the way is said again, and a hole brings a snapshot."""

from typing import TYPE_CHECKING, Any

import pytest

from chatd.client.errors import ClientError, InvalidError, NotFoundError, UnavailableError
from chatd.client.live_streams import DELTA_BYTES_MAX, DELTA_INTERVAL_S, SIGN_OF_LIFE_S, LiveStreams
from chatd.client.state import Waiting
from chatd.wire import Frame, make
from chatd.wire.frame import encode_extensions
from chatd.wire.schema import STREAM_BYTES_MAX, ErrorCode, Kind, Op

if TYPE_CHECKING:
    from chatd.client.model import Streaming


class Session:
    """What LiveStreams needs of a session."""

    def __init__(self) -> None:
        self.is_live = True
        self.signals: list[Streaming] = []
        self.out: list[Frame] = []
        self.again: list[int] = []
        self.wishes = self

    def emit(self, frame: Frame) -> None:
        self.out.append(frame)

    def follow_again(self, cid: int) -> None:
        self.again.append(cid)

    def said(self) -> list[tuple[int, bytes]]:
        """Deltas since the last look: (offset, bytes)."""
        deltas = [(frame["offset"], frame["payload"]) for frame in self.out if frame.op == Op.STREAM_DELTA]
        self.out.clear()
        return deltas


def made() -> tuple[Session, LiveStreams]:
    session = Session()
    return session, LiveStreams(session)  # type: ignore[arg-type]


def begun(streams: LiveStreams, cid: int = 3, stream: int = 5) -> Any:
    own = streams.start(cid, Kind.TEXT)
    streams.on_start(make(Op.STREAM_START, cid=cid, stream=stream, kind=1), 1.0)
    assert own.started.result() is own
    return own


def delta(offset: int, data: bytes) -> Frame:
    return make(Op.STREAM_DELTA, cid=3, stream=9, offset=offset, payload=data)


def snapshot(data: bytes) -> Frame:
    return make(Op.STREAM_SNAPSHOT, cid=3, stream=9, sender=8, kind=1, payload=data)


# ---- writing
def test_what_is_written_leaves_ten_times_a_second() -> None:
    session, streams = made()
    own = begun(streams)
    for word in (b"Once ", b"upon "):
        own.write(word)
    streams.plan(10.0)
    assert session.said() == [(0, b"Once upon ")]
    own.write(b"a ")
    streams.plan(10.0)
    assert session.said() == []
    assert streams.deadline() == 10.0 + DELTA_INTERVAL_S
    own.write(b"time")
    streams.plan(10.0 + DELTA_INTERVAL_S)
    assert session.said() == [(10, b"a time")]
    assert streams.deadline() == 10.0 + DELTA_INTERVAL_S + SIGN_OF_LIFE_S
    streams.plan(21.0)
    assert session.said() == [(16, b"")], "still there"


def test_a_new_connection_says_all_of_it_again_and_the_end_waits_for_nothing() -> None:
    session, streams = made()
    own = begun(streams)
    own.write(b"x" * (DELTA_BYTES_MAX + 1))
    streams.plan(10.0)
    session.out.clear()
    streams.on_lost()
    streams.on_live()
    extensions = own.end()
    streams.plan(10.0)
    assert [(offset, len(data)) for offset, data in session.said()] == [(0, DELTA_BYTES_MAX), (DELTA_BYTES_MAX, 1)]
    row = Waiting(1, 3, 1, b"", extensions=encode_extensions(extensions))
    assert streams.content_of(row, extensions) == (bytes(own.content), False, len(own.content))
    streams.forget(own)
    assert streams.content_of(row, extensions) == (b"", True, len(own.content)), "a program that was started anew"
    with pytest.raises(ClientError):
        own.write(b"more")


def test_a_start_that_was_not_answered_is_asked_again() -> None:
    session, streams = made()
    session.is_live = False
    own = streams.start(3, Kind.TEXT)
    assert session.out == []
    session.is_live = True
    streams.on_live()
    streams.on_lost()
    streams.on_live()
    assert [frame.op for frame in session.out] == [Op.STREAM_START] * 2
    streams.on_error(Op.STREAM_START, 3, NotFoundError(ErrorCode.NOT_FOUND), False, 0.0)
    with pytest.raises(NotFoundError):
        own.started.result()
    streams.on_live()
    assert len(session.out) == 2


def test_a_refused_delta_is_said_again_or_ends_the_writing() -> None:
    session, streams = made()
    own = begun(streams)
    own.write(b"abc")
    streams.plan(1.0)
    session.out.clear()
    streams.on_error(Op.STREAM_DELTA, 5, UnavailableError(ErrorCode.UNAVAILABLE), True, 3.0)
    streams.plan(2.0)
    assert session.said() == []
    streams.plan(3.0)
    assert session.said() == [(0, b"abc")]
    streams.on_error(Op.STREAM_DELTA, 5, NotFoundError(ErrorCode.NOT_FOUND), False, 0.0)
    with pytest.raises(NotFoundError):
        own.write(b"d")
    assert streams.deadline() is None


def test_a_stream_has_a_size() -> None:
    _, streams = made()
    own = begun(streams)
    own.write(bytes(STREAM_BYTES_MAX))
    with pytest.raises(InvalidError):
        own.write(b"x")


# ---- reading
def test_pieces_become_signals_and_the_event_ends_them() -> None:
    session, streams = made()
    streams.on_delta(delta(0, b"unknown"))
    streams.on_snapshot(snapshot(b"Once"))
    streams.on_delta(delta(4, b" upon"))
    streams.on_delta(delta(2, b"ce upon a"))
    assert [(signal.begin, signal.data) for signal in session.signals] == [(0, b"Once"), (4, b" upon"), (9, b" a")]
    assert [running.text for running in streams.running.values()] == ["Once upon a"]
    streams.on_end(3, 9)
    streams.on_end(3, 9)
    assert [signal.over for signal in session.signals] == [False, False, False, True]
    assert not streams.running


def test_a_hole_brings_a_snapshot() -> None:
    session, streams = made()
    streams.on_snapshot(snapshot(b"Once"))
    streams.on_delta(delta(6, b"on a"))
    streams.on_delta(delta(10, b" time"))
    assert session.again == [3], "asked once"
    streams.on_snapshot(snapshot(b"Once upon a time"))
    streams.on_delta(delta(16, b"."))
    last, before = session.signals[-1], session.signals[-2]
    assert (before.begin, before.data) == (4, b" upon a time"), "only what is new"
    assert (last.begin, last.data) == (16, b".")


def test_a_lost_connection_ends_what_was_seen() -> None:
    session, streams = made()
    streams.on_snapshot(snapshot(b"Once"))
    streams.on_lost()
    assert session.signals[-1].over
    assert not streams.running
