"""Lines and branches of the parsing code that the tests reach: `make coverage` runs them and then prints this table.

The parsing code is every file in which bytes of a stranger, of a ring or of a disk become values: PARSERS.

Native code: gcov counts the lines of the C that Cython wrote, whose comments name the line of the .pxi file. A branch
is an outcome, true or false, of a condition as it stands there: of each `if`, `elif`, `while` and conditional
expression, of each operand of `and` and `or` in one (they stand in the C as a test of a plain name, DECISION), and
whether a `for` is entered and whether it ends. What Cython adds (errors of Python calls, bounds) is no branch.
Python: coverage.py's lines and branches.

A branch that no test can reach on demand and that stays (a race, a refusal of the kernel, a check of what another file
promises) is marked in the source: `# uncovered: why`, at the end of its line or on the line above. The marks are
counted and printed; one whose line is reached both ways is an error. Questions for a sabotage are the constant 0 in
every build that ships, and an invariant that is broken ends the process: they do not count.

Exit status 1: a file with fewer than LINES_MIN_PERCENT of its lines reached, a branch missing, a mark too many.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/coverage"
LINES_MIN_PERCENT = 95.0
PARSERS = {
    # From clients.
    "native/common/cursor.pxi",
    "native/shard/calls.pxi",
    "native/shard/ephemeral.pxi",
    "native/shard/hot_ops.pxi",
    "native/shard/preauth.pxi",
    "native/shard/proxy.pxi",
    "native/shard/session.pxi",
    "native/shard/utf8.pxi",
    "chatd/gateways/proxy.py",
    "chatd/shard/ticket.py",
    "chatd/shard/tokens.py",
    # From rings.
    "native/common/ring.pxi",
    "native/hub/poll.pxi",
    "native/shard/control.pxi",
    "native/shard/uplink.pxi",
    # From disk.
    "native/common/journal.pxi",
    "chatd/storage/journal_codec.py",
}
PARSERS_UNDER = "chatd/wire/"
# Not code: a docstring's line, the head of a function.
NOT_CODE = re.compile(r'^\s*("""|cdef |cpdef |def )')
COMES_FROM = re.compile(r'\s*/\* "(native/[\w/.]+)":(\d+)$')
DECISION = re.compile(
    r"\s*if \((?:(?:un)?likely\()?[!(]*__pyx_[\w\->.\[\]()]+\) (?:\{|break;)$|\s*for \(__pyx_t_\w+ = "
)
MARK = re.compile(r"# uncovered: ")
SABOTAGE = "chatd_sabotage("
INVARIANT = re.compile(r"\s*chatd_(require|assert)\(")


class Coverage(NamedTuple):
    name: str
    lines: int
    missing: list[int]
    branches: int
    branches_missing: list[str]
    """LINE:OUTCOME"""
    marks: int
    """lines with a mark"""
    marks_too_many: list[int]

    @property
    def percent(self) -> float:
        return 100 * (self.lines - len(self.missing)) / max(1, self.lines)

    @property
    def is_parser(self) -> bool:
        return self.name in PARSERS or self.name.startswith(PARSERS_UNDER)

    @property
    def is_good(self) -> bool:
        return self.percent >= LINES_MIN_PERCENT and not self.branches_missing and not self.marks_too_many


class Source(NamedTuple):
    """What stands in a file: which of its lines count, and what is marked."""

    marked: set[int]
    excused: set[int]
    """lines behind a marked condition"""
    skipped: set[int]
    """no code, or only with deliberate faults"""

    @classmethod
    def of(cls, name: str) -> "Source":
        text = (ROOT / name).read_text(encoding="utf-8").splitlines()
        found = cls(set(), set(), set())
        for number, line in enumerate(text, 1):
            if NOT_CODE.match(line) or INVARIANT.match(line):
                found.skipped.add(number)
            if SABOTAGE in line:
                found.skipped.update((number, *block(text, number)))
            if MARK.search(line):
                marked = number + line.lstrip().startswith("#")
                found.marked.add(marked)
                if text[marked - 1].partition("#")[0].rstrip().endswith(":"):
                    found.excused.update(block(text, marked))
        return found


def block(text: list[str], number: int) -> Iterator[int]:
    """The lines, from 1, that are indented deeper and follow that one."""
    indent = len(text[number - 1]) - len(text[number - 1].lstrip())
    for behind in range(number, len(text)):
        if text[behind].strip() and len(text[behind]) - len(text[behind].lstrip()) <= indent:
            return
        yield behind + 1


