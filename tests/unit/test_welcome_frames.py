"""The shard's own encoder of WELCOME, RESUMED and ERROR agrees with the reference codec."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.shard import frames
from chatd.wire import decode_one, sync_cursor
from chatd.wire.schema import RETRYABLE, TIME_EPOCH_MS, ErrorCode, Op

ids = st.integers(0, (1 << 62) - 1)
terms = st.tuples(
    st.integers(0, 31),
    st.integers(128, 65_535),
    st.integers(1, 4096),
    st.integers(1, 1 << 22),
    st.integers(25_000, 400_000),
)
sessions = st.builds(frames.Session, ids, ids, ids, ids, terms, ids, st.binary(max_size=24), st.binary(max_size=64))


def says(frame: Any, session: frames.Session) -> bool:
    features, frame_bytes_max, window_frames, window_bytes, heartbeat_ms = session.terms
    expected = {
        "user": session.user,
        "device": session.device,
        "session_epoch": session.session_epoch,
        "cseq_stored": session.cseq_stored,
        "features": features,
        "frame_bytes_max": frame_bytes_max,
        "window_frames": window_frames,
        "window_bytes": window_bytes,
        "frames_per_s": 20,
        "sends_per_s": 10,
        "heartbeat_ms": heartbeat_ms,
        "log_epoch": session.log_epoch,
        "cursor": session.cursor,
        "ticket": session.ticket,
    }
    return all(frame[name] == value for name, value in expected.items())


@given(sessions)
def test_welcome_is_what_the_codec_reads(session: frames.Session) -> None:
    frame = decode_one(frames.WelcomeFrames(20, 10).welcome(session))
    assert frame.op == Op.WELCOME
    assert says(frame, session)
    assert frame["time"] > 1_700_000_000_000 - TIME_EPOCH_MS


@given(sessions, st.booleans())
def test_resumed_is_what_the_codec_reads(session: frames.Session, continuity: bool) -> None:
    frame = decode_one(frames.WelcomeFrames(20, 10).resumed(session, continuity=continuity))
    assert frame.op == Op.RESUMED
    assert frame["continuity"] == continuity
    assert says(frame, session)


@pytest.mark.parametrize("code", ErrorCode)
def test_error_is_what_the_codec_reads(code: ErrorCode) -> None:
    frame = decode_one(frames.error(code, Op.AUTH, 1500, "日本語" * 20))
    assert (frame["code"], frame["op"], frame["ref"], frame["retry_after_ms"]) == (code, Op.AUTH, 0, 1500)
    assert frame["text"] == ("日本語" * 20)[:32]
    assert bool(frame.flags) == (code in RETRYABLE)


def test_many_terms_do_not_grow_the_table() -> None:
    made = frames.WelcomeFrames(20, 10)
    cursor = sync_cursor.encode(1, sync_cursor.SyncCursor(5))
    for window in range(1, 3000):
        made.welcome(frames.Session(1, 1, 1, 1, (7, 512, window, 4096, 60_000), 1, cursor, bytes(58)))
    assert len(made._terms) <= frames.TERMS_KNOWN_MAX
