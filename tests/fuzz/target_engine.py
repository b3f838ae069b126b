"""Invariant: whatever a peer feeds, before or after login, cut anywhere: whole frames come out, and all memory back.

Input: pieces, each led by a byte that says what happens: 0xFE a second passes, 0xFF a minute, otherwise feed so many.
"""

from support import frames
from support.ring_hub import RingHub

from chatd._native import Engine
from chatd.engine.settings import EngineSettings
from chatd.shard.frames import Session, WelcomeFrames
from chatd.wire.frame import encode, make
from chatd.wire.framer import Framer
from chatd.wire.schema import Feature, Op

HELLO, AUTH = frames.hello(features=int(Feature.STREAMS)), frames.auth(device=5)
LIVE = [
    make(Op.SEND, cseq=1, cid=1, kind=1, payload=b"hi"),
    make(Op.ACK, count=0),
    make(Op.READ, cid=1, seq=1),
    make(Op.PULL, cid=1, from_seq=1, to_seq=0, limit=1),
    make(Op.EPHEMERAL, cid=1, sender=0, kind=1, payload=b"\x01"),
    make(Op.EPHEMERAL, cid=1, sender=0, kind=4, payload=b"21", extensions=((4, b"\x07\x01"),)),
    make(Op.STREAM_START, cid=1, stream=0, kind=1),
    make(Op.STREAM_DELTA, cid=1, stream=5, offset=0, payload=b"Once"),
    make(Op.STREAM_END, cid=1, stream=5, cseq=3),
    make(Op.PING, flags=2, echo=b"e"),
    make(Op.SKIP, cseq=2),
    make(Op.REQUEST, id=1, method=1, params=b"\x80"),
    make(Op.SUBSCRIBE, cid=1, topics=1),
    make(Op.SYNC, cursor=b"", limit=1),
]
SEEDS = [bytes([len(HELLO)]) + HELLO + bytes([len(AUTH)]) + AUTH + b"\xfe\xff"]
SEEDS += [b"\x00" + bytes([len(data)]) + data + b"\xfe" for data in map(encode, LIVE)]
SEEDS.append(b"\x00" + b"".join(bytes([len(data)]) + data for data in map(encode, LIVE)) + b"\xff")

WELCOMES = WelcomeFrames(20, 10)
SETTINGS = EngineSettings(manual_clock=1, random_seed=7, connections_max=16, ledger_entries=64, gate_entries=64)


def one(data: bytes) -> None:
    engine, hub, framer, now_ns = Engine(SETTINGS), RingHub(), Framer(), 10**12
    try:
        engine.set_time(now_ns)
        engine.link_hub(1, hub.to_shard, hub.to_hub)
        handle = engine.open("192.0.2.1")
        if data[:1] == b"\x00":
            # After login.
            engine.feed(handle, HELLO + AUTH)
            for _ in range(4):
                step(engine, hub)
        at = 0
        while at < len(data):
            size, at = data[at], at + 1
            if size >= 0xFE:
                now_ns += 10**9 if size == 0xFE else 60 * 10**9
                engine.set_time(now_ns)
            elif size:
                engine.feed(handle, data[at : at + size])
                at += size
            step(engine, hub)
            collect(framer, engine.take(handle))
        engine.end(handle)
        now_ns += 120 * 10**9
        engine.set_time(now_ns)
        for _ in range(3):
            step(engine, hub)
        left = engine.counters()
        assert left["connections"] == left["parked_bytes"] == left["queued_bytes"] == 0, left
        assert sum(count for name, count in left.items() if name.startswith("closed_")) == 1
    finally:
        engine.dispose()


def collect(framer: Framer, data: bytes) -> None:
    """Raises when the server says what its own codec refuses."""
    while framer.feed(data):
        data = b""


def step(engine: Engine, hub: RingHub) -> None:
    for upcall in engine.poll(500):
        if upcall[0] == "auth":
            engine.register(upcall[1], 5, 5, 0, 0, 0)
        elif upcall[0] == "registered":
            terms = engine.terms(upcall[1])
            if terms is None:
                continue  # closed meanwhile
            session = Session(upcall[4], upcall[5], upcall[6], 0, terms, 1, b"c", b"t")
            engine.welcome(upcall[1], WELCOMES.welcome(session))
        elif upcall[0] in ("resume", "reauth"):
            engine.refuse(upcall[1], frames.error(200))
    hub.pump()
