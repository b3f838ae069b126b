"""Start servers whose processes are changed from inside: by tests/site/sitecustomize.py, or by another build."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SABOTAGE_BUILD = TESTS.parent / "build" / "sabotage" / "lib"


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Servers that are started in the block get these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextmanager
def changed(*, build: Path | None = None, **variables: str) -> Iterator[None]:
    """The same with sitecustomize.py in front, and with `build` instead of the checkout's chatd if it is given."""
    paths = [str(TESTS / "site"), *([str(build)] if build else [])]
    # Safe path: `python -m chatd` would otherwise look into the current directory first.
    with environment(PYTHONPATH=os.pathsep.join(paths), PYTHONSAFEPATH="1", **variables):
        yield
