"""One server for each way to run it, the last two with their store on PostgreSQL; every test with the fixture `at`
passes through all of them.

With three shards on PostgreSQL that is a part of the tests only, unless --every-mode asks for all: shards and stores do
not know of each other, what may differ is the order of things, and these modules are about that.
"""

from collections.abc import Iterator

import pytest
from support.places import MODES, Place, meetings, start

IN_PART = "postgresql, three shards"
PART = frozenset({"test_sending.py", "test_membership.py"})


@pytest.fixture(scope="session", params=list(MODES))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    store = request.getfixturevalue("postgres").database() if request.param.startswith("postgresql") else "sqlite"
    with start(tmp_path_factory.mktemp("contract"), request.param, store) as server:
        yield Place(server, MODES[request.param])


@pytest.fixture
def at(running: Place) -> Place:
    return Place(running.server, running.shards, str(next(meetings)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--every-mode"):
        return
    left_out = [item for item in items if _mode(item) == IN_PART and item.path.name not in PART]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _mode(item: pytest.Item) -> str:
    stores = getattr(item, "callspec", None)
    return str(stores.params.get("running", "")) if stores is not None else ""
