"""Subscriptions, and ephemeral frames from connection to connection and from shard to shard.

Nothing here looks at membership: the hub grants subscriptions and takes them back, and says which other shards have
followers of a conversation. Ephemeral frames may be lost; under pressure they go first, and a newer value replaces a
queued one of the same sender.
"""

from contextlib import suppress

from chatd.engine.reference import queues, records
from chatd.engine.reference.calls import is_ready, write_call
from chatd.engine.reference.output import send_error
from chatd.engine.reference.records import BadRecordError
from chatd.engine.reference.state import Connection, Frame, Sort, State
from chatd.wire import Frame as WireFrame
from chatd.wire import WireError, decode_one, varint
from chatd.wire.schema import (
    EPHEMERAL_PAYLOAD_BYTES_MAX,
    EXTENSION_EPHEMERAL_TELEMETRY,
    HEADER_BYTES,
    TELEMETRY_KEPT_BYTES_MAX,
    TELEMETRY_KEY_MAX,
    EphemeralKind,
    ErrorCode,
    Op,
    Topic,
)

KINDS_FROM_CLIENTS = {EphemeralKind.TYPING, EphemeralKind.SIGNAL, EphemeralKind.TELEMETRY, EphemeralKind.CUSTOM}
TELEMETRY_KEYED = 0x8000
NEWEST_WINS = {EphemeralKind.TYPING, EphemeralKind.PRESENCE, EphemeralKind.TELEMETRY}


# -- subscriptions --


def subscribe(state: State, conn: Connection, cid: int, topics: int) -> bool:
    """LINK_H_GRANT. False: too many."""
    if cid not in conn.topics:
        total = sum(len(found) for found in state.followers.values())
        if len(conn.topics) >= state.settings.subscriptions_max or total >= state.settings.subscriptions_total_max:
            return False
        state.followers.setdefault(cid, []).append(conn)
    conn.topics[cid] = topics
    return True


def unsubscribe(state: State, conn: Connection, cid: int) -> None:
    conn.typing_due_ms.pop(cid, None)
    if conn.topics.pop(cid, None) is None:
        return
    state.followers[cid].remove(conn)
    if not state.followers[cid]:
        del state.followers[cid]


def drop(state: State, conn: Connection) -> None:
    for cid in list(conn.topics):
        unsubscribe(state, conn, cid)


def interest(state: State, cid: int, shards: int) -> None:
    """LINK_H_INTEREST: these shards have followers of cid."""
    if shards:
        state.shards[cid] = shards
    else:
        state.shards.pop(cid, None)


# -- ephemeral frames --


def fan_out(state: State, frame: Frame, topics: int, but: Connection | None = None) -> None:
    """To all local followers of any of the topics of its conversation but one."""
    for conn in list(state.followers.get(frame.cid, ())):
        if conn is not but and conn.topics[frame.cid] & topics:
            offer(state, conn, frame)


def offer(state: State, conn: Connection, frame: Frame) -> None:
    settings = state.settings
    if not conn.is_live or len(frame.data) - HEADER_BYTES > conn.frame_bytes_max:
        return
    crowded = conn.queue_bytes > settings.queue_drained_bytes
    if crowded and frame.newest_wins and queues.replace(state, conn, frame):
        state.count["ephemeral_replaced"] += 1
    elif conn.queue_bytes + len(frame.data) > settings.queue_ephemeral_bytes:
        state.count["ephemeral_dropped"] += 1
    else:
        state.count["ephemeral_out"] += queues.push(state, conn, frame)


def ephemeral_frame(data: bytes, cid: int, sender: int, kind: int, key: int = 0) -> Frame:
    slot = TELEMETRY_KEYED | key if key else kind
    return Frame(data, Sort.EPHEMERAL, cid, sender, ephemeral_kind=slot, newest_wins=kind in NEWEST_WINS)


def telemetry(frame: WireFrame) -> tuple[int, bool]:
    """Key of a TELEMETRY, and whether the server keeps it. WireError: the extension is malformed."""
    told = frame.extension(EXTENSION_EPHEMERAL_TELEMETRY) if frame["kind"] == EphemeralKind.TELEMETRY else None
    if told is None:
        return 0, False
    key, flags = told["key"], told["flags"]
    assert isinstance(key, int)
    assert isinstance(flags, int)
    if key > TELEMETRY_KEY_MAX:
        raise WireError("ext.TELEMETRY", 0, f"key {key}")
    return key, bool(flags & 1)


