"""Lines and branches that the tests reached, by file: `make coverage` runs them and then prints this table.

Native code: gcov's counts of the build with CHATD_COVERAGE=1, where Cython names the lines of the .pxi files. Its
branches are C's, which Cython multiplies (every raised error is two), so they are shown and not judged. Python:
coverage.py, branches included. A docstring and the head of an inline function are lines to gcov; they are left out.
Exit status 1: of the parsers, that is of the code that reads bytes of a stranger or of another process, fewer than
LINES_MIN_PERCENT of the lines were reached.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/coverage"
LINES_MIN_PERCENT = 95.0
PARSERS = {
    "native/common/cursor.pxi",
    "native/common/journal.pxi",
    "native/common/ring.pxi",
    "native/hub/poll.pxi",
    "native/shard/calls.pxi",
    "native/shard/control.pxi",
    "native/shard/ephemeral.pxi",
    "native/shard/hot_ops.pxi",
    "native/shard/preauth.pxi",
    "native/shard/proxy.pxi",
    "native/shard/session.pxi",
    "native/shard/uplink.pxi",
    "native/shard/utf8.pxi",
}
PARSERS_UNDER = "chatd/wire/"
# Not code: a docstring's line, the head of a function.
NOT_CODE = re.compile(r'^\s*("""|cdef |cpdef |def )')


class Coverage(NamedTuple):
    name: str
    lines: int
    missing: list[int]
    branches: int
    branches_taken: int

    @property
    def percent(self) -> float:
        return 100 * (self.lines - len(self.missing)) / max(1, self.lines)

    @property
    def is_parser(self) -> bool:
        return self.name in PARSERS or self.name.startswith(PARSERS_UNDER)


def native() -> list[Coverage]:
    counts = sorted(BUILD.rglob("*.gcda"))
    if not counts:
        sys.exit(f"no counts in {BUILD}: `make coverage` builds with counters and runs the tests")
    command = ["gcov", "--branch-probabilities", "--json-format", "--stdout", str(counts[0])]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout.splitlines()[0])
    return [native_file(entry) for entry in report["files"] if entry["file"].startswith("native/")]


def native_file(entry: dict[str, object]) -> Coverage:
    """One file; a line that several C functions share was reached when one of them reached it."""
    name = str(entry["file"])
    text = (ROOT / name).read_text(encoding="utf-8").splitlines()
    reached: dict[int, int] = {}
    taken: list[bool] = []
    for line in entry["lines"]:  # type: ignore[attr-defined]
        number = line["line_number"]
        if number > len(text) or NOT_CODE.match(text[number - 1]):
            continue
        reached[number] = reached.get(number, 0) + line["count"]
        taken += [branch["count"] > 0 for branch in line["branches"]]
    missing = sorted(number for number, count in reached.items() if not count)
    return Coverage(name, len(reached), missing, len(taken), sum(taken))


def python() -> list[Coverage]:
    data = BUILD / "python"
    command = [sys.executable, "-m", "coverage", "json", f"--data-file={data}", "-q", "-o", "-"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)
    return [
        Coverage(
            re.sub(r"^.*?(?=chatd/)", "", name) if not name.startswith("chatd/") else name,
            entry["summary"]["num_statements"],
            entry["missing_lines"],
            entry["summary"]["num_branches"],
            entry["summary"]["covered_branches"],
        )
        for name, entry in report["files"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object per file")
    parser.add_argument("--all", action="store_true", help="every file, not the parsers only")
    arguments = parser.parse_args()
    files = sorted(native() + python(), key=lambda one: (not one.is_parser, one.name))
    shown = [one for one in files if one.is_parser or arguments.all]
    for one in shown:
        if arguments.json:
            print(json.dumps({**one._asdict(), "percent": round(one.percent, 1), "parser": one.is_parser}))
        else:
            print(
                f"{one.percent:6.1f} %  {one.branches_taken:4} of {one.branches:4} branches  {one.name}", *one.missing
            )
    parsers = [one for one in files if one.is_parser]
    lines, missing = sum(one.lines for one in parsers), sum(len(one.missing) for one in parsers)
    percent = 100 * (lines - missing) / lines
    if not arguments.json:
        print(f"parsers: {lines - missing} of {lines} lines, {percent:.1f} %; wanted: {LINES_MIN_PERCENT:.0f} %")
    sys.exit(percent < LINES_MIN_PERCENT)


if __name__ == "__main__":
    main()
