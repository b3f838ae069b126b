"""What a worker asks of the scheduler is what the kernel then says of it."""

import os
import subprocess
import sys

import pytest

from chatd.server.scheduling import POLICIES, schedule

# In a process of its own: a lower priority cannot be taken back.
ASK = """
import os, sys
from chatd.server.scheduling import schedule
os.nice(3)
print(schedule(sys.argv[1]), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize("role", POLICIES)
def test_a_role_gets_its_policy_and_keeps_its_nice_value(role: str) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    said = subprocess.run([sys.executable, "-c", ASK, role], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", str(POLICIES[role]), str(min(19, before + 3))]


def test_other_roles_run_like_any_process() -> None:
    assert not schedule("media")
