"""chatd under systemd: the units are sound, inherited sockets are served and outlive the daemon, systemd is told."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from chatd.client import Client, Credential, Event
from chatd.secrets import mint
from chatd.testing import free_port

UNITS = Path(__file__).resolve().parents[2] / "systemd"
EXPOSURE_MAX = 20  # tenths
PATIENCE_S = 30


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing: apt-get install systemd")


@needs("systemd-analyze")
def test_systemd_understands_every_line_of_the_units(tmp_path: Path) -> None:
    for unit in UNITS.glob("chatd.*"):
        # Only the place of the installation is not there on this machine.
        installed = unit.read_text().replace("/opt/chatd/.venv/bin/chatd", "/bin/true")
        (tmp_path / unit.name).write_text(installed)
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 2
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    # Units of the machine itself may have faults of their own.
    assert [line for line in (done.stdout + done.stderr).splitlines() if "chatd" in line] == []


@needs("systemd-analyze")
def test_the_service_is_confined() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", UNITS / "chatd.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


class Systemd:
    """The socket on which systemd hears of its services."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE_S)

    def hear(self, wanted: str) -> None:
        """Wait until a service has said that."""
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.heard:
            assert time.monotonic() < deadline, f"no {wanted}; what was said: {self.heard}"
            self.heard += self._socket.recv(4096).decode().split("\n")
        self.heard.remove(wanted)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "chatd", "init", "--data", str(tmp_path / "data")], check=True, capture_output=True
    )
    return tmp_path / "data"


def serve(data: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "chatd", "serve", "--data", str(data), *options]


@contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def greet(port: int, data: Path, user: str) -> None:
    """A whole session: log in, send, see it."""
    with trio.fail_after(PATIENCE_S):
        async with Client(f"127.0.0.1:{port}", Credential.jwt(mint(data, user)), wait_s=PATIENCE_S) as client:
            cid = await client.create_group("activated")
            await client.send(cid, "hello")
            async for update in client.events():
                if isinstance(update, Event) and update.text == "hello":
                    return


@needs("systemd-socket-activate")
@pytest.mark.parametrize("mode", [("--inline",), ("--shards", "2")], ids=["inline", "processes"])
async def test_the_first_connection_starts_the_server_and_is_served(
    mode: tuple[str, ...], data: Path, systemd: Systemd, tmp_path: Path
) -> None:
    port = free_port()
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "500000"}
    activate = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=tcp"]
    activate += [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
    command = [*activate, *serve(data, *mode)]
    with running(command, tmp_path / "log") as process:
        await listening(port)
        await greet(port, data, "alice")
        systemd.hear("READY=1")
        for _ in range(3):
            systemd.hear("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        systemd.hear("RELOADING=1")
        systemd.hear("READY=1")
        await greet(port, data, "bob")
        process.send_signal(signal.SIGTERM)
        systemd.hear("STOPPING=1")
        assert process.wait(PATIENCE_S) == 0


async def listening(port: int) -> None:
    """Wait for systemd-socket-activate without connecting: a connection would start the server."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    with trio.fail_after(PATIENCE_S):
        while wanted not in Path("/proc/net/tcp").read_text():  # noqa: ASYNC110 the kernel's table has no event
            await trio.sleep(0.01)


async def test_connections_wait_in_the_inherited_socket_while_the_daemon_is_away(
    data: Path, systemd: Systemd, tmp_path: Path
) -> None:
    """kill -9 of all of chatd: who connects before the next start is served by it, nobody is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with inheriting(listener, data, systemd, tmp_path) as first:
            systemd.hear("READY=1")
            await greet(port, data, "alice")
            first.kill()
            first.wait()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(greet, port, data, f"user{number}")
            await trio.sleep(0.3)
            with inheriting(listener, data, systemd, tmp_path) as second:
                while len(nursery.child_tasks):  # noqa: ASYNC110 each ends when it was served
                    await trio.sleep(0.05)
                second.send_signal(signal.SIGTERM)
                systemd.hear("STOPPING=1")
                assert await trio.to_thread.run_sync(second.wait, PATIENCE_S) == 0


def inheriting(
    listener: socket.socket, data: Path, systemd: Systemd, directory: Path
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """chatd with that socket as descriptor 3, as systemd starts it."""
    hand_over = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid())"
    handed_over = [sys.executable, "-c", f"{hand_over}; os.execv(sys.argv[2], sys.argv[2:])", str(listener.fileno())]
    environment = os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "tcp", "NOTIFY_SOCKET": str(systemd.path)}
    command = [*handed_over, *serve(data, "--shards", "2")]
    return running(command, directory / "log", env=environment, pass_fds=[listener.fileno()])