def native() -> Iterator[Coverage]:
    counts = sorted(BUILD.rglob("*.gcda"))
    if not counts:
        sys.exit(f"no counts in {BUILD}: `make coverage` builds with counters and runs the tests")
    command = ["gcov", "--branch-probabilities", "--json-format", "--stdout", str(counts[0])]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout.splitlines()[0])
    (entry,) = (entry for entry in report["files"] if entry["file"].endswith("_native.c"))
    code = (ROOT / entry["file"]).read_text(encoding="utf-8").splitlines()
    origins = list(origins_of(code))
    lines: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    branches: dict[str, list[tuple[int, str]]] = defaultdict(list)
    missed: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for counted in entry["lines"]:
        name, number = origins[counted["line_number"] - 1]
        lines[name][number] += counted["count"]
        text = code[counted["line_number"] - 1]
        if not DECISION.match(text):
            continue
        # `if (x) {} else {…}` is how Cython writes an operand: what falls through is the other one.
        behind = next(line for line in code[counted["line_number"] :] if line.strip())
        says_true = ("(!" in text) == (behind.strip() == "} else {")
        for branch in counted["branches"]:
            outcome = (number, "true" if branch["fallthrough"] == says_true else "false")
            branches[name].append(outcome)
            if not branch["count"]:
                missed[name].append(outcome)
    for name in sorted(lines):
        if name:
            yield judged(name, lines[name], branches[name], missed[name])


def origins_of(code: list[str]) -> Iterator[tuple[str, int]]:
    """For each line of C the file and line it was made from."""
    origin = ("", 0)
    for line in code:
        if found := COMES_FROM.match(line):
            origin = (found[1], int(found[2]))
        elif line.strip() == "/* function exit code */":
            origin = ("", 0)
        yield origin


def judged(
    name: str, lines: dict[int, int], branches: list[tuple[int, str]], missed: list[tuple[int, str]]
) -> Coverage:
    source = Source.of(name)
    left_out = source.skipped | source.excused
    missing = sorted(number for number, count in lines.items() if not count and number not in left_out)
    judged_branches = [number for number, _ in branches if number not in left_out | source.marked]
    wrong = [f"{number}:{outcome}" for number, outcome in missed if number not in left_out | source.marked]
    needed = {number for number, _ in missed}
    return Coverage(
        name,
        len(lines.keys() - left_out),
        missing,
        len(judged_branches),
        sorted(wrong, key=lambda text: int(text.partition(":")[0])),
        len(source.marked),
        sorted(source.marked - needed),
    )


def python() -> Iterator[Coverage]:
    data = BUILD / "python"
    command = [sys.executable, "-m", "coverage", "json", f"--data-file={data}", "-q", "-o", "-"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)
    for path, entry in report["files"].items():
        name = re.sub(r"^.*?(?=chatd/[^/]+/)", "", path)
        branches = [(start, f"to {end}") for start, end in entry["executed_branches"] + entry["missing_branches"]]
        missed = [(start, f"to {end}") for start, end in entry["missing_branches"]]
        lines = dict.fromkeys(entry["executed_lines"], 1) | dict.fromkeys(entry["missing_lines"], 0)
        yield judged(name, lines, branches, missed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the result goes, for docs/reliability.md")
    parser.add_argument("--all", action="store_true", help="every file, not the parsers only")
    parser.add_argument("--python-files", action="store_true", help="what coverage.py is to count, as it wants to know")
    arguments = parser.parse_args()
    if arguments.python_files:
        names = [name for name in sorted(PARSERS) if name.endswith(".py")]
        sys.exit(print(",".join(f"*/{name}" for name in [*names, f"{PARSERS_UNDER}*"])))
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from campaigns.report import machine, write

    files = sorted([*native(), *python()], key=lambda one: (not one.is_parser, one.name))
    parsers = [one for one in files if one.is_parser]
    print(f"{'lines':>8}  {'branches':>9}  marks  file, lines and branches that nothing reached")
    for one in files if arguments.all else parsers:
        taken = f"{one.branches - len(one.branches_missing)}/{one.branches}"
        rest = [
            *map(str, one.missing),
            *one.branches_missing,
            *(f"{at}: mark, but reached" for at in one.marks_too_many),
        ]
        print(f"{one.percent:6.1f} %  {taken:>9}  {one.marks:5}  {one.name}", *rest)
    result = total(parsers)
    print(result["summary"])
    write(arguments.json, {"campaign": "coverage", "machine": machine("tools.covered"), **result})
    sys.exit(bool(result["violations"]))


def total(parsers: list[Coverage]) -> dict[str, Any]:
    lines, missing = sum(one.lines for one in parsers), sum(len(one.missing) for one in parsers)
    branches, untaken = sum(one.branches for one in parsers), sum(len(one.branches_missing) for one in parsers)
    least = min(parsers, key=lambda one: one.percent)
    absent = sorted(PARSERS - {one.name for one in parsers})
    marks = sum(one.marks for one in parsers)
    return {
        "summary": f"{len(parsers)} files: {lines - missing} of {lines} lines, {branches - untaken} of {branches}"
        f" branches, {marks} lines marked; least of a file: {least.percent:.1f} % of lines,"
        f" wanted {LINES_MIN_PERCENT:g} %",
        "lines": lines,
        "lines_reached": lines - missing,
        "branches": branches,
        "branches_reached": branches - untaken,
        "marks": marks,
        "lines_least_percent": round(least.percent, 1),
        "files": {one.name: {**one._asdict(), "percent": round(one.percent, 1)} for one in parsers},
        "violations": [one.name for one in parsers if not one.is_good]
        + [f"{name}: nothing counted" for name in absent],
    }


if __name__ == "__main__":
    main()
