"""Thousands of seeds of the deterministic simulation, each on both sides: `make simulate SEEDS=20000`.

One seed again, with the faults that are enough: `make simulate SEEDS=1 SIMULATE_ARGS="--first 4711 --shrink"`.

The result is written as it grows, so it holds what was done whenever the run ends; the same command with the same
--json goes on from there, as long as the commit is the same.
"""

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from support.sim.hosts import SIDES
from support.sim.shrink import report, shrink
from support.sim.world import run

from campaigns.report import machine, write

PROGRESS_S = 10.0
RUN_CPU_S_MAX = 120
"""Of one run: a hundred times what one takes."""

Task = tuple[int, str]


class Brief(NamedTuple):
    """What is kept of one run. text: what a person needs when it did not pass. notes: what else came about."""

    seed: int
    side: str
    passed: bool
    words: list[str]
    text: str
    fired: dict[str, int]
    notes: dict[str, int]
    operations: int
    virtual_s: float
    cpu_s: float


class HungError(Exception):
    """A run took longer than any may."""


@contextmanager
def bounded() -> Iterator[None]:
    """HungError after so much CPU: a stopped machine is no hanging run."""

    def give_up(*_: object) -> NoReturn:
        raise HungError(f"no end after {RUN_CPU_S_MAX} s of CPU")

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, RUN_CPU_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def simulate(task: Task) -> Brief:
    with bounded():
        outcome = run(*task)
    text = "" if outcome.passed else report(outcome)
    words = sorted(outcome.words) or (["INVALID"] if outcome.invalid else [])
    numbers = (outcome.fired, outcome.notes, outcome.operations, outcome.virtual_s, outcome.cpu_s)
    return Brief(*task, outcome.passed, words, text, *numbers)


def results(tasks: list[Task], jobs: int) -> Iterator[Brief]:
    """In the order of the tasks."""
    if jobs == 1:
        yield from map(simulate, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=500) as pool:
        yield from pool.imap(simulate, tasks, chunksize=4)


class Tally:
    """Sums over runs. known: the result of an earlier part of the same campaign."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.runs = Counter[str](known.get("runs", {}))
        self.fired = Counter[str](known.get("faults", {}))
        per_run = known.get("faults_per_run", {})
        self.faults_per_run = Counter[int]({int(count): runs for count, runs in per_run.items()})
        self.notes = Counter[str](known.get("notes", {}))
        self.words = Counter[str](known.get("violations", {}))
        self.failed: list[dict[str, Any]] = known.get("failed", [])
        self.operations: int = known.get("operations", 0)
        self.virtual_s: float = known.get("virtual_s", 0)
        self.wall_s: float = known.get("wall_s", 0.0)
        self.run_cpu_s = Counter[str](
            {side: mean * self.runs[side] for side, mean in known.get("run_cpu_s_mean", {}).items()}
        )

    def add(self, brief: Brief) -> None:
        self.runs[brief.side] += 1
        self.fired.update(brief.fired)
        self.faults_per_run[sum(brief.fired.values())] += 1
        self.notes.update(brief.notes)
        self.words.update(brief.words)
        self.operations += brief.operations
        self.virtual_s += brief.virtual_s
        self.run_cpu_s[brief.side] += brief.cpu_s
        if not brief.passed:
            self.failed.append({"seed": brief.seed, "side": brief.side, "words": brief.words})

    def result(self) -> dict[str, Any]:
        return {
            "runs": dict(self.runs),
            "virtual_s": round(self.virtual_s),
            "operations": self.operations,
            "faults": dict(self.fired.most_common()),
            "faults_per_run": {str(count): runs for count, runs in sorted(self.faults_per_run.items())},
            "notes": dict(self.notes.most_common()),
            "violations": dict(self.words),
            "failed": self.failed,
            "wall_s": round(self.wall_s, 1),
            "run_cpu_s_mean": {side: round(total / self.runs[side], 3) for side, total in self.run_cpu_s.items()},
        }


def earlier(path: Path | None, plan: dict[str, Any], commit: object) -> dict[str, Any]:
    """The result of the same plan at the same commit, if there is one."""
    if path is None or not path.exists():
        return {}
    known: dict[str, Any] = json.loads(path.read_text())
    same = known["machine"]["commit"] == commit and known.get("plan") == plan
    return known if same else {}


def campaign(
    tasks: list[Task], jobs: int, heading: dict[str, Any], path: Path | None, *, to_failure: bool = False
) -> dict[str, Any]:
    """Run what is left of the tasks, telling how it goes; the result. to_failure: the first one that fails ends it."""
    tally = Tally(earlier(path, heading["plan"], heading["machine"]["commit"]))
    before, before_s = tally.runs.total(), tally.wall_s
    began = told = time.monotonic()

    def result() -> dict[str, Any]:
        done = tally.runs.total()
        return {**heading, "seeds_done": done // len(heading["plan"]["sides"]), "jobs": jobs, **tally.result()}

    for number, brief in enumerate(results(tasks[before:], jobs), before + 1):
        tally.add(brief)
        tally.wall_s = before_s + time.monotonic() - began
        if not brief.passed:
            print(brief.text, flush=True)
        if time.monotonic() - told > PROGRESS_S or number == len(tasks):
            told = time.monotonic()
            left_s = (told - began) / (number - before) * (len(tasks) - number)
            words = f"{number} of {len(tasks)} runs, {len(tally.failed)} failed, {left_s:.0f} s left"
            print(words, file=sys.stderr, flush=True)
            write(path, result())
        if to_failure and not brief.passed:
            break
    write(path, result())
    return result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--side", choices=[*SIDES, "both"], default="both")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", type=Path, help="where the result grows")
    parser.add_argument("--to-failure", action="store_true", help="end with the first run that fails")
    parser.add_argument("--shrink", action="store_true", help="look for few faults that are enough, for each failure")
    options = parser.parse_args()
    sides = list(SIDES) if options.side == "both" else [options.side]
    tasks = [(seed, side) for seed in range(options.first, options.first + options.seeds) for side in sides]
    plan = {"first": options.first, "seeds": options.seeds, "sides": sides}
    heading = {"campaign": "deterministic simulation", "machine": machine("campaigns.simulate"), "plan": plan}
    result = campaign(tasks, options.jobs, heading, options.json, to_failure=options.to_failure)
    if options.shrink:
        for entry in result["failed"]:
            print(report(shrink(run(entry["seed"], entry["side"]))), flush=True)
    print({name: value for name, value in result.items() if name != "machine"})
    raise SystemExit(bool(result["failed"]))


if __name__ == "__main__":
    main()
