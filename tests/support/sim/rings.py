"""Links between two processes: what one has published reaches the other later, and not at all what died with it."""

import os
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from chatd.engine.native import Ring

RECORD_OVERHEAD_BYTES = 8
HEADER_BYTES, HEAD_AT = 4096, 64
"""Of a ring's memory: native/common/ring.pxi."""


class MemoryRing:
    """chatd._native.Ring without shared memory: for the reference engine and core."""

    def __init__(self, capacity: int) -> None:
        self.capacity = self.free_bytes = capacity
        self.record_bytes_max = capacity // 2
        self.corrupt = False
        self._put: list[bytes] = []
        self._published: deque[bytes] = deque()

    def put(self, payload: bytes) -> bool:
        size = len(payload) + RECORD_OVERHEAD_BYTES
        if size > self.free_bytes:
            return False
        self.free_bytes -= size
        self._put.append(payload)
        return True

    def publish(self) -> bool:
        if self._put:
            self._published.extend(self._put)
            self._put.clear()
        return True

    def write(self, payload: bytes) -> bool:
        return self.put(payload) and self.publish()

    def read(self) -> bytes | None:
        if not self._published:
            return None
        record = self._published.popleft()
        self.free_bytes += len(record) + RECORD_OVERHEAD_BYTES
        return record

    def prepare_sleep(self) -> bool:
        return not self._published

    def wake_clear(self) -> None: ...

    def close(self) -> None: ...


MakeRing = Callable[[int, int], Any]
"""capacity, epoch → ring"""


def native_ring(capacity: int, epoch: int) -> Ring:
    return Ring.create(capacity, epoch)


def memory_ring(capacity: int, epoch: int) -> MemoryRing:
    return MemoryRing(capacity)


def tear(ring: Ring, payload: bytes) -> None:
    """What a writer that dies in the middle of a record leaves: bytes behind the head, where the next one begins."""
    head = int.from_bytes(os.pread(ring.memfd, 8, HEAD_AT), "little")
    at = head % ring.capacity
    os.pwrite(
        ring.memfd, payload[: ring.capacity - at - RECORD_OVERHEAD_BYTES], HEADER_BYTES + at + RECORD_OVERHEAD_BYTES
    )


class Direction:
    """From `near`, where one process writes, to `far`, where the other one reads."""

    def __init__(self, make: MakeRing, capacity: int, epoch: int) -> None:
        self.near, self.far = make(capacity, epoch), make(capacity, epoch)
        self.held: bytes | None = None
        """For which there was no room at the far end."""

    def carry(self, most: int) -> int:
        """Move what was published, at most so many records; how many it were."""
        for count in range(most):
            record = self.held if self.held is not None else self.near.read()
            self.held = None
            if record is None:
                return count
            if not self.far.write(record):
                self.held = record
                return count
        return most

    def lose_near(self, rng: Random) -> None:
        """Its writer died: a beginning of what it has published, and the record it was writing up to any byte, is all
        that the reader will ever see.
        """
        self.carry(rng.randint(0, 20))
        record = self.near.read() if self.held is None else self.held
        if record is not None and isinstance(self.far, Ring):
            tear(self.far, record[: rng.randint(0, len(record))])
        while self.near.read() is not None:
            pass

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Link:
    """Hub and one shard. stalled_until_ms: nothing is carried before."""

    def __init__(self, make: MakeRing, capacity: int, epoch: int) -> None:
        self.epoch = epoch
        self.up, self.down = Direction(make, capacity, epoch), Direction(make, capacity, epoch)
        self.stalled_until_ms = 0

    def of_shard(self) -> tuple[Any, Any]:
        """What the shard reads and writes."""
        return self.down.far, self.up.near

    def of_hub(self) -> tuple[Any, Any]:
        return self.up.far, self.down.near

    def lose_shard(self, rng: Random) -> None:
        self.up.lose_near(rng)

    def lose_hub(self, rng: Random) -> None:
        self.down.lose_near(rng)

    def close(self) -> None:
        self.up.close()
        self.down.close()
