"""python -m bench profile [SCENARIO…]: where the CPU time of chatd's processes goes while a scenario's traffic runs.

`perf record` looks at all of them on the first point of the scenario, in its measured interval, by their CPU clocks:
what a process waits for is not in the picture. The unwinder reads copies of the stacks, so nothing has to be built with
frame pointers. Frames of the interpreter that follow each other are one frame: which of its functions runs says little.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import flame
from bench.flame import Frame, Stack
from bench.generator import RunError
from bench.machine import ROOT, describe
from bench.run import Run
from bench.scenarios import SCENARIOS, Options, Scenario
from bench.servers import Server, StartError
from bench.servers.base import program
from bench.show import Bar

FOLDER = ROOT / "docs" / "profiles"
HOT = ("relay", "fanout", "group", "durable")
FREQUENCY_HZ = 499  # a prime, so that no timer of a server keeps step with it
STACK_BYTES = 16_384  # of each sample: Python's stacks are deep
READ_TIMEOUT_S = 300
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Recorder:
    """One `perf record` of a server, begun when its measured interval begins."""

    def __init__(self, perf: str, file: Path, seconds: float) -> None:
        self.perf, self.file, self.seconds = perf, file, seconds
        self.process: subprocess.Popen[str] | None = None
        self.roles: dict[int, str] = {}

    def on_stage(self, server: Server, stage: str) -> None:
        if stage != "measure" or self.process is not None:
            return
        self.roles = {int(pid): role for role, pid in server.processes().items()}
        events = ["-e", "cpu-clock", "-F", str(FREQUENCY_HZ), "--call-graph", f"dwarf,{STACK_BYTES}"]
        command = [self.perf, "record", "-q", "-o", str(self.file), *events, "-p", ",".join(map(str, self.roles))]
        self.process = subprocess.Popen(
            [*command, "--", "sleep", f"{self.seconds:g}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def stacks(self) -> Counter[Stack]:
        """What it saw. RunError in perf's words when it did not work."""
        if self.process is None:
            raise RunError("nothing was measured, so nothing was recorded")
        _, words = self.process.communicate(timeout=READ_TIMEOUT_S)
        if self.process.returncode:
            raise RunError(f"perf record does not work here: {words.strip()}")
        command = [self.perf, "script", "-i", str(self.file), "--no-inline", "-F", "pid,ip,sym,dso"]
        read = subprocess.run(command, capture_output=True, text=True, timeout=READ_TIMEOUT_S, check=False)
        if read.returncode:
            raise RunError(f"perf script does not work here: {read.stderr.strip()}")
        return folded(read.stdout.splitlines(), self.roles)


def folded(lines: Iterable[str], roles: dict[int, str]) -> Counter[Stack]:
    """The samples of `perf script -F pid,ip,sym,dso`: a line with the pid, frames from the innermost outwards, an empty
    line. Processes without a role are left out."""
    stacks: Counter[Stack] = Counter()
    role: str | None = None
    frames: list[Frame] = []
    for line in (*lines, ""):
        if not line.strip():
            if role is not None and frames:
                stacks[Frame(role, "process"), *_from_python(frames[::-1])] += 1
            role, frames = None, []
        elif line[0].isspace() and "(" in line:
            frame = _frame(line)
            if not frames or frames[-1] != frame:
                frames.append(frame)
        else:
            role = roles.get(int(line.split()[0]))
    return stacks


# What Cython makes of the names of functions and methods, and the compiler of copies that it specialised.
CYTHON = re.compile(r"__pyx_p?[fw]_5chatd_7_native_(?:\d+([A-Za-z]+)_)?(?:\d+)?(\w+)")
KINDS = (("_native", "engine"), ("python", "interpreter"), ("libpython", "interpreter"))
COPIED = re.compile(r"\.(?:isra|part|constprop|cold|lto_priv)\b.*")


def _from_python(stack: list[Frame]) -> list[Frame]:
    """Without how the process started. A thread that never was in the interpreter stays as it is."""
    return stack[next((place for place, frame in enumerate(stack) if frame.kind == "interpreter"), 0) :]


