"""A real server for the tests of your application: a pytest plugin.

    # conftest.py
    pytest_plugins = ["chatd.testing"]

    # test_app.py
    async def test_alice_reaches_bob(chatd_server):
        async with chatd_server.client("alice") as alice, chatd_server.client("bob") as bob:
            ...

`chatd_server` starts one server for the whole test session (`chatd serve --inline` on a free port, its data in a
temporary directory), `chatd_server_fresh` one for a single test. Users are made when they first log in. Without pytest:
`with ChatdServer.start(directory) as server`. Linux only, like the server.
"""

import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from chatd.client import Client, Credential
from chatd.client.blocking import BlockingClient
from chatd.errors import ChatdError
from chatd.secrets import mint

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
STATUS_FILE = "run.json"
PORT_MIN = 10_000
LOG_SHOWN_BYTES = 4000
# A test may be quicker than any person: limits that would slow it down are lifted. Those of size stay.
LIFTED = (
    "session.frames_per_s=0",
    "session.bytes_per_s=0",
    "session.sends_per_s=0",
    "session.amplification_max=0",
    "session.ephemeral_interval_ms=0",
    "hub.pulls_per_s=0",
    "hub.requests_per_s=0",
    "hub.resolves_per_min=0",
    "auth.user_logins_per_min=1000000",
    "auth.address_logins_per_min=1000000",
    "accept.flap_connects_per_min=10000",
)


class ChatdServer:
    """A running server. address: "127.0.0.1:port"; data: its data directory; log: the file of its standard error."""

    def __init__(self, data: Path, port: int, options: Sequence[str]) -> None:
        self.data = data
        self.port = port
        self.log = data.parent / f"{data.name}.log"
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: Path, *options: str, inline: bool = True, lifted: bool = True) -> Self:
        """Start a server with its data in directory/data and wait until it is ready.

        options: further flags of `chatd serve`. inline: all roles in one process, otherwise shard, hub and folder
        processes. lifted: without the rate limits that only people keep. ChatdError shows the log when it fails.
        """
        flags = ["--inline"] if inline else []
        flags += [word for setting in LIFTED for word in ("--set", setting)] if lifted else []
        server = cls(directory / "data", free_port(), [*flags, *options])
        server.launch()
        return server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the supervisor; 0 when the server does not run."""
        return self._process.pid if self._process is not None else 0

    def launch(self) -> None:
        """Start it (again) on the same data and port, and wait until it is ready."""
        command = [sys.executable, "-m", "chatd", "serve", "--data", str(self.data), "--listen", self.address]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Of a server that was killed.
        (self.data / STATUS_FILE).unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_ready(time.monotonic() + START_TIMEOUT_S)

    def kill(self) -> None:
        """kill -9, as a power cut would: nothing acknowledged may be lost by it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM and wait: sessions are drained."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ChatdError(f"the server did not stop in {STOP_TIMEOUT_S:g} s\n{self._log_end()}") from None
        self._process = None

    def token(self, user: str, lifetime_s: int = 900) -> str:
        """A JSON Web Token for that user."""
        return mint(self.data, user, lifetime_s)

    def client(self, user: str, **options: Any) -> Client:
        """A Client of that user, a new device each time unless `state` names its file."""
        return Client(self.address, Credential.jwt(self.token(user)), **options)

    def blocking_client(self, user: str, **options: Any) -> BlockingClient:
        return BlockingClient(self.address, Credential.jwt(self.token(user)), **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self, until: float) -> None:
        while True:
            process = self._process
            if process is None or process.poll() is not None:
                self._process = None
                raise ChatdError(f"the server ended at its start\n{self._log_end()}")
            # It writes this when hub, folder and shards are ready; a port that answers could be anybody's.
            if (self.data / STATUS_FILE).exists():
                return
            if time.monotonic() > until:
                self.kill()
                raise ChatdError(f"the server was not ready in {START_TIMEOUT_S:g} s\n{self._log_end()}")
            time.sleep(0.02)

    def _log_end(self) -> str:
        try:
            return self.log.read_bytes()[-LOG_SHOWN_BYTES:].decode(errors="replace")
        except OSError:
            return "(no log)"


def free_port() -> int:
    """A port that was free a moment ago.

    Below the range from which the kernel serves connections and port 0: a server that is killed and launched again
    finds it free again.
    """
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    while True:
        port = random.randrange(PORT_MIN, max(PORT_MIN + 1000, int(ephemeral[0])))  # noqa: S311 no secret
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def chatd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    """One server for all tests of the session; conversations and users of one test are seen by the next."""
    with ChatdServer.start(tmp_path_factory.mktemp("chatd")) as server:
        yield server


@pytest.fixture
def chatd_server_fresh(tmp_path: Path) -> Iterator[ChatdServer]:
    """A server of this test's own, which may be killed and launched again."""
    with ChatdServer.start(tmp_path) as server:
        yield server
