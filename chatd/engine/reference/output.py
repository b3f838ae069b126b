"""What goes to a client: control frames, pushes within the window, and LAG for what did not fit.

The client acknowledges by count, in the order in which we sent. When its window or the soft limit of its queue is used
up, the connection is lagging: pushes are not queued but noted, first and last seq per conversation. Once it has
drained, LAG names what was left out and pushing goes on. Never a silent drop, never a push behind a gap.
"""

from typing import Any

from chatd.engine.reference.queues import forget, push
from chatd.engine.reference.sends import note_position
from chatd.engine.reference.state import Connection, Frame, Sort, State, Unacked
from chatd.wire import encode, make
from chatd.wire.schema import (
    FLAG_ERROR_RETRYABLE,
    FLAG_SEND_NAK_RETRYABLE,
    LAG_CONVERSATIONS_MAX,
    Close,
    ErrorCode,
    Op,
)

RETRYABLE = {
    ErrorCode.AUTH_BUSY,
    ErrorCode.RATE_LIMITED,
    ErrorCode.BUSY,
    ErrorCode.UNAVAILABLE,
    ErrorCode.STORE_FULL,
    ErrorCode.OUT_OF_ORDER,
    ErrorCode.INTERNAL,
}


def retry_after_default_ms(code: int) -> int:
    """When a client may try again after an error that has no better answer."""
    if code == ErrorCode.UNAVAILABLE:
        return 1000
    return 200 if code in RETRYABLE else 0


# -- control frames --


def send(state: State, conn: Connection, op: Op, /, *, flags: int = 0, **fields: Any) -> bool:
    return push(state, conn, Frame(encode(make(op, flags=flags, **fields))))


def send_error(state: State, conn: Connection, code: int, op: int, ref: int = 0, retry_ms: int = 0) -> None:
    flags = FLAG_ERROR_RETRYABLE if code in RETRYABLE else 0
    fields = {"code": code, "op": op, "ref": ref, "retry_after_ms": retry_ms, "text": ""}
    send(state, conn, Op.ERROR, flags=flags, **fields)


def send_nak(state: State, conn: Connection, cseq: int, cid: int, code: int, retry_ms: int = 0) -> None:
    state.count["sends_refused"] += 1
    flags = FLAG_SEND_NAK_RETRYABLE if code in RETRYABLE else 0
    send(state, conn, Op.SEND_NAK, flags=flags, cseq=cseq, cid=cid, code=code, retry_after_ms=retry_ms, text="")


def send_bye(state: State, conn: Connection, reason: int, retry_ms: int, text: str = "") -> None:
    conn.bye_queued = send(state, conn, Op.BYE, reason=reason, retry_after_ms=retry_ms, text=text)


def send_goaway(state: State, conn: Connection, window_ms: int) -> None:
    send(state, conn, Op.GOAWAY, reason=Close.GOING_AWAY, window_ms=window_ms, ticket=b"")


def send_lag(state: State, conn: Connection, cid: int, from_seq: int, to_seq: int) -> None:
    if cid:
        state.note("lag_sent", cid, from_seq, conn.user, to_seq - from_seq + 1)
    send(state, conn, Op.LAG, cid=cid, from_seq=from_seq, to_seq=to_seq)


# -- the window --


def window_has_room(conn: Connection, size: int) -> bool:
    if not conn.unacked:
        return True
    return len(conn.unacked) < conn.window_frames and conn.unacked_bytes + size <= conn.window_bytes


def window_push(state: State, conn: Connection, frame: Frame) -> bool:
    """Queue a DELIVER and enter it in the window. False: the connection is doomed."""
    if not push(state, conn, frame):
        return False
    conn.unacked.append(Unacked(frame.cid, frame.seq, len(frame.data), frame.traced))
    conn.unacked_bytes += len(frame.data)
    conn.deliver_count += 1
    if frame.traced:
        state.note("queued", frame.cid, frame.seq, conn.user)
    return True


