"""SENDs without an answer, refused ones that must not be overtaken, and positions on their way to the hub.

What was handed to a hub that died is kept with its bytes and handed to the next one, in the original order: the hub's
idempotency makes that harmless. What no hub has had may still be refused; of the rest nobody knows whether it is
stored, so without a hub its client is told UNAVAILABLE once, by ERROR, and gets the answer when there is one. After a
retryable refusal of a cseq, later SENDs of the connection to that conversation are OUT_OF_ORDER until it has been
retried or skipped. The refusals of a hub are kept, too, until they are answered for good: the next hub has to know
them.
"""

from chatd.engine.reference import records
from chatd.engine.reference.records import FromShard, Ring
from chatd.engine.reference.state import Connection, Refused, Send, State
from chatd.wire.schema import Op

POSITIONS_RETRY_MS = 10


# -- in flight --


def enter(state: State, conn: Connection, op: int, flags: int, body: bytes, cseq: int, cid: int) -> bool:
    """Keep it until it is answered. False: no room."""
    settings = state.settings
    if len(state.sends) >= settings.pending_sends_max or state.sends_bytes + len(body) > settings.pending_bytes_max:
        return False
    token, state.next_token = state.next_token, state.next_token + 1
    state.sends[token] = Send(token, conn, op, flags, body, cseq, cid, state.now_ms)
    state.sends_bytes += len(body)
    conn.sends_in_flight += 1
    return True


def remove(state: State, send: Send) -> None:
    del state.sends[send.token]
    state.sends_bytes -= len(send.body)
    send.conn.sends_in_flight -= 1


def drop(state: State, conn: Connection) -> None:
    """The connection ends: nobody is left to answer; the client's retry carries the same cseq."""
    for send in list(state.sends.values()):
        if send.conn is conn:
            remove(state, send)


def pump(state: State, ring: Ring) -> None:
    """Hand over what this link has not got, oldest first, as far as the ring has room."""
    for send in state.sends.values():
        if send.on_link:
            continue
        conn = send.conn
        kind = FromShard.SEND if send.op == Op.SEND else FromShard.SKIP
        ids = (conn.handle, send.token, conn.user, conn.device, conn.session_epoch)
        if not ring.put(records.SEND.pack(kind, send.flags, 0, len(send.body), *ids) + send.body):
            return
        state.count["sends_replayed"] += send.handed
        send.on_link = send.handed = True


def rewind(state: State) -> None:
    """A fresh link has got nothing yet."""
    for send in state.sends.values():
        send.on_link = False


def wait_ms(state: State) -> int:
    """How long a SEND that no hub has had may wait: for room in the ring, or for a hub."""
    return state.settings.pending_wait_ms if state.hub.ring_out else state.settings.hubless_wait_ms


def waiting(state: State) -> list[Send]:
    """What no hub has had, oldest first."""
    return [send for send in state.sends.values() if not send.handed]


def untold(state: State) -> list[Send]:
    """What a hub had that is gone, oldest first."""
    return [send for send in state.sends.values() if send.handed and not send.told and not state.hub.ring_out]


# -- refused ones --


def order_allows(conn: Connection, cseq: int, cid: int) -> bool:
    """May cseq go to cid now, as far as this connection's refusals are concerned?"""
    return not any(refused.ours and refused.cid == cid and refused.cseq < cseq for refused in conn.refused)


def order_note(state: State, conn: Connection, cseq: int, cid: int, *, ours: bool) -> bool:
    """Remember a refusal, ours or the hub's. False: this client has more open ones than it may."""
    known = order_find(conn, cseq)
    if known is not None:
        known.cid, known.ours = cid, ours
        return True
    if len(conn.refused) >= state.settings.refused_sends_max:
        return False
    conn.refused.append(Refused(cseq, cid, ours))
    return True


def order_find(conn: Connection, cseq: int) -> Refused | None:
    return next((refused for refused in conn.refused if refused.cseq == cseq), None)


def order_retry(conn: Connection, cseq: int) -> None:
    """It goes to the hub: from here on it is the hub's matter."""
    known = order_find(conn, cseq)
    if known is not None:
        known.ours = False


def order_settle(conn: Connection, cseq: int) -> None:
    """It is stored, skipped or refused for good. The last one takes its place."""
    known = order_find(conn, cseq)
    if known is not None:
        conn.refused[conn.refused.index(known)] = conn.refused[-1]
        conn.refused.pop()


# -- positions --


def note_position(state: State, user: int, cid: int, delivered: int = 0, read: int = 0) -> None:
    """Merge a position; all of them go to the hub together, position_interval_ms after the first."""
    if (user, cid) not in state.positions:
        if len(state.positions) >= state.settings.positions_max:
            state.count["positions_dropped"] += 1
            return
        state.positions_due_ms = state.positions_due_ms or state.now_ms + state.settings.position_interval_ms
    old_delivered, old_read = state.positions.get((user, cid), (0, 0))
    state.positions[user, cid] = (max(delivered, old_delivered), max(read, old_read))


def pump_positions(state: State, ring: Ring) -> None:
    if not state.positions_due_ms or state.now_ms < state.positions_due_ms:
        return
    for (user, cid), (delivered, read) in list(state.positions.items()):
        if not ring.put(records.POSITION.pack(FromShard.POSITION, user, cid, delivered, read)):
            break
        del state.positions[user, cid]
        state.count["positions"] += 1
    state.positions_due_ms = state.now_ms + POSITIONS_RETRY_MS if state.positions else 0
