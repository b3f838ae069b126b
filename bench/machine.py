"""The machine: what it is, which core does what, and how it is disturbed."""

import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Where the servers keep their data while they are measured: on the checkout's disk, because /tmp may be memory, where
# an fsync costs nothing.
DIRECTORIES = ROOT / "build" / "bench" / "servers"


def describe() -> dict[str, object]:
    """The `machine` of a result: enough to repeat the run, and to see that it was another machine."""
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name"),
        "cores": sorted(os.sched_getaffinity(0)),
        "memory_mib": int(_first_value(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "data_filesystem": _filesystem(ROOT),
        "python": platform.python_version(),
        "open_files_max": _open_files_max(),
        "commit": _commit(),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg()[0],
    }


def _first_value(path: Path, key: str) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"


def _filesystem(path: Path) -> str:
    """Type of the file system that holds path: the longest mount point above it."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        if path.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _open_files_max() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _commit() -> str:
    """The commit that was measured; `+` says that the working tree differs from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


class Cores:
    """Who runs where. One core each for server and generator, so that neither takes the other's time; with `shared`,
    all cores for everybody, for servers of several busy processes."""

    def __init__(self, *, shared: bool) -> None:
        available = sorted(os.sched_getaffinity(0))
        self.shared = shared or len(available) < 2
        self.server = set(available) if self.shared else {available[0]}
        self.generator = set(available) if self.shared else {available[1]}

    def __str__(self) -> str:
        if self.shared:
            return f"server and generator share cores {_names(self.server)}"
        return f"server on core {_names(self.server)}, generator on core {_names(self.generator)}"


def _names(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Processes started inside inherit the cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
