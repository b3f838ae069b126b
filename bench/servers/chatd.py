"""chatd itself, as its operator would start it, with the limits lifted that a load generator meets."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Self

from bench.backlog import backlog_of
from bench.machine import ROOT
from bench.prefill import fill
from bench.seed import Seeder, SeedError
from bench.servers.base import Server, StartError
from bench.servers.postgres import Postgres
from bench.shapes import Shape

# Rates that are meant for people's clients; 0 lifts one. Windows, queue bounds, idempotency, membership and fsync stay
# as they are in every installation.
LIFTED: dict[str, dict[str, object]] = {
    "accept": {"accepts_per_s": 0, "preauth_connections_max": 20_000, "flap_connects_per_min": 10_000},
    "session": {"frames_per_s": 0, "bytes_per_s": 0, "sends_per_s": 0, "amplification_max": 0},
    "hub": {"requests_per_s": 0, "pulls_per_s": 0, "resolves_per_min": 0},
    "auth": {"user_logins_per_min": 1_000_000, "address_logins_per_min": 1_000_000},
    "log": {"level": "warning"},
}
REST_S = 3
BACKLOG = (
    "SELECT coalesce((SELECT pos + count - 1 FROM batch ORDER BY pos DESC LIMIT 1) - CAST(value AS BIGINT), 0) "
    "FROM meta WHERE key = 'folded_pos'"
)


class Chatd(Server):
    name = "chatd"
    peer = "chatd"
    protocol = "chatd"
    works: ClassVar[frozenset[str]] = frozenset({"relay", "durable", "group", "idle"})

    def __init__(self, cores: set[int]) -> None:
        super().__init__(cores)
        self.seeder: Seeder | None = None
        self.database: Postgres | None = None

    @contextmanager
    def running(self) -> Iterator[Self]:
        """With its database beside it, when it keeps its store there."""
        with ExitStack() as stack:
            if self.store == "postgresql":
                self.database = stack.enter_context(Postgres(self.cores).running())
            yield stack.enter_context(super().running())

    def command(self) -> list[str]:
        configuration = self.directory / "chatd.toml"
        sections: dict[str, dict[str, object]] = {
            "listen": {"tcp": [f"127.0.0.1:{self.port}"]},
            "process": {"shards": self.shards},
            **LIFTED,
        }
        lines = ['data = "data"']
        if self.database is not None:
            lines.append(f'store = "{self.database.dsn}"')
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [sys.executable, "-m", "chatd", "serve", "--config", str(configuration)]

    def prepare(self) -> None:
        if self.cold is not None:
            if self.database is not None:
                raise StartError("the cold set is made for the files of SQLite only; leave it out with --connections")
            fill(self.directory / "data", self.cold)

    def environment(self) -> dict[str, str]:
        """The checkout's chatd, and nothing of the caller's own configuration."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATD_")}
        return {**kept, "PYTHONPATH": str(ROOT)}

    def restart(self) -> None:
        """Back to rest, too: its workers have loaded what a first login loads, and nothing is left to fold."""
        assert self.seeder is not None
        super().restart()
        self.seeder.log_in_once()
        time.sleep(REST_S)

    def settings(self) -> dict[str, object]:
        return {"version": _version(), "shards": self.shards, "store": self.store, "limits_lifted": LIFTED}

    def processes(self) -> dict[str, str]:
        """The supervisor and its workers, by role."""
        assert self.process is not None
        found = {"supervisor": str(self.process.pid)}
        for pid in _children(self.process.pid):
            found[_label(pid, set(found))] = str(pid)
        return found | (self.database.lasting() if self.database is not None else {})

    def backlog(self) -> int | None:
        if self.database is not None:
            return self.database.number(BACKLOG)
        return backlog_of(self.directory / "data")

    def plan(self, shape: Shape, path: Path, credential: str) -> None:
        if self.seeder is None:
            self.seeder = Seeder(self.port, self.directory / "data")
            if self.cold is not None:
                self.seeder.know(self.cold)
        try:
            self.seeder.write_plan(shape, path, credential)
        except SeedError as error:
            raise StartError(f"chatd could not be filled: {error}\n{self.log_end()}") from error


def _version() -> str:
    asked = [sys.executable, "-m", "chatd", "--version"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split()]


def _label(pid: int, taken: set[str]) -> str:
    """The role in the process title (`chatd: shard 0`) or in the command line (`… chatd.worker shard`)."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
    role = next(
        (word for word in words if word in {"hub", "folder", "indexer", "backup", "shard", "http", "media", "bots"}),
        "worker",
    )
    name, number = role, 0
    while name in taken:
        number += 1
        name = f"{role} {number}"
    return name
