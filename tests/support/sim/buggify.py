"""Rare moments made frequent: points in the simulated surroundings that some runs arm, and that strike now and then.

Each is armed in a quarter of the runs, drawn by its name from the seed; an armed one strikes with the chance given
here, mostly one time in twenty. Beside the faults of a seed, which strike at times, these strike at places: between a
commit and its publication, between two bytes of a frame. The product has no line for them; they sit in what the
simulation hands to it or does around it.
"""

from random import Random

ARMED = 0.25
POINTS = {
    "late_turn": 0.05,  # a process that has work runs up to 50 ms later
    "late_bytes": 0.05,  # what a connection carries takes a second
    "single_byte": 0.05,  # one byte arrives of what was sent
    "short_take": 0.05,  # the socket has room for one byte
    "slow_link": 0.05,  # a link brings one record now and the others later
    "late_news_of_fold": 0.2,  # the hub hears of a fold up to two seconds later
    "folder_dies_with_news": 0.1,  # the fold is committed and nobody hears of it
    "late_answer": 0.05,  # a read of the hub takes half a second
    # Deaths cost every device a login, and happen at what is done thousands of times.
    "hub_dies_before_commit": 0.003,
    "hub_dies_after_commit": 0.003,
    "shard_dies_after_turn": 0.0005,
}


class Buggify:
    """strikes: how often each did, by name."""

    def __init__(self, seed: int) -> None:
        self._armed = {point for point in POINTS if Random(f"buggify {seed} {point}").random() < ARMED}
        self._rng = Random(f"buggify {seed}")
        self.strikes: dict[str, int] = {}

    def disarm(self) -> None:
        self._armed.clear()

    def __call__(self, point: str) -> bool:
        return point in self._armed and self._strikes(point)

    def _strikes(self, point: str) -> bool:
        if self._rng.random() >= POINTS[point]:
            return False
        self.strikes[point] = self.strikes.get(point, 0) + 1
        return True
