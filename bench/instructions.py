"""python -m bench instructions: instructions of user space that one delivery costs the engine, by function.

Counted, not timed: callgrind runs bench/micro_engine.py twice, with different numbers of rounds, and the difference is
what the deliveries cost, whatever else the machine does. It counts within `Engine.poll` only. The compiler puts most
functions of the engine into their callers; the line of the generated C that an instruction belongs to says whose it is.
The kernel is not counted: what a system call does is in the flame graphs.
"""

import bisect
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.generator import RunError
from bench.machine import ROOT
from bench.servers import StartError
from bench.servers.base import program

GENERATED = ROOT / "build" / "cython" / "native" / "_native.c"
WORKS = ("relay", "fanout")
ROUNDS = (2, 6)
SHOWN_SHARE = 0.01
TIMEOUT_S = 600
POLL = "*Engine*poll*"
DEFINED = re.compile(r"^(?:static |CYTHON_INLINE )+.*?__pyx_(?:f|p[fw])_5chatd_7_native_(\w+)\(.*\{$")
FOREIGN = ("fl", "fi", "fe")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Definitions:
    """Which function of the engine a line of the generated C belongs to."""

    def __init__(self, source: Iterable[str]) -> None:
        found = [
            (number, match[1]) for number, line in enumerate(source, 1) if (match := DEFINED.match(line)) is not None
        ]
        self.lines = [number for number, _ in found]
        self.names = [name for _, name in found]

    def at(self, line: int) -> str | None:
        place = bisect.bisect_right(self.lines, line) - 1
        return self.names[place] if place >= 0 else None


def self_costs(profile: Iterable[str], definitions: Definitions) -> Counter[str]:
    """Instructions by function, from a profile without compressed names and positions (callgrind's manual, chapter
    "Callgrind Format Specification"): `fn=` begins a function, `fi=` and `fe=` name the file that its next lines come
    from, `calls=` announces a line of costs that are the callee's."""
    costs: Counter[str] = Counter()
    function = file = ""
    called = False
    for line in profile:
        key, _, value = line.rstrip("\n").partition("=")
        if key == "fn":
            function = value
        elif key in FOREIGN:
            file = value
        elif key == "calls":
            called = True
        elif line[:1].isdigit():
            if not called:
                number, count = line.split()
                own = definitions.at(int(number)) if Path(file).name == GENERATED.name else None
                costs[own or function] += int(count)
            called = False
    return costs


def measure(work: str, rounds: int, definitions: Definitions) -> tuple[int, Counter[str]]:
    """Deliveries, and the instructions of all polls. RunError when callgrind fails."""
    valgrind = program("valgrind", "valgrind", hint="the counts of docs/profiles.md are there without it")
    with tempfile.TemporaryDirectory(prefix="bench-callgrind-") as directory:
        file = Path(directory) / "out"
        options = ["--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={file}"]
        command = [valgrind, "--tool=callgrind", "-q", f"--toggle-collect={POLL}", *options]
        micro = [sys.executable, str(ROOT / "bench" / "micro_engine.py"), work, "--rounds", str(rounds)]
        ran = subprocess.run(
            [*command, *micro], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if ran.returncode:
            raise RunError(f"callgrind does not work here: {ran.stderr.strip()[-2000:]}")
        with file.open(encoding="utf-8", errors="replace") as lines:
            return int(ran.stdout.split()[0]), self_costs(lines, definitions)


def per_delivery(work: str) -> dict[str, float]:
    """Instructions by function."""
    if not GENERATED.exists():
        raise RunError(f"{GENERATED.relative_to(ROOT)} is missing: `make develop` builds the engine from it")
    definitions = Definitions(GENERATED.read_text(encoding="utf-8").splitlines())
    (few, before), (many, after) = (measure(work, rounds, definitions) for rounds in ROUNDS)
    return {name: (after[name] - before[name]) / (many - few) for name in after}


@app.command()
def main(
    works: Annotated[list[str] | None, typer.Argument(help=f"{' or '.join(WORKS)}; both without.")] = None,
) -> None:
    """Print a table for each: instructions of user space per delivery."""
    chosen = works or list(WORKS)
    if unknown := set(chosen) - set(WORKS):
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        for work in chosen:
            console.print(_table(work, per_delivery(work)))
    except (RunError, StartError) as error:
        console.print(f"bench: {error}", style="red", highlight=False)
        sys.exit(1)


def _table(work: str, costs: dict[str, float]) -> Table:
    total = sum(costs.values())
    table = Table(f"{work}: function", "instructions per delivery", "share")
    shown = {name: cost for name, cost in costs.items() if cost >= SHOWN_SHARE * total}
    rest = total - sum(shown.values())
    for name, cost in [*sorted(shown.items(), key=lambda item: -item[1]), ("everything else", rest), ("all", total)]:
        table.add_row(name, f"{cost:.1f}", f"{cost / total:.0%}")
    return table
