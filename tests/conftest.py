"""What all tests share: hypothesis draws the same examples in every run and judges no wall clock.

HYPOTHESIS_PROFILE=explore draws new ones, ten times as many.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Postgres
    from support.stores import StorePlace

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

pytest_plugins = ["chatd.testing"]


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """One PostgreSQL server for the whole session; every test makes a database of its own. Nobody cuts its power."""
    from support.postgres import Postgres

    with Postgres.running("fsync=off") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> "StorePlace":
    """The test runs on both stores: they have one contract."""
    from support.stores import PostgresPlace, SqlitePlace

    if request.param == "sqlite":
        return SqlitePlace(tmp_path)
    return PostgresPlace(tmp_path, request.getfixturevalue("postgres"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who starts PostgreSQL is marked `services`, so that a run of the engine alone can leave it out."""
    for item in items:
        stores = getattr(item, "callspec", None)
        uses = getattr(item, "fixturenames", ())
        if "postgres" in uses or any("postgresql" in str(one) for one in (stores.params.values() if stores else ())):
            item.add_marker(pytest.mark.services)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-mode", action="store_true", help="tests/contract: also what three shards leave out")
    parser.addoption("--seed", type=int, help="of the deterministic simulation (tests/sim): run this one only")
