"""What is made of results: files, plots, README's table, capacity."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import result, summary
from bench.backlog import flatness
from bench.capacity import figures_of, needs_of
from bench.plot import svg
from bench.prefill import ColdSet
from bench.shapes import pairs, pooled

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {
    "cpu": "a <cpu>",
    "cores": [0, 1],
    "memory_mib": 2048,
    "kernel": "Linux 6",
    "commit": "abc",
    "time": "2026-01-02T03:04:05",
    "command": "python -m bench all",
}
WORKS = {
    "relay": [
        "relay, ring of 200, 64 in flight",
        "relay, ring of 1000, 8 in flight",
        "relay, ring of 1000, 1 in flight",
    ],
    "durable": ["durable, hot, 4 in flight: 2000 devices"],
    "group": ["group, one to 499, 64 in flight"],
    "idle": ["5000 idle, heartbeat every 25 s"],
}


def row(server: str, work: str, per_s: float) -> dict[str, Any]:
    return {
        "server": server,
        "work": work,
        "connections": 5000,
        "per_s": per_s,
        "server_cpu_us_per_op": 0.123456789,
        "server_cpu_us_per_connection_second": 0.25,
        "latency_us": {"p50": 1500.0, "p99": 25_000.0, "p999": 26_000.0, "max": 27_000.0},
        "bytes_per_connection": 512.0,
        "connect_ms": 1.5,
        "doubts": [],
        "histogram_us": [(10.0, 5), (1000.0, 90), (90_000.0, 5)],
        "series": [(100.0, per_s), (200.0, per_s * 1.1)],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, works in WORKS.items():
        rows = [row(server, work, 123_456.7) for work in works for server in ("chatd", "nats")]
        document = {"machine": MACHINE, "settings": {"payload_bytes": 64, "repeats": 3}, "rows": rows}
        result.write(document, tmp_path / f"{name}.json")
    return tmp_path


def test_a_result_reads_as_it_was_written(folder: Path) -> None:
    document = result.read(folder / "relay.json")
    assert document["rows"][0]["server_cpu_us_per_op"] == 0.123457
    assert len((folder / "relay.json").read_text().splitlines()) == 6 + len(document["rows"])


def test_a_plot_is_xml_with_a_curve_per_server(folder: Path) -> None:
    drawn = ET.fromstring(svg(result.read(folder / "group.json")))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 4
    assert any("a <cpu>" in (text.text or "") for text in drawn.iter("{http://www.w3.org/2000/svg}text"))


def test_the_table_stands_between_the_markers(folder: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{summary.BEGIN}\nold\n{summary.END}\nafter\n")
    summary.update_readme(readme, folder)
    assert summary.in_readme(readme) == summary.table(folder)
    assert readme.read_text().startswith("before\n")
    assert readme.read_text().endswith("after\n")
    assert "| messages relayed, ring of 200 × 64 | 123,000 | 123,000 | – | – | – |" in readme.read_text()


def test_readme_shows_the_results_that_are_there() -> None:
    """Regenerate with `python -m bench all`; never by hand."""
    if not summary.FOLDER.is_dir():
        pytest.skip("no full run is in this checkout")
    assert summary.in_readme() == summary.table()


def test_capacity_grows_with_what_it_is_asked_for(folder: Path) -> None:
    figures = figures_of(folder)
    small = needs_of(figures, 1000, 50, 10, 200, 5, 365)
    large = needs_of(figures, 2000, 50, 10, 200, 5, 365)
    for name, value in small.items():
        assert large[name] == pytest.approx(2 * value)
    assert small["memory_gib_user_space"] == pytest.approx(1000 * 512 / 2**30)


def test_capacity_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "capacity", "--users", "10", "--result", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert "idle.json" in ran.stderr


def test_capacity_speaks_json(folder: Path) -> None:
    command = [sys.executable, "-m", "bench", "capacity", "--users", "10", "--result", str(folder), "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert json.loads(ran.stdout)["needs"]["cores_at_peak"] > 0


def test_a_backlog_is_flat_when_it_breathes_and_not_when_it_grows() -> None:
    assert flatness([(second / 2, 1000 * (second % 2)) for second in range(40)]) == pytest.approx(0, abs=50)
    assert flatness([(float(second), 500 * second) for second in range(40)]) == pytest.approx(500)


def test_a_pool_has_all_channels_and_as_many_messages_in_flight() -> None:
    shape = pairs(100, 250, online=False)
    pool, window = pooled(shape, 4, 20)
    assert pool.connection_count == 20
    assert window == 20
    assert sorted(channel for own in pool.publish for channel in own) == list(range(250))
    assert pooled(shape, 4, None) == (shape, 4)


def test_no_two_conversations_of_a_cold_set_have_the_same_pair() -> None:
    members = ColdSet(10, 35, 0).members()
    assert len(members) == 35
    assert len({frozenset(pair) for pair in members}) == 35
