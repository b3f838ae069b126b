"""Rings to the shards, and the records that go into them. Mirrors native/hub/link.pxi; layouts are native/link.h."""

from struct import Struct, pack
from typing import Any, Protocol

from chatd.hub.core_settings import HubCoreSettings
from chatd.storage.journal_codec import EVENT_EXT, EVENT_TOMBSTONE
from chatd.wire.frame import Frame, decode_extensions, encode, make
from chatd.wire.layout import Reader
from chatd.wire.schema import (
    BODY_BYTES_MAX,
    FLAG_DELIVER_HISTORY,
    FLAG_DELIVER_STUB,
    FLAG_DELIVER_TOMBSTONE,
    FLAG_ERROR_RETRYABLE,
    FLAG_SEND_NAK_RETRYABLE,
    RETRYABLE,
    Op,
)
from chatd.wire.time40 import from_unix_ms
from chatd.wire.varint import encode as varint

S_SEND, S_SKIP, S_CALL, S_POSITION, S_LOGIN, S_CLOSED, S_RPC, S_RECEIVED, S_READY, S_MARK = range(1, 11)
H_COMMITTED, H_ANSWER, H_FRAMES, H_REGISTERED, H_KICK, H_INTEREST, H_GRANT, H_RPC, H_TOPIC, H_LOST = range(1, 11)

SEND = Struct("<BBHIQQQQQ")
CALL = Struct("<BBBBIQQQIIII")
POSITION = Struct("<B7xQQQQ")
LOGIN = Struct("<BBHIQQQQQII")
CLOSED = Struct("<BxHIQQQQ")
RPC = Struct("<B3xIQ")
RECEIVED = Struct("<B7xQ")
MARK = Struct("<B7xQQQQ")
LAYOUTS = {
    S_SEND: SEND,
    S_SKIP: SEND,
    S_CALL: CALL,
    S_POSITION: POSITION,
    S_LOGIN: LOGIN,
    S_CLOSED: CLOSED,
    S_RPC: RPC,
    S_RECEIVED: RECEIVED,
    S_READY: RECEIVED,
    S_MARK: MARK,
}
ANNOUNCES_BODY = {S_SEND: 3, S_SKIP: 3, S_CALL: 4, S_RPC: 1}
"""Record type -> which field says how many bytes follow."""


class Ring(Protocol):
    """What the model needs of chatd._native.Ring."""

    capacity: int
    record_bytes_max: int
    free_bytes: int
    corrupt: bool

    def put(self, payload: bytes) -> bool: ...
    def publish(self) -> bool: ...
    def read(self) -> bytes | None: ...
    def prepare_sleep(self) -> bool: ...
    def wake_clear(self) -> None: ...
    def fileno(self) -> int: ...


def is_fine(record: bytes) -> bool:
    """Is the record as long as its type says?"""
    layout = LAYOUTS.get(record[0]) if len(record) >= RPC.size else None
    if layout is None or len(record) < layout.size:
        return False
    body_at = ANNOUNCES_BODY.get(record[0])
    body_bytes = 0 if body_at is None else layout.unpack_from(record)[body_at]
    return len(record) == layout.size + int(body_bytes)


