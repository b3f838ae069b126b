"""Fixtures of the unit tests."""

import pytest
from support.rig import Rig

from chatd.engine import native, reference

ENGINES = {"native": native.Engine, "reference": reference.ReferenceEngine}


@pytest.fixture(params=ENGINES)
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs on both engines: they have one contract."""
    monkeypatch.setattr(Rig, "engine_class", ENGINES[request.param])
