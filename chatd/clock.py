"""The two clocks of a process. Whoever composes it may hand over others: tests, and the simulation."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Clock(NamedTuple):
    """wall_ns: Unix time, which can be set. monotonic_ns: for deadlines and rates; its zero means nothing."""

    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns

    def wall_ms(self) -> int:
        return self.wall_ns() // 1_000_000

    def wall_s(self) -> float:
        return self.wall_ns() / 1e9

    def monotonic_ms(self) -> int:
        return self.monotonic_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return self.monotonic_ns() / 1e9


SYSTEM = Clock()