def deliver(state: State, conn: Connection, frame: Frame) -> None:
    """Push a committed event to one recipient, or note that it has to be pulled."""
    if not conn.lagging:
        room = conn.queue_bytes < state.settings.queue_soft_bytes and window_has_room(conn, len(frame.data))
        if room:
            state.count["delivers"] += window_push(state, conn, frame)
            return
        lag_start(state, conn)
    lag_note(state, conn, frame)


def acknowledge(state: State, conn: Connection, count: int) -> bool:
    """ACK: `count` DELIVERs have been received in all. False: more than were sent, or fewer than before."""
    acked = conn.deliver_count - len(conn.unacked)
    if count < acked or count > conn.deliver_count - conn.queued_delivers:
        return False
    for entry in conn.unacked[: count - acked]:
        conn.unacked_bytes -= entry.size
        note_position(state, conn.user, entry.cid, delivered=entry.seq)
        if entry.traced:
            state.note("acked", entry.cid, entry.seq, conn.user)
    del conn.unacked[: count - acked]
    lag_check(state, conn)
    return True


# -- LAG --


def lag_start(state: State, conn: Connection) -> None:
    if not conn.lagging and not conn.doomed:
        conn.lagging = True
        state.count["lags"] += 1


def lag_note(state: State, conn: Connection, frame: Frame) -> None:
    if not conn.lagging:
        return
    state.count["delivers_lagged"] += 1
    if frame.traced:
        state.note("lagged", frame.cid, frame.seq, conn.user)
    if frame.cid not in conn.lag and len(conn.lag) == LAG_CONVERSATIONS_MAX:
        conn.lag_overflow = True
        return
    first, last = conn.lag.get(frame.cid, (frame.seq, frame.seq))
    conn.lag[frame.cid] = (min(first, frame.seq), max(last, frame.seq))


def lag_everything(state: State, conn: Connection) -> None:
    """What this connection missed is unknown: LAG(0) as soon as it has drained."""
    lag_start(state, conn)
    conn.lag_overflow = conn.lagging
    lag_check(state, conn)


def lag_check(state: State, conn: Connection) -> None:
    """After progress of any kind: once half of everything is free, tell what was left out, and push again."""
    if not conn.lagging or not conn.is_live or conn.queue_bytes > state.settings.queue_drained_bytes:
        return
    if 2 * len(conn.unacked) > conn.window_frames or 2 * conn.unacked_bytes > conn.window_bytes:
        return
    missed = [] if conn.lag_overflow else list(conn.lag.items())
    overflow = conn.lag_overflow
    lag_forget(conn)
    if overflow:
        send_lag(state, conn, 0, 0, 0)
    for cid, (first, last) in missed:
        send_lag(state, conn, cid, first, last)


def lag_forget(conn: Connection) -> None:
    conn.lagging = conn.lag_overflow = False
    conn.lag.clear()


def lag_drop_queued(state: State, conn: Connection) -> None:
    """Under memory pressure: take pushes that were not written yet out of the queue again and note them instead."""
    if not conn.queued_delivers:
        return
    lag_start(state, conn)
    if not conn.lagging:
        return
    # The tail of the window is exactly the DELIVERs in the queue; those that stay are entered again.
    del conn.unacked[len(conn.unacked) - conn.queued_delivers :]
    kept = []
    for index, frame in enumerate(conn.queue):
        half_written = index == 0 and conn.taken_bytes
        if frame.sort is Sort.PUSH and not half_written:
            conn.deliver_count -= 1
            lag_note(state, conn, frame)
            forget(state, conn, frame)
            continue
        if frame.is_deliver:
            conn.unacked.append(Unacked(frame.cid, frame.seq, len(frame.data), frame.traced))
        kept.append(frame)
    conn.queue[:] = kept
    conn.unacked_bytes = sum(entry.size for entry in conn.unacked)
    lag_check(state, conn)
