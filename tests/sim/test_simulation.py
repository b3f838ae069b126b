"""Seventy-two seeds of the deterministic simulation on the native side, every fourth of them on the reference side:
that one takes twice as long, and `make simulate` runs both with each.

pytest tests/sim --seed 4711            one seed, both sides, and what it takes to fail
"""

import pytest
from support.sim.hosts import SIDES
from support.sim.nemesis import Fault
from support.sim.shrink import minimal, report, shrink
from support.sim.world import run

SEEDS = 72
PER_TEST = 4
EVERY = {"native": 1, "reference": 4}


def judge(seed: int, side: str) -> None:
    outcome = run(seed, side)
    if outcome.findings:
        pytest.fail(f"{report(outcome)}\n\nshrunk:\n{report(shrink(outcome))}", pytrace=False)
    if outcome.invalid:
        pytest.fail(report(outcome), pytrace=False)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("first", range(1, SEEDS + 1, PER_TEST))
def test_no_seed_breaks_an_invariant(first: int, side: str, request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("--seed")
    if asked is not None and first != 1:
        pytest.skip("--seed asks for one")
    for seed in range(first, first + PER_TEST, EVERY[side]) if asked is None else [asked]:
        judge(seed, side)


@pytest.mark.parametrize("side", SIDES)
def test_the_same_seed_gives_the_same_history(side: str) -> None:
    assert run(7, side).digest() == run(7, side).digest()


def test_shrinking_keeps_what_the_failure_needs() -> None:
    faults = [Fault(at_ms, "cut", at_ms) for at_ms in range(20)]
    needed = {faults[3], faults[17]}
    assert minimal(faults, lambda some: needed <= set(some), 100) == [faults[3], faults[17]]


def test_a_run_that_proves_nothing_is_invalid() -> None:
    assert run(1, "native", faults=[]).invalid == ["0 faults struck"]
