"""Invariant: a reader of arbitrary shared memory returns what a writer wrote or reports corruption, nothing else."""

import mmap
import struct

from chatd._native import Ring
from chatd.errors import InternalError

HEADER_BYTES = 4096
RECORDS = [b"first", b"the second record", b"", bytes(300)]


def image() -> bytes:
    with Ring.create(4096, epoch=9) as ring:
        for record in RECORDS:
            ring.write(record)
        with mmap.mmap(ring.memfd, HEADER_BYTES + ring.capacity) as memory:
            return bytes(memory[64:72]) + bytes(memory[HEADER_BYTES : HEADER_BYTES + 512])


# The first eight bytes become head, the rest the start of the data.
SEEDS = [image(), struct.pack("<Q", 4096) + bytes(600), struct.pack("<Q", 64) + b"\xff" * 64]


def one(data: bytes) -> None:
    head, body = data[:8].ljust(8, b"\x00"), data[8:4104]
    with Ring.create(4096, epoch=9) as ring, mmap.mmap(ring.memfd, HEADER_BYTES + ring.capacity) as memory:
        memory[64:72] = head
        memory[HEADER_BYTES : HEADER_BYTES + len(body)] = body
        received = []
        try:
            while (record := ring.read()) is not None:
                received.append(record)
        except InternalError:
            assert ring.corrupt
        assert received == RECORDS[: len(received)]