class Link:
    """One shard's two rings. Control that finds the ring full waits in the outbox, and everything then behind it."""

    def __init__(
        self,
        shard: int,
        ring_in: Ring,
        ring_out: Ring,
        settings: HubCoreSettings,
        upcalls: list[tuple[Any, ...]],
    ) -> None:
        self.shard = shard
        self.ring_in = ring_in
        self.ring_out = ring_out
        self.settings = settings
        self.upcalls = upcalls
        self.devices: list[Any] = []
        """Sessions of this shard, newest first."""
        self.up = True
        self.ready = False
        self.lost = False
        self.armed = False
        self.received_pos = 0
        self.pushed_pos = 0
        self.outbox: list[bytes] = []

    @property
    def reserve_bytes(self) -> int:
        return min(self.settings.ring_reserve_bytes, self.ring_out.capacity // 4)

    @property
    def is_usable(self) -> bool:
        return self.up and not self.lost

    def control(self, record: bytes) -> bool:
        """False: there is no such link any more. A link whose outbox overflows is lost."""
        if not self.is_usable:
            return False
        fits = len(record) <= self.ring_out.record_bytes_max
        if fits and not self.outbox and self.ring_out.put(record):
            return True
        if not fits or sum(4 + len(waiting) for waiting in [*self.outbox, record]) > self.settings.outbox_bytes_max:
            self.give_up()
            return False
        self.outbox.append(record)
        return True

    def give_up(self) -> None:
        if not self.lost:
            self.lost = True
            self.upcalls.append(("link_lost", self.shard))

    def flush(self) -> None:
        while self.outbox and self.ring_out.put(self.outbox[0]):
            del self.outbox[0]

    def committed(self, record: bytes) -> bool:
        """One COMMITTED record. False: no room above the reserve, or control waits."""
        if self.outbox:
            return False
        if self.ring_out.free_bytes < self.reserve_bytes + 2 * (len(record) + 16):
            return False
        return self.ring_out.put(record)

    # ---------------------------------------------------------------- records

    def say_committed(self, pos: int, cid: int, seq: int, frame: bytes, handles: list[int]) -> bool:
        head = pack("<B3xIQQQII", H_COMMITTED, len(frame), pos, cid, seq, len(handles), 0)
        record = head + frame + pack(f"<{len(handles)}Q", *handles)
        if len(record) > self.ring_out.record_bytes_max:
            if self.outbox:
                return False
            self.say_lost(pos)
            return True
        return self.committed(record)

    def say_answer(self, handle: int, token: int, frame: bytes) -> None:
        self.control(pack("<B3xIQQ", H_ANSWER, len(frame), handle, token) + frame)

    def say_frames(self, handle: int, frames: bytes, done: bool) -> bool:
        return self.control(pack("<BBHIQ", H_FRAMES, done, 0, len(frames), handle) + frames)

    def say_registered(self, error: int, handle: int, user: int, device: int, *fixed: int) -> None:
        """fixed: session_epoch, previous_epoch, cseq_stored, pos, log_epoch of a login that succeeded."""
        retry = self.settings.busy_retry_ms if error in RETRYABLE else 0
        record = (H_REGISTERED, error, retry, handle, user, device, *(fixed or (0,) * 5))
        self.control(pack("<BxHIQQQQQQQQ", *record))

    def say_kick(self, handle: int, reason: int) -> None:
        self.control(pack("<BxHIQ", H_KICK, reason, 0, handle))

    def say_interest(self, cid: int, shards: int) -> None:
        self.control(pack("<B7xQQ", H_INTEREST, cid, shards))

    def say_grant(self, handle: int, cid: int, topics: int) -> None:
        self.control(pack("<B3xIQQ", H_GRANT, topics, handle, cid))

    def say_rpc(self, call: int, payload: bytes) -> bool:
        return self.control(pack("<B3xIQ", H_RPC, len(payload), call) + payload)

    def say_topic(self, cid: int, topics: int, frame: bytes, but_handle: int = 0) -> None:
        self.control(pack("<BBxxIQQ", H_TOPIC, topics, len(frame), cid, but_handle) + frame)

    def has_spare_room(self, frame: bytes) -> bool:
        """For what may be lost: it never waits, nor uses what answers need."""
        record_bytes = 24 + len(frame)
        if not self.is_usable or self.outbox or record_bytes > self.ring_out.record_bytes_max:
            return False
        return self.ring_out.free_bytes >= self.reserve_bytes + 2 * (record_bytes + 16)

    def say_lost(self, pos: int) -> None:
        self.control(pack("<B7xQ", H_LOST, pos))


# -------------------------------------------------------------------- frames


def frame_deliver(event: Any, flags: int = 0, frame_bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """event: (cid, seq, ts_ms, sender, kind, content, EVENT_* flags). A body over frame_bytes_max becomes a stub."""
    cid, seq, ts_ms, sender, kind, content, stored = event
    fields = {"cid": cid, "seq": seq, "sender": sender, "time": from_unix_ms(ts_ms), "kind": kind}
    if stored & EVENT_TOMBSTONE:
        flags |= FLAG_DELIVER_TOMBSTONE
        content, stored = b"", 0
    reader = Reader(content)
    extensions = decode_extensions(Op.DELIVER, reader) if stored & EVENT_EXT else ()
    payload = content[reader.offset :]
    head = len(varint(cid) + varint(seq) + varint(sender) + varint(kind)) + 5
    if head + len(content) > frame_bytes_max:
        return encode(make(Op.DELIVER, flags=flags | FLAG_DELIVER_STUB, payload=varint(len(payload)), **fields))
    return encode(make(Op.DELIVER, flags=flags, extensions=extensions, payload=payload, **fields))


def frame_history(event: Any, frame_bytes_max: int) -> bytes:
    return frame_deliver(event, FLAG_DELIVER_HISTORY, frame_bytes_max)


def frame_ack(cseq: int, cid: int, seq: int, ts_ms: int, flags: int) -> bytes:
    return encode(make(Op.SEND_ACK, flags=flags, cseq=cseq, cid=cid, seq=seq, time=from_unix_ms(ts_ms)))


def frame_nak(cseq: int, cid: int, code: int, retry_after_ms: int, text: str = "") -> bytes:
    flags = FLAG_SEND_NAK_RETRYABLE if code in RETRYABLE else 0
    numbers = {"cseq": cseq, "cid": cid, "code": code, "retry_after_ms": retry_after_ms}
    return encode(Frame(Op.SEND_NAK, flags, {**numbers, "text": text}))


def frame_error(code: int, op: int, ref: int, retry_after_ms: int) -> bytes:
    flags = FLAG_ERROR_RETRYABLE if code in RETRYABLE else 0
    fields: dict[str, Any] = {"code": code, "op": op, "ref": ref, "retry_after_ms": retry_after_ms, "text": ""}
    return encode(make(Op.ERROR, flags=flags, **fields))


def frame_receipt(cid: int, entries: list[tuple[int, int, int]]) -> bytes:
    records = [{"user": user, "delivered_seq": delivered, "read_seq": read} for user, delivered, read in entries]
    return encode(make(Op.RECEIPT, cid=cid, entries=records))
