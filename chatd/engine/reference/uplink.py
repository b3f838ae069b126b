"""This shard's end of the link to the hub.

A link is never reset, only replaced. On a fresh one the shard says what it has routed (RECEIVED), re-attaches every
live session, says READY, and then hands over what has no answer yet, in the original order. Whatever waits for room in
the ring is tried again in every tick. What the hub writes is checked; a contradiction drops the link.
"""

import struct
from collections.abc import Callable
from typing import Final

from chatd.engine.reference import output, queues, records, sends, topics
from chatd.engine.reference.calls import write_call
from chatd.engine.reference.output import retry_after_default_ms, send_error
from chatd.engine.reference.records import BadRecordError, FromHub, FromShard, Ring
from chatd.engine.reference.session import unthrottle
from chatd.engine.reference.state import Connection, Frame, HubLink, LinkStage, Sort, Stage, State
from chatd.wire import Frame as WireFrame
from chatd.wire import WireError, decode, decode_one, encode, varint
from chatd.wire.schema import (
    FLAG_DELIVER_COMPRESSED,
    FLAG_DELIVER_STUB,
    FLAG_EXT,
    FLAG_SEND_NAK_RETRYABLE,
    HEADER_BYTES,
    Close,
    ErrorCode,
    Op,
)

# -- links --


def link(state: State, ring_in: Ring, ring_out: Ring) -> None:
    unlink(state)
    state.hub = HubLink(ring_in, ring_out, LinkStage.RECEIVED, list(state.connections.values()))
    state.count["links"] += 1


def unlink(state: State) -> None:
    """What the old hub knew of our sessions is void, nobody is told that they ended; their calls get no answer."""
    if state.hub.ring_out is None:
        return
    state.hub = HubLink()
    for conn in [*state.connections.values(), *state.owing.values()]:
        conn.attached = conn.closed_due = False
    for conn in state.connections.values():
        if not conn.is_live:
            continue
        for call in conn.calls:
            retry_ms = retry_after_default_ms(ErrorCode.UNAVAILABLE)
            send_error(state, conn, ErrorCode.UNAVAILABLE, call.op, call.ref, retry_ms)
        conn.calls.clear()
    sends.rewind(state)


# -- to the hub --


def pump(state: State) -> None:
    """Write what waits, as far as there is room, and publish it."""
    hub = state.hub
    if hub.ring_out is None:
        settle_debts(state)
        return
    if hub.stage == LinkStage.RECEIVED and hub.ring_out.put(
        records.RECEIVED.pack(FromShard.RECEIVED, state.routed_pos)
    ):
        hub.stage = LinkStage.ATTACHING
    if hub.stage == LinkStage.ATTACHING and attach_sessions(state):
        hub.stage = LinkStage.READY_DUE
    if hub.stage == LinkStage.READY_DUE and hub.ring_out.put(records.RECEIVED.pack(FromShard.READY, state.routed_pos)):
        hub.stage = LinkStage.READY
    if hub.stage == LinkStage.READY:
        settle_debts(state)
        sends.pump(state, hub.ring_out)
        sends.pump_positions(state, hub.ring_out)
    hub.ring_out.publish()


def attach_sessions(state: State) -> bool:
    """REATTACH for every session; False: the ring is full, go on later."""
    attach = state.hub.attach
    while attach:
        conn = attach[0]
        if state.hub.following is not None:
            if not attach_marks(state, conn) or not attach_following(state, conn):
                return False
            state.hub.following = None
        elif conn.stage in {Stage.REGISTERED, Stage.LIVE} and not conn.doomed and conn.session_epoch:
            if not write_login(state, conn, records.LOGIN_REATTACH):
                return False
            state.hub.following = list(conn.topics)
            state.hub.marks = len(conn.refused)
            continue
        elif conn.stage == Stage.REGISTERING:
            # The hub that was asked is gone: ask this one.
            conn.login_due = True
            state.owing[conn.handle] = conn
        del attach[0]
    return True


