"""A hub on the other end of real rings, small enough to see through: for tests of the engine.

It answers LOGIN and SEND like the real one (session epochs, one seq per conversation, COMMITTED before ANSWER) and
SUBSCRIBE by granting; everything else it only records. Nothing is stored. Turn `automatic` off to answer by hand.
"""

import struct
from dataclasses import dataclass, field

from chatd.engine.native import Ring
from support import frames

S_SEND, S_SKIP, S_CALL, S_POSITION, S_LOGIN, S_CLOSED, S_RPC, S_RECEIVED, S_READY, S_MARK = range(1, 11)
(
    H_COMMITTED,
    H_ANSWER,
    H_FRAMES,
    H_REGISTERED,
    H_KICK,
    H_INTEREST,
    H_GRANT,
    H_RPC,
    H_TOPIC,
    H_LOST,
) = range(1, 11)
REATTACH = 1
# Topics that a hub grants; it drops other bits.
TOPICS_KNOWN = 7

SEND_LAYOUT = struct.Struct("<BBHIQQQQQ")
CALL_LAYOUT = struct.Struct("<BBBBIQQQIIII")
POSITION_LAYOUT = struct.Struct("<B7xQQQQ")
LOGIN_LAYOUT = struct.Struct("<BBHIQQQQQII")
CLOSED_LAYOUT = struct.Struct("<BBHIQQQQ")
RPC_LAYOUT = struct.Struct("<B3xIQ")
POS_LAYOUT = struct.Struct("<B7xQ")
MARK_LAYOUT = struct.Struct("<B7xQQQQ")
COMMITTED_LAYOUT = struct.Struct("<B3xIQQQII")
ANSWER_LAYOUT = struct.Struct("<B3xIQQ")
FRAMES_LAYOUT = struct.Struct("<BBHIQ")
REGISTERED_LAYOUT = struct.Struct("<BBHI8Q")
KICK_LAYOUT = struct.Struct("<BBHIQ")
INTEREST_LAYOUT = struct.Struct("<B7xQQ")
GRANT_LAYOUT = struct.Struct("<B3xIQQ")
TOPIC_LAYOUT = struct.Struct("<BBHIQQ")


@dataclass
class Send:
    op: int
    flags: int
    handle: int
    token: int
    user: int
    device: int
    session_epoch: int
    body: bytes

    @property
    def cseq(self) -> int:
        return frames.read_varint(self.body)[0]

    @property
    def cid(self) -> int:
        return frames.read_varint(self.body, frames.read_varint(self.body)[1])[0]


@dataclass
class Call:
    op: int
    flags: int
    handle: int
    user: int
    device: int
    window_frames: int
    window_bytes: int
    frame_bytes_max: int
    features: int
    body: bytes
    reattach: bool = False


