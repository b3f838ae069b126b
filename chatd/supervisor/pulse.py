# Pulse: how a worker proves that its loop turns.
# Facts: a packet that says so wakes two processes through trio, 500 us of CPU on a machine that rests; four of them a
# second from four workers were 7 ms of CPU per second on a server that did nothing (measured 2026-11). Decision: a beat
# is a word of shared memory that only the worker writes; the supervisor reads it when the silence could have become too
# long, and not before. Price: none; the word holds CLOCK_MONOTONIC, which is the same for all processes of a machine.
"""One word of shared memory per worker: when it beat last."""

import mmap
import os
import time

WORD_BYTES = 8
# A worker beats for the first time when its imports are done; on a small board that starts everything at once they
# may take longer than the silence that ends a worker which has beaten.
START_PATIENCE_NS = 25 * 10**9


class Pulse:
    """One end. The descriptor belongs to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, WORD_BYTES)
        # An aligned word is written and read whole; struct with "<" would go byte by byte.
        self._word = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> "Pulse":
        """A new one, with patience for a start. OSError when the system has no room for it."""
        descriptor = os.memfd_create("chatd pulse", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, WORD_BYTES)
        pulse = cls(descriptor)
        pulse._word[0] = time.monotonic_ns() + START_PATIENCE_NS
        return pulse

    def beat(self) -> None:
        self._word[0] = time.monotonic_ns()

    @property
    def beat_at(self) -> float:
        """Seconds of time.monotonic()."""
        return self._word[0] / 1e9

    def close(self) -> None:
        """beat_at stays readable: the watch may look once more at a worker that has just ended."""
        shared, self._word = self._word, memoryview(bytes(self._word)).cast("Q")
        shared.release()
        self._map.close()
        os.close(self.descriptor)