def attach_marks(state: State, conn: Connection) -> bool:
    """Tell a fresh hub which SENDs wait to be retried, the last one first; False: the ring is full, go on later."""
    assert state.hub.ring_out
    state.hub.marks = min(state.hub.marks, len(conn.refused))
    while state.hub.marks:
        refused = conn.refused[state.hub.marks - 1]
        ids = (conn.handle, conn.device, refused.cid, refused.cseq)
        if not state.hub.ring_out.put(records.MARK.pack(FromShard.MARK, *ids)):
            return False
        state.hub.marks -= 1
    return True


def attach_following(state: State, conn: Connection) -> bool:
    """Tell a fresh hub what the connection follows, the newest first; False: the ring is full, go on later."""
    following = state.hub.following
    while following:
        cid = following[-1]
        if cid in conn.topics:
            body = varint.encode(cid) + varint.encode(conn.topics[cid])
            if not write_call(state, conn, Op.SUBSCRIBE, 0, body, reattach=True):
                return False
        following.pop()
    return True


def write_login(state: State, conn: Connection, flags: int) -> bool:
    assert state.hub.ring_out
    session_epoch = conn.session_epoch if flags & records.LOGIN_REATTACH else conn.ticket_epoch
    ids = (conn.handle, conn.user, conn.device, conn.token_epoch, session_epoch, conn.features, 0)
    written = state.hub.ring_out.put(records.LOGIN.pack(FromShard.LOGIN, flags, 0, conn.frame_bytes_max, *ids))
    conn.attached |= written
    return written


def write_closed(state: State, conn: Connection) -> bool:
    assert state.hub.ring_out
    ids = (conn.handle, conn.user, conn.device, conn.session_epoch)
    return state.hub.ring_out.put(records.CLOSED.pack(FromShard.CLOSED, 0, conn.close_reason, 0, *ids))


def settle_debts(state: State) -> None:
    """LOGIN and CLOSED records that connections owe; those that owe nothing leave the list, with or without a hub."""
    room = state.hub.stage == LinkStage.READY
    for conn in list(state.owing.values()):
        if room and conn.closed_due:
            room = write_closed(state, conn)
            conn.closed_due = not room
        elif room and conn.login_due and conn.stage == Stage.REGISTERING:
            room = write_login(state, conn, 0)
            conn.login_due = not room
        if not conn.closed_due and not (conn.login_due and conn.stage == Stage.REGISTERING):
            del state.owing[conn.handle]


# -- from the hub --


def read(state: State) -> None:
    while state.hub.ring_in is not None and len(state.upcalls) < state.settings.upcalls_max:
        record = state.hub.ring_in.read()
        if record is None:
            return
        try:
            handler = HANDLERS.get(record[0]) if record else None
            if handler is None:
                raise BadRecordError("no record of this version")
            handler(state, record)
        except BadRecordError:
            state.count["links_corrupt"] += 1
            unlink(state)
            state.upcalls.append(("hub_lost",))
            return
        state.found_work = True


def on_committed(state: State, record: bytes) -> None:
    if len(record) < records.COMMITTED.size:
        raise BadRecordError("shorter than its layout")
    _, frame_bytes, pos, cid, seq, recipients, _ = records.COMMITTED.unpack_from(record)
    data = record[records.COMMITTED.size : records.COMMITTED.size + frame_bytes]
    handles = record[records.COMMITTED.size + frame_bytes :]
    if len(handles) != 8 * recipients or records.one_frame(data)[2] != Op.DELIVER:
        raise BadRecordError("lengths do not match")
    if pos <= state.routed_pos:
        state.count["committed_old"] += 1
        return
    state.routed_pos = pos
    if not pass_gate(state, cid, seq):
        state.count["committed_old"] += 1
        return
    state.count["committed"] += 1
    state.note("routed", cid, seq, 0, recipients)
    traced = recipients <= state.settings.ledger_recipients_max
    fan_out(state, Frame(data, Sort.PUSH, cid, seq, traced), struct.unpack(f"<{recipients}Q", handles))


