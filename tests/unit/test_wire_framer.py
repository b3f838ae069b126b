"""Framing: however bytes are cut, the same frames come out, and the same error at the same place."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire_strategies import FRAMES, raw_frames

from chatd.wire import Frame, Framer, LocalProtocolError, WireError, encode, make
from chatd.wire.schema import OPS, PREAUTH_FRAME_BYTES_MAX, Op

PING = bytes.fromhex("00000100")


def run(pieces: list[bytes], frames_per_feed_max: int = 64) -> tuple[list[Frame], str]:
    """Frames and the clause that ended the stream, empty when none did."""
    framer = Framer(frames_per_feed_max=frames_per_feed_max)
    frames: list[Frame] = []
    try:
        for piece in pieces:
            data = piece
            while got := framer.feed(data):
                assert len(got) <= frames_per_feed_max
                frames += got
                data = b""
    except WireError as error:
        return frames, f"{error.clause} {error.offset}"
    return frames, ""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


STREAMS = st.lists(st.one_of(FRAMES.map(encode), raw_frames()), max_size=6).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 5000), max_size=8))
def test_cuts_change_nothing(data: bytes, places: list[int]) -> None:
    whole = run([data])
    assert run(cut(data, places)) == whole
    assert run([data[at : at + 1] for at in range(len(data))]) == whole
    assert run([data], frames_per_feed_max=1) == whole


@given(st.binary(max_size=400), st.integers(1, 400))
def test_garbage_raises_nothing_but_protocol_errors(data: bytes, step: int) -> None:
    run([data[at : at + step] for at in range(0, len(data), step)])


def test_frames_before_the_error_are_handed_out_first() -> None:
    framer = Framer()
    frames = framer.feed(PING + bytes.fromhex("0001 9500 ff") + PING)
    assert [frame.op for frame in frames] == [Op.PING]
    for _ in range(2):
        with pytest.raises(WireError, match="inside a varint"):
            framer.feed(b"")


def test_frames_that_wait_must_be_fetched() -> None:
    framer = Framer(frames_per_feed_max=2)
    assert len(framer.feed(PING * 3)) == 2
    with pytest.raises(LocalProtocolError):
        framer.feed(PING)
    assert len(framer.feed(b"")) == 1
    assert framer.feed(b"") == []
    assert len(framer.feed(PING)) == 1
    assert framer.frame_count == 4


def test_a_body_over_the_bound_is_refused_by_its_header() -> None:
    framer = Framer(body_bytes_max=PREAUTH_FRAME_BYTES_MAX)
    with pytest.raises(WireError, match="are allowed now"):
        framer.feed((PREAUTH_FRAME_BYTES_MAX + 1).to_bytes(2, "big") + bytes((Op.AUTH, 0)))


def test_a_partial_frame_is_kept() -> None:
    framer = Framer()
    data = encode(make(Op.ACK, count=5))
    assert framer.feed(data[:3]) == []
    assert framer.partial_bytes == 3
    assert framer.feed(data[3:])[0]["count"] == 5
    assert framer.partial_bytes == 0


@pytest.mark.parametrize("op", sorted(set(range(256)) - set(OPS)))
def test_unknown_ops_come_out_with_their_body(op: int) -> None:
    (frame,) = Framer().feed(bytes((0, 2, op, 0xFF)) + b"ab")
    assert not frame.known
    assert frame["body"] == b"ab"
    assert frame.must_be_understood == (op >= 0x80)
