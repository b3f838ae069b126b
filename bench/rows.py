"""Rows: the repeats of one server at one point become medians, with their spread and their doubts beside them."""

from statistics import median
from typing import Any

from bench.backlog import flatness
from bench.generator import BROKEN, PERCENTILES, Measurement
from bench.scenarios import Point

GENERATOR_BUSY = 0.9
STEAL_NOTABLE = 0.02
SPREAD_NOTABLE = 1.25


def rows_of(point: Point, measured: dict[str, list[Measurement]]) -> list[dict[str, Any]]:
    """One row per server, in the order of measurement."""
    rows = [_row(point, server, repeats) for server, repeats in measured.items()]
    _compare(rows)
    return rows


def _compare(rows: list[dict[str, Any]]) -> None:
    """Give chatd's row its ratios to the best peer: below 1 is better, but for the rate."""
    peers = [row for row in rows if row["server"] != "chatd"]
    for row in rows:
        if row["server"] != "chatd" or not peers:
            continue
        cpu = min(peer["server_cpu_us_per_op"] for peer in peers)
        row["ratio_to_best_peer"] = {
            "server_cpu_us_per_op": row["server_cpu_us_per_op"] / cpu if cpu else None,
            "per_s": row["per_s"] / max(peer["per_s"] for peer in peers),
        }
        if row["latency_us"]:
            best = min(peer["latency_us"]["p50"] for peer in peers if peer["latency_us"])
            row["ratio_to_best_peer"]["p50"] = row["latency_us"]["p50"] / best
        if row["bytes_per_connection"] is not None:
            size = min(peer["bytes_per_connection"] for peer in peers)
            row["ratio_to_best_peer"]["bytes_per_connection"] = row["bytes_per_connection"] / size


def _row(point: Point, server: str, repeats: list[Measurement]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "server": server,
        "work": point.label,
        "connections": point.shape.connection_count,
        "per_s": _median(repeats, "per_s"),
        "server_cpu_us_per_op": _median(repeats, "server_cpu_us_per_op"),
        "latency_us": _percentiles([repeat.latency_us for repeat in repeats]),
        "bytes_per_connection": _median(repeats, "bytes_per_connection") if point.work == "idle" else None,
        "connect_ms": _median(repeats, "connect_ms"),
        "generator_cpu_share": _median(repeats, "generator_cpu_share"),
        "server_cpu_share": _median(repeats, "server_cpu_share"),
        "process_cpu_us_per_op": _medians([repeat.process_cpu_us_per_op for repeat in repeats]),
        "spread": {name: _spread(repeats, name) for name in ("per_s", "server_cpu_us_per_op")},
        "counts": {name: sum(repeat.counts[name] for repeat in repeats) for name in COUNTS},
        "faults": [fault for repeat in repeats for fault in repeat.faults],
        "doubts": _doubts(repeats),
        "goal": point.goal if server == "chatd" else "",
        "histogram_us": repeats[-1].buckets,
        "series": repeats[-1].series,
    }
    if point.work == "durable" and any(repeat.delivery_us for repeat in repeats):
        row["delivery_us"] = _percentiles([repeat.delivery_us for repeat in repeats])
    if all(repeat.backlog for repeat in repeats):
        row["backlog"] = repeats[-1].backlog
        row["backlog_flatness"] = [flatness(repeat.backlog) for repeat in repeats]
    if point.stuck:
        row |= _stuck(server, repeats)
    if point.work == "group":
        row["ack_us"] = _percentiles([repeat.ack_us for repeat in repeats]) if server == "chatd" else None
        shard = row["process_cpu_us_per_op"].get("shard")
        row["per_s_per_shard_core"] = 1e6 / shard if shard else None
    if point.work == "idle":
        interval_s = point.heartbeat_ms / 1000
        row["process_bytes_per_connection"] = _medians([repeat.process_bytes_per_connection for repeat in repeats])
        row["server_cpu_us_per_connection_second"] = row["server_cpu_us_per_op"] / interval_s
    return row


