"""The façade for scripts: the same client behind plain calls."""

from collections.abc import Iterator

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from support.fake_network import FakeNetwork, fake_network
from support.fake_server import FakeServer

from chatd.client import Credential, Event, Link, NotFoundError, Settings
from chatd.client.blocking import BlockingClient


@pytest.fixture
def network() -> Iterator[FakeNetwork]:
    server = FakeServer()
    server.create(7, 1, 2)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_network(server)) as network:
        yield network
        drain(portal)


def drain(portal: BlockingPortal) -> None:
    portal.call(anyio.sleep, 0)


def blocking(network: FakeNetwork, user: int) -> BlockingClient:
    return BlockingClient(network.address, Credential.jwt(str(user)), settings=Settings(start="beginning"))


def test_a_script_sends_and_reads_without_a_loop(network: FakeNetwork) -> None:
    with blocking(network, 1) as alice, blocking(network, 2) as bob:
        assert alice.send(7, "hi").seq == 1
        assert alice.send(7, "there").seq == 2
        texts = [update.text for update in bob.events(timeout_s=0.3) if isinstance(update, Event)]
        assert texts == ["hi", "there"]
        assert [overview.cid for overview in bob.conversations()] == [7]
        assert bob.direct(5) == 1005
        assert (bob.user, bob.device) == (2, 2)
        links = [signal.state for signal in bob.signals(timeout_s=0.1) if isinstance(signal, Link)]
        assert links == ["connecting", "live"]
        bob.mark_read(7, 2)
        with pytest.raises(NotFoundError):
            bob.history(99)


def test_unknown_names_are_attribute_errors(network: FakeNetwork) -> None:
    with blocking(network, 1) as alice, pytest.raises(AttributeError, match="no frobnicate"):
        alice.frobnicate()
