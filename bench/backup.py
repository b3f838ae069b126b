"""python -m bench backup: what a full backup of a live server costs those who are sending.

A store with a past, and sends on a schedule. Intervals without a backup, with one, and with VACUUM INTO in its place
take turns, so that a slow minute hits all of them. A backup is made as an operator would: `chatd backup`, with all of
its verification. Beside it an incremental one of what was sent meanwhile, and a restore of both.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench import generator, machine
from bench.generator import Measurement, Order
from bench.machine import Cores
from bench.prefill import ColdSet
from bench.result import write
from bench.servers.chatd import Chatd

VACUUM = """
import json, os, sys, time
import apsw
os.nice(10)
begun = time.monotonic()
apsw.Connection(sys.argv[1]).execute("VACUUM INTO ?", (sys.argv[2],))
print(json.dumps({"took_s": time.monotonic() - begun, "bytes": os.path.getsize(sys.argv[2])}))
"""
QUIET, BACKUP, VACUUM_INTO = "no backup", "chatd backup", "VACUUM INTO"
WINDOW = 64

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    events: Annotated[int, typer.Option(min=1000, help="In the store before.")] = 1_000_000,
    rate: Annotated[float, typer.Option(min=1, help="Sends per second, on a schedule.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of each interval.")] = 12,
    repeats: Annotated[int, typer.Option(min=1)] = 2,
    bytes_per_s: Annotated[int, typer.Option(min=0, help="Pace of the copy; 0: as quickly as it goes.")] = 64 << 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there.")] = None,
) -> None:
    """Influence on acknowledgements, time and size. Exit status 1: a figure cannot be believed."""
    described = machine.describe()
    generator.build()
    server = Keeping(Cores(shared=True).server)
    server.cold = ColdSet(devices=2000, conversations=5000, events=events)
    rows: dict[str, list[dict[str, Any]]] = {QUIET: [], BACKUP: [], VACUUM_INTO: []}
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as plans, server.running():
        bench = Bench(server, Path(plans) / "plan", rate, seconds, bytes_per_s)
        for _ in range(repeats):
            for what, taken in rows.items():
                taken.append(bench.interval(what))
        rest = bench.increment_and_restore()
    document = {
        "machine": described,
        "settings": {
            "events": events,
            "rate": rate,
            "seconds": seconds,
            "repeats": repeats,
            "bytes_per_s": bytes_per_s,
        },
        "rows": [{"server": "chatd", "work": what, "runs": taken} for what, taken in rows.items()] + [rest],
    }
    show(document)
    if json_file is not None:
        write(document, json_file)
    if any(run["faults"] for taken in rows.values() for run in taken):
        sys.exit(1)


class Keeping(Chatd):
    """It keeps its journal for incremental backups, which somebody else makes."""

    def command(self) -> list[str]:
        command = super().command()
        with (self.directory / "chatd.toml").open("a", encoding="utf-8") as file:
            file.write(f'[backup]\ndirectory = "{self.directory / "backups"}"\nfull_every_s = 0\n')
            file.write(f"incremental_every_s = {365 * 86_400}\n")
        return command


class Bench:
    def __init__(self, server: Chatd, plan: Path, rate: float, seconds: float, bytes_per_s: int) -> None:
        self._server, self._rate, self._seconds, self._bytes_per_s = server, rate, seconds, bytes_per_s
        self._data = server.directory / "data"
        self._root = server.directory / "backups"
        self._plan = plan
        assert server.cold is not None
        server.plan(server.cold.shape(), plan, "token")

    def interval(self, what: str) -> dict[str, Any]:
        """One measured interval with this beside it, from its beginning on."""
        started: list[tuple[subprocess.Popen[str], float]] = []

        def follow(stage: str, done: float) -> None:
            del done
            if stage == "measure" and not started and what != QUIET:
                started.append((self._start(what), time.monotonic()))

        order = Order(
            protocol="chatd",
            work="durable",
            port=self._server.port,
            plan=self._plan,
            processes=self._server.processes(),
            window=WINDOW,
            seconds=self._seconds,
            rate=self._rate,
        )
        measured = generator.run(order, Cores(shared=True), follow)
        beside: dict[str, Any] = {}
        for process, _ in started:
            output, _ = process.communicate()
            if process.returncode:
                raise generator.RunError(f"{what} failed")
            beside = json.loads(output)
            self._settle()
        return figures(measured) | beside

    def increment_and_restore(self) -> dict[str, Any]:
        incremental = json.loads(self._chatd("backup", "--incremental", "--data", self._data, "--to", self._root))
        begun = time.monotonic()
        target = self._server.directory / "restored"
        restored = json.loads(self._chatd("restore", self._root, "--to", target))
        restore_s = time.monotonic() - begun
        shutil.rmtree(target)
        records = incremental["to_position"] - incremental["from_position"] + 1
        return {
            "server": "chatd",
            "work": "incremental backup and restore",
            "incremental_s": (incremental["ended_ms"] - incremental["begun_ms"]) / 1000,
            "incremental_bytes": incremental["bytes"],
            "incremental_records": records,
            "restore_s": restore_s,
            "restored_records": restored["position"],
        }

    def _start(self, what: str) -> "subprocess.Popen[str]":
        if what == VACUUM_INTO:
            target = self._server.directory / "vacuum.db"
            target.unlink(missing_ok=True)
            command = [sys.executable, "-c", VACUUM, str(self._data / "chatd.db"), str(target)]
        else:
            command = [sys.executable, "-m", "chatd", "backup", "--json", "--bytes-per-s", str(self._bytes_per_s)]
            command += ["--data", str(self._data), "--to", str(self._root)]
        return subprocess.Popen(command, cwd=machine.ROOT, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _chatd(*arguments: object) -> str:
        command = [sys.executable, "-m", "chatd", *map(str, arguments), "--json"]
        return subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True).stdout

    def _settle(self) -> None:
        """Nothing of one interval is left for the next: its copies are gone but for the newest."""
        (self._server.directory / "vacuum.db").unlink(missing_ok=True)
        for old in sorted(self._root.glob("*-full"))[:-1] if self._root.exists() else []:
            shutil.rmtree(old)


def figures(measured: Measurement) -> dict[str, Any]:
    latency = measured.latency_us or {}
    return {
        "per_s": measured.per_s,
        "ack_ms": {name: value / 1000 for name, value in latency.items()},
        "server_cpu_us_per_op": measured.server_cpu_us_per_op,
        "faults": measured.faults,
    }


def show(document: dict[str, Any]) -> None:
    table = Table(title="acknowledgements beside a full backup")
    for heading in ("beside it", "per s", "ack p50 ms", "p99 ms", "p999 ms", "max ms", "took s", "MiB"):
        table.add_column(heading, justify="left" if heading == "beside it" else "right")
    for row in document["rows"][:-1]:
        runs = row["runs"]
        acks = [_span(run["ack_ms"][name] for run in runs) for name in ("p50", "p99", "p999", "max")]
        took = _span(_took_s(run) for run in runs) if "bytes" in runs[0] else ""
        size = f"{runs[-1]['bytes'] / 2**20:.0f}" if "bytes" in runs[0] else ""
        table.add_row(row["work"], f"{median(run['per_s'] for run in runs):.0f}", *acks, took, size)
    console = Console(width=140)
    console.print(table)
    console.print(document["rows"][-1], highlight=False)


def _took_s(run: dict[str, Any]) -> float:
    return float(run["took_s"]) if "took_s" in run else (run["ended_ms"] - run["begun_ms"]) / 1000


def _span(values: Any) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
