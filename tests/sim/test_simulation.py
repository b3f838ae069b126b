"""Two hundred seeds of the deterministic simulation, each with the native engine and core and with the reference.

pytest tests/sim --seed 4711            one seed, both sides, and what it takes to fail
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context

import pytest
from campaigns import sabotages
from campaigns.simulate import Brief, simulate
from support.faultvfs import FaultFile
from support.sim.device import Device
from support.sim.hosts import SIDES
from support.sim.nemesis import Fault
from support.sim.shrink import minimal, report, shrink
from support.sim.world import run

from chatd.wire.schema import Op

SEEDS = 200
PER_TEST = 10

Runs = dict[tuple[int, str], "Future[Brief]"]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """All of them in as many processes as there are cores, in the order in which the tests ask."""
    asked = request.config.getoption("--seed")
    seeds = range(1, SEEDS + 1) if asked is None else [asked]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield {(seed, side): pool.submit(simulate, (seed, side)) for seed in seeds for side in SIDES}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, SEEDS + 1, PER_TEST))
def test_no_seed_breaks_an_invariant(first: int, runs: Runs, request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("--seed")
    if asked is not None and first != 1:
        pytest.skip("--seed asks for one")
    for seed in range(first, first + PER_TEST) if asked is None else [asked]:
        for side in SIDES:
            brief = runs[seed, side].result()
            if not brief.passed:
                pytest.fail(f"{brief.text}\n\nshrunk:\n{report(shrink(run(seed, side)))}", pytrace=False)


@pytest.mark.parametrize("side", SIDES)
def test_the_same_seed_gives_the_same_history(side: str) -> None:
    assert run(7, side).digest() == run(7, side).digest()


def test_shrinking_keeps_what_the_failure_needs() -> None:
    faults = [Fault(at_ms, "cut", at_ms) for at_ms in range(20)]
    needed = {faults[3], faults[17]}
    assert minimal(faults, lambda some: needed <= set(some), 100) == [faults[3], faults[17]]


def test_a_planted_mistake_shrinks_to_the_fault_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not make the journal durable when it is asked to: only a power loss shows it."""
    sync = FaultFile.xSync
    monkeypatch.setattr(FaultFile, "xSync", lambda file, flags: file.in_journal or sync(file, flags))
    failed = next(outcome for seed in count(1) if "LOST" in (outcome := run(seed)).words)
    shrunk = shrink(failed)
    assert [fault.verb for fault in shrunk.faults] == ["power_loss"]
    again = run(failed.seed, faults=shrunk.faults)
    assert (again.findings, again.digest()) == (shrunk.findings, shrunk.digest())
    monkeypatch.undo()
    assert not run(failed.seed, faults=shrunk.faults).findings


def test_a_run_that_ends_with_an_exception_is_judged_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Device.HANDLERS, Op.RESUMED, lambda device, frame: 1 // 0)
    outcome = run(1)
    assert outcome.words == {"CRASHED"}
    assert "ZeroDivisionError" in report(outcome)


@pytest.mark.parametrize(("number", "word"), [(2, "LOST"), (14, "LOST")])
def test_the_simulation_catches_a_sabotage(number: int, word: str) -> None:
    """Those that are made in Python; `make sabotage SABOTAGE_ARGS=--simulation` has them all."""
    assert word in sabotages.simulate(number, build=None).words


@pytest.mark.parametrize("side", SIDES)
def test_the_simulation_catches_a_lag_that_is_left_out(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sabotage 8, which needs a build of its own: pushes go on behind a gap of which the device hears nothing."""
    monkeypatch.setitem(Device.HANDLERS, Op.LAG, lambda device, frame: None)
    assert "SKIP" in run(1, side).words


def test_a_run_that_proves_nothing_is_invalid() -> None:
    assert run(1, "native", faults=[]).invalid == ["0 faults struck"]
