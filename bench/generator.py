"""The native generator: build it, run it, and turn its marks into figures."""

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import ROOT, Cores, on_cores

BINARY = ROOT / "build" / "bench" / "loadgen"
PERCENTILES = ("p50", "p99", "p999", "max")


class RunError(Exception):
    """The generator gave up: its message says why."""


@dataclass(frozen=True)
class Order:
    """One run of the generator."""

    protocol: str
    work: str
    port: int
    plan: Path
    processes: dict[str, int]  # label → pid of every process of the server
    window: int = 1
    payload: int = 64
    seconds: float = 5
    warm_up: float = 1
    rate: float = 0
    heartbeat_ms: int = 0


@dataclass(frozen=True)
class Measurement:
    """One measured interval."""

    per_s: float
    server_cpu_us_per_op: float
    server_cpu_share: float
    process_cpu_us_per_op: dict[str, float]
    latency_us: dict[str, float] | None
    delivery_us: dict[str, float] | None
    buckets: list[tuple[float, int]]
    bytes_per_connection: float
    process_bytes_per_connection: dict[str, float]
    connect_ms: float
    login: dict[str, Any]
    generator_cpu_share: float
    steal_share: float
    counts: dict[str, int] = field(repr=False)
    backlog: int | None = None  # chatd, durable: records not folded yet when the load ended

    @property
    def faults(self) -> list[str]:
        """Why the figures must not be believed; empty when every message arrived once, whole and in order."""
        broken = ["unanswered", "corrupt", "reordered", "skipped"]
        return [f"{self.counts[name]} {name}" for name in broken if self.counts[name]]


def build() -> None:
    """Compile it when a source is newer. RunError shows the compiler's words."""
    made = subprocess.run(
        ["make", "-s", "-f", str(ROOT / "bench" / "loadgen" / "Makefile")], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise RunError(f"the generator does not compile:\n{made.stderr}")


def run(order: Order, cores: Cores, on_progress: Callable[[str, float], None]) -> Measurement:
    """Run it to its end. on_progress(stage, share done) is called four times a second."""
    command = [str(BINARY), "--progress"]
    for name, value in (
        ("protocol", order.protocol),
        ("work", order.work),
        ("port", order.port),
        ("plan", order.plan),
        ("window", order.window),
        ("payload", order.payload),
        ("seconds", order.seconds),
        ("warm-up", order.warm_up),
        ("rate", order.rate),
        ("heartbeat-ms", order.heartbeat_ms),
        ("watch", ",".join(map(str, order.processes.values()))),
    ):
        command += [f"--{name}", str(value)]
    with tempfile.TemporaryFile("w+") as output, on_cores(cores.generator):
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        with process:
            words = _follow(process, on_progress)
        if process.returncode:
            raise RunError(f"{words or f'the generator ended with {process.returncode}'}")
        output.seek(0)
        return measure(json.load(output), order)


def _follow(process: "subprocess.Popen[str]", on_progress: Callable[[str, float], None]) -> str:
    words = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            match line.split():
                case ["progress", stage, share, _]:
                    on_progress(stage, float(share))
                case _:
                    words.append(line.strip())
    except BaseException:
        process.kill()
        raise
    return "\n".join(words)


def measure(raw: dict[str, Any], order: Order) -> Measurement:
    marks = {mark["name"]: mark for mark in raw["marks"]}
    begin, end = marks["begin"], marks["end"]
    seconds = (end["at_ns"] - begin["at_ns"]) / 1e9
    operations = max(1, raw["operations"])
    cpu = _difference(begin, end, order, "user_us", "system_us")
    memory = _difference(marks["start"], marks["settled"], order, "private_bytes")
    connections = raw["connections"]
    machine_ticks = max(1, end["machine_ticks"] - begin["machine_ticks"])
    return Measurement(
        per_s=raw["operations"] / seconds,
        server_cpu_us_per_op=sum(cpu.values()) / operations,
        server_cpu_share=sum(cpu.values()) / 1e6 / seconds,
        process_cpu_us_per_op={label: us / operations for label, us in cpu.items()},
        latency_us=_percentiles(raw["latency_us"]),
        delivery_us=_percentiles(raw["delivery_us"]),
        buckets=[(upper, count) for upper, count in (raw["latency_us"] or {"buckets": []})["buckets"]],
        bytes_per_connection=sum(memory.values()) / connections,
        process_bytes_per_connection={label: size / connections for label, size in memory.items()},
        connect_ms=raw["connect_us"]["p50"] / 1000,
        login=_login(raw, marks, order),
        generator_cpu_share=(end["generator_us"] - begin["generator_us"]) / 1e6 / seconds,
        steal_share=(end["stolen_ticks"] - begin["stolen_ticks"]) / machine_ticks,
        counts={name: value for name, value in raw.items() if isinstance(value, int)},
    )


def _login(raw: dict[str, Any], marks: dict[str, Any], order: Order) -> dict[str, Any]:
    """From the first connect() to the last connection that is ready: connections, logins and subscriptions."""
    seconds = (marks["connected"]["at_ns"] - marks["start"]["at_ns"]) / 1e9
    cpu = _difference(marks["start"], marks["connected"], order, "user_us", "system_us")
    return {
        "per_s": raw["connections"] / seconds,
        "server_cpu_us_per_op": sum(cpu.values()) / raw["connections"],
        "process_cpu_us_per_op": {label: us / raw["connections"] for label, us in cpu.items()},
        "latency_us": _percentiles(raw["connect_us"]),
        "generator_cpu_share": (marks["connected"]["generator_us"] - marks["start"]["generator_us"]) / 1e6 / seconds,
    }


def _difference(before: dict[str, Any], after: dict[str, Any], order: Order, *names: str) -> dict[str, float]:
    old = {reading["pid"]: sum(reading[name] for name in names) for reading in before["processes"]}
    new = {reading["pid"]: sum(reading[name] for name in names) for reading in after["processes"]}
    return {label: new[pid] - old[pid] for label, pid in order.processes.items()}


def _percentiles(histogram: dict[str, Any] | None) -> dict[str, float] | None:
    return None if histogram is None else {name: histogram[name] for name in PERCENTILES}
