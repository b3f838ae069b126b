# The frames that Python writes for a session: WELCOME, RESUMED, ERROR.
# Facts: after a restart thousands of clients resume in a second, and the reference codec spends 20 us on a RESUMED.
# Decision: what is the same for everybody is encoded once; a test holds these bytes equal to the reference codec's.
"""WELCOME, RESUMED and ERROR as bytes."""

import time
from typing import NamedTuple

from chatd.wire import time40, varint
from chatd.wire.schema import FLAG_ERROR_RETRYABLE, RETRYABLE, ErrorCode, Op

_encode = varint.encode
# 0..127 is most of what varints hold here, and a table is five times faster than a loop.
_SMALL = [bytes([value]) for value in range(128)]
ERROR_TEXT_BYTES_MAX = 96
TERMS_KNOWN_MAX = 1024


def _varint(value: int) -> bytes:
    return _SMALL[value] if value < 128 else _encode(value)


class Session(NamedTuple):
    """What WELCOME and RESUMED say of a session. terms: of the connection, from engine.terms()."""

    user: int
    device: int
    session_epoch: int
    cseq_stored: int
    terms: tuple[int, int, int, int, int]
    log_epoch: int
    cursor: bytes
    ticket: bytes


class WelcomeFrames:
    """Makes WELCOME and RESUMED for one shard's settings."""

    def __init__(self, frames_per_s: int, sends_per_s: int) -> None:
        self._rates = _varint(frames_per_s) + _varint(sends_per_s)
        self._terms: dict[tuple[int, int, int, int], bytes] = {}

    def welcome(self, session: Session) -> bytes:
        return self._frame(Op.WELCOME, b"", session)

    def resumed(self, session: Session, *, continuity: bool) -> bytes:
        return self._frame(Op.RESUMED, _SMALL[continuity], session)

    def _frame(self, op: Op, head: bytes, session: Session) -> bytes:
        user, device, session_epoch, cseq_stored, terms, log_epoch, cursor, ticket = session
        parts = (
            head,
            _varint(user),
            _varint(device),
            _varint(session_epoch),
            _varint(cseq_stored),
            self._encoded_terms(terms),
            time40.encode(time.time_ns() // 1_000_000),
            _varint(log_epoch),
            _SMALL[len(cursor)],
            cursor,
            _SMALL[len(ticket)],
            ticket,
        )
        body = b"".join(parts)
        return len(body).to_bytes(2, "big") + bytes((op, 0)) + body

    def _encoded_terms(self, terms: tuple[int, int, int, int, int]) -> bytes:
        """Few clients ask for unusual terms; heartbeats are spread by jitter, so they are encoded apart."""
        features, frame_bytes_max, window_frames, window_bytes, heartbeat_ms = terms
        key = terms[:4]
        known = self._terms.get(key)
        if known is None:
            if len(self._terms) >= TERMS_KNOWN_MAX:
                self._terms.clear()
            known = self._terms[key] = (
                _varint(features)
                + frame_bytes_max.to_bytes(2, "big")
                + _varint(window_frames)
                + _varint(window_bytes)
                + self._rates
            )
        return known + _varint(heartbeat_ms)


def error(code: ErrorCode, op: Op, retry_after_ms: int = 0, text: str = "") -> bytes:
    """An ERROR frame about a refused op."""
    encoded = text.encode()[:ERROR_TEXT_BYTES_MAX].decode(errors="ignore").encode()
    body = int(code).to_bytes(2, "big") + bytes((op, 0)) + _varint(retry_after_ms) + _SMALL[len(encoded)] + encoded
    flags = FLAG_ERROR_RETRYABLE if code in RETRYABLE else 0
    return len(body).to_bytes(2, "big") + bytes((Op.ERROR, flags)) + body
