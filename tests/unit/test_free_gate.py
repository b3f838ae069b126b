"""The tail is freed after the hold whether or not another folded position comes."""

from typing import Any

from chatd.clock import Clock
from chatd.hub.recovery import HOLD_MIN_S, HOLD_S, FreeGate


class Freed:
    def __init__(self) -> None:
        self.positions: list[int] = []

    def freed(self, pos: int) -> None:
        self.positions.append(pos)


def gate() -> tuple[FreeGate, list[int], list[float]]:
    core: Any = Freed()
    now_s = [100.0]
    clock = Clock(monotonic_ns=lambda: int(now_s[0] * 1e9))
    return FreeGate(core, clock), core.positions, now_s


def test_a_position_that_came_too_early_is_passed_on_by_a_later_turn() -> None:
    free, positions, now_s = gate()
    free.on_linked(0)
    free.on_attached(0, 0)
    free.on_folded(7)
    free.pass_on()
    assert positions == []
    now_s[0] += HOLD_MIN_S
    free.pass_on()
    free.pass_on()
    assert positions == [7]


def test_a_shard_that_never_attaches_holds_it_for_a_while_only() -> None:
    free, positions, now_s = gate()
    free.on_linked(0)
    free.on_folded(7)
    now_s[0] += HOLD_MIN_S
    free.pass_on()
    assert positions == []
    now_s[0] += HOLD_S
    free.pass_on()
    assert positions == [7]
