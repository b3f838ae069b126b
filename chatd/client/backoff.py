"""When to connect again: full jitter, steered by what the last close said.

Facts: after a crash every client loses its connection in the same second. Consequence: any fixed or slightly jittered
delay brings them back together. Decision: the delay is uniform between 0 and min(max, base × 2^tries) ("full jitter"),
never below the server's retry_after; the first try after a live session may come at once within the base. Price: some
clients wait longer than they would have had to.
"""

from collections.abc import Callable


class Backoff:
    """Counts failed tries. random() gives floats in [0, 1); times in seconds."""

    def __init__(self, base_s: float, max_s: float, random: Callable[[], float]) -> None:
        self.tries = 0
        self._base_s = base_s
        self._max_s = max_s
        self._random = random

    def succeeded(self) -> None:
        """A session became live."""
        self.tries = 0

    def next_delay_s(self, retry_after_ms: int = 0) -> float:
        """How long to wait before the next try. retry_after_ms is a floor; the jitter comes on top of it."""
        ceiling = min(self._max_s, self._base_s * 2.0 ** min(self.tries, 30))
        self.tries += 1
        return retry_after_ms / 1000 + ceiling * self._random()
