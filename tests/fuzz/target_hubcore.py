"""Invariant: whatever a shard's ring holds as records, the core answers, ignores or drops the link; it never ends.

Input: records, each led by its length (one byte; 0 ends a turn).
"""

from struct import Struct

from support.fakehub import FakeHub
from support.fakeshard import FakeShard

from chatd.engine.native import HubCore

CALL = Struct("<BBBBIQQQIIII")
LOGIN = Struct("<BBHIQQQQQII")
SEND = Struct("<BBHIQQQQQ")
POSITION = Struct("<B7xQQQQ")
CLOSED = Struct("<BxHIQQQQ")
RPC = Struct("<B3xIQ")


def packed(*records: bytes) -> bytes:
    return b"".join(bytes([len(record)]) + record for record in records) + b"\x00"


LOGGED_IN = LOGIN.pack(5, 0, 0, 0, 101, 1, 11, 0, 0, 0, 0)
SEEDS = [
    packed(LOGGED_IN),
    packed(LOGGED_IN, SEND.pack(1, 0, 0, 5, 101, 1, 11, 1, 1) + b"\x01\x07\x01hi"),
    packed(LOGGED_IN, CALL.pack(3, 0, 0xA4, 0, 2, 101, 1, 11, 8, 8, 512, 0) + b"\x07\x01"),
    packed(LOGGED_IN, CALL.pack(3, 0, 0xA5, 0, 1, 101, 1, 11, 8, 8, 512, 0) + b"\x00"),
    packed(POSITION.pack(4, 7, 1, 1, 1), CLOSED.pack(6, 0, 0, 101, 1, 11, 1), RPC.pack(7, 2, 1) + b"\x90\x90"),
    packed(b"\x08" + bytes(15), b"\x09" + bytes(7)),
]


def one(data: bytes) -> None:
    hub = FakeHub(HubCore)
    hub.person(1, 11)
    hub.conversation(7, 1)
    shard = FakeShard(hub.core, 0)
    at = 0
    while at < len(data):
        size, at = data[at], at + 1
        if size:
            shard.to_hub.write(data[at : at + size])
            at += size
        else:
            hub.run()
    hub.run()
