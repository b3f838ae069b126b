"""README's table of figures, made from the results of `python -m bench all`. A test holds README and results equal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import ROOT
from bench.result import read

FOLDER = ROOT / "bench" / "results" / "full"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: python -m bench all -->", "<!-- end of figures -->"

COLUMNS = {
    "chatd": ("chatd",),
    "nats-server": ("nats",),
    "Redis": ("redis", "redis-streams"),
    "mosquitto": ("mosquitto",),
    "PostgreSQL": ("postgres",),
}

Row = dict[str, Any]


def _number(value: float | None, digits: int = 3) -> str:
    """With three significant digits, and commas from a thousand on."""
    if value is None:
        return "–"
    if value >= 1000:
        return f"{float(f'{value:.{digits}g}'):,.0f}"
    return f"{value:.{digits}g}"


def _field(name: str, scale: float = 1) -> Callable[[Row], str]:
    return lambda row: _number(row[name] * scale if row.get(name) is not None else None)


def _latency(row: Row, key: str = "latency_us") -> str:
    found = row.get(key)
    if not found:
        return "–"
    return " / ".join(_number(found[name] / 1000) for name in ("p50", "p99")) + " ms"


def _delivery(row: Row) -> str:
    return _latency(row, "delivery_us")


def _per_gibibyte(row: Row) -> str:
    return _number(2**30 / row["bytes_per_connection"])


def _stuck(row: Row) -> str:
    fate = f", {row['lost']:,} deliveries lost" if row.get("lost") else ", nothing lost"
    return f"{_number(row['bytes_per_stuck_reader'] / 1024)} KiB{fate}"


def _backlog(row: Row) -> str:
    behind = row["backlog"][-1][1] if row.get("backlog") else None
    return f"{_number(row['per_s'])}, {_number(behind)} not folded" if behind is not None else _number(row["per_s"])


@dataclass(frozen=True)
class Line:
    """One line of the table: the first row of each server whose work starts like this."""

    what: str
    scenario: str
    work: str
    value: Callable[[Row], str]


CPU = _field("server_cpu_us_per_op")
IDLE_CPU = _field("server_cpu_us_per_connection_second")
PER_CORE = _field("per_s_per_core")
RATE = _field("per_s")
# Points that have a line for what they cost and one for how much they carry: scenario, start of the work.
RING = ("relay", "relay, ring of 200,")
FAN_OUT = ("fanout", "relay, one to")
GROUP = ("group", "group, one to")
TO_499, TO_499_KEPT = "one to 499, ephemeral", "one to 499, chatd's on disk first"
LINES = (
    ("Concurrent users", (
        Line("connected at once in this run, logged in and subscribed", "idle", "", _field("connections")),
        Line("the same: users per GiB of server memory (user space)", "idle", "", _per_gibibyte),
    )),
    ("Message latency, p50 / p99", (
        Line("one to one, ephemeral", "latency", "relay, one to one", _latency),
        Line("one to one, on disk first", "latency", "durable, one to one", _latency),
        Line("acknowledged at half load, 2,000 devices", "latency", "half load, offline", _latency),
        Line("delivered at half load, 2,000 devices", "latency", "half load, online", _delivery),
    )),
    ("Server CPU, µs", (
        Line("per message, ring of 200 × 64 in flight", *RING, CPU),
        Line("per message, 1,000 × 8", "relay", "relay, ring of 1000, 8", CPU),
        Line("per message, 1,000 × 1", "relay", "relay, ring of 1000, 1", CPU),
        Line(f"per delivery, {TO_499}", *FAN_OUT, CPU),
        Line(f"per delivery, {TO_499_KEPT}", *GROUP, CPU),
        Line("per idle connection and second, heartbeat every 25 s", "idle", "", IDLE_CPU),
    )),
    ("Memory", (
        Line("bytes per idle connection, user space", "idle", "", _field("bytes_per_connection")),
        Line("per reader that does not read, kernel included", "slow-reader", "", _stuck),
    )),
    ("Throughput per second", (
        Line("messages relayed, ring of 200 × 64", *RING, RATE),
        Line(f"deliveries, {TO_499}", *FAN_OUT, RATE),
        Line(f"deliveries, {TO_499_KEPT}", *GROUP, RATE),
        Line("the same per shard core", *GROUP, _field("per_s_per_shard_core")),
        Line("durable sends acknowledged, 2,000 devices, recipients offline", "durable", "durable, hot", RATE),
        Line("the same, recipients online", "durable", "durable, online", RATE),
        Line("durable sends, 50 devices × 1 in flight", "durable", "durable, 50 devices × 1,", RATE),
        Line("durable sends, 50 devices × 16 in flight", "durable", "durable, 50 devices × 16,", RATE),
        Line("durable, sustained at a fixed pace", "durable", "durable, sustained", _backlog),
        Line("durable, cold set", "durable", "durable, cold", RATE),
    )),
    ("Connection set-up", (
        Line("ms, p50, 64 at a time: TCP, login, subscription", "idle", "", _field("connect_ms")),
        Line("logins per second and core: resume by ticket (peers: connect)", "login", "resume", PER_CORE),
        Line("by JSON Web Token", "login", "login by JSON", PER_CORE),
        Line("by password (argon2id)", "login", "login by password", PER_CORE),
    )),
)  # fmt: skip


def table(folder: Path = FOLDER) -> str:
    """Between the markers: what was measured where, and the table. Scenarios without a result have no lines."""
    documents = {path.stem: read(path) for path in sorted(folder.glob("*.json"))}
    if not documents:
        raise ValueError(f"{folder} has no results: run `python -m bench all`")
    machine, settings = next(iter((document["machine"], document["settings"]) for document in documents.values()))
    lines = [
        f"{machine['cpu']}, {len(machine['cores'])} cores, {machine['memory_mib'] // 1024} GiB, {machine['kernel']}, "
        f"commit {machine['commit']}, {machine['time'][:10]}; `{machine['command']}`, "
        f"{settings['payload_bytes']}-byte payloads, medians of up to {settings['repeats']} repeats. "
        "Plots: " + ", ".join(f"[{name}](bench/results/full/{name}.svg)" for name in documents) + ".",
        "",
        f"| | {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for title, group in LINES:
        found = [
            f"| {line.what} | {' | '.join(_cells(line, documents))} |" for line in group if line.scenario in documents
        ]
        lines += [f"| **{title}** |{' |' * len(COLUMNS)}", *found] if found else []
    doubts = sum(len(row["doubts"]) for document in documents.values() for row in document["rows"])
    lines += ["", f"Doubts that the runs printed about themselves: {doubts}; they stand in the results, row by row."]
    return "\n".join(lines)


def _cells(line: Line, documents: dict[str, dict[str, Any]]) -> list[str]:
    rows = [row for row in documents[line.scenario]["rows"] if row["work"].startswith(line.work)]
    cells = []
    for servers in COLUMNS.values():
        row = next((row for row in rows if row["server"] in servers), None)
        cells.append(line.value(row) if row is not None else "–")
    return cells


def update_readme(path: Path = README, folder: Path = FOLDER) -> None:
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{table(folder)}\n{END}{tail}", encoding="utf-8")


def in_readme(path: Path = README) -> str:
    """What stands between the markers."""
    return path.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip("\n")
