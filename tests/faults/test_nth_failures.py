"""One call of one worker fails: it goes on or is replaced, nothing acknowledged is lost. `make failures` tries 500."""

from pathlib import Path
from random import Random

from support.nth_failures import CALLS, NEVER, ROLES, Failure, fail_one_by_one

SPREAD = (1, 2, 5, 13, 40, 130, 400)


async def test_one_failing_call_costs_one_worker_at_most(tmp_path: Path) -> None:
    rng = Random(1)
    failures = [
        Failure(role, call, rng.choice(SPREAD)) for role in ROLES for call in CALLS if (role, call) not in NEVER
    ]
    outcome = await fail_one_by_one(tmp_path, failures)
    assert outcome.findings == []
    assert outcome.fired.total() >= len(failures) // 2
    assert outcome.acked > 500
