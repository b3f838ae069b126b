"""Where a ring comes from and how it fails: attaching to what is none, positions that go back, a full eventfd."""

import errno
import fcntl
import mmap
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chatd._native import Ring
from chatd.errors import InternalError

HEADER_BYTES, CAPACITY = 4096, 4096
HEADER = struct.Struct("<IIQQ40xQ56xQ56xI60x")
MAGIC, VERSION, EPOCH = 0x63685267, 1, 7
SKIP = 0xFFFFFFFF
HEAD_AT, TAIL_AT = 64, 128
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.create(CAPACITY, epoch=EPOCH) as ring:
        yield ring


@contextmanager
def memory_of(ring: Ring) -> Iterator[mmap.mmap]:
    with mmap.mmap(ring.memfd, HEADER_BYTES + ring.capacity) as memory:
        yield memory


def put(memory: mmap.mmap, at: int, value: int) -> None:
    memory[at : at + 8] = struct.pack("<Q", value)


@contextmanager
def memfd(size: int, header: bytes = b"") -> Iterator[int]:
    descriptor = os.memfd_create("no ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, header, 0)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (HEADER_BYTES + CAPACITY - 1, "too small"),
        (HEADER_BYTES + 3 * CAPACITY, "power of two"),
        (HEADER_BYTES + (1 << 31), "power of two"),
    ],
)
def test_memory_of_an_odd_size_is_no_ring(ring: Ring, size: int, reason: str) -> None:
    with memfd(size) as descriptor, pytest.raises(InternalError, match=reason):
        Ring.attach(descriptor, ring.fileno())


@pytest.mark.parametrize(
    "header",
    [
        (MAGIC ^ 1, VERSION, CAPACITY, EPOCH, 0, 0, 0),
        (MAGIC, VERSION + 1, CAPACITY, EPOCH, 0, 0, 0),
        (MAGIC, VERSION, 2 * CAPACITY, EPOCH, 0, 0, 0),
        (MAGIC, VERSION, CAPACITY, EPOCH, 0, 8, 0),
        (MAGIC, VERSION, CAPACITY, EPOCH, CAPACITY + 8, 0, 0),
        (MAGIC, VERSION, CAPACITY, EPOCH, 12, 8, 0),
        (MAGIC, VERSION, CAPACITY, EPOCH, 16, 4, 0),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(ring: Ring, header: tuple[int, ...]) -> None:
    size = HEADER_BYTES + CAPACITY
    with memfd(size, HEADER.pack(*header)) as descriptor, pytest.raises(InternalError, match="its header"):
        Ring.attach(descriptor, ring.fileno())


@pytest.mark.parametrize("refusal", [errno.EMFILE, errno.EFBIG])
def test_what_the_kernel_refuses_is_an_error_with_its_number(refusal: int) -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    limit = (resource.RLIMIT_NOFILE, lowest_free) if refusal == errno.EMFILE else (resource.RLIMIT_FSIZE, HEADER_BYTES)
    with pytest.raises(OSError, match="cannot create the ring") as raised, limited(*limit):
        Ring.create(CAPACITY, epoch=EPOCH)
    assert raised.value.errno == refusal


def test_a_head_that_goes_back_is_corruption(ring: Ring) -> None:
    ring.write(b"one")
    assert ring.read() == b"one"
    with memory_of(ring) as memory:
        put(memory, HEAD_AT, 0)
        with pytest.raises(InternalError, match="corrupt"):
            ring.read()


def test_a_tail_that_goes_back_stops_the_writer_for_good(ring: Ring) -> None:
    while ring.write(bytes(1000)):
        pass
    while ring.read() is not None:
        pass
    assert ring.write(bytes(2000))
    with memory_of(ring) as memory:
        put(memory, TAIL_AT, 0)
        while ring.write(bytes(1000)):
            pass
        assert ring.corrupt
        put(memory, TAIL_AT, 4000)
        assert not ring.write(b"")
        assert ring.free_bytes == 0
        assert not ring.prepare_sleep()


@pytest.mark.parametrize(("behind", "length"), [(0, 0), (64, SKIP), (64, 5)])
def test_a_skip_without_a_record_behind_it_is_corruption(ring: Ring, behind: int, length: int) -> None:
    """The skip itself is genuine; what follows it at the beginning of the data is nothing, another skip, or damaged."""
    while ring.write(bytes(1000)):
        pass
    for _ in range(4):
        assert ring.read() is not None
    assert ring.put(bytes(1000))
    with memory_of(ring) as memory:
        memory[HEADER_BYTES : HEADER_BYTES + 8] = struct.pack("<II", length, 1)
        put(memory, HEAD_AT, CAPACITY + behind)
        with pytest.raises(InternalError, match="corrupt"):
            ring.read()


def test_a_reader_is_woken_although_its_eventfd_is_full(ring: Ring) -> None:
    """The counter at its maximum refuses to be raised, and is readable all the same."""
    os.eventfd_write(ring.fileno(), 2**64 - 2)
    assert ring.prepare_sleep()
    ring.put(b"wake")
    assert ring.publish()
    ring.wake_clear()
    assert ring.read() == b"wake"
    ring.wake_clear()
