"""PostgreSQL: one table, prepared INSERTs in a pipeline, one transaction per turn of the generator, as `pgbench` does
it with `\\startpipeline`. `synchronous_commit` is on, so an answer means on disk; the rest are Debian's defaults.

It has a process per connection, so thousands of devices reach it through a pool, as every application does it: the same
number of unanswered sends over `pool` connections.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from bench.servers.base import PROGRAM_PATH, Server, StartError, program, version_of

DEBIAN_ROOT = Path("/usr/lib/postgresql")
START_TIMEOUT_S = 20
SEGMENTS = 24  # of the write-ahead log: more than any point fills
CHATD = "chatd"  # the database for chatd, when its store is here
TABLE = "CREATE TABLE event (id bigserial PRIMARY KEY, conversation bigint NOT NULL, body bytea NOT NULL)"


class Postgres(Server):
    name = "postgres"
    peer = "postgres"
    protocol = "postgres"
    works: ClassVar[frozenset[str]] = frozenset({"durable"})
    pool: ClassVar[int | None] = 50
    stop_signal = signal.SIGINT  # fast shutdown: SIGTERM would wait for clients
    user: ClassVar[str | None] = "postgres"  # it refuses to run as root

    def __init__(self, cores: set[int]) -> None:
        super().__init__(cores)
        self._session: subprocess.Popen[str] | None = None

    def prepare(self) -> None:
        command = [_binary("initdb"), "-D", "data", "-U", "bench", "--auth=trust", "--no-instructions"]
        as_user = self.user if os.geteuid() == 0 else None
        made = subprocess.run(
            command, cwd=self.directory, user=as_user, group=as_user, capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise StartError(f"initdb: {made.stderr.strip()}")

    def command(self) -> list[str]:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.directory}"]
        return [_binary("postgres"), "-D", "data", *(word for option in options for word in ("-c", option))]

    def fill(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.sql(TABLE, "postgres")
                self.sql(f"CREATE DATABASE {CHATD}", "postgres")
                self._recycle()
                return
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline:
                    raise StartError(f"psql: {error.stderr.strip()}") from error
            time.sleep(0.1)

    def _recycle(self) -> None:
        """As on a server that has run for a while: the write-ahead log goes into segments of old ones. One just made
        fills 16 MiB with zeros and syncs them for every new segment, in the session that commits.
        """
        for _ in range(SEGMENTS):
            self.sql("SELECT pg_create_restore_point('bench'); SELECT pg_switch_wal()", "postgres")
        self.sql("CHECKPOINT", "postgres")

    @property
    def dsn(self) -> str:
        return f"postgresql://bench@127.0.0.1:{self.port}/{CHATD}"

    def sql(self, statement: str, database: str = CHATD) -> str:
        """What psql prints of it, without decoration."""
        command = [*self._psql(database), "-c", statement]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def number(self, statement: str) -> int:
        """The one number that it asks chatd's database for. For questions while somebody measures: one psql stays for
        all of them, because starting it and a session takes as much of the cores as thousands of sends.
        """
        if self._session is None:
            self._session = subprocess.Popen(
                self._psql(CHATD), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        assert self._session.stdin is not None
        assert self._session.stdout is not None
        self._session.stdin.write(f"{statement};\n")
        return int(self._session.stdout.readline())

    def _psql(self, database: str) -> list[str]:
        address = f"postgresql://bench@127.0.0.1:{self.port}/{database}"
        return [_binary("psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", address]

    @contextmanager
    def running(self) -> Iterator[Self]:
        try:
            with super().running() as server:
                yield server
        finally:
            if self._session is not None:
                self._session.kill()
                self._session.communicate()

    def processes(self) -> dict[str, str]:
        assert self.process is not None
        return {self.name: f"{self.process.pid}+"}

    def lasting(self) -> dict[str, str]:
        """Label → pid of its processes that stay: an autovacuum worker may end while it is looked at."""
        rows = self.sql(
            "SELECT pid, backend_type, application_name FROM pg_stat_activity WHERE backend_type IN "
            "('checkpointer', 'walwriter', 'background writer') OR application_name LIKE 'chatd %'"
        )
        found = {}
        for row in rows.splitlines():
            pid, kind, application = row.split("|")
            found[f"postgres: {application or kind} {pid}"] = pid
        return found

    def settings(self) -> dict[str, object]:
        return {"version": version_of(_binary("postgres")), "connections": self.pool}


def _binary(name: str) -> str:
    """Debian keeps the server's programs out of PATH, by version."""
    versions = sorted(DEBIAN_ROOT.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return program(name, "postgresql", os.pathsep.join([*map(str, versions), PROGRAM_PATH]))
