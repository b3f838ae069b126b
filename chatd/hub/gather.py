# How long a commit waits for company.
# Facts: a commit costs some 100 us of CPU in the hub and as much again in the disk's and the shard's wake-ups, whether
# it holds one record or a hundred; it takes 0.1-0.3 ms, so group commit alone makes batches of a dozen at 50,000 sends
# a second, and two cores are busy committing. Who sends one message at a time waits for the first record, not for the
# batch. Consequence: only where sends come fast is the commit held back, until about BATCH_WANTED are together and
# never longer than PAUSE_MAX_S. A pause that did not bring what the rate promised was in vain: everybody who could send
# waits for an answer (few clients, one message each), so the next commits go without one, twice as many each time.
# Price: half a millisecond of every acknowledgement at such rates.
"""The pause before a commit."""

RATE_MIN_PER_S = 20_000
BATCH_WANTED = 64
PAUSE_MAX_S = 0.0005
PAUSE_MIN_S = 0.00005
WITHOUT_MAX = 256


class Gather:
    """Ask `pause_s` when the first records of a batch are there, tell `committed` what became of it."""

    def __init__(self) -> None:
        self._rate_per_s = 0.0
        self._committed_at_s = 0.0
        self._expected = 0.0
        self._without = self._without_next = 0

    def pause_s(self, staged: int) -> float:
        """Seconds that the commit of so many records had better wait; 0: commit now."""
        self._expected = 0.0
        if self._rate_per_s < RATE_MIN_PER_S or not 0 < staged < BATCH_WANTED:
            return 0.0
        if self._without > 0:
            self._without -= 1
            return 0.0
        pause_s = min(PAUSE_MAX_S, (BATCH_WANTED - staged) / self._rate_per_s)
        if pause_s < PAUSE_MIN_S:
            return 0.0
        self._expected = staged + self._rate_per_s * pause_s / 2
        return pause_s

    def committed(self, count: int, now_s: float) -> None:
        """A batch of so many records has been committed."""
        self._rate_per_s = count / max(now_s - self._committed_at_s, 1e-6)
        self._committed_at_s = now_s
        if self._expected:
            in_vain = count < self._expected
            self._without_next = min(2 * self._without_next + 1, WITHOUT_MAX) if in_vain else 0
            self._without = self._without_next
