"""Every fuzz target runs for a moment in the everyday tests; `make fuzz MINUTES=n` runs them long and sanitized."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
SECONDS_EACH = 3


@pytest.mark.parametrize("target", sorted(path.stem for path in FUZZ.glob("target_*.py")))
def test_target_holds_for_a_moment(target: str) -> None:
    """The seed is fixed, so that a failure here is the same failure there."""
    command = [sys.executable, str(FUZZ / "run.py"), "--minutes", str(SECONDS_EACH / 60), "--seed", "1", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=FUZZ.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
