"""What every server has in common: a port, a directory, processes, and the way to start and stop them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from bench.machine import DIRECTORIES, on_cores
from bench.shapes import Credential, Shape, write_plan
from chatd.testing import free_port

if TYPE_CHECKING:
    from bench.prefill import ColdSet

START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 15
# Debian keeps daemons where not everybody's PATH leads.
PROGRAM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


class StartError(Exception):
    """A server could not be started; the message says what to do."""


class Server(ABC):
    name: ClassVar[str]
    peer: ClassVar[str]  # what --peers calls it, for whatever work
    protocol: ClassVar[str]  # of the generator's adapter
    works: ClassVar[frozenset[str]]  # of relay, durable, group, idle
    pool: ClassVar[int | None] = None  # it has a process per connection: so many are opened, whatever the plan's number
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    user: ClassVar[str | None] = None  # to run as, when the bench runs as root

    def __init__(self, cores: set[int]) -> None:
        self.cores = cores
        self.shards = 1  # chatd only
        self.store = "sqlite"  # chatd only
        self.lifted = True  # buffers and connection limits; the slow-reader scenario wants to see those of the defaults
        self.cold: ColdSet | None = None  # chatd only: the store that it starts on
        self.port = free_port()
        self.directory = Path()
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command line; self.directory exists, files may be written into it."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Version and what differs from the defaults, for the result."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def prepare(self) -> None:  # noqa: B027
        """Called before the process is started; self.directory exists."""

    def fill(self) -> None:  # noqa: B027
        """Called once it accepts connections."""

    def processes(self) -> dict[str, str]:
        """Label → pid of every process whose CPU time and memory are the server's; `+` behind it: with its children."""
        assert self.process is not None
        return {self.name: str(self.process.pid)}

    def move_to(self, cores: set[int]) -> None:
        """All its threads, so that a point may have other cores than the one before."""
        if cores == self.cores:
            return
        self.cores = cores
        for pid in self.processes().values():
            for task in Path(f"/proc/{pid.rstrip('+')}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)

    def backlog(self) -> int | None:
        """Stored records that still have to be moved into their place; None where there is no such thing."""
        return None

    def plan(self, shape: Shape, path: Path, credential: str) -> None:
        """Write the generator's plan. Peers need neither users nor conversations: a channel's number is its name."""
        del credential
        with path.open("w", encoding="ascii") as file:
            write_plan(file, shape, [Credential()] * shape.connection_count, list(range(len(shape.members))))

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Started inside, gone after. StartError with the end of its log when it does not come up."""
        DIRECTORIES.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=DIRECTORIES))
        as_user = self.user if os.geteuid() == 0 else None
        try:
            if as_user is not None:
                shutil.chown(self.directory, as_user, as_user)
            self.prepare()
            self._start(as_user)
            self.fill()
            yield self
        finally:
            self._stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> None:
        """Stop it and start it again with its data. StartError as above."""
        self._stop()
        self._start(self.user if os.geteuid() == 0 else None)

    def log_end(self) -> str:
        """The last words of its log."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")[-2000:].strip()

    def _start(self, as_user: str | None) -> None:
        with (self.directory / "log").open("ab") as output, on_cores(self.cores):
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=as_user,
                group=as_user,
                extra_groups=[] if as_user is not None else None,
            )
        self._wait_until_open()

    def _wait_until_open(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise StartError(f"{self.name} does not accept connections on port {self.port}:\n{self.log_end()}")

    def _stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def program(name: str, package: str, path: str = PROGRAM_PATH, hint: str = "or leave it out with --peers") -> str:
    """The path of a program. StartError names the Debian package that has it."""
    found = shutil.which(name, path=path)
    if found is None:
        raise StartError(f"{name} is not installed: apt-get install {package} ({hint})")
    return found


def version_of(path: str, flag: str = "--version") -> str:
    return subprocess.run([path, flag], capture_output=True, text=True, check=False).stdout.strip()
