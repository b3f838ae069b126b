"""Flame graphs and instruction counts, from what perf and callgrind write."""

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from bench import flame, instructions, profile
from bench.flame import Frame
from bench.servers import StartError

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"
SAMPLES = """\
4711
\tffffffff81 tcp_ack ([kernel.kallsyms])
\tffffffff82 __x64_sys_sendto ([kernel.kallsyms])
\t 71 __send (/usr/lib/libc.so.6)
\t 72 __pyx_f_5chatd_7_native_queue_flush.isra.0 (/c/_native.cpython-311.so)
\t 73 __pyx_pw_5chatd_7_native_6Engine_21poll (/c/_native.cpython-311.so)
\t 74 _PyEval_EvalFrameDefault (/usr/bin/python3.11)
\t 75 PyEval_EvalCode (/usr/bin/python3.11)
\t 76 __libc_start_call_main (/usr/lib/libc.so.6)

4712
\t 81 [unknown] (/c/apsw/__init__.so)

99
\t 91 main (/usr/bin/other)
"""


def test_samples_are_stacks_by_process_with_names_that_people_use() -> None:
    stacks = profile.folded(SAMPLES.splitlines(), {4711: "shard", 4712: "folder"})
    assert [[frame.name for frame in stack] for stack in stacks] == [
        ["shard", "Python", "Engine.poll", "queue_flush", "__send", "__x64_sys_sendto", "tcp_ack"],
        ["folder", "SQLite"],
    ]
    assert [[frame.kind for frame in stack][-2:] for stack in stacks] == [["kernel", "kernel"], ["process", "SQLite"]]
    assert flame.kinds(stacks) == {"kernel": 1, "SQLite": 1}


def stacks_of(**counts: int) -> Counter[flame.Stack]:
    root = Frame("shard", "process")
    return Counter({(root, Frame(name, "engine")): count for name, count in counts.items()})


def test_a_frame_is_as_wide_as_its_share_and_what_is_rare_is_left_out() -> None:
    drawn = ET.fromstring(flame.svg("a <title>", stacks_of(much=750, some=248, rare=2)))
    boxes = {group.find(f"{SVG}title").text: group.find(f"{SVG}rect") for group in drawn.iter(f"{SVG}g")}
    assert sorted(boxes) == ["much, 75.0%", "shard, 100.0%", "some, 24.8%"]
    widths = {name: float(box.attrib["width"]) for name, box in boxes.items()}
    assert widths["much, 75.0%"] == pytest.approx(0.75 * widths["shard, 100.0%"], abs=1)
    assert any("a <title>" in (text.text or "") for text in drawn.iter(f"{SVG}text"))


def test_without_a_sample_there_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no samples"):
        flame.svg("nothing", Counter())


@pytest.mark.parametrize(("command", "package"), [("profile", "linux-perf"), ("instructions", "valgrind")])
def test_a_tool_that_is_missing_is_said_with_its_package(tmp_path: Path, command: str, package: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench", command], cwd=ROOT, env={"PATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert f"apt-get install {package}" in ran.stdout


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_a_kernel_that_hides_itself_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = tmp_path / "paranoid"
    monkeypatch.setattr(profile, "PARANOID", level)
    monkeypatch.setattr(profile, "is_root", lambda: False)
    level.write_text("2\n")
    with pytest.raises(StartError, match="perf_event_paranoid=1"):
        profile.allowed_perf()
    level.write_text("1\n")
    assert profile.allowed_perf()


def test_costs_belong_to_the_function_whose_line_it_is() -> None:
    source = [
        "static void __pyx_f_5chatd_7_native_queue_flush(struct e *); /*proto*/",
        "static void __pyx_f_5chatd_7_native_queue_flush(struct e *v) {",
        "}",
        "static CYTHON_INLINE void __pyx_f_5chatd_7_native_slab_at(struct e *v) {",
        "}",
    ]
    counted = """\
fl=build/cython/native/_native.c
fn=__pyx_pw_5chatd_7_native_6Engine_21poll
3 10
5 7
cfn=send
calls=2 0
3 1000
fi=/usr/include/string.h
2 5
fn=send
fl=???
0 40
"""
    found = instructions.self_costs(counted.splitlines(), instructions.Definitions(source))
    assert found == {"queue_flush": 10, "slab_at": 7, "__pyx_pw_5chatd_7_native_6Engine_21poll": 5, "send": 40}


def test_the_micro_benchmark_delivers_what_it_counts() -> None:
    for work, deliveries in (("relay", 2 * 5 * 4), ("fanout", 2 * 4 * 4)):
        command = [sys.executable, str(ROOT / "bench" / "micro_engine.py"), work]
        ran = subprocess.run(
            [*command, "--connections", "5", "--window", "4", "--rounds", "2"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert int(ran.stdout.split()[0]) == deliveries
