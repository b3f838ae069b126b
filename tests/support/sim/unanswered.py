"""What a device sends: frames, and what it keeps of those that want an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatd.wire.frame import encode, make
from chatd.wire.schema import Feature, Kind, Op
from chatd.wire.varint import encode as to_varint

TEXT = bytes([Kind.TEXT])

Done = Callable[[dict[int, Any]], None]


def hello(window_frames: int) -> bytes:
    terms = {"features": int(Feature.RECEIPTS), "frame_bytes_max": 65_535, "window_frames": window_frames}
    return encode(make(Op.HELLO, major=1, window_bytes=0, agent="simulated", **terms))


HELLOS = [hello(window_frames) for window_frames in (0, 0, 8)]
"""0: as large as the server likes; the small one is used up by a burst."""


def frame_of(op: Op, body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + bytes((op, 0)) + body


def ack(count: int) -> bytes:
    return frame_of(Op.ACK, to_varint(count))


def send(cseq: int, cid: int, content: str) -> bytes:
    return frame_of(Op.SEND, to_varint(cseq) + to_varint(cid) + TEXT + content.encode())


@dataclass(slots=True)
class Waiting:
    """A SEND without a final answer. connection: on which it was sent last and not refused since, 0: on none."""

    cid: int
    content: str
    invoked: float
    transmitted: float = 0.0
    connection: int = 0
    due_ms: int = 0
    skipping: bool = False


@dataclass(slots=True)
class Request:
    """A call without an answer; its idempotency key is in the bytes."""

    frame: bytes
    done: Done
    due_ms: int = 0
    asked: bool = False
