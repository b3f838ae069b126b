"""The shard's end of a link, for tests of the hub's core: real rings, records made and read by hand.

Layouts are those of native/link.h, written down a second time on purpose.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple

from chatd._native import HubCore, Ring

S_SEND, S_SKIP, S_CALL, S_POSITION, S_LOGIN, S_CLOSED, S_RPC, S_RECEIVED, S_READY, S_MARK = range(1, 11)
(H_COMMITTED, H_ANSWER, H_FRAMES, H_REGISTERED, H_KICK, H_INTEREST, H_GRANT, H_RPC, H_TOPIC, H_LOST) = range(1, 11)

OP_ERROR, OP_SEND_ACK, OP_SEND_NAK, OP_DELIVER, OP_RECEIPT = 0x8A, 0x91, 0x92, 0x94, 0x11
OP_SUBSCRIBE, OP_UNSUBSCRIBE = 0xA4, 0xA5
TIME_EPOCH_MS = 1_735_689_600_000

_SEND = Struct("<BBHIQQQQQ")
_CALL = Struct("<BBBBIQQQIIII")
_POSITION = Struct("<B7xQQQQ")
_LOGIN = Struct("<BBHIQQQQQII")
_CLOSED = Struct("<BxHIQQQQ")
_RPC = Struct("<B3xIQ")
_RECEIVED = Struct("<B7xQ")
_MARK = Struct("<B7xQQQQ")
_COMMITTED = Struct("<B3xIQQQII")
_ANSWER = Struct("<B3xIQQ")
_FRAMES = Struct("<BBHIQ")
_REGISTERED = Struct("<BxHIQQQQQQQQ")
_KICK = Struct("<BxHIQ")
_INTEREST = Struct("<B7xQQ")
_GRANT = Struct("<B3xIQQ")
_TOPIC = Struct("<BBHIQQ")


class Committed(NamedTuple):
    pos: int
    cid: int
    seq: int
    frame: bytes
    handles: tuple[int, ...]


class Answer(NamedTuple):
    handle: int
    token: int
    op: int
    flags: int
    body: bytes


class Frames(NamedTuple):
    handle: int
    frames: tuple[tuple[int, int, bytes], ...]
    done: bool


class Registered(NamedTuple):
    error: int
    retry_after_ms: int
    handle: int
    user: int
    device: int
    session_epoch: int
    previous_epoch: int
    cseq_stored: int
    pos: int
    log_epoch: int


class Kick(NamedTuple):
    reason: int
    retry_after_ms: int
    handle: int


class Interest(NamedTuple):
    cid: int
    shards: int


class Grant(NamedTuple):
    topics: int
    handle: int
    cid: int


class Rpc(NamedTuple):
    call: int
    payload: bytes


class Topic(NamedTuple):
    cid: int
    topics: int
    but_handle: int
    op: int
    body: bytes


class Receipts(NamedTuple):
    cid: int
    entries: tuple[tuple[int, int, int], ...]


class Lost(NamedTuple):
    pos: int


class Deliver(NamedTuple):
    cid: int
    seq: int
    sender: int
    ts_ms: int
    kind: int
    payload: bytes
    flags: int


class Ack(NamedTuple):
    cseq: int
    cid: int
    seq: int
    ts_ms: int
    flags: int


class Nak(NamedTuple):
    cseq: int
    cid: int
    code: int
    retry_after_ms: int
    retryable: bool
    text: bytes = b""


class Session(NamedTuple):
    handle: int
    user: int
    device: int
    epoch: int


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def varints(body: bytes, count: int) -> tuple[list[int], bytes]:
    values = []
    for _ in range(count):
        value = shift = 0
        while True:
            byte, body = body[0], body[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        values.append(value)
    return values, body


def split_frames(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while data:
        length = int.from_bytes(data[:2], "big")
        assert len(data) >= 4 + length
        yield data[2], data[3], data[4 : 4 + length]
        data = data[4 + length :]


def decode_deliver(op: int, flags: int, body: bytes) -> Deliver:
    assert op == OP_DELIVER
    (cid, seq, sender), rest = varints(body, 3)
    (kind,), payload = varints(rest[5:], 1)
    return Deliver(cid, seq, sender, int.from_bytes(rest[:5], "big") + TIME_EPOCH_MS, kind, payload, flags)


def decode_answer(answer: Answer) -> Ack | Nak:
    if answer.op == OP_SEND_ACK:
        (cseq, cid, seq), rest = varints(answer.body, 3)
        time = int.from_bytes(rest, "big")
        return Ack(cseq, cid, seq, time + TIME_EPOCH_MS if seq else 0, answer.flags)
    assert answer.op == OP_SEND_NAK
    (cseq, cid), rest = varints(answer.body, 2)
    (retry, size), text = varints(rest[2:], 2)
    assert size == len(text)
    return Nak(cseq, cid, int.from_bytes(rest[:2], "big"), retry, bool(answer.flags & 2), text)


def decode(record: bytes) -> Any:
    kind = record[0]
    if kind == H_COMMITTED:
        _, frame_bytes, pos, cid, seq, count, _ = _COMMITTED.unpack_from(record)
        frame = record[40 : 40 + frame_bytes]
        return Committed(pos, cid, seq, frame, Struct(f"<{count}Q").unpack(record[40 + frame_bytes :]))
    if kind == H_ANSWER:
        _, frame_bytes, handle, token = _ANSWER.unpack_from(record)
        (frame,) = split_frames(record[24:])
        assert frame_bytes == len(record) - 24
        return Answer(handle, token, *frame)
    if kind == H_FRAMES:
        _, flags, _, frames_bytes, handle = _FRAMES.unpack_from(record)
        assert frames_bytes == len(record) - 16
        return Frames(handle, tuple(split_frames(record[16:])), bool(flags & 1))
    if kind == H_REGISTERED:
        return Registered(*_REGISTERED.unpack(record)[1:])
    if kind == H_KICK:
        return Kick(*_KICK.unpack(record)[1:])
    if kind == H_INTEREST:
        return Interest(*_INTEREST.unpack(record)[1:])
    if kind == H_GRANT:
        return Grant(*_GRANT.unpack(record)[1:])
    if kind == H_RPC:
        return Rpc(_RPC.unpack_from(record)[2], record[16:])
    if kind == H_TOPIC:
        _, topics, _, frame_bytes, cid, but_handle = _TOPIC.unpack_from(record)
        assert frame_bytes == len(record) - 24
        ((op, _, body),) = split_frames(record[24:])
        if op != OP_RECEIPT:
            return Topic(cid, topics, but_handle, op, body)
        assert (topics, but_handle) == (2, 0)
        (cid, count), rest = varints(body, 2)
        entries = []
        for _ in range(count):
            entry, rest = varints(rest, 3)
            entries.append(tuple(entry))
        return Receipts(cid, tuple(entries))
    assert kind == H_LOST
    return Lost(_RECEIVED.unpack(record)[1])


class FakeShard:
    """One shard: write records with the methods, take what the hub says with read()."""

    def __init__(
        self, core: HubCore, index: int = 0, *, epoch: int = 1, capacity: int = 4 << 20, received: int | None = 0
    ) -> None:
        self.core = core
        self.index = index
        self.to_hub = Ring.create(capacity, epoch)
        self.from_hub = Ring.create(capacity, epoch)
        core.link(
            index,
            epoch,
            Ring.attach(self.to_hub.memfd, self.to_hub.fileno(), epoch),
            Ring.attach(self.from_hub.memfd, self.from_hub.fileno(), epoch),
        )
        self._token = 0
        if received is not None:
            self.received(received)
            self.ready(received)

    def close(self) -> None:
        self.to_hub.close()
        self.from_hub.close()

    def write(self, record: bytes) -> None:
        assert self.to_hub.write(record), "the ring to the hub is full"

    def read(self) -> list[Any]:
        """Everything the hub has written, decoded."""
        return [decode(record) for record in iter(self.from_hub.read, None)]

    def read_raw(self) -> list[bytes]:
        return list(iter(self.from_hub.read, None))

    def received(self, pos: int) -> None:
        self.write(_RECEIVED.pack(S_RECEIVED, pos))

    def ready(self, pos: int = 0) -> None:
        self.write(_RECEIVED.pack(S_READY, pos))

    def mark(self, session: Session, cid: int, cseq: int) -> None:
        self.write(_MARK.pack(S_MARK, session.handle, session.device, cid, cseq))

    def login(
        self,
        handle: int,
        user: int,
        device: int,
        *,
        token_epoch: int = 0,
        session_epoch: int = 0,
        features: int = 0,
        reattach: bool = False,
    ) -> None:
        flags = 1 if reattach else 0
        self.write(_LOGIN.pack(S_LOGIN, flags, 0, 65535, handle, user, device, token_epoch, session_epoch, features, 0))

    def closed(self, session: Session, reason: int = 1) -> None:
        self.write(_CLOSED.pack(S_CLOSED, reason, 0, session.handle, session.user, session.device, session.epoch))

    def send(
        self, session: Session, cseq: int, cid: int, payload: bytes = b"hello", *, kind: int = 1, flags: int = 0
    ) -> int:
        """Returns the token."""
        body = varint(cseq) + varint(cid) + varint(kind) + payload
        return self._sending(S_SEND, session, body, flags)

    def skip(self, session: Session, cseq: int) -> int:
        return self._sending(S_SKIP, session, varint(cseq), 0)

    def _sending(self, kind: int, session: Session, body: bytes, flags: int) -> int:
        self._token += 1
        head = _SEND.pack(
            kind, flags, 0, len(body), session.handle, self._token, session.user, session.device, session.epoch
        )
        self.write(head + body)
        return self._token

    def position(self, user: int, cid: int, delivered_seq: int = 0, read_seq: int = 0) -> None:
        self.write(_POSITION.pack(S_POSITION, user, cid, delivered_seq, read_seq))

    def call(
        self,
        session: Session,
        op: int,
        body: bytes,
        *,
        window: tuple[int, int] = (100, 100_000),
        reattach: bool = False,
    ) -> None:
        head = _CALL.pack(
            S_CALL, 0, op, reattach, len(body), session.handle, session.user, session.device, *window, 65535, 0
        )
        self.write(head + body)

    def subscribe(self, session: Session, cid: int, topics: int = 3, *, reattach: bool = False) -> None:
        self.call(session, OP_SUBSCRIBE, varint(cid) + varint(topics), reattach=reattach)

    def unsubscribe(self, session: Session, cid: int) -> None:
        self.call(session, OP_UNSUBSCRIBE, varint(cid))

    def rpc(self, call: int, payload: bytes) -> None:
        self.write(_RPC.pack(S_RPC, len(payload), call) + payload)
