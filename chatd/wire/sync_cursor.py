"""The sync cursor: opaque to clients, made by shards (WELCOME) and by the hub (SYNC_PAGE).

version u8, log_epoch u32 (its low bits), position u48; while paging also the position fixed at the first page u48 and
the last cid given u56. Big-endian. 11 bytes between syncs, 24 while paging. A cursor of another log_epoch or of an
unknown version asks for everything; WELCOME or RESUMED has told the client to discard its positions.
"""

from typing import NamedTuple

from chatd.errors import PeerProtocolError

VERSION = 1
RESTING_BYTES = 11
PAGING_BYTES = 24


class SyncCursor(NamedTuple):
    """since_pos: changes after it are asked for. upto_pos: where the next sync goes on, 0 = not paging."""

    since_pos: int = 0
    upto_pos: int = 0
    after_cid: int = 0


def encode(log_epoch: int, cursor: SyncCursor) -> bytes:
    """At most 24 bytes."""
    head = bytes((VERSION,)) + (log_epoch & 0xFFFF_FFFF).to_bytes(4, "big") + cursor.since_pos.to_bytes(6, "big")
    if not cursor.upto_pos:
        return head
    return head + cursor.upto_pos.to_bytes(6, "big") + cursor.after_cid.to_bytes(7, "big")


def is_current(log_epoch: int, data: bytes) -> bool:
    """Whether SYNC takes it for a position in this log."""
    return len(data) in (RESTING_BYTES, PAGING_BYTES) and data.startswith(encode(log_epoch, SyncCursor())[:5])


def decode(log_epoch: int, data: bytes) -> SyncCursor:
    """PeerProtocolError when it is nothing that encode ever made."""
    if not data or data[0] != VERSION:
        return SyncCursor()
    if len(data) not in (RESTING_BYTES, PAGING_BYTES):
        raise PeerProtocolError("BAD_REQUEST", f"a cursor of {len(data)} bytes; SYNC with an empty one")
    if int.from_bytes(data[1:5], "big") != log_epoch & 0xFFFF_FFFF:
        return SyncCursor()
    since_pos = int.from_bytes(data[5:11], "big")
    if len(data) == RESTING_BYTES:
        return SyncCursor(since_pos)
    return SyncCursor(since_pos, int.from_bytes(data[11:17], "big"), int.from_bytes(data[17:], "big"))
