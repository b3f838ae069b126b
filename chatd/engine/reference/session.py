"""Bytes become frames, frames become calls, by the tables of the schema.

Whether an op may come at all (side, flags, state, feature) is judged before its body: what a server does not take now
is refused without being decoded. A frame that is within its rate is handled at once; otherwise the connection is
throttled: nothing more is read until a time, or until an answer frees a place.
"""

from collections.abc import Callable
from typing import Final

from chatd.engine.reference import ops
from chatd.engine.reference.output import send_error
from chatd.engine.reference.queues import doom
from chatd.engine.reference.rates import charge
from chatd.engine.reference.state import Connection, Stage, State
from chatd.wire import Frame, WireError, decode
from chatd.wire.schema import BEFORE, CLIENT, HEADER_BYTES, LIVE, OP_MUST_UNDERSTAND, OPS, Close, ErrorCode, Op

Handler = Callable[[State, Connection, Frame, bytes], None]

HANDLERS: Final[dict[int, Handler]] = {
    Op.PING: ops.on_ping,
    Op.PONG: lambda _state, _conn, _frame, _body: None,
    Op.BYE: ops.on_bye,
    Op.HELLO: ops.on_hello,
    Op.AUTH: ops.on_auth,
    Op.RESUME: ops.on_resume,
    Op.REAUTH: ops.on_reauth,
    Op.SEND: ops.on_send,
    Op.SKIP: ops.on_skip,
    Op.ACK: ops.on_ack,
    Op.READ: ops.on_read,
    Op.EPHEMERAL: ops.on_ephemeral,
    Op.SYNC: ops.on_call,
    Op.PULL: ops.on_call,
    Op.SUBSCRIBE: ops.on_call,
    Op.UNSUBSCRIBE: ops.on_call,
    Op.REQUEST: ops.on_call,
    Op.STREAM_START: ops.on_call,
    Op.STREAM_DELTA: ops.on_stream_delta,
    Op.STREAM_END: ops.on_stream_end,
}


def receive(state: State, conn: Connection, data: bytes) -> int:
    """Bytes from the peer; returns how many were taken: all of them, unless a throttle began."""
    conn.received_ms = state.now_ms
    state.count["bytes_in"] += len(data)
    if conn.stage < Stage.LIVE:
        conn.preauth_bytes += len(data)
        if conn.preauth_bytes > state.settings.preauth_bytes_max + HEADER_BYTES:
            doom(state, conn, Close.BAD_FRAME)
            return len(data)
    held = len(conn.partial)
    buffer = conn.partial + data
    handled = handle_frames(state, conn, buffer)
    if not conn.is_open:
        return len(data)
    if conn.throttled:
        # What is not handled stays with the caller, but for a frame whose first bytes we had taken before.
        ours = frame_bytes(buffer) if handled == 0 and held else handled
        conn.partial = buffer[handled:ours]
        conn.fed_short = ours - held < len(data)
        return ours - held
    conn.partial = buffer[handled:]
    if handled or not held:
        conn.partial_since_ms = state.now_ms
    return len(data)


def frame_bytes(buffer: bytes) -> int:
    """Size of the frame that begins here; of its header, as long as that is not complete."""
    return HEADER_BYTES + (int.from_bytes(buffer[:2], "big") if len(buffer) >= HEADER_BYTES else 0)


def handle_frames(state: State, conn: Connection, buffer: bytes) -> int:
    """Handle complete frames until the connection is throttled or doomed; returns the bytes consumed."""
    at = 0
    while len(buffer) - at >= HEADER_BYTES and conn.is_open and not conn.throttled:
        end = at + frame_bytes(buffer[at : at + HEADER_BYTES])
        if conn.stage < Stage.LIVE and end - at - HEADER_BYTES > state.settings.preauth_frame_bytes_max:
            doom(state, conn, Close.BAD_FRAME)
            break
        op, flags = buffer[at + 2], buffer[at + 3]
        if end > len(buffer) or (conn.stage == Stage.LIVE and not charge(state, conn, op, end - at)):
            break
        dispatch(state, conn, op, flags, buffer[at + HEADER_BYTES : end])
        at = end
    return at


def dispatch(state: State, conn: Connection, op: int, flags: int, body: bytes) -> None:
    state.count["frames_in"] += 1
    rule = OPS.get(op)
    if rule is None:
        if op & OP_MUST_UNDERSTAND:
            not_understood(state, conn, op)
        return
    if not rule.sides & CLIENT or flags & ~rule.flags_mask or (not body and not rule.empty):
        doom(state, conn, Close.BAD_FRAME)
    elif not rule.states & (LIVE if conn.stage == Stage.LIVE else BEFORE):
        if conn.stage == Stage.LIVE:
            send_error(state, conn, ErrorCode.NOT_ALLOWED_NOW, op)
        else:
            doom(state, conn, Close.BAD_FRAME)
    elif op not in HANDLERS or rule.feature & ~conn.features:
        not_understood(state, conn, op)
    else:
        try:
            frame = decode(op, flags, body)
        except WireError:
            doom(state, conn, Close.BAD_FRAME)
        else:
            HANDLERS[op](state, conn, frame, body)


def not_understood(state: State, conn: Connection, op: int) -> None:
    send_error(state, conn, ErrorCode.UNSUPPORTED, op)
    if conn.stage < Stage.LIVE:
        doom(state, conn, Close.UNSUPPORTED)


# -- throttles --


def resume(state: State, conn: Connection) -> None:
    """Read again, beginning with what is ours already."""
    conn.throttled = False
    conn.resume_ms = 0
    handled = handle_frames(state, conn, conn.partial)
    conn.partial = conn.partial[handled:]
    # Our throttle was no fault of the peer's: its frame starts to be late now.
    conn.partial_since_ms = state.now_ms
    if conn.fed_short and conn.is_open and not conn.throttled:
        conn.fed_short = False
        state.upcalls.append(("resumed", conn.handle))


def unthrottle(state: State, conn: Connection) -> None:
    """An answer came: a throttle that waited for it ends."""
    waits = conn.throttled and conn.resume_ms == 0
    if waits and conn.is_live and conn.sends_in_flight < state.settings.sends_in_flight_max:
        resume(state, conn)
