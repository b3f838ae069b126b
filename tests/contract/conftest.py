"""One server for each way to run it, the last with its store on PostgreSQL; every test with the fixture `at` passes
through all of them.
"""

from collections.abc import Iterator

import pytest
from support.places import MODES, Place, meetings, start


@pytest.fixture(scope="session", params=list(MODES))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    store = request.getfixturevalue("postgres").database() if request.param == "postgresql" else "sqlite"
    with start(tmp_path_factory.mktemp("contract"), request.param, store) as server:
        yield Place(server, MODES[request.param])


@pytest.fixture
def at(running: Place) -> Place:
    return Place(running.server, running.shards, str(next(meetings)))
