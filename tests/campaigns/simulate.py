"""Thousands of seeds of the deterministic simulation, each on both sides: `make simulate SEEDS=20000`.

One seed again, with the faults that are enough: `make simulate SEEDS=1 SIMULATE_ARGS="--first 4711 --shrink"`.
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.sim.hosts import SIDES
from support.sim.shrink import report, shrink
from support.sim.world import run

from campaigns.report import machine, write

PROGRESS_S = 10.0


class Brief(NamedTuple):
    """What is kept of one run; text: what a person needs when it did not pass."""

    seed: int
    side: str
    passed: bool
    words: list[str]
    text: str
    fired: dict[str, int]
    operations: int
    virtual_s: float
    wall_s: float


def simulate(task: tuple[int, str]) -> Brief:
    outcome = run(*task)
    text = "" if outcome.passed else report(outcome)
    words = sorted({finding.word for finding in outcome.findings}) or (["INVALID"] if outcome.invalid else [])
    numbers = (outcome.fired, outcome.operations, outcome.virtual_s, outcome.wall_s)
    return Brief(*task, outcome.passed, words, text, *numbers)


def results(tasks: list[tuple[int, str]], jobs: int) -> Iterator[Brief]:
    if jobs == 1:
        yield from map(simulate, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(simulate, tasks, chunksize=8)


def campaign(tasks: list[tuple[int, str]], jobs: int) -> dict[str, Any]:
    """Run all of them, telling how it goes; the summary."""
    began = told = time.monotonic()
    fired, words, sides = Counter[str](), Counter[str](), Counter[str]()
    operations = virtual_s = cpu_s = 0.0
    failed: list[dict[str, Any]] = []
    for number, brief in enumerate(results(tasks, jobs), 1):
        fired.update(brief.fired)
        words.update(brief.words)
        sides[brief.side] += 1
        operations += brief.operations
        virtual_s += brief.virtual_s
        cpu_s += brief.wall_s
        if not brief.passed:
            failed.append({"seed": brief.seed, "side": brief.side, "words": brief.words})
            print(brief.text, flush=True)
        if time.monotonic() - told > PROGRESS_S or number == len(tasks):
            told = time.monotonic()
            left_s = (told - began) / number * (len(tasks) - number)
            print(f"{number} of {len(tasks)} runs, {len(failed)} failed, {left_s:.0f} s left", file=sys.stderr)
    return {
        "campaign": "deterministic simulation",
        "seeds": len({seed for seed, _ in tasks}),
        "runs": dict(sides),
        "virtual_s": round(virtual_s),
        "operations": int(operations),
        "faults": dict(fired.most_common()),
        "violations": dict(words),
        "failed": failed,
        "wall_s": round(time.monotonic() - began, 1),
        "run_s_mean": round(cpu_s / len(tasks), 3),
        "jobs": jobs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--side", choices=[*SIDES, "both"], default="both")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", type=Path, help="where the summary goes")
    parser.add_argument("--shrink", action="store_true", help="look for few faults that are enough, for each failure")
    options = parser.parse_args()
    sides = list(SIDES) if options.side == "both" else [options.side]
    tasks = [(seed, side) for seed in range(options.first, options.first + options.seeds) for side in sides]
    described = machine("campaigns.simulate")
    summary = {**campaign(tasks, options.jobs), "machine": described}
    if options.shrink:
        for entry in summary["failed"]:
            print(report(shrink(run(entry["seed"], entry["side"]))), flush=True)
    write(options.json, summary)
    print({name: value for name, value in summary.items() if name != "machine"})
    raise SystemExit(bool(summary["failed"]))


if __name__ == "__main__":
    main()
