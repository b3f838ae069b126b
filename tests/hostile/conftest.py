"""Servers under attack; see support.hostile_servers for how they differ from everyday ones."""

from collections.abc import Iterator

import pytest
from support.hostile_servers import start

from chatd.testing import ChatdServer


@pytest.fixture(scope="session", params=["inline", "one shard"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    """Rates lifted: sizes, states and deadlines are what is tested."""
    with start(tmp_path_factory.mktemp("hostile"), request.param, lifted=True) as made:
        yield made


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    """Rates as in production, for loopback too, but for the rate of the well-behaved ones among the attackers."""
    settings = ("accept.address_exempt=[]", "accept.address_connects_per_s=100", "auth.address_logins_per_min=600",
                "auth.user_logins_per_min=100", "session.sends_per_s=100", "session.frames_per_s=100",
                "session.flood_s=1", "session.flood_factor=2")  # fmt: skip
    with start(tmp_path_factory.mktemp("limited"), "one shard", *settings, lifted=False) as made:
        yield made
