"""The end of a connection: one reason, one teardown, BYE where there is a point in it."""

from chatd.engine.reference import output, sends, topics
from chatd.engine.reference.queues import gone, trim
from chatd.engine.reference.state import Connection, Stage, State
from chatd.wire.schema import Close, ErrorCode, Op

# Nobody is there to read BYE, or its sender knows why.
WITHOUT_BYE = {
    Close.NORMAL,
    Close.PEER_CLOSED,
    Close.PEER_RESET,
    Close.PREAUTH_EVICTED,
    Close.FIRST_BYTE_TIMEOUT,
    Close.PROXY_FAILED,
    Close.TLS_FAILED,
}
# Strangers that do not speak the protocol get no answer.
WITHOUT_BYE_BEFORE_LOGIN = {Close.BAD_FRAME, Close.FLOOD, Close.SLOW_FRAME, Close.SLOW}


def says_bye(conn: Connection) -> bool:
    if conn.close_reason in WITHOUT_BYE:
        return False
    if conn.close_reason == Close.AUTH_TIMEOUT:
        return conn.stage >= Stage.AUTHENTICATING
    return conn.stage == Stage.LIVE or conn.close_reason not in WITHOUT_BYE_BEFORE_LOGIN


def reap(state: State) -> None:
    """Tear down what was doomed; that may doom others, which join the list."""
    for conn in state.doomed:
        if conn.doomed:
            tear_down(state, conn)
    state.doomed.clear()


def tear_down(state: State, conn: Connection) -> None:
    reason = conn.close_reason
    bye = says_bye(conn)
    state.closes[reason] += 1
    if reason == Close.AUTH_TIMEOUT and Stage.AUTHENTICATING <= conn.stage < Stage.LIVE:
        # We were the slow side.
        retry_ms = output.retry_after_default_ms(ErrorCode.UNAVAILABLE)
        output.send_error(state, conn, ErrorCode.UNAVAILABLE, Op.AUTH, 0, retry_ms)
    strip(state, conn)
    conn.login_due = conn.throttled = False
    if conn.attached:
        conn.closed_due = True
        state.owing[conn.handle] = conn
    state.upcalls.append(("closed", conn.handle, conn.user, conn.device, reason))
    conn.stage = Stage.CLOSING
    conn.doomed = False
    if reason == Close.SLOW:
        trim(state, conn)
    if bye and not conn.bye_queued:
        output.send_bye(state, conn, reason, conn.close_retry_ms)
    if conn.stage == Stage.CLOSING and not bye and reason != Close.NORMAL:
        gone(state, conn)
    if conn.stage == Stage.CLOSING:
        # Up to linger_ms for the peer to take what is left.
        conn.progress_ms = state.now_ms
        state.dirty[conn.handle] = conn


def strip(state: State, conn: Connection) -> None:
    """Free what only a working connection needs."""
    topics.drop(state, conn)
    sends.drop(state, conn)
    for entry in conn.unacked[: len(conn.unacked) - conn.queued_delivers]:
        if entry.traced:
            state.note("dropped", entry.cid, entry.seq, conn.user)
    output.lag_forget(conn)
    conn.refused.clear()
    conn.unacked.clear()
    conn.unacked_bytes = 0
    conn.calls.clear()
    conn.partial = b""
