"""What all tests share: hypothesis draws the same examples in every run and judges no wall clock.

HYPOTHESIS_PROFILE=explore draws new ones, ten times as many.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

pytest_plugins = ["chatd.testing"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="of the deterministic simulation (tests/sim): run this one only")
