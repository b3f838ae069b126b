"""CALL records: frames of a client that go to the hub as they came."""

from chatd.engine.reference import records
from chatd.engine.reference.records import FromShard
from chatd.engine.reference.state import Connection, LinkStage, State


def write_call(state: State, conn: Connection, op: int, flags: int, body: bytes, *, reattach: bool = False) -> bool:
    """With what an answer may use: the rest of the window in frames and bytes, of which the queue has to hold two."""
    assert state.hub.ring_out
    frames_left = max(0, conn.window_frames - len(conn.unacked))
    queue_left = max(0, state.settings.queue_hard_bytes - conn.queue_bytes)
    bytes_left = min(max(0, conn.window_bytes - conn.unacked_bytes), queue_left // 2)
    head = (FromShard.CALL, flags, op, reattach, len(body), conn.handle, conn.user, conn.device)
    room = (frames_left, bytes_left, conn.frame_bytes_max, conn.features)
    return state.hub.ring_out.put(records.CALL.pack(*head, *room) + body)


def is_ready(state: State) -> bool:
    return state.hub.stage == LinkStage.READY
