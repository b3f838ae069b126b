"""The ring in shared memory: order, bounds, and disbelief of everything another process may have left in it."""

import mmap
import os
import select
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd._native import Ring
from chatd.errors import InternalError

HEADER_BYTES = 4096
RECORD_HEADER_BYTES = 8
EPOCH_AT, HEAD_AT, TAIL_AT, SLEEPING_AT = 16, 64, 128, 192


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.create(4096, epoch=7) as ring:
        yield ring


@contextmanager
def memory_of(ring: Ring) -> Iterator[mmap.mmap]:
    with mmap.mmap(ring.memfd, HEADER_BYTES + ring.capacity) as memory:
        yield memory


def attached(ring: Ring, epoch: int | None = None) -> Ring:
    return Ring.attach(ring.memfd, ring.fileno(), epoch)


def drain(ring: Ring) -> list[bytes]:
    return list(iter(ring.read, None))


def test_records_come_out_in_order(ring: Ring) -> None:
    records = [b"", b"a", b"12345678", bytes(100)]
    assert all(ring.write(record) for record in records)
    assert drain(ring) == records
    assert ring.free_bytes == ring.capacity


def test_two_attachments_share_one_ring(ring: Ring) -> None:
    with attached(ring, epoch=7) as reader:
        assert ring.write(b"across")
        assert reader.read() == b"across"
        assert ring.free_bytes == ring.capacity


def test_put_is_invisible_until_published(ring: Ring) -> None:
    with attached(ring) as reader:
        assert ring.put(b"one")
        assert ring.put(b"two")
        assert reader.read() is None
        ring.publish()
        assert drain(reader) == [b"one", b"two"]


def test_full_ring_refuses_and_recovers(ring: Ring) -> None:
    count = 0
    while ring.write(bytes(56)):
        count += 1
    assert count == ring.capacity // 64
    assert ring.free_bytes == 0
    assert ring.read() == bytes(56)
    assert ring.write(b"x" * 56)
    assert not ring.write(b"y" * 56)
    assert drain(ring) == [bytes(56)] * (count - 1) + [b"x" * 56]


def test_largest_record_fits_wherever_head_stands() -> None:
    with Ring.create(4096, epoch=1) as ring:
        assert ring.record_bytes_max == 4096 // 2 - RECORD_HEADER_BYTES
        for lead in range(0, 4096, 8):
            assert ring.write(bytes(lead % 512))
            assert ring.read() == bytes(lead % 512)
            largest = bytes([lead % 251]) * ring.record_bytes_max
            assert ring.write(largest)
            assert ring.read() == largest


def test_record_that_can_never_fit_is_an_error(ring: Ring) -> None:
    with pytest.raises(ValueError, match="takes 2040"):
        ring.put(bytes(ring.record_bytes_max + 1))


@pytest.mark.parametrize("capacity", [0, 2048, 5000, 2**31])
def test_odd_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Ring.create(capacity, epoch=1)


def test_memory_is_private_and_sealed(ring: Ring) -> None:
    assert os.fstat(ring.memfd).st_mode & 0o777 == 0o600
    for size in (HEADER_BYTES, 2 * HEADER_BYTES + ring.capacity):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.memfd, size)


def test_closed_ring_says_so(ring: Ring) -> None:
    ring.close()
    ring.close()
    assert ring.closed
    with pytest.raises(ValueError, match="closed"):
        ring.read()


def test_attach_refuses_what_is_no_ring(ring: Ring, tmp_path: object) -> None:
    with pytest.raises(InternalError, match="sealed"), open(f"{tmp_path}/file", "w+b") as file:  # noqa: PTH123
        Ring.attach(file.fileno(), ring.fileno())
    with pytest.raises(InternalError, match="epoch 7 where 8"):
        attached(ring, epoch=8)
    with memory_of(ring) as memory:
        memory[0] ^= 1
        with pytest.raises(InternalError, match="header"):
            attached(ring)


@settings(max_examples=200)
@given(st.lists(st.one_of(st.integers(0, 2040), st.integers(0, 64), st.just("read"), st.just("publish")), max_size=80))
def test_ring_behaves_like_a_bounded_deque(steps: list[int | str]) -> None:
    model: deque[bytes] = deque(maxlen=4096)
    hidden: list[bytes] = []
    with Ring.create(4096, epoch=3) as ring, attached(ring) as reader:
        for number, step in enumerate(steps):
            if isinstance(step, int):
                record = bytes([number]) * step
                if ring.put(record):
                    hidden.append(record)
                else:
                    assert ring.free_bytes < 2 * (RECORD_HEADER_BYTES + step + 7)
            elif step == "publish":
                ring.publish()
                model.extend(hidden)
                hidden.clear()
            else:
                assert reader.read() == (model.popleft() if model else None)
        ring.publish()
        assert drain(reader) == [*model, *hidden]


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    payload = b"seventeen bytes.."
    for byte in range(RECORD_HEADER_BYTES + len(payload)):
        for bit in range(8):
            with Ring.create(4096, epoch=1) as ring, memory_of(ring) as memory:
                ring.write(payload)
                memory[HEADER_BYTES + byte] ^= 1 << bit
                with pytest.raises(InternalError, match="corrupt"):
                    ring.read()
                with pytest.raises(InternalError, match="corrupt"):
                    ring.read()


