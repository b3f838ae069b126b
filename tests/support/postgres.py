"""A PostgreSQL server of the tests' own: Debian's package, a free port, a directory that goes away."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from chatd.testing import free_port

DEBIAN_ROOT = Path("/usr/lib/postgresql")
START_TIMEOUT_S = 30.0
USER = "postgres" if os.geteuid() == 0 else None
"""It refuses to run as root."""


def program(name: str) -> str:
    """Debian keeps the server's programs out of PATH, by version."""
    found = sorted(DEBIAN_ROOT.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    assert path is not None, f"{name} is not installed: tools/setup.sh services"
    return path


ROLE = "app"
"""Who owns the databases: no superuser, as in any installation."""


class Postgres:
    """Started by `running`. `database` makes databases; `sql` is its administrator's unless told otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._options: tuple[str, ...] = ()

    def dsn_of(self, database: str, *ports: int) -> str:
        """ports: addresses to be tried in turn, instead of its own."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or (self.port,))
        return f"postgresql://{ROLE}@{hosts}/{database}"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def create(self) -> None:
        self.directory.chmod(0o755)
        if USER:
            shutil.chown(self.directory, USER, USER)
        self._run("initdb", "-D", "data", "-U", "chatd", "--auth=trust", "--no-instructions", "--no-sync", "-E", "UTF8")

    def start(self, *options: str) -> None:
        """options: name=value of its configuration, kept for the next start. Returns when it takes connections."""
        self._options = options or self._options
        given = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.directory}",
                 "shared_buffers=64MB", "max_connections=60", *self._options]  # fmt: skip
        command = [program("postgres"), "-D", "data", *(word for option in given for word in ("-c", option))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user()
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with suppress(subprocess.CalledProcessError):
                self.sql("SELECT 1")
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def standby(self) -> "Postgres":
        """A copy that follows this server, without whose word no commit of this one is answered from then on."""
        other = type(self)(Path(mkdtemp(prefix="chatd-postgres-")))
        other.directory.chmod(0o755)
        if USER:
            shutil.chown(other.directory, USER, USER)
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        source = f"host=127.0.0.1 port={self.port} user=chatd"
        other._run("pg_basebackup", "-D", "data", "-R", "--checkpoint=fast", "-d", source)
        other.start()
        self.sql("SELECT pg_reload_conf()")
        return other

    def promote(self) -> None:
        """The standby becomes a server that may write."""
        self.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.sql("SELECT pg_reload_conf()")
        self.sql("SELECT pg_promote()")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown. SIGQUIT: as a crash of the server, all of its processes at once."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_TIMEOUT_S)
            self.process = None

    def kill(self) -> None:
        """kill -9 of the postmaster and of every process of it."""
        assert self.process is not None
        pids = [self.process.pid, *self.backends()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.01)
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def backends(self, application: str = "") -> list[int]:
        """Pids of its processes; of those that serve clients of that name."""
        assert self.process is not None
        if application:
            sql = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{application}'"
            return [int(line) for line in self.sql(sql).split()]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    @staticmethod
    def signal(pid: int, number: signal.Signals) -> None:
        """To one of `backends`."""
        os.kill(pid, number)

    def database(self) -> str:
        """The DSN of a new, empty database."""
        self._databases += 1
        name = f"chatd_{self._databases}"
        self.sql(f"CREATE DATABASE {name} OWNER {ROLE}")
        return self.dsn_of(name)

    def sql(self, statement: str, dsn: str = "") -> str:
        """What psql prints, without decoration."""
        return self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, dsn or self._administrator)

    @property
    def _administrator(self) -> str:
        return f"postgresql://chatd@127.0.0.1:{self.port}/postgres"

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [program(name), *arguments], cwd=self.directory, capture_output=True, text=True, check=True, **as_user()
        )
        return done.stdout

    @classmethod
    @contextmanager
    def running(cls, *options: str) -> Iterator[Self]:
        """In a directory beside pytest's own, which belong to the user of the tests alone."""
        server = cls(Path(mkdtemp(prefix="chatd-postgres-")))
        try:
            server.create()
            server.start(*options)
            server.sql(f"CREATE ROLE {ROLE} LOGIN")
            yield server
        finally:
            server.remove()

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def as_user() -> dict[str, Any]:
    nobody_else: Sequence[str] = []
    return {"user": USER, "group": USER, "extra_groups": nobody_else} if USER else {}
