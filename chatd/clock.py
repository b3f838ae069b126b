"""The two clocks of a process. Whoever composes it may hand over others: tests, and the simulation."""

import time
from collections import deque
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


class AgeWatch:
    """How long ago something got its time stamp, by the monotonic clock, although only the wall clock stamped it.

    Looks at both clocks once a second and remembers a quarter of an hour: the first look at which the wall clock showed
    that time, or a later one, tells when it was, however often it was set since.
    """

    INTERVAL_MS = 1000
    LOOKS_MAX = 900

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int]] = deque(maxlen=self.LOOKS_MAX)

    def sample(self, wall_ms: int, monotonic_ms: int) -> None:
        if not self._looks or monotonic_ms - self._looks[-1][1] >= self.INTERVAL_MS:
            self._looks.append((wall_ms, monotonic_ms))

    def age_ms(self, stamp_ms: int, wall_ms: int, monotonic_ms: int) -> int:
        """At least 0. What was stamped before the first look that is remembered is as old as the wall clock says."""
        if self._looks and self._looks[0][0] <= stamp_ms:
            for seen_ms, at_ms in self._looks:
                if seen_ms >= stamp_ms:
                    return monotonic_ms - at_ms
            return 0
        return max(0, wall_ms - stamp_ms)


SYSTEM = Clock()
