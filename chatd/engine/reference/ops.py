"""What each op of a client does. A value that the protocol never allows closes; one that is merely not acceptable is
answered, and the connection stays. What needs the state of others (membership, idempotency, order) is the hub's.
"""

from chatd.engine.reference import output, rates, sends, topics
from chatd.engine.reference.calls import is_ready, write_call
from chatd.engine.reference.output import RETRYABLE, retry_after_default_ms, send_error
from chatd.engine.reference.queues import doom
from chatd.engine.reference.state import Call, Connection, Stage, State
from chatd.wire import Frame, encode, make
from chatd.wire.layout import encode_fields
from chatd.wire.schema import (
    EPHEMERAL_PAYLOAD_BYTES_MAX,
    EXTENSION_SEND_STREAM,
    EXTENSIONS,
    FLAG_EXT,
    FLAG_PING_REPLY_WANTED,
    HEADER_BYTES,
    KINDS,
    LITE_FRAME_BYTES_MIN,
    MAJOR,
    SEND_BODY_BYTES_MAX,
    Close,
    ErrorCode,
    Feature,
    Kind,
    Op,
)

on_ephemeral = topics.on_ephemeral


def on_ping(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    if frame.flags & FLAG_PING_REPLY_WANTED:
        output.send(state, conn, Op.PONG, echo=frame["echo"])


def on_bye(state: State, conn: Connection, _frame: Frame, _body: bytes) -> None:
    doom(state, conn, Close.NORMAL)


# -- before login --


def on_hello(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    settings = state.settings
    if conn.stage != Stage.HELLO or frame["frame_bytes_max"] < LITE_FRAME_BYTES_MIN:
        doom(state, conn, Close.BAD_FRAME)
        return
    if frame["major"] != MAJOR or frame.unknown_extension:
        send_error(state, conn, ErrorCode.UNSUPPORTED, Op.HELLO)
        doom(state, conn, Close.UNSUPPORTED)
        return
    conn.features = frame["features"] & settings.features
    conn.frame_bytes_max = frame["frame_bytes_max"]
    conn.window_frames = min(frame["window_frames"] or settings.window_frames_default, settings.window_frames_max)
    # The largest frame always fits an empty window: a PULL that starts at it must get on.
    window_bytes = min(frame["window_bytes"] or settings.window_bytes_default, settings.window_bytes_max)
    conn.window_bytes = max(window_bytes, conn.frame_bytes_max + HEADER_BYTES)
    # Spread, so that a million clients that came at once do not send their heartbeats at once.
    spread = settings.heartbeat_ms * settings.heartbeat_jitter_percent // 100
    conn.heartbeat_ms = settings.heartbeat_ms
    if spread:
        conn.heartbeat_ms += state.random_below(2 * spread + 1) - spread
    conn.stage = Stage.GREETED
    if conn.features & Feature.CHALLENGE:
        conn.nonce = state.nonce()
        output.send(state, conn, Op.CHALLENGE, nonce=conn.nonce)


def may_log_in(state: State, conn: Connection, frame: Frame) -> bool:
    if conn.stage != Stage.GREETED:
        doom(state, conn, Close.BAD_FRAME)
        return False
    if frame.unknown_extension:
        send_error(state, conn, ErrorCode.UNSUPPORTED, frame.op)
        return False
    conn.stage = Stage.AUTHENTICATING
    return True


def on_auth(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    if may_log_in(state, conn, frame):
        given = (frame["credential"], frame["device"], frame["identity"], frame["proof"], frame["label"])
        state.upcalls.append(("auth", conn.handle, *given, conn.nonce, conn.address))
        conn.nonce = b""  # good for one attempt


def on_resume(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    if may_log_in(state, conn, frame):
        given = (frame["ticket"], frame["log_epoch"], frame["cursor"])
        state.upcalls.append(("resume", conn.handle, *given, conn.address))
        conn.nonce = b""


def on_reauth(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    if conn.reauthenticating:
        # One at a time: checking a password is dear.
        send_error(state, conn, ErrorCode.NOT_ALLOWED_NOW, Op.REAUTH)
        return
    conn.reauthenticating = True
    given = (frame["credential"], frame["identity"], frame["proof"])
    state.upcalls.append(("reauth", conn.handle, *given, conn.user, conn.device, conn.session_epoch))


# -- SEND and SKIP --


def send_fault(frame: Frame, body: bytes) -> int:
    """What is wrong with the content of a SEND, as an error code; 0: nothing."""
    rule = KINDS.get(frame["kind"])
    if frame["cid"] == 0:
        return ErrorCode.BAD_REQUEST
    if rule is None or not rule.client or frame.unknown_extension:
        return ErrorCode.UNSUPPORTED
    if len(body) > SEND_BODY_BYTES_MAX or len(frame["payload"]) > rule.payload_bytes_max:
        return ErrorCode.TOO_LARGE
    if frame["kind"] in {Kind.TEXT, Kind.MARKDOWN}:
        try:
            frame["payload"].decode("utf-8")
        except UnicodeDecodeError:
            return ErrorCode.BAD_REQUEST
    return 0


def on_send(state: State, conn: Connection, frame: Frame, body: bytes) -> None:
    cseq, cid = frame["cseq"], frame["cid"]
    if cseq == 0:
        doom(state, conn, Close.BAD_FRAME)
        return
    accept(state, conn, frame.flags, body, cseq, cid, send_fault(frame, body))


def accept(state: State, conn: Connection, flags: int, body: bytes, cseq: int, cid: int, fault: int) -> None:
    """A SEND whose content has this fault: refused, or on its way in its order and within the rate."""
    state.count["sends"] += 1
    if fault:
        # Final: this cseq will never be stored, so nothing has to wait for it any longer.
        sends.order_settle(conn, cseq)
        output.send_nak(state, conn, cseq, cid, fault)
        return
    if not sends.order_allows(conn, cseq, cid):
        refuse(state, conn, cseq, cid, ErrorCode.OUT_OF_ORDER)
        return
    settings = state.settings
    wait_ns = conn.sends_rate.charge(state.now_ns, 1, settings.sends_per_s, settings.sends_burst)
    if wait_ns:
        refuse(state, conn, cseq, cid, ErrorCode.RATE_LIMITED, wait_ns // 1_000_000 + 1)
        return
    enter(state, conn, Op.SEND, flags, body, cseq, cid)


def on_skip(state: State, conn: Connection, frame: Frame, body: bytes) -> None:
    if frame["cseq"] == 0:
        doom(state, conn, Close.BAD_FRAME)
    else:
        enter(state, conn, Op.SKIP, frame.flags, body, frame["cseq"], 0)


def enter(state: State, conn: Connection, op: int, flags: int, body: bytes, cseq: int, cid: int) -> None:
    """Into the table of what has no answer yet, from where it goes to the hub at the end of the tick."""
    if not sends.enter(state, conn, op, flags, body, cseq, cid):
        refuse(state, conn, cseq, cid, ErrorCode.BUSY)
        return
    sends.order_retry(conn, cseq)
    if conn.sends_in_flight >= state.settings.sends_in_flight_max:
        rates.throttle(state, conn, 0)


def refuse(state: State, conn: Connection, cseq: int, cid: int, code: int, retry_ms: int = 0) -> None:
    """NAK a SEND or SKIP. A retryable refusal of a SEND closes the gate of its conversation."""
    if cid and code in RETRYABLE and not sends.order_note(state, conn, cseq, cid, ours=True):
        # A client that keeps so many refusals open: its outbox starts over in order.
        doom(state, conn, Close.FLOOD)
        return
    output.send_nak(state, conn, cseq, cid, code, retry_ms or retry_after_default_ms(code))


# -- positions --


def on_ack(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    if not output.acknowledge(state, conn, frame["count"]):
        doom(state, conn, Close.BAD_FRAME)


def on_read(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    if frame["cid"] == 0 or frame["seq"] == 0:
        send_error(state, conn, ErrorCode.BAD_REQUEST, Op.READ, frame["cid"])
    else:
        sends.note_position(state, conn.user, frame["cid"], read=frame["seq"])


# -- calls --

PULLS = {Op.PULL, Op.SYNC}
# The number that an ERROR has to name.
CALL_REF = {
    Op.PULL: "cid",
    Op.SUBSCRIBE: "cid",
    Op.UNSUBSCRIBE: "cid",
    Op.REQUEST: "id",
    Op.STREAM_START: "cid",
}


def on_call(state: State, conn: Connection, frame: Frame, body: bytes) -> None:
    """What the hub answers: pass it on, or say why not. Calls are not kept."""
    ref = frame[CALL_REF[Op(frame.op)]] if frame.op in CALL_REF else 0
    if frame.unknown_extension:
        send_error(state, conn, ErrorCode.UNSUPPORTED, frame.op, ref)
        return
    if frame.op == Op.SUBSCRIBE and len(conn.topics) >= state.settings.subscriptions_max:
        send_error(state, conn, ErrorCode.LIMIT_REACHED, frame.op, ref)
        return
    settings = state.settings
    is_pull = frame.op in PULLS
    outstanding_max = settings.pulls_outstanding_max if is_pull else settings.requests_outstanding_max
    outstanding = sum(call.is_pull == is_pull for call in conn.calls)
    code = 0
    if not is_ready(state):
        code = ErrorCode.UNAVAILABLE
    elif outstanding >= outstanding_max or not write_call(state, conn, frame.op, frame.flags, body):
        code = ErrorCode.BUSY
    if code:
        state.count["calls_refused"] += 1
        send_error(state, conn, code, frame.op, ref, retry_after_default_ms(code))
        return
    state.count["calls"] += 1
    conn.calls.append(Call(frame.op, ref, is_pull))


# -- streams --


def on_stream_delta(state: State, conn: Connection, frame: Frame, body: bytes) -> None:
    """Handed over and forgotten: the hub answers only what it cannot take."""
    code = 0
    if len(frame["payload"]) > EPHEMERAL_PAYLOAD_BYTES_MAX:
        code = ErrorCode.TOO_LARGE
    elif not is_ready(state):
        code = ErrorCode.UNAVAILABLE
    elif not write_call(state, conn, Op.STREAM_DELTA, frame.flags, body):
        code = ErrorCode.BUSY
    if code:
        send_error(state, conn, code, Op.STREAM_DELTA, frame["stream"], retry_after_default_ms(code))


def on_stream_end(state: State, conn: Connection, frame: Frame, _body: bytes) -> None:
    """The SEND that it stands for: a text without payload; the hub looks up kind and content."""
    cid, cseq = frame["cid"], frame["cseq"]
    if cseq == 0:
        doom(state, conn, Close.BAD_FRAME)
        return
    layout = EXTENSIONS[Op.SEND, EXTENSION_SEND_STREAM]
    told = encode_fields(layout.fields, {"stream": frame["stream"], "flags": 0, "bytes": 0})
    extensions = ((EXTENSION_SEND_STREAM, told),)
    data = encode(make(Op.SEND, extensions=extensions, cseq=cseq, cid=cid, kind=Kind.TEXT, payload=b""))
    accept(state, conn, FLAG_EXT, data[HEADER_BYTES:], cseq, cid, 0 if cid else ErrorCode.BAD_REQUEST)
