"""Servers under attack: with their everyday limits, but timeouts that a test can wait for."""

from collections.abc import Iterator

import pytest

from chatd.testing import ChatdServer

SHORT = (
    "accept.first_byte_timeout_ms=600",
    "accept.auth_timeout_ms=900",
    "session.frame_timeout_ms=500",
    "session.frame_bytes_per_s=1000000",
    "queue.soft_bytes=16384",
    "queue.low_bytes=4096",
    "queue.hard_bytes=65536",
    "queue.socket_send_bytes=4096",
    "queue.stall_timeout_ms=1500",
    "auth.guests=true",
)


def flags(*settings: str) -> list[str]:
    return ["--log", "json", *(word for setting in settings for word in ("--set", setting))]


def start(directory: object, mode: str, *settings: str, lifted: bool) -> ChatdServer:
    shape = [] if mode == "inline" else ["--shards", "1"]
    return ChatdServer.start(
        directory,  # type: ignore[arg-type]
        *flags(*SHORT, *settings),
        *shape,
        inline=mode == "inline",
        lifted=lifted,
    )


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