def pass_gate(state: State, cid: int, seq: int) -> bool:
    """Whatever is replayed, nothing of a conversation is routed twice or behind what was routed."""
    if seq <= state.pushed.get(cid, 0):
        return False
    state.pushed[cid] = seq
    state.pushed.move_to_end(cid)
    if len(state.pushed) > state.settings.gate_entries:
        state.pushed.popitem(last=False)
    return True


def fan_out(state: State, frame: Frame, handles: tuple[int, ...]) -> None:
    """To each recipient; who cannot receive a frame of this size gets a stub, one for all of them."""
    small: Frame | None = None
    for handle in handles:
        conn = state.connections.get(handle)
        if conn is not None and conn.is_registered:
            # The hub knows the session, its client does not yet: LAG follows WELCOME.
            output.lag_start(state, conn)
            output.lag_note(state, conn, frame)
        elif conn is None or not conn.is_live:
            state.count["handles_stale"] += 1
            if frame.traced:
                state.note("gone", frame.cid, frame.seq)
        elif len(frame.data) - HEADER_BYTES <= conn.frame_bytes_max:
            output.deliver(state, conn, frame)
        else:
            small = small or stub(frame)
            output.deliver(state, conn, small)


def stub(frame: Frame) -> Frame:
    """The DELIVER with the length of its payload in place of the payload, and without extensions."""
    whole = decode_one(frame.data)
    flags = whole.flags & ~(FLAG_EXT | FLAG_DELIVER_COMPRESSED) | FLAG_DELIVER_STUB
    fields = dict(whole.fields) | {"payload": varint.encode(len(whole["payload"]))}
    data = encode(WireFrame(Op.DELIVER, flags, fields))
    return Frame(data, frame.sort, frame.cid, frame.seq, frame.traced)


def on_answer(state: State, record: bytes) -> None:
    (_, _, handle, token), frame = records.announced(records.ANSWER, record, 1)
    records.one_frame(frame)
    send = state.sends.get(token)
    if send is None or send.conn.handle != handle:
        state.count["answers_late"] += 1
        return
    state.count["answers"] += 1
    sends.remove(state, send)
    conn = send.conn
    if not conn.is_live:
        return
    if frame[2] != Op.SEND_NAK or not frame[3] & FLAG_SEND_NAK_RETRYABLE:
        sends.order_settle(conn, send.cseq)
    elif send.cid and not sends.order_note(state, conn, send.cseq, send.cid, ours=False):
        queues.doom(state, conn, Close.FLOOD)
        return
    queues.push(state, conn, Frame(frame))
    unthrottle(state, conn)


def on_frames(state: State, record: bytes) -> None:
    (_, flags, _, _, handle), data = records.announced(records.FRAMES, record, 3)
    frames = records.split_frames(data)
    conn = state.connections.get(handle)
    if conn is None:
        return
    for frame in frames:
        if not conn.is_live:
            break
        if frame[2] == Op.DELIVER:
            # In the window whatever room is left: the hub was told how much there was.
            cid, at = varint.decode(frame, HEADER_BYTES)
            seq, _ = varint.decode(frame, at)
            output.window_push(state, conn, Frame(frame, Sort.HISTORY, cid, seq, traced=True))
        else:
            queues.push(state, conn, Frame(frame))
    if flags & records.FRAMES_DONE and conn.calls:
        finish_call(conn, *answered(frames[-1] if frames else b""))


# Final answers: the op they settle, and the field that names the call.
SETTLES: Final[dict[int, tuple[int, str]]] = {
    Op.CHUNK: (Op.PULL, "cid"),
    Op.PULL_END: (Op.PULL, "cid"),
    Op.REPLY: (Op.REQUEST, "id"),
    Op.SUBSCRIBE: (Op.SUBSCRIBE, "cid"),
    Op.UNSUBSCRIBE: (Op.UNSUBSCRIBE, "cid"),
    Op.STREAM_START: (Op.STREAM_START, "cid"),
}


