"""Records of the links, as native/link.h lays them out: little-endian structs, each followed by what it announces."""

from enum import IntEnum
from struct import Struct
from typing import Final, Protocol


class Ring(Protocol):
    """One direction of a link: FIFO, bounded. chatd._native.Ring, or anything in memory that behaves like it."""

    def put(self, payload: bytes) -> bool:
        """Append a record; False when there is no room for it now."""

    def publish(self) -> bool:
        """Let the reader see what was put."""

    def read(self) -> bytes | None:
        """The oldest record, consumed; None when there is none."""

    @property
    def free_bytes(self) -> int: ...


class FromShard(IntEnum):
    SEND = 1
    SKIP = 2
    CALL = 3
    POSITION = 4
    LOGIN = 5
    CLOSED = 6
    RPC = 7
    RECEIVED = 8
    READY = 9
    MARK = 10


class FromHub(IntEnum):
    COMMITTED = 1
    ANSWER = 2
    FRAMES = 3
    REGISTERED = 4
    KICK = 5
    INTEREST = 6
    GRANT = 7
    RPC = 8
    TOPIC = 9
    LOST = 10


PEER_EPHEMERAL: Final = 1
LOGIN_REATTACH: Final = 1
FRAMES_DONE: Final = 1

SEND = Struct("<BBHIQQQQQ")  # type flags - body_bytes handle token user device session_epoch
CALL = Struct("<BBBBIQQQIIII")  # type flags op reattach body_bytes handle user device, room, frame features
POSITION = Struct("<B7xQQQQ")  # type user cid delivered_seq read_seq
LOGIN = Struct("<BBHIQQQQQII")  # type flags - frame_max handle user device token_epoch session_epoch features -
CLOSED = Struct("<BBHIQQQQ")  # type - reason - handle user device session_epoch
RPC = Struct("<B3xIQ")  # type body_bytes call
RECEIVED = Struct("<B7xQ")  # type pos
MARK = Struct("<B7xQQQQ")  # type handle device cid cseq
COMMITTED = Struct("<B3xIQQQII")  # type frame_bytes pos cid seq recipient_count -
ANSWER = Struct("<B3xIQQ")  # type frame_bytes handle token
FRAMES = Struct("<BBHIQ")  # type flags - frames_bytes handle
REGISTERED = Struct("<BBHI8Q")  # type - error retry handle user device session previous cseq_stored pos log_epoch
KICK = Struct("<BBHIQ")  # type - reason retry_after_ms handle
INTEREST = Struct("<B7xQQ")  # type cid shards
GRANT = Struct("<B3xIQQ")  # type topics handle cid
TOPIC = Struct("<BBHIQQ")  # type topics - frame_bytes cid but_handle
EPHEMERAL = Struct("<B3xIQQ")  # type frame_bytes cid sender


class BadRecordError(Exception):
    """The record contradicts itself, or no version knows it: the link has to be dropped."""


def fixed(layout: Struct, record: bytes) -> tuple[int, ...]:
    """The fields of a record that announces no bytes."""
    if len(record) != layout.size:
        raise BadRecordError(f"{len(record)} bytes, not {layout.size}")
    return layout.unpack(record)


def announced(layout: Struct, record: bytes, size_at: int) -> tuple[tuple[int, ...], bytes]:
    """The fields, and the bytes behind them, of which field `size_at` says the number."""
    if len(record) < layout.size:
        raise BadRecordError("shorter than its layout")
    fields = layout.unpack_from(record)
    rest = record[layout.size :]
    if fields[size_at] != len(rest):
        raise BadRecordError(f"{len(rest)} bytes follow, it says {fields[size_at]}")
    return fields, rest


def split_frames(data: bytes) -> list[bytes]:
    """Complete frames, one behind the other."""
    frames = []
    while data:
        size = 4 + int.from_bytes(data[:2], "big")
        if len(data) < max(4, size):
            raise BadRecordError("a frame is cut off")
        frames.append(data[:size])
        data = data[size:]
    return frames


def one_frame(data: bytes) -> bytes:
    if len(split_frames(data)) != 1:
        raise BadRecordError("not exactly one frame")
    return data