def _frame(line: str) -> Frame:
    """`  ffffffff821c9f5b mas_walk ([kernel.kallsyms])`"""
    words, _, place = line.strip().rpartition(" (")
    _, _, symbol = words.partition(" ")
    kind = _kind(place := place.rstrip(")"))
    if kind == "interpreter":
        return Frame("Python", kind)
    name = COPIED.sub("", symbol)
    if name == "[unknown]":
        return Frame(kind if kind == "SQLite" else Path(place).name, kind)
    return Frame(_native(name) if kind == "engine" else name, kind)


def _kind(place: str) -> str:
    """Of the file that the frame's code lies in; the kernel's is in brackets."""
    if place.startswith("["):
        return "kernel"
    if "apsw" in place or "sqlite" in place:
        return "SQLite"
    file = Path(place).name
    return next((kind for start, kind in KINDS if file.startswith(start)), "library")


def _native(symbol: str) -> str:
    """`__pyx_pw_5chatd_7_native_6Engine_21poll` is Engine.poll, `__pyx_f_5chatd_7_native_conn_read` conn_read."""
    found = CYTHON.fullmatch(symbol)
    return ".".join(part for part in found.groups() if part) if found else symbol


def is_root() -> bool:
    return os.geteuid() == 0


def allowed_perf() -> str:
    """The path of perf. StartError when there is none, or the kernel would not let it see its half."""
    perf = program("perf", "linux-perf", hint="the pictures of docs/profiles.md are there without it")
    level = int(PARANOID.read_text(encoding="ascii")) if PARANOID.exists() else 0
    if level > 1 and not is_root():
        raise StartError(
            f"perf may not look into the kernel (kernel.perf_event_paranoid is {level}), where most of the time goes: "
            "run as root, or `sysctl kernel.perf_event_paranoid=1` first"
        )
    return perf


def profile(perf: str, scenario: Scenario, seconds: float, bar: Bar) -> Counter[Stack]:
    """One run of the first point of a scenario, with chatd alone."""
    options = Options(seconds=seconds, warm_up=1, repeats=1, peers=())
    first = replace(scenario, points=lambda given: scenario.points(given)[:1])
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as directory:
        recorder = Recorder(perf, Path(directory) / "perf.data", seconds)
        Run(first, options, bar.update, recorder.on_stage).result()
        return recorder.stacks()


@app.command()
def main(
    scenarios: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(SCENARIOS)}; {' '.join(HOT)} without.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of traffic that perf looks at.")] = 4,
    folder: Annotated[Path, typer.Option(help="Where the pictures go.")] = FOLDER,
) -> None:
    """Draw a flame graph of each scenario: SCENARIO.svg in the folder, and a line of shares on the terminal."""
    chosen = scenarios or list(HOT)
    if unknown := set(chosen) - SCENARIOS.keys():
        raise typer.BadParameter(f"there is no scenario {', '.join(sorted(unknown))}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("scenario", "process", *(kind for kind in flame.COLOURS if kind != "process"), "samples")
    try:
        perf, machine = allowed_perf(), describe()
        folder.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            with Bar(console) as bar:
                stacks = profile(perf, SCENARIOS[name], seconds, bar)
            title = f"{name}: CPU time of chatd's processes, {stacks.total():,} samples; {machine['kernel']}, "
            title += f"commit {machine['commit']}, {str(machine['time'])[:10]}"
            (folder / f"{name}.svg").write_text(flame.svg(title, stacks), encoding="utf-8")
            _add_rows(table, name, stacks)
    except (RunError, StartError, ValueError) as error:
        console.print(f"bench: {error}", style="red", highlight=False)
        sys.exit(1)
    console.print(table)


def _add_rows(table: Table, name: str, stacks: Counter[Stack]) -> None:
    """Per process: the share of all samples, and in it whose code ran."""
    total = stacks.total()
    for role in sorted({stack[0].name for stack in stacks}):
        own = Counter({stack: count for stack, count in stacks.items() if stack[0].name == role})
        shares = flame.kinds(own)
        cells = [f"{shares[kind] / total:.1%}" for kind in flame.COLOURS if kind != "process"]
        table.add_row(name, role, *cells, f"{own.total():,}")
