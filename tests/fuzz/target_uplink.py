"""Invariant: whatever records the hub's ring holds, the engine obeys, ignores or drops the link; sessions outlive it.

Input: records, each led by its length (one byte; 0 ends a turn). In a record the byte 0xEE stands for the handle of a
live session, so that mutations aim at it.
"""

from support import frames
from support import ring_hub as hubs
from support.ring_hub import RingHub

from chatd._native import Engine
from chatd.engine.settings import EngineSettings

SETTINGS = EngineSettings(manual_clock=1, random_seed=7, connections_max=16, ledger_entries=64, gate_entries=64)
HANDLE = b"\xee" * 8


def packed(*records: bytes) -> bytes:
    return b"".join(bytes([len(record)]) + record for record in records) + b"\x00"


DELIVER = frames.deliver(5, 1, 2, b"hi")
REPLY = frames.frame(frames.REPLY, frames.varint(2) + b"\0\0\0\x80")
RECEIPT = frames.frame(frames.RECEIPT, b"\x05\x01\x02\x01\x01")
COMMITTED = hubs.COMMITTED_LAYOUT.pack(hubs.H_COMMITTED, len(DELIVER), 1, 5, 1, 1, 0) + DELIVER + HANDLE
SEEDS = [
    packed(COMMITTED, COMMITTED),
    packed(hubs.COMMITTED_LAYOUT.pack(hubs.H_COMMITTED, len(DELIVER), 9, 5, 9, 0, 0) + DELIVER),
    packed(hubs.ANSWER_LAYOUT.pack(hubs.H_ANSWER, 10, 1, 7) + frames.send_ack(1, 5, 1)[:10]),
    packed(hubs.FRAMES_LAYOUT.pack(hubs.H_FRAMES, 1, 0, len(REPLY), 7) + REPLY),
    packed(hubs.FRAMES_LAYOUT.pack(hubs.H_FRAMES, 0, 0, len(DELIVER), 7) + DELIVER),
    packed(hubs.REGISTERED_LAYOUT.pack(hubs.H_REGISTERED, 0, 0, 0, 7, 5, 5, 101, 0, 0, 1, 1)),
    packed(hubs.KICK_LAYOUT.pack(hubs.H_KICK, 0, 3, 100, 7)),
    packed(hubs.INTEREST_LAYOUT.pack(hubs.H_INTEREST, 5, 3), hubs.GRANT_LAYOUT.pack(hubs.H_GRANT, 0, 7, 5)),
    packed(hubs.TOPIC_LAYOUT.pack(hubs.H_TOPIC, 2, 0, len(RECEIPT), 5, 0) + RECEIPT),
    packed(hubs.POS_LAYOUT.pack(hubs.H_LOST, 8), hubs.RPC_LAYOUT.pack(hubs.H_RPC, 2, 1) + b"\x90\x90"),
]
SEEDS = [seed.replace((7).to_bytes(8, "little"), HANDLE) for seed in SEEDS]


def one(data: bytes) -> None:
    engine, hub = Engine(SETTINGS), RingHub()
    try:
        engine.set_time(10**12)
        engine.link_hub(1, hub.to_shard, hub.to_hub)
        handle = engine.open("192.0.2.1")
        engine.feed(handle, frames.hello() + frames.auth(device=5))
        for _ in range(4):
            turn(engine, hub)
        engine.feed(handle, frames.subscribe(5, 3) + frames.send(1, 5, b"hi"))
        hub.automatic = False
        turn(engine, hub)
        engine.take(handle)
        lost = play(engine, hub, data, handle.to_bytes(8, "little"))
        if lost:
            hub = hub.successor()
            engine.link_hub(2, hub.to_shard, hub.to_hub)
        for _ in range(3):
            turn(engine, hub)
        engine.end(handle)
        engine.set_time(10**12 + 120 * 10**9)
        for _ in range(3):
            turn(engine, hub)
        left = engine.counters()
        assert left["connections"] == left["parked_bytes"] == left["queued_bytes"] == 0, left
    finally:
        engine.dispose()


def play(engine: Engine, hub: RingHub, data: bytes, handle: bytes) -> bool:
    """Write the records; whether the engine gave the link up."""
    at = 0
    lost = False
    while at < len(data) and not lost:
        size, at = data[at], at + 1
        if size:
            hub.to_shard.write(data[at : at + size].replace(HANDLE, handle))
            at += size
        else:
            lost = turn(engine, hub)
    return lost or turn(engine, hub)


def turn(engine: Engine, hub: RingHub) -> bool:
    lost = False
    for upcall in engine.poll(500):
        if upcall[0] == "auth":
            engine.register(upcall[1], 5, 5, 0, 0, 0)
        elif upcall[0] == "registered":
            engine.welcome(upcall[1], frames.welcome(upcall[4], upcall[5], upcall[6]))
        lost |= upcall[0] == "hub_lost"
    hub.pump()
    return lost