@dataclass
class RingHub:
    """Both rings of one link, and what a hub has to remember. members: cid -> users."""

    epoch: int = 1
    ring_bytes: int = 1 << 20
    automatic: bool = True
    members: dict[int, set[int]] = field(default_factory=dict)
    heads: dict[int, int] = field(default_factory=dict)
    sessions: dict[int, tuple[int, int]] = field(default_factory=dict)
    pos: int = 0
    session_epoch: int = 100

    def __post_init__(self) -> None:
        self.to_shard = Ring.create(self.ring_bytes, self.epoch)
        self.to_hub = Ring.create(self.ring_bytes, self.epoch)
        self.sends: list[Send] = []
        self.calls: list[Call] = []
        self.positions: list[tuple[int, int, int, int]] = []
        self.closed: list[tuple[int, int]] = []
        self.logins: list[tuple[int, int, int, int, int, int]] = []
        self.rpcs: list[tuple[int, bytes]] = []
        self.starts: list[tuple[int, int]] = []
        self.marks: list[tuple[int, int, int, int]] = []
        """handle, device, cid, cseq"""

    def successor(self) -> "RingHub":
        """A new hub after this one died: same log, fresh rings, no sessions."""
        return RingHub(
            epoch=self.epoch + 1,
            ring_bytes=self.ring_bytes,
            automatic=self.automatic,
            members=self.members,
            heads=self.heads,
            pos=self.pos,
            session_epoch=self.session_epoch,
        )

    def pump(self) -> int:
        """Read what the shard wrote, answering it if automatic; returns the number of records."""
        count = 0
        while (record := self.to_hub.read()) is not None:
            count += 1
            self._record(record)
        return count

    def _record(self, record: bytes) -> None:
        kind = record[0]
        if kind in (S_SEND, S_SKIP):
            _, flags, _, size, *ids = SEND_LAYOUT.unpack_from(record)
            body = record[SEND_LAYOUT.size :]
            assert len(body) == size
            self._on_send(Send(kind, flags, *ids, body=body))
        elif kind == S_CALL:
            _, flags, op, reattach, size, *rest = CALL_LAYOUT.unpack_from(record)
            body = record[CALL_LAYOUT.size :]
            assert len(body) == size
            self._on_call(Call(op, flags, *rest, body=body, reattach=bool(reattach)))
        elif kind == S_POSITION:
            self.positions.append(POSITION_LAYOUT.unpack(record)[1:])
        elif kind == S_LOGIN:
            self._on_login(record)
        elif kind == S_CLOSED:
            _, _, reason, _, handle, *_ = CLOSED_LAYOUT.unpack(record)
            self.closed.append((handle, reason))
            self.sessions.pop(handle, None)
        elif kind == S_RPC:
            _, _, call = RPC_LAYOUT.unpack_from(record)
            self.rpcs.append((call, record[RPC_LAYOUT.size :]))
        elif kind == S_MARK:
            self.marks.append(MARK_LAYOUT.unpack(record)[1:])
        else:
            assert kind in (S_RECEIVED, S_READY), kind
            self.starts.append(POS_LAYOUT.unpack(record))

    def _on_login(self, record: bytes) -> None:
        _, flags, _, _, handle, user, device, token_epoch, session_epoch, _, _ = LOGIN_LAYOUT.unpack(record)
        self.logins.append((flags, handle, user, device, session_epoch, token_epoch))
        self.sessions[handle] = (user, device)
        if self.automatic and not flags & REATTACH:
            self.registered(handle, user, device)

    def _on_send(self, send: Send) -> None:
        self.sends.append(send)
        if self.automatic:
            self.commit(send)

    def _on_call(self, call: Call) -> None:
        self.calls.append(call)
        if self.automatic and call.op == frames.SUBSCRIBE and not call.reattach:
            cid, at = frames.read_varint(call.body)
            topics = frames.read_varint(call.body, at)[0] & TOPICS_KNOWN
            self.grant(call.handle, cid, topics)
            self.frames(call.handle, frames.subscribe(cid, topics), done=True)

    # -- what a hub writes; each returns False when the ring is full --

    def registered(self, handle: int, user: int, device: int, error: int = 0) -> bool:
        self.session_epoch += 1
        numbers = (handle, user, device, self.session_epoch, 0, 0, self.pos, 1)
        return self.to_shard.write(REGISTERED_LAYOUT.pack(H_REGISTERED, 0, error, 0, *numbers))

    def commit(self, send: Send) -> bool:
        """Store a SEND, push it to the other sessions of its members, acknowledge it."""
        if send.op == S_SKIP:
            return self.answer(send, frames.frame(frames.SEND_ACK, frames.varint(send.cseq) + bytes(7), 4))
        seq = self.heads[send.cid] = self.heads.get(send.cid, 0) + 1
        _, at = frames.read_varint(send.body)
        _, at = frames.read_varint(send.body, at)
        _, at = frames.read_varint(send.body, at)
        users = self.members.get(send.cid, set())
        handles = [h for h, (user, _) in self.sessions.items() if user in users and h != send.handle]
        self.committed(send.cid, seq, frames.deliver(send.cid, seq, send.user, send.body[at:]), handles)
        return self.answer(send, frames.send_ack(send.cseq, send.cid, seq))

    def committed(self, cid: int, seq: int, frame: bytes, handles: list[int], pos: int | None = None) -> bool:
        if pos is None:
            self.pos += 1
            pos = self.pos
        head = COMMITTED_LAYOUT.pack(H_COMMITTED, len(frame), pos, cid, seq, len(handles), 0)
        return self.to_shard.write(head + frame + struct.pack(f"<{len(handles)}Q", *handles))

    def answer(self, send: Send, frame: bytes) -> bool:
        return self.to_shard.write(ANSWER_LAYOUT.pack(H_ANSWER, len(frame), send.handle, send.token) + frame)

    def frames(self, handle: int, data: bytes, done: bool = False) -> bool:
        return self.to_shard.write(FRAMES_LAYOUT.pack(H_FRAMES, int(done), 0, len(data), handle) + data)

    def kick(self, handle: int, reason: int) -> bool:
        return self.to_shard.write(KICK_LAYOUT.pack(H_KICK, 0, reason, 0, handle))

    def grant(self, handle: int, cid: int, topics: int) -> bool:
        return self.to_shard.write(GRANT_LAYOUT.pack(H_GRANT, topics, handle, cid))

    def interest(self, cid: int, shards: int) -> bool:
        return self.to_shard.write(INTEREST_LAYOUT.pack(H_INTEREST, cid, shards))

    def topic(self, cid: int, topics: int, frame: bytes, but_handle: int = 0) -> bool:
        return self.to_shard.write(TOPIC_LAYOUT.pack(H_TOPIC, topics, 0, len(frame), cid, but_handle) + frame)

    def receipts(self, cid: int, frame: bytes) -> bool:
        return self.topic(cid, 2, frame)

    def lost(self, pos: int) -> bool:
        return self.to_shard.write(POS_LAYOUT.pack(H_LOST, pos))

    def rpc(self, call: int, payload: bytes) -> bool:
        return self.to_shard.write(RPC_LAYOUT.pack(H_RPC, len(payload), call) + payload)
