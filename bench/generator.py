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
BROKEN = ("unanswered", "corrupt", "reordered", "skipped", "missing")


class RunError(Exception):
    """The generator gave up: its message says why."""


@dataclass(frozen=True)
class Order:
    """One run of the generator."""

    protocol: str
    work: str
    port: int
    plan: Path
    processes: dict[str, str]  # label → pid of every process of the server, as Server.processes says
    window: int = 1
    payload: int = 64
    seconds: float = 5
    warm_up: float = 1
    rate: float = 0
    heartbeat_ms: int = 0
    stuck: int = 0
    reread: bool = False


@dataclass(frozen=True)
class Measurement:
    """One measured interval."""

    per_s: float
    server_cpu_us_per_op: float
    server_cpu_share: float
    process_cpu_us_per_op: dict[str, float]
    latency_us: dict[str, float] | None
    delivery_us: dict[str, float] | None
    ack_us: dict[str, float] | None
    buckets: list[tuple[float, int]]
    bytes_per_connection: float
    process_bytes_per_connection: dict[str, float]
    connect_ms: float
    login: dict[str, Any]
    generator_cpu_share: float
    steal_share: float
    counts: dict[str, int] = field(repr=False)
    series: list[tuple[float, float]] = field(default_factory=list, repr=False)  # ms since begin, operations per s
    stuck_bytes: dict[str, float] | None = (
        None  # process or `kernel` → growth while readers were stuck, per stuck reader
    )
    backlog: list[tuple[float, int]] = field(default_factory=list)  # chatd, durable: s, records not folded yet

    @property
    def faults(self) -> list[str]:
        """Why the figures must not be believed; empty when every message arrived once, whole and in order."""
        return [f"{self.counts[name]} {name}" for name in BROKEN if self.counts[name]]


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
        ("stuck", order.stuck),
        ("watch", ",".join(order.processes.values())),
    ):
        command += [f"--{name}", str(value)]
    command += ["--reread"] if order.reread else []
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
    cpu = _cpu_us(begin, end, order)
    memory = _difference(marks["start"], marks["settled"], order, "private_bytes")
    connections = raw["connections"]
    timed = "delivery_us" if order.work == "group" else "latency_us"  # of what is counted as an operation
    machine_ticks = max(1, end["machine_ticks"] - begin["machine_ticks"])
    return Measurement(
        per_s=raw["operations"] / seconds,
        server_cpu_us_per_op=sum(cpu.values()) / operations,
        server_cpu_share=sum(cpu.values()) / 1e6 / seconds,
        process_cpu_us_per_op={label: us / operations for label, us in cpu.items()},
        latency_us=_percentiles(raw[timed]),
        delivery_us=_percentiles(raw["delivery_us"]),
        ack_us=_percentiles(raw["latency_us"]),
        buckets=[(upper, count) for upper, count in (raw[timed] or {"buckets": []})["buckets"]],
        bytes_per_connection=sum(memory.values()) / connections,
        process_bytes_per_connection={label: size / connections for label, size in memory.items()},
        connect_ms=raw["connect_us"]["p50"] / 1000,
        login=_login(raw, marks, order),
        generator_cpu_share=(end["generator_us"] - begin["generator_us"]) / 1e6 / seconds,
        steal_share=(end["stolen_ticks"] - begin["stolen_ticks"]) / machine_ticks,
        counts={name: value for name, value in raw.items() if isinstance(value, int)},
        series=_rates(raw["series"]),
        stuck_bytes=_stuck(marks, order),
    )


def _rates(series: list[list[float]]) -> list[tuple[float, float]]:
    """Operations per second between each sample and the one before."""
    rates, before = [], [0.0, 0.0]
    for at_ms, operations in series:
        if at_ms > before[0]:
            rates.append((at_ms, (operations - before[1]) / (at_ms - before[0]) * 1000))
        before = [at_ms, operations]
    return rates


def _stuck(marks: dict[str, Any], order: Order) -> dict[str, float] | None:
    if "stuck" not in marks or not order.stuck:
        return None
    begin, end = marks["begin"], marks["stuck"]
    grown = _difference(begin, end, order, "private_bytes")
    grown["kernel"] = end["kernel_bytes"] - begin["kernel_bytes"]
    return {label: size / order.stuck for label, size in grown.items()}


def _login(raw: dict[str, Any], marks: dict[str, Any], order: Order) -> dict[str, Any]:
    """From the first connect() to the last connection that is ready: connections, logins and subscriptions."""
    seconds = (marks["connected"]["at_ns"] - marks["start"]["at_ns"]) / 1e9
    cpu = _cpu_us(marks["start"], marks["connected"], order)
    return {
        "per_s": raw["connections"] / seconds,
        "server_cpu_us_per_op": sum(cpu.values()) / raw["connections"],
        "process_cpu_us_per_op": {label: us / raw["connections"] for label, us in cpu.items()},
        "latency_us": _percentiles(raw["connect_us"]),
        "generator_cpu_share": (marks["connected"]["generator_us"] - marks["start"]["generator_us"]) / 1e6 / seconds,
    }


def _cpu_us(before: dict[str, Any], after: dict[str, Any], order: Order) -> dict[str, float]:
    return {label: ns / 1000 for label, ns in _difference(before, after, order, "cpu_ns").items()}


def _difference(before: dict[str, Any], after: dict[str, Any], order: Order, name: str) -> dict[str, float]:
    old = {reading["pid"]: reading[name] for reading in before["processes"]}
    new = {reading["pid"]: reading[name] for reading in after["processes"]}
    pids = {label: int(pid.rstrip("+")) for label, pid in order.processes.items()}
    return {label: new[pid] - old[pid] for label, pid in pids.items()}


def _percentiles(histogram: dict[str, Any] | None) -> dict[str, float] | None:
    return None if histogram is None else {name: histogram[name] for name in PERCENTILES}