def test_a_writer_killed_anywhere_leaves_an_invisible_or_a_complete_record(ring: Ring) -> None:
    """Everything that a commit stores, cut at every byte: without the store of head nothing is seen."""
    ring.write(b"first")
    ring.put(b"second record")
    with memory_of(ring) as memory:
        complete = bytes(memory[HEADER_BYTES : HEADER_BYTES + 64])
        for cut in range(16, 40):
            memory[HEADER_BYTES + cut : HEADER_BYTES + 64] = bytes(64 - cut)
            with attached(ring) as reader:
                assert reader.read() == b"first"
                assert reader.read() is None
            memory[TAIL_AT : TAIL_AT + 8] = bytes(8)
            memory[HEADER_BYTES : HEADER_BYTES + 64] = complete
    ring.publish()
    assert drain(ring) == [b"first", b"second record"]


def test_record_of_an_old_epoch_is_rejected(ring: Ring) -> None:
    ring.write(b"from before the crash")
    with memory_of(ring) as memory:
        memory[EPOCH_AT : EPOCH_AT + 8] = struct.pack("<Q", 8)
        with attached(ring, epoch=8) as reader, pytest.raises(InternalError, match="corrupt"):
            reader.read()


def test_record_of_an_old_lap_is_rejected(ring: Ring) -> None:
    ring.write(bytes(56))
    assert ring.read() == bytes(56)
    with memory_of(ring) as memory:
        for position in (HEAD_AT, TAIL_AT):
            memory[position : position + 8] = struct.pack("<Q", 4096 + (64 if position == HEAD_AT else 0))
        with attached(ring) as reader, pytest.raises(InternalError, match="corrupt"):
            reader.read()


@pytest.mark.parametrize("head", [4, 4097, 4104, 2**63, 2**64 - 8])
def test_impossible_head_is_corruption(ring: Ring, head: int) -> None:
    with memory_of(ring) as memory:
        memory[HEAD_AT : HEAD_AT + 8] = struct.pack("<Q", head)
        assert not ring.prepare_sleep()
        with pytest.raises(InternalError, match="corrupt"):
            ring.read()


@pytest.mark.parametrize("tail", [4, 8192, 2**64 - 8])
def test_impossible_tail_stops_the_writer(ring: Ring, tail: int) -> None:
    with memory_of(ring) as memory:
        memory[TAIL_AT : TAIL_AT + 8] = struct.pack("<Q", tail)
        while ring.write(bytes(2040)):
            pass
        assert ring.corrupt


@settings(max_examples=300)
@given(st.binary(min_size=8, max_size=256), st.integers(0, 2**64 - 1) | st.integers(0, 64).map(lambda n: n * 8))
def test_arbitrary_memory_never_leads_out_of_the_mapping(data: bytes, head: int) -> None:
    with Ring.create(4096, epoch=1) as ring, memory_of(ring) as memory:
        memory[HEADER_BYTES : HEADER_BYTES + len(data)] = data
        memory[HEAD_AT : HEAD_AT + 8] = struct.pack("<Q", head)
        if head == 0:
            assert ring.read() is None
        else:
            with pytest.raises(InternalError):
                ring.read()


def test_reader_is_woken_only_when_it_sleeps(ring: Ring) -> None:
    def readable() -> bool:
        return bool(select.select([ring], [], [], 0)[0])

    ring.put(b"busy")
    assert ring.publish() is False
    assert not readable()
    assert not ring.prepare_sleep()
    assert ring.read() == b"busy"
    assert ring.prepare_sleep()
    ring.put(b"wake")
    assert ring.publish() is True
    ring.put(b"once is enough")
    assert ring.publish() is False
    assert readable()
    ring.wake_clear()
    assert not readable()
    assert drain(ring) == [b"wake", b"once is enough"]


def write_until_done(ring: Ring, count: int) -> None:
    for number in range(count):
        record = struct.pack("<I", number) * (1 + number % 40)
        while not ring.write(record):
            time.sleep(0)


def test_two_processes_pass_200_000_records_with_wakeups() -> None:
    count = 200_000
    with Ring.create(16384, epoch=5) as ring:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with attached(ring) as writer:
                    write_until_done(writer, count)
                status = 0
            finally:
                os._exit(status)
        number = sleeps = 0
        while number < count:
            record = ring.read()
            if record is not None:
                assert record == struct.pack("<I", number) * (1 + number % 40)
                number += 1
            elif ring.prepare_sleep():
                sleeps += 1
                assert select.select([ring], [], [], 20)[0], f"lost wake-up after record {number}"
                ring.wake_clear()
        assert ring.read() is None
        assert sleeps > 0
        _, wait_status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(wait_status) == 0
