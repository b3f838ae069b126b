"""A wall clock that is set is noticed, one that is only corrected is not."""

from chatd.clock import StepWatch


def test_a_step_is_told_once_with_its_direction() -> None:
    watch = StepWatch()
    assert watch.step_ms(1_000_000, 50) == 0
    assert watch.step_ms(1_060_000, 60_050) == 0
    assert watch.step_ms(1_000_000, 60_060) == -60_010
    assert watch.step_ms(1_000_010, 60_070) == 0
    assert watch.step_ms(1_010_010, 60_080) == 9_990


def test_slow_corrections_are_no_step() -> None:
    watch = StepWatch()
    assert not any(watch.step_ms(second * 1_400, second * 1_000) for second in range(100))
