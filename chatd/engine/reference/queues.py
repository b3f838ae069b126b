"""Output queues, and how a connection is doomed.

A frame is encoded once and stands in the queue of everybody who gets it. Any function may find out in the middle of its
work that a connection must end; it dooms it, and the teardown comes at the end of the tick (closing.py). The first
reason wins.
"""

from chatd.engine.reference.state import QUEUE_REFERENCE_BYTES, Connection, Frame, Stage, State
from chatd.wire.schema import Close


def doom(state: State, conn: Connection, reason: int) -> None:
    """The connection must end with `reason`. One that is closing already stops waiting for its peer."""
    if conn.stage == Stage.CLOSING:
        gone(state, conn)
    elif conn.is_open:
        conn.doomed = True
        conn.close_reason = reason
        state.doomed.append(conn)


def gone(state: State, conn: Connection) -> None:
    """The end: nothing can be taken any more, and the handle names nobody."""
    if conn.stage == Stage.GONE:
        return
    for frame in conn.queue:
        forget(state, conn, frame, "dropped")
    conn.queue.clear()
    conn.taken_bytes = 0
    conn.stage = Stage.GONE
    del state.connections[conn.handle]
    state.dirty.pop(conn.handle, None)
    slot, generation = conn.handle & 0xFFFFFFFF, conn.handle >> 32
    state.generations[slot] = generation + 1
    state.free_slots.append(slot)


def push(state: State, conn: Connection, frame: Frame) -> bool:
    """Append to the queue. False: it was too much, the connection is doomed."""
    if conn.queue_bytes + len(frame.data) > state.settings.queue_hard_bytes:
        doom(state, conn, Close.SLOW)
        return False
    if not conn.queue:
        conn.progress_ms = state.now_ms
    conn.queue.append(frame)
    conn.queue_bytes += len(frame.data) + QUEUE_REFERENCE_BYTES
    hold(state, frame)
    state.dirty[conn.handle] = conn
    return True


def hold(state: State, frame: Frame) -> None:
    state.queued_bytes += 0 if frame.queues else frame.held_bytes
    frame.queues += 1


def release(state: State, frame: Frame) -> None:
    frame.queues -= 1
    state.queued_bytes -= 0 if frame.queues else frame.held_bytes


def forget(state: State, conn: Connection, frame: Frame, hop: str = "") -> None:
    """Account for a frame that leaves the queue; hop: what the ledger shall know of a traced one."""
    conn.queue_bytes -= len(frame.data) + QUEUE_REFERENCE_BYTES
    release(state, frame)
    if hop and frame.is_deliver and frame.traced:
        state.note(hop, frame.cid, frame.seq, conn.user)


def take(state: State, conn: Connection, limit: int) -> bytes:
    """Move up to `limit` bytes from the queue to the transport."""
    out = bytearray()
    while conn.queue and len(out) < limit:
        frame = conn.queue[0]
        part = frame.data[conn.taken_bytes : conn.taken_bytes + limit - len(out)]
        out += part
        conn.taken_bytes += len(part)
        conn.progress_ms = state.now_ms
        if conn.taken_bytes == len(frame.data):
            conn.taken_bytes = 0
            del conn.queue[0]
            state.count["frames_out"] += 1
            forget(state, conn, frame, "written")
    state.count["bytes_out"] += len(out)
    return bytes(out)


def trim(state: State, conn: Connection) -> None:
    """Make room for BYE in a full queue: only the frame that is half on the wire must stay."""
    kept = 1 if conn.taken_bytes else 0
    for frame in conn.queue[kept:]:
        forget(state, conn, frame, "dropped")
    if len(conn.queue) > kept:
        conn.bye_queued = False
    del conn.queue[kept:]


def replace(state: State, conn: Connection, frame: Frame) -> bool:
    """Put the frame in the place of an older one of the same conversation, sender and kind among the last 16."""
    for index in range(len(conn.queue) - 1, max(0, len(conn.queue) - 17), -1):
        old = conn.queue[index]
        if old.newest_wins and (old.cid, old.seq, old.ephemeral_kind) == (frame.cid, frame.seq, frame.ephemeral_kind):
            conn.queue[index] = frame
            conn.queue_bytes += len(frame.data) - len(old.data)
            hold(state, frame)
            release(state, old)
            return True
    return False
