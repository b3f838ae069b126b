"""The n-th malloc, accept4, epoll_ctl, read, write, mmap or ftruncate of every role fails, n = 1..500: `make failures`.

In rounds of a fresh server, so that memory stays that of one round. A call that a role makes too rarely to reach n is
not tried with a larger n once that has happened three times in a row.
"""

import argparse
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import trio
from support.nth_failures import Failure, Outcome, every, fail_one_by_one

from campaigns.report import machine, write

FAILURES_PER_ROUND = 60
MISSES_MAX = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upto", type=int, default=500)
    parser.add_argument("--step", type=int, default=1, help="every n that this divides, and 1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    described, began = machine("campaigns.failures"), time.monotonic()
    numbers = [n for n in range(1, options.upto + 1) if n == 1 or n % options.step == 0]
    total, misses = Outcome(), Counter[tuple[str, str]]()
    wanted = (f for f in every(numbers) if misses[f.role, f.call] < MISSES_MAX)
    while failures := list(islice(wanted, FAILURES_PER_ROUND)):
        with tempfile.TemporaryDirectory() as directory:
            outcome = trio.run(fail_one_by_one, Path(directory), failures)
        add(total, outcome)
        note_misses(misses, failures, outcome)
        for finding in outcome.findings:
            print(f"{failures[0]} …: {finding}", flush=True)
        print(
            f"n = {failures[-1].number}: {total.fired.total()} failures, {len(total.findings)} violations", flush=True
        )
        result = {"campaign": "n-th failures", "machine": described, "upto": failures[-1].number, "step": options.step}
        write(options.json, {**result, "seconds": round(time.monotonic() - began), **shown(total)})
    raise SystemExit(bool(total.findings))


def add(total: Outcome, outcome: Outcome) -> None:
    for counter in ("fired", "replaced", "ended", "unreached"):
        getattr(total, counter).update(getattr(outcome, counter))
    total.acked += outcome.acked
    total.findings += outcome.findings


def note_misses(misses: Counter[tuple[str, str]], failures: list[Failure], outcome: Outcome) -> None:
    for role, call in {(failure.role, failure.call) for failure in failures}:
        where = f"{role} {call}"
        misses[role, call] = misses[role, call] + outcome.unreached[where] if not outcome.fired[where] else 0


def shown(total: Outcome) -> dict[str, Any]:
    return {
        "failures": total.fired.total(),
        "by_call": {
            where: {"failed": count, "worker_replaced": total.replaced[where], "server_ended": total.ended[where]}
            for where, count in sorted(total.fired.items())
        },
        "not_reached": dict(total.unreached),
        "sends_ok": total.acked,
        "violations": [f"{finding.word}: {finding.text}" for finding in total.findings],
    }


if __name__ == "__main__":
    main()
