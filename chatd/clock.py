"""The two clocks of a process. Whoever composes it may hand over others: tests, and the simulation."""

import time
from collections.abc import Callable
from typing import NamedTuple

STEP_MIN_MS = 5_000


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


class StepWatch:
    """Notices that the wall clock was set: between two looks it has gone further, or less far, than time has."""

    def __init__(self) -> None:
        self._ahead_ms: int | None = None

    def step_ms(self, wall_ms: int, monotonic_ms: int) -> int:
        """By how much it was set since the last look; 0: not by more than STEP_MIN_MS."""
        ahead_ms = wall_ms - monotonic_ms
        step_ms = 0 if self._ahead_ms is None else ahead_ms - self._ahead_ms
        self._ahead_ms = ahead_ms
        return step_ms if abs(step_ms) > STEP_MIN_MS else 0


SYSTEM = Clock()
