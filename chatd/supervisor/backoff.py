"""When to start a dead worker again, and when to stop trusting the store."""

from collections import deque

FIRST_DELAY_S = 0.1
# A worker that lived so long failed for a new reason: it is restarted at once again.
STABLE_S = 5.0
ABORTS_MAX = 3
ABORT_WINDOW_S = 60.0


class Backoff:
    """Delays between restarts of one worker: 0, 0.1, 0.2, 0.4 … up to delay_max_s."""

    def __init__(self, delay_max_s: float) -> None:
        self._delay_max_s = delay_max_s
        self._failures = 0

    def delay_s(self, lived_s: float) -> float:
        """How long to wait before the next start, after the worker lived for lived_s."""
        if lived_s >= STABLE_S:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        # The exponent is bounded: 2 ** 1000 restarts would overflow a float.
        return float(min(FIRST_DELAY_S * 2 ** min(self._failures - 2, 16), self._delay_max_s))


class AbortCounter:
    """contract.md: three aborts of the hub over its store within a minute make it read-only."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=ABORTS_MAX)

    def aborted(self, now: float) -> bool:
        """Count one. True: the hub must come back read-only."""
        self._at.append(now)
        return len(self._at) == ABORTS_MAX and now - self._at[0] <= ABORT_WINDOW_S

    def reset(self) -> None:
        self._at.clear()
