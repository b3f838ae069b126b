"""Rates of a connection. Over them it is throttled: not read for a while, never refused for that alone."""

from chatd.engine.reference.state import Connection, State
from chatd.wire.schema import Op


def charge(state: State, conn: Connection, op: int, size: int) -> bool:
    """Is this frame within the agreed rates? If not, nothing is charged and the connection is throttled."""
    settings = state.settings
    bytes_before_ns = conn.bytes_rate.arrival_ns
    wait_ns = conn.bytes_rate.charge(state.now_ns, size, settings.bytes_per_s, settings.bytes_burst)
    if not wait_ns and is_free_of_charge(state, conn, op):
        return True
    if not wait_ns:
        wait_ns = conn.frames_rate.charge(state.now_ns, 1, settings.frames_per_s, settings.frames_burst)
        if not wait_ns:
            return True
        conn.bytes_rate.arrival_ns = bytes_before_ns
    throttle(state, conn, state.now_ms + wait_ns // 1_000_000 + 1)
    return False


def is_free_of_charge(state: State, conn: Connection, op: int) -> bool:
    """PING, PONG, and ACK unless it comes more often than it may."""
    if op == Op.ACK and state.now_ms - conn.acked_ms >= state.settings.ack_interval_ms:
        conn.acked_ms = state.now_ms
        return True
    return op in {Op.PING, Op.PONG}


def throttle(state: State, conn: Connection, until_ms: int) -> None:
    """until_ms 0: until an answer frees a place."""
    if not conn.throttled:
        state.count["throttled"] += 1
        conn.throttled = True
        conn.resume_ms = until_ms