COUNTS = (
    "sent",
    "expected",
    "delivered",
    "answered",
    "refused",
    "lagged",
    "reread",
    "missing",
    "closed",
    "overrun",
    "heartbeats",
)


def _stuck(server: str, repeats: list[Measurement]) -> dict[str, Any]:
    """Memory per stuck reader. chatd's hub and folder know nothing of readers: what they took is the history of the
    conversation, which grows with or without them. What a peer did not keep for them is a loss, and no fault of its."""
    own = [
        {label: size for label, size in repeat.stuck_bytes.items() if label not in ("hub", "folder")}
        for repeat in repeats
        if repeat.stuck_bytes
    ]
    row: dict[str, Any] = {
        "stuck_bytes": _medians(own),
        "bytes_per_stuck_reader": float(median(sum(sizes.values()) for sizes in own)),
    }
    if server != "chatd":
        row["lost"] = sum(repeat.counts["unanswered"] for repeat in repeats)
        row["faults"] = [
            f"{repeat.counts[name]} {name}"
            for repeat in repeats
            for name in BROKEN
            if name != "unanswered" and repeat.counts[name]
        ]
    return row


def rows_of_login(point: Point, measured: dict[str, list[Measurement]]) -> list[dict[str, Any]]:
    """What it cost to get there: one row per server for connect, login and subscribe."""
    return [_login_row(point, server, [repeat.login for repeat in repeats]) for server, repeats in measured.items()]


def _login_row(point: Point, server: str, logins: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [login["per_s"] for login in logins]
    costs = [login["server_cpu_us_per_op"] for login in logins]
    latency = _percentiles([login["latency_us"] for login in logins])
    return {
        "server": server,
        "work": point.label,
        "per_s": median(rates),
        "server_cpu_us_per_op": median(costs),
        "latency_us": latency,
        "bytes_per_connection": None,
        "connect_ms": latency["p50"] / 1000 if latency else None,
        "generator_cpu_share": median(login["generator_cpu_share"] for login in logins),
        "process_cpu_us_per_op": _medians([login["process_cpu_us_per_op"] for login in logins]),
        "spread": {"per_s": [min(rates), max(rates)], "server_cpu_us_per_op": [min(costs), max(costs)]},
        "per_s_per_core": 1e6 / median(costs) if median(costs) else None,
        "faults": [],
        "doubts": [],
        "goal": point.goal if server == "chatd" else "",
    }


def _median(repeats: list[Measurement], name: str) -> float:
    return float(median(getattr(repeat, name) for repeat in repeats))


def _spread(repeats: list[Measurement], name: str) -> list[float]:
    values = [getattr(repeat, name) for repeat in repeats]
    return [min(values), max(values)]


def _medians(tables: list[dict[str, float]]) -> dict[str, float]:
    return {label: float(median(table[label] for table in tables)) for label in tables[0]}


def _percentiles(histograms: list[dict[str, float] | None]) -> dict[str, float] | None:
    seen = [histogram for histogram in histograms if histogram is not None]
    if not seen:
        return None
    return {name: float(median(histogram[name] for histogram in seen)) for name in PERCENTILES}


def _doubts(repeats: list[Measurement]) -> list[str]:
    doubts = []
    generator = max(repeat.generator_cpu_share for repeat in repeats)
    if generator > GENERATOR_BUSY:
        doubts.append(f"generator is the bottleneck (it used {generator:.0%} of a core)")
    steal = max(repeat.steal_share for repeat in repeats)
    if steal > STEAL_NOTABLE:
        doubts.append(f"the hypervisor took {steal:.1%} of the machine")
    low, high = _spread(repeats, "per_s")
    if low > 0 and high / low > SPREAD_NOTABLE:
        doubts.append(f"rate differs by {high / low:.2f}× between repeats")
    lagged, refused, overrun = (
        sum(repeat.counts[name] for repeat in repeats) for name in ("lagged", "refused", "overrun")
    )
    doubts += [f"{lagged} events were not pushed but announced by LAG, and pulled"] if lagged else []
    doubts += [f"{refused} sends refused for now and repeated"] if refused else []
    doubts += [f"{overrun} messages were due while their schedule was full"] if overrun else []
    return doubts