def answered(data: bytes) -> tuple[int, int]:
    """Which call the last frame of an answer settles: op and ref."""
    if not data or data[2] not in {Op.SYNC_PAGE, Op.ERROR, *SETTLES}:
        return 0, 0
    if data[2] == Op.SYNC_PAGE:
        return Op.SYNC, 0
    try:
        frame = decode(data[2], data[3], data[HEADER_BYTES:])
    except WireError:
        return 0, 0
    if frame.op == Op.ERROR:
        return frame["op"], frame["ref"]
    op, ref = SETTLES[frame.op]
    return op, frame[ref]


def finish_call(conn: Connection, op: int, ref: int) -> None:
    """Take the call that was settled off the list: the exact one, else the oldest of that op, else the oldest."""
    exact = [call for call in conn.calls if (call.op, call.ref) == (op, ref)]
    same_op = [call for call in conn.calls if call.op == op]
    conn.calls.remove((exact or same_op or conn.calls)[0])


def on_registered(state: State, record: bytes) -> None:
    _, _, error, retry_ms, handle, user, device, session_epoch, *rest = records.fixed(records.REGISTERED, record)
    conn = state.connections.get(handle)
    if conn is None or conn.stage != Stage.REGISTERING or conn.doomed:
        return
    conn.stage = Stage.REGISTERED
    if error:
        # The directory has no such session: nothing to take back when this connection ends.
        conn.attached = False
    else:
        conn.user, conn.device, conn.session_epoch = user, device, session_epoch
    state.upcalls.append(("registered", handle, error, retry_ms, user, device, session_epoch, *rest))


def on_kick(state: State, record: bytes) -> None:
    _, _, reason, retry_ms, handle = records.fixed(records.KICK, record)
    if reason > max(Close):
        raise BadRecordError("no close reason")
    conn = state.connections.get(handle)
    if conn is not None and conn.is_open:
        conn.close_retry_ms = retry_ms
        queues.doom(state, conn, reason)


def on_interest(state: State, record: bytes) -> None:
    _, cid, shards = records.fixed(records.INTEREST, record)
    if cid == 0:
        raise BadRecordError("no conversation")
    topics.interest(state, cid, shards)


def on_grant(state: State, record: bytes) -> None:
    _, granted, handle, cid = records.fixed(records.GRANT, record)
    if cid == 0:
        raise BadRecordError("no conversation")
    conn = state.connections.get(handle)
    if conn is None or not conn.is_live:
        return
    if not granted:
        topics.unsubscribe(state, conn, cid)
    elif not topics.subscribe(state, conn, cid, granted):
        queues.doom(state, conn, Close.INTERNAL)


def on_rpc(state: State, record: bytes) -> None:
    (_, _, call), payload = records.announced(records.RPC, record, 1)
    state.upcalls.append(("rpc", call, payload))


def on_topic(state: State, record: bytes) -> None:
    (_, wanted, _, _, cid, but_handle), data = records.announced(records.TOPIC, record, 3)
    frame = Frame(records.one_frame(data), Sort.EPHEMERAL, cid)
    topics.fan_out(state, frame, wanted, but=state.connections.get(but_handle))


def on_lost(state: State, record: bytes) -> None:
    _, pos = records.fixed(records.RECEIVED, record)
    state.routed_pos = max(pos, state.routed_pos)
    state.pushed.clear()
    for conn in list(state.connections.values()):
        if conn.is_live or conn.is_registered:
            output.lag_everything(state, conn)


HANDLERS: Final[dict[int, Callable[[State, bytes], None]]] = {
    FromHub.COMMITTED: on_committed,
    FromHub.ANSWER: on_answer,
    FromHub.FRAMES: on_frames,
    FromHub.REGISTERED: on_registered,
    FromHub.KICK: on_kick,
    FromHub.INTEREST: on_interest,
    FromHub.GRANT: on_grant,
    FromHub.RPC: on_rpc,
    FromHub.TOPIC: on_topic,
    FromHub.LOST: on_lost,
}
