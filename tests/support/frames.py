"""Frames written and read by hand, so that tests of the engine do not depend on the codec it is compared with."""

import struct
from dataclasses import dataclass

PING, PONG, GOAWAY, EPHEMERAL, RECEIPT, STREAM_DELTA = 0x01, 0x02, 0x03, 0x10, 0x11, 0x12
HELLO, CHALLENGE, AUTH, WELCOME, RESUME, REAUTH, BYE, ERROR = 0x81, 0x82, 0x83, 0x84, 0x85, 0x87, 0x89, 0x8A
SEND, SEND_ACK, SEND_NAK, SKIP, DELIVER, ACK, READ, LAG = 0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97
STREAM_START, STREAM_END = 0x99, 0x9A
SYNC, SYNC_PAGE, PULL, PULL_END, SUBSCRIBE, UNSUBSCRIBE, REQUEST, REPLY = 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xB0, 0xB1


@dataclass(frozen=True)
class Frame:
    op: int
    flags: int
    body: bytes

    def ints(self, count: int) -> list[int]:
        """The first `count` varints of the body."""
        values, at = [], 0
        for _ in range(count):
            value, at = read_varint(self.body, at)
            values.append(value)
        return values


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int = 0) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def prefixed(data: bytes) -> bytes:
    return varint(len(data)) + data


def frame(op: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">HBB", len(body), op, flags) + body


def split(data: bytes, *, cut: bool = False) -> list[Frame]:
    """Complete frames; the bytes must end with one unless `cut`."""
    frames, at = [], 0
    while at < len(data):
        length, op, flags = struct.unpack_from(">HBB", data.ljust(at + 4, b"\0"), at)
        if cut and at + 4 + length > len(data):
            break
        assert at + 4 + length <= len(data), "cut frame"
        frames.append(Frame(op, flags, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return frames


def hello(
    features: int = 0, frame_bytes_max: int = 65535, window_frames: int = 0, window_bytes: int = 0, major: int = 1
) -> bytes:
    body = bytes([major]) + varint(features) + struct.pack(">H", frame_bytes_max)
    return frame(HELLO, body + varint(window_frames) + varint(window_bytes) + prefixed(b"test"))


def auth(device: int = 1, identity: str = "", proof: bytes = b"token", label: str = "") -> bytes:
    body = bytes([1]) + varint(device) + prefixed(identity.encode()) + prefixed(proof) + prefixed(label.encode())
    return frame(AUTH, body)


def welcome(user: int, device: int, session_epoch: int) -> bytes:
    """Only its size matters to the engine, which passes it on."""
    return frame(WELCOME, varint(user) + varint(device) + varint(session_epoch) + bytes(20))


def error(code: int) -> bytes:
    return frame(ERROR, struct.pack(">HB", code, AUTH) + bytes(3))


def send(cseq: int, cid: int, payload: bytes = b"hello", kind: int = 1) -> bytes:
    return frame(SEND, varint(cseq) + varint(cid) + varint(kind) + payload)


def ephemeral(cid: int, payload: bytes = b"x", kind: int = 16, sender: int = 0) -> bytes:
    return frame(EPHEMERAL, varint(cid) + varint(sender) + varint(kind) + payload)


def deliver(cid: int, seq: int, sender: int = 7, payload: bytes = b"hello", flags: int = 0) -> bytes:
    return frame(DELIVER, varint(cid) + varint(seq) + varint(sender) + bytes(5) + varint(1) + payload, flags)


def send_ack(cseq: int, cid: int, seq: int) -> bytes:
    return frame(SEND_ACK, varint(cseq) + varint(cid) + varint(seq) + bytes(5))


def ack(count: int) -> bytes:
    return frame(ACK, varint(count))


def read(cid: int, seq: int) -> bytes:
    return frame(READ, varint(cid) + varint(seq))


def subscribe(cid: int, topics: int = 3) -> bytes:
    return frame(SUBSCRIBE, varint(cid) + varint(topics))


def pull(cid: int, from_seq: int = 1, to_seq: int = 0, limit: int = 200) -> bytes:
    return frame(PULL, varint(cid) + varint(from_seq) + varint(to_seq) + varint(limit))


def pull_end(cid: int, head: int = 0) -> bytes:
    return frame(PULL_END, varint(cid) + bytes(1) + varint(head) + bytes([1]))


def request(number: int, method: int = 13) -> bytes:
    return frame(REQUEST, varint(number) + varint(method) + b"\x80")


def bye(reason: int = 1) -> bytes:
    return frame(BYE, struct.pack(">H", reason) + bytes(2))
