"""PostgreSQL: one table, prepared INSERTs in a pipeline, one transaction per turn of the generator, as `pgbench` does
it with `\\startpipeline`. `synchronous_commit` is on, so an answer means on disk; the rest are Debian's defaults.

It has a process per connection, so thousands of devices reach it through a pool, as every application does it: the same
number of unanswered sends over `pool` connections.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from bench.servers.base import PROGRAM_PATH, Server, StartError, program, version_of

DEBIAN_ROOT = Path("/usr/lib/postgresql")
START_TIMEOUT_S = 20
TABLE = "CREATE TABLE event (id bigserial PRIMARY KEY, conversation bigint NOT NULL, body bytea NOT NULL)"


class Postgres(Server):
    name = "postgres"
    peer = "postgres"
    protocol = "postgres"
    works: ClassVar[frozenset[str]] = frozenset({"durable"})
    pool: ClassVar[int | None] = 50
    stop_signal = signal.SIGINT  # fast shutdown: SIGTERM would wait for clients
    user: ClassVar[str | None] = "postgres"  # it refuses to run as root

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
        command = [_binary("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-c", TABLE, "postgres"]
        deadline = time.monotonic() + START_TIMEOUT_S
        while (made := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
            if time.monotonic() > deadline:
                raise StartError(f"psql: {made.stderr.strip()}")
            time.sleep(0.1)

    def processes(self) -> dict[str, str]:
        assert self.process is not None
        return {self.name: f"{self.process.pid}+"}

    def settings(self) -> dict[str, object]:
        return {"version": version_of(_binary("postgres")), "connections": self.pool}


def _binary(name: str) -> str:
    """Debian keeps the server's programs out of PATH, by version."""
    versions = sorted(DEBIAN_ROOT.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return program(name, "postgresql", os.pathsep.join([*map(str, versions), PROGRAM_PATH]))
