"""The pause before a commit: where sends come fast and company comes, and nowhere else."""

from chatd.hub.gather import BATCH_WANTED, PAUSE_MAX_S, WITHOUT_MAX, Gather

COMMIT_S = 0.0003


class Traffic:
    """Commits of a Gather, with a clock of their own."""

    def __init__(self) -> None:
        self.gather, self.now_s, self.pauses = Gather(), 100.0, 0

    def open_loop(self, rate_per_s: float, commits: int) -> list[int]:
        """Sends come all the time. Returns the batches."""
        batches, last_s = [], self.now_s
        for _ in range(commits):
            self.now_s += COMMIT_S
            self.now_s += self._pause(int((self.now_s - last_s) * rate_per_s))
            batches.append(int((self.now_s - last_s) * rate_per_s))
            last_s = self.now_s
            self.gather.committed(batches[-1], self.now_s)
        return batches

    def closed_loop(self, clients: int, commits: int) -> None:
        """Everybody has sent and waits: nobody comes during a pause."""
        for _ in range(commits):
            self.now_s += COMMIT_S + self._pause(clients)
            self.gather.committed(clients, self.now_s)

    def _pause(self, staged: int) -> float:
        pause_s = self.gather.pause_s(staged)
        assert 0 <= pause_s <= PAUSE_MAX_S
        self.pauses += pause_s > 0
        return pause_s


def test_one_sender_never_waits() -> None:
    traffic = Traffic()
    traffic.closed_loop(1, 1000)
    assert traffic.pauses == 0


def test_fast_sends_are_gathered() -> None:
    traffic = Traffic()
    batches = traffic.open_loop(50_000, 100)
    assert traffic.pauses >= 98
    assert min(batches[2:]) >= 35  # of 15 without a pause


def test_full_batches_do_not_wait() -> None:
    traffic = Traffic()
    traffic.open_loop(BATCH_WANTED / COMMIT_S + 10_000, 100)
    assert traffic.pauses == 0


def test_a_pause_in_vain_is_tried_ever_more_rarely() -> None:
    traffic = Traffic()
    traffic.closed_loop(20, 10 * WITHOUT_MAX)
    assert 0 < traffic.pauses <= 20
    batches = traffic.open_loop(50_000, 2 * WITHOUT_MAX)
    assert batches[-1] >= 35  # and it is taken up again
