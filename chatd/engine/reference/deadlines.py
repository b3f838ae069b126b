"""What becomes due with time. The native engine keeps a timing wheel; here every connection is looked at when the clock
has moved since the tick before.

Everything is monotonic time, but for the expiry of tokens, which is wall time by definition.
"""

from collections.abc import Iterator

from chatd.engine.reference import ops, output, sends
from chatd.engine.reference.queues import doom, gone
from chatd.engine.reference.session import frame_bytes, resume, unthrottle
from chatd.engine.reference.state import Connection, Stage, State
from chatd.wire.schema import HEADER_BYTES, Close, ErrorCode, Feature, Op

DRAIN_STEP_MS = 10


def run(state: State) -> None:
    moment = state.now_ms, state.wall_ms
    if moment != state.looked_at:
        state.looked_at = moment
        for conn in list(state.connections.values()):
            look_at(state, conn)
    refuse_overdue_sends(state)
    if state.drain_start_ms:
        drain(state)


def look_at(state: State, conn: Connection) -> None:
    if conn.stage == Stage.CLOSING:
        if state.now_ms >= conn.progress_ms + state.settings.linger_ms:
            gone(state, conn)
        return
    if conn.stage == Stage.LIVE:
        check_silence(state, conn)
        if conn.is_open:
            check_expiry(state, conn)
    elif conn.is_open:
        check_login(state, conn)
    if conn.is_open:
        check_input(state, conn)
    if conn.is_open and conn.readable_told and state.now_ms >= conn.progress_ms + state.settings.stall_ms:
        doom(state, conn, Close.SLOW)


# -- one connection --


def check_login(state: State, conn: Connection) -> None:
    age_ms = state.now_ms - conn.opened_ms
    if not conn.preauth_bytes and age_ms >= state.settings.first_byte_ms:
        doom(state, conn, Close.FIRST_BYTE_TIMEOUT)
    elif conn.preauth_bytes and age_ms >= state.settings.login_ms:
        doom(state, conn, Close.AUTH_TIMEOUT)


def silence_deadline_ms(conn: Connection) -> int:
    return conn.received_ms + conn.heartbeat_ms + conn.heartbeat_ms // 2


def check_silence(state: State, conn: Connection) -> None:
    if state.now_ms < silence_deadline_ms(conn):
        return
    if conn.throttled:
        # We are the ones who do not listen.
        conn.received_ms = state.now_ms
    else:
        doom(state, conn, Close.HEARTBEAT_TIMEOUT)


def expiry_deadline_ms(state: State, conn: Connection) -> int:
    """When the wall clock will show expires_s, and the grace period once it was announced, as far as we know now."""
    due_ms = conn.expires_s * 1000 + (state.settings.token_grace_ms if conn.expiry_told else 0)
    return state.now_ms + max(0, due_ms - state.wall_ms)


def check_expiry(state: State, conn: Connection) -> None:
    if not conn.expires_s or state.now_ms < expiry_deadline_ms(state, conn):
        return
    if conn.expiry_told:
        doom(state, conn, Close.TOKEN_EXPIRED)
        return
    conn.expiry_told = True
    output.send_error(state, conn, ErrorCode.TOKEN_EXPIRED, Op.REAUTH, 0, state.settings.token_grace_ms)


def frame_deadline_ms(state: State, conn: Connection) -> int:
    """When the partial frame must be complete: a fixed time, and more for long ones."""
    settings = state.settings
    per_length_ms = frame_bytes(conn.partial) * 1000 // max(1, settings.frame_bytes_per_s)
    return conn.partial_since_ms + settings.frame_ms + per_length_ms


def check_input(state: State, conn: Connection) -> None:
    if not conn.throttled:
        if conn.partial and state.now_ms >= frame_deadline_ms(state, conn):
            doom(state, conn, Close.SLOW_FRAME)
        return
    if conn.resume_ms and state.now_ms >= conn.resume_ms:
        check_flood(state, conn)
        if conn.is_open:
            resume(state, conn)


