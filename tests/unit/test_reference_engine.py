"""What is particular to the reference engine: no sockets, and rings that need not be shared memory."""

from collections import deque

import pytest
from support import frames
from support.ring_hub import (
    FRAMES_LAYOUT,
    H_FRAMES,
    H_REGISTERED,
    REGISTERED_LAYOUT,
    S_CALL,
    S_LOGIN,
    S_READY,
    S_RECEIVED,
)

from chatd.engine.reference import ReferenceEngine
from chatd.engine.settings import EngineSettings
from chatd.errors import LocalProtocolError

SETTINGS = EngineSettings(manual_clock=1, random_seed=1)


class MemoryRing:
    """A ring that holds `room` records."""

    def __init__(self, room: int) -> None:
        self.records: deque[bytes] = deque(maxlen=room)
        self.room = room

    def put(self, payload: bytes) -> bool:
        if len(self.records) == self.room:
            return False
        self.records.append(payload)
        return True

    def publish(self) -> bool:
        return True

    def read(self) -> bytes | None:
        return self.records.popleft() if self.records else None

    @property
    def free_bytes(self) -> int:
        return self.room - len(self.records)


@pytest.mark.parametrize("call", ["fileno", "listen", "unlisten"])
def test_it_says_that_it_has_no_sockets(call: str) -> None:
    engine = ReferenceEngine(SETTINGS)
    with pytest.raises(LocalProtocolError, match="no sockets"):
        getattr(engine, call)(*([] if call == "fileno" else [0]))


def test_memory_is_ring_enough() -> None:
    engine = ReferenceEngine(SETTINGS)
    to_shard, to_hub = MemoryRing(4), MemoryRing(4)
    engine.link_hub(1, to_shard, to_hub)
    client = engine.open()
    engine.feed(client, frames.hello() + frames.auth())
    assert [upcall[0] for upcall in engine.poll(0)] == ["auth"]
    engine.register(client, 7, 8, 0, 0, 0)
    engine.poll(0)
    assert [record[0] for record in to_hub.records] == [S_RECEIVED, S_READY, S_LOGIN]
    to_shard.put(REGISTERED_LAYOUT.pack(H_REGISTERED, 0, 0, 0, client, 7, 8, 1, 0, 0, 0, 1))
    assert [upcall[0] for upcall in engine.poll(0)] == ["registered"]
    engine.welcome(client, frames.welcome(7, 8, 1))
    # One place is left in the ring: the second call finds it full and says so.
    engine.feed(client, frames.request(1) + frames.request(2))
    assert to_hub.records[-1][0] == S_CALL
    reply = frames.frame(frames.REPLY, b"\x01\0\0\0\x80")
    to_shard.put(FRAMES_LAYOUT.pack(H_FRAMES, 1, 0, len(reply), client) + reply)
    assert ("readable", client) in engine.poll(0)
    assert [frame.op for frame in frames.split(engine.take(client))] == [frames.WELCOME, frames.ERROR, frames.REPLY]