def keep(state: State, conn: Connection, frame: WireFrame, body: bytes) -> None:
    """A value that the server keeps goes to the hub, too."""
    if not is_ready(state) or not write_call(state, conn, Op.EPHEMERAL, frame.flags, body):
        state.count["ephemeral_dropped"] += 1


def on_ephemeral(state: State, conn: Connection, frame: WireFrame, body: bytes) -> None:
    state.count["ephemeral_in"] += 1
    cid, sender, kind = frame["cid"], frame["sender"], frame["kind"]
    code = 0
    if sender:
        code = ErrorCode.BAD_REQUEST
    elif frame.unknown_extension or kind not in KINDS_FROM_CLIENTS:
        code = ErrorCode.UNSUPPORTED
    elif len(frame["payload"]) > EPHEMERAL_PAYLOAD_BYTES_MAX:
        code = ErrorCode.TOO_LARGE
    elif cid not in conn.topics:
        code = ErrorCode.NOT_FOUND
    if code:
        send_error(state, conn, code, Op.EPHEMERAL, cid)
        return
    if kind == EphemeralKind.TYPING and not typing_allowed(state, conn, cid):
        return
    try:
        key, kept = telemetry(frame)
    except WireError:
        send_error(state, conn, ErrorCode.BAD_REQUEST, Op.EPHEMERAL, cid)
        return
    if kept and len(frame["payload"]) > TELEMETRY_KEPT_BYTES_MAX:
        send_error(state, conn, ErrorCode.TOO_LARGE, Op.EPHEMERAL, cid)
        return
    if kept:
        keep(state, conn, frame, body)
    # As receivers see it: the same, with its sender filled in.
    rest = body[varint.size(cid) + varint.size(sender) :]
    filled = varint.encode(cid) + varint.encode(conn.user) + rest
    data = len(filled).to_bytes(2, "big") + bytes((Op.EPHEMERAL, frame.flags)) + filled
    ephemeral = ephemeral_frame(data, cid, conn.user, kind, key)
    fan_out(state, ephemeral, Topic.EPHEMERAL, but=conn)
    to_peers(state, ephemeral)


def typing_allowed(state: State, conn: Connection, cid: int) -> bool:
    """One per conversation and interval, none when the shard is short of memory; more are dropped, not refused."""
    is_short = 5 * state.queued_bytes > 4 * state.settings.queues_bytes_max
    if is_short or state.now_ms < conn.typing_due_ms.get(cid, 0):
        state.count["ephemeral_dropped"] += 1
        return False
    conn.typing_due_ms[cid] = state.now_ms + state.settings.typing_interval_ms
    return True


# -- other shards --


def to_peers(state: State, frame: Frame) -> None:
    shards = state.shards.get(frame.cid, 0)
    head = records.EPHEMERAL.pack(records.PEER_EPHEMERAL, len(frame.data), frame.cid, frame.seq)
    for index, (_, ring_out) in state.peers.items():
        if shards >> index & 1 and not ring_out.put(head + frame.data):
            state.count["peer_full"] += 1


def read_peers(state: State) -> None:
    for index, (ring_in, _) in list(state.peers.items()):
        try:
            while (record := ring_in.read()) is not None:
                state.found_work = True
                on_peer_record(state, record)
        except BadRecordError:
            state.count["links_corrupt"] += 1
            del state.peers[index]
            state.upcalls.append(("peer_lost", index))


def on_peer_record(state: State, record: bytes) -> None:
    (kind, _, cid, sender), data = records.announced(records.EPHEMERAL, record, 1)
    if kind != records.PEER_EPHEMERAL or len(data) < HEADER_BYTES:
        raise BadRecordError("not a record of this version")
    if cid not in state.followers:
        return
    try:
        _, at = varint.decode(data, HEADER_BYTES)
        _, at = varint.decode(data, at)
        ephemeral_kind, _ = varint.decode(data, at)
    except WireError as error:
        raise BadRecordError(str(error)) from None
    key = 0
    with suppress(WireError):
        key, _ = telemetry(decode_one(data))
    fan_out(state, ephemeral_frame(data, cid, sender, ephemeral_kind, key), Topic.EPHEMERAL)
