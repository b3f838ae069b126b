"""The scenarios work: every server starts, takes traffic, and every message arrives once, whole and in order.

Only structure and verification are asserted. A time here would measure the test machine's other work.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--repeats", "1", "--seconds", "0.7", "--warm-up", "0.2"]
ROW_KEYS = {
    "server",
    "work",
    "per_s",
    "server_cpu_us_per_op",
    "latency_us",
    "bytes_per_connection",
    "connect_ms",
    "generator_cpu_share",
}


def bench(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    result = tmp_path / "result.json"
    ran = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, *SMALL, "--json", str(result)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    document: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    assert {"machine", "settings", "rows"} <= document.keys()
    assert document["settings"]["servers"]["chatd"]["limits_lifted"]
    for row in document["rows"]:
        assert row.keys() >= ROW_KEYS
        assert row["faults"] == []
        assert row["per_s"] > 0, row["work"]
    return document


def servers_of(document: dict[str, Any]) -> set[str]:
    return {row["server"] for row in document["rows"]}


def test_relay_loses_nothing(tmp_path: Path) -> None:
    document = bench(tmp_path, "relay", "--connections", "20", "--window", "4", "--shards", "2")
    assert servers_of(document) == {"chatd", "nats", "redis", "mosquitto"}
    for row in document["rows"]:
        assert row["counts"]["delivered"] == row["counts"]["sent"] > 0
        assert set(row["latency_us"]) == {"p50", "p99", "p999", "max"}
        assert row["series"]


def test_one_message_reaches_everybody(tmp_path: Path) -> None:
    document = bench(tmp_path, "fanout", "--connections", "20", "--peers", "nats")
    for row in document["rows"]:
        assert row["counts"]["delivered"] == 19 * row["counts"]["sent"] > 0


def test_a_group_gets_what_is_on_disk(tmp_path: Path) -> None:
    document = bench(tmp_path, "group", "--connections", "20", "--peers", "redis")
    ours = next(row for row in document["rows"] if row["server"] == "chatd")
    assert ours["counts"]["delivered"] == 19 * ours["counts"]["answered"] > 0
    assert ours["per_s_per_shard_core"] > 0


SMALL_GROUP = ("--connections", "12", "--peers", "nats")


def test_stuck_readers_miss_nothing(tmp_path: Path) -> None:
    """Fast enough for their queues to overflow, so that some of it has to be pulled."""
    document = bench(tmp_path, "slow-reader", *SMALL_GROUP, "--stuck", "3", "--rate", "4000")
    ours = next(row for row in document["rows"] if row["server"] == "chatd")
    assert ours["counts"]["lagged"] > 0
    assert ours["counts"]["delivered"] == 11 * ours["counts"]["answered"] > 0
    assert ours["bytes_per_stuck_reader"] > 0


def test_every_credential_logs_in(tmp_path: Path) -> None:
    document = bench(tmp_path, "login", "--connections", "20", "--peers", "mosquitto")
    assert [row["work"].split(",")[0] for row in document["rows"] if row["server"] == "chatd"] == [
        "resume by ticket",
        "login by JSON Web Token",
        "login by password",
    ]


def test_latency_alone_and_at_half_load(tmp_path: Path) -> None:
    document = bench(tmp_path, "latency", "--connections", "12", "--peers", "redis")
    assert len([row for row in document["rows"] if row["server"] == "chatd"]) == 6
    assert all(row["latency_us"]["p50"] > 0 for row in document["rows"])


def test_durable_sends_are_all_acknowledged(tmp_path: Path) -> None:
    document = bench(tmp_path, "durable", "--connections", "12", "--window", "4")
    assert servers_of(document) == {"chatd", "redis-streams", "postgres"}
    for row in document["rows"]:
        assert row["counts"]["answered"] == row["counts"]["sent"] > 0
        assert row["server"] != "chatd" or row["counts"]["reread"] == row["counts"]["answered"]
        assert row["counts"]["delivered"] == row["counts"]["expected"]
    online = [row for row in document["rows"] if "recipients online" in row["work"]]
    assert online
    assert all(row["counts"]["delivered"] > 0 for row in online)


def test_durable_sends_on_postgresql_are_all_acknowledged(tmp_path: Path) -> None:
    options = ("--store", "postgresql", "--peers", "none", "--connections", "12", "--window", "4")
    document = bench(tmp_path, "durable", *options)
    assert servers_of(document) == {"chatd"}
    for row in document["rows"]:
        assert row["counts"]["reread"] == row["counts"]["answered"] == row["counts"]["sent"] > 0
        assert any(process.startswith("postgres: chatd hub") for process in row["process_cpu_us_per_op"])


def test_idle_connections_beat(tmp_path: Path) -> None:
    document = bench(tmp_path, "idle", "--connections", "60", "--heartbeat-ms", "200")
    assert servers_of(document) == {"chatd", "nats", "redis", "mosquitto"}
    for row in document["rows"]:
        assert row["server_cpu_us_per_op"] >= 0
        assert row["bytes_per_connection"] is not None


def test_a_broken_setup_is_said_and_not_measured(tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    plan.write_text("0 0 - - 1\n", encoding="ascii")
    built = subprocess.run(["make", "-s", "-f", str(ROOT / "bench/loadgen/Makefile")], check=False)
    assert built.returncode == 0
    ran = subprocess.run(
        [ROOT / "build/bench/loadgen", "--protocol", "nats", "--work", "relay", "--port", "1", "--plan", plan],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "plan line 1: field 6 is missing" in ran.stderr
    assert ran.stdout == ""


@pytest.mark.parametrize("address", ["192.0.2.1", "0.0.0.0", "localhost"])
def test_load_goes_to_loopback_only(tmp_path: Path, address: str) -> None:
    plan = tmp_path / "plan"
    plan.write_text("0 0 - - 1 2\n0 0 - - 2 1\n", encoding="ascii")
    command = [ROOT / "build/bench/loadgen", "--protocol", "nats", "--work", "relay", "--port", "1", "--plan", plan]
    ran = subprocess.run([*command, "--host", address], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "not an IPv4 address of the loopback interface" in ran.stderr