def check_flood(state: State, conn: Connection) -> None:
    """Far over its rates for a long time? What waits would take flood_factor * flood_ms at the agreed rate."""
    settings = state.settings
    patience = settings.flood_factor * settings.flood_ms
    size = frame_bytes(conn.partial) if len(conn.partial) >= HEADER_BYTES else 64
    over_bytes = settings.bytes_per_s and len(conn.partial) >= settings.bytes_per_s * patience // 1000
    over_frames = settings.frames_per_s and len(conn.partial) // size >= settings.frames_per_s * patience // 1000
    if not over_bytes and not over_frames:
        conn.flood_since_ms = 0
    elif conn.flood_since_ms == 0:
        conn.flood_since_ms = state.now_ms
    elif state.now_ms - conn.flood_since_ms >= settings.flood_ms:
        doom(state, conn, Close.FLOOD)


# -- the shard --


def refuse_overdue_sends(state: State) -> None:
    """What no hub has had for too long. Everything of that connection which waits goes with it: a later SEND must not
    overtake a refused one. What a dead hub had is not refused, its client is told.
    """
    code = ErrorCode.BUSY if state.hub.ring_out else ErrorCode.UNAVAILABLE
    for send in sends.untold(state):
        if state.now_ms - send.arrived_ms >= sends.wait_ms(state):
            send.told = True
            output.send_error(state, send.conn, code, send.op, send.cseq, output.retry_after_default_ms(code))
    while (waiting := sends.waiting(state)) and state.now_ms - waiting[0].arrived_ms >= sends.wait_ms(state):
        conn = waiting[0].conn
        for send in waiting:
            if send.conn is conn:
                ops.refuse(state, conn, send.cseq, send.cid, code)
                sends.remove(state, send)
        unthrottle(state, conn)


def drain(state: State) -> None:
    """GOAWAY to one connection after the other over the window; BYE to those who are left a window later."""
    elapsed_ms = state.now_ms - state.drain_start_ms
    window_ms = state.drain_window_ms
    share = len(state.drain_list) * elapsed_ms // window_ms if elapsed_ms < window_ms else len(state.drain_list)
    for conn in state.drain_list[state.drain_told : share]:
        tell_to_leave(state, conn)
    state.drain_told = max(share, state.drain_told)
    if elapsed_ms >= 2 * window_ms:
        close_all(state, Close.GOING_AWAY)


def tell_to_leave(state: State, conn: Connection) -> None:
    if not conn.is_live or conn.goaway_told:
        return
    conn.goaway_told = True
    if conn.features & Feature.LITE:
        # The lite profile does not know GOAWAY.
        conn.close_retry_ms = state.random_below(drain_left_ms(state) + 1)
        doom(state, conn, Close.GOING_AWAY)
    else:
        output.send_goaway(state, conn, drain_left_ms(state))


def drain_left_ms(state: State) -> int:
    """How long a connection may still wait before it goes: a window, or until the last BYE."""
    left_ms = 2 * state.drain_window_ms - (state.now_ms - state.drain_start_ms)
    return min(state.drain_window_ms, max(0, left_ms))


def close_all(state: State, reason: int) -> None:
    for conn in list(state.connections.values()):
        if conn.is_open:
            doom(state, conn, reason)


# -- when to look again --


def next_ms(state: State) -> int | None:
    """The earliest moment at which `run`, or the link to the hub, has something to do; None: never."""
    due = [moment for conn in state.connections.values() for moment in moments(state, conn)]
    patient = [*sends.untold(state)[:1], *sends.waiting(state)[:1]]
    due += [send.arrived_ms + sends.wait_ms(state) for send in patient]
    if state.hub.ring_out and state.positions:
        due.append(state.positions_due_ms)
    if state.drain_start_ms:
        due.append(state.now_ms + DRAIN_STEP_MS)
    return min(due, default=None)


def moments(state: State, conn: Connection) -> Iterator[int]:
    settings = state.settings
    if conn.stage == Stage.CLOSING:
        yield conn.progress_ms + settings.linger_ms
        return
    if conn.stage < Stage.LIVE:
        yield conn.opened_ms + (settings.login_ms if conn.preauth_bytes else settings.first_byte_ms)
    else:
        yield silence_deadline_ms(conn)
        if conn.expires_s:
            yield expiry_deadline_ms(state, conn)
    if conn.throttled and conn.resume_ms:
        yield conn.resume_ms
    elif conn.partial and not conn.throttled:
        yield frame_deadline_ms(state, conn)
    if conn.readable_told:
        yield conn.progress_ms + settings.stall_ms
