"""From a failing run to few faults: delta debugging (Zeller and Hildebrandt 2002) over the list of faults."""

from collections.abc import Callable

from support.sim.nemesis import Fault
from support.sim.world import Outcome, run


def shrink(outcome: Outcome, runs_max: int = 60) -> Outcome:
    """The smallest run found that still breaks one of the same invariants, however seldom it strikes."""
    best = outcome

    def fails(faults: list[Fault]) -> bool:
        nonlocal best
        tried = run(outcome.seed, outcome.side, faults)
        if outcome.words.isdisjoint(tried.words):
            return False
        best = tried
        return True

    minimal(outcome.faults, fails, runs_max)
    return best


def minimal(faults: list[Fault], fails: Callable[[list[Fault]], bool], runs_max: int) -> list[Fault]:
    """A part of the list that fails and from which no piece can be left out, as far as runs_max tries find one."""
    pieces = 2
    while len(faults) >= 2 and runs_max > 0:
        size = -(-len(faults) // pieces)
        for start in range(0, len(faults), size):
            rest = faults[:start] + faults[start + size :]
            runs_max -= 1
            if rest and fails(rest):
                faults, pieces = rest, max(2, pieces - 1)
                break
            if runs_max <= 0:
                return faults
        else:
            if pieces >= len(faults):
                return faults
            pieces = min(len(faults), 2 * pieces)
    return faults


def report(outcome: Outcome, findings_max: int = 8) -> str:
    """What a person needs to see it again."""
    found = [f"  {finding.word}: {finding.text}" for finding in outcome.findings[:findings_max]]
    if len(outcome.findings) > findings_max:
        found.append(f"  and {len(outcome.findings) - findings_max} more")
    struck = [f"  {fault.at_ms / 1000:7.3f} s {fault.verb} ({fault.choices})" for fault in outcome.faults]
    lines = [
        f"seed {outcome.seed} on the {outcome.side} side: {len(outcome.findings)} findings",
        *found,
        *(f"  invalid: {reason}" for reason in outcome.invalid),
        f"with {len(struck)} faults:",
        *struck,
        f"again: pytest tests/sim --seed {outcome.seed}",
    ]
    return "\n".join(lines)
