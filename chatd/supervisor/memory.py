# Memory pressure: refuse newcomers before the kernel kills us. What counts is the unit's cgroup (systemd's MemoryMax),
# the page cache that the kernel can drop left out; an operator without cgroups names the limit, and then private memory
# and rings of all our processes are added up. From SHED_PERCENT on logins are refused with a random time to come back,
# from STOP_PERCENT on nobody is accepted; live sessions go on in any case. Looked at once a second: a login costs a
# kilobyte or two, so a second of them is far less than the steps between the levels. Where there is no limit
# nothing can run short of it, and one that is set later may be noticed later: a look wakes a process that rests.
"""How much of its memory the server uses, and what follows from that."""

from collections.abc import Iterable
from pathlib import Path

SHED_PERCENT, STOP_PERCENT = 85, 95
NORMAL, SHED, STOP = 0, 1, 2
LOOK_INTERVAL_S = 1.0
UNLIMITED_LOOK_INTERVAL_S = 10.0
# cgroup v1 says "no limit" with a number of pages near 2^63.
UNLIMITED_BYTES = 1 << 60


class Memory:
    """limit_bytes: of the setting; 0: that of the cgroup, if it has one."""

    def __init__(self, limit_bytes: int, root: Path = Path("/")) -> None:
        self._root = root
        self._cgroup = None if limit_bytes else self._find_cgroup()
        self._limit_bytes = limit_bytes
        self.look_again_s = LOOK_INTERVAL_S

    def level(self, pids: Iterable[int]) -> int:
        """NORMAL, SHED or STOP. pids: all processes of the server."""
        used, limit = self.usage(pids)
        self.look_again_s = LOOK_INTERVAL_S if limit else UNLIMITED_LOOK_INTERVAL_S
        if not limit:
            return NORMAL
        percent = used * 100 // limit
        return STOP if percent >= STOP_PERCENT else SHED if percent >= SHED_PERCENT else NORMAL

    def usage(self, pids: Iterable[int]) -> tuple[int, int]:
        """(used, limit) in bytes; limit 0: there is none."""
        if self._limit_bytes:
            return sum(self._process_bytes(pid) for pid in pids), self._limit_bytes
        if self._cgroup is None:
            return 0, 0
        directory, usage, limit = self._cgroup
        limit_bytes = _number(directory / limit)
        if not 0 < limit_bytes < UNLIMITED_BYTES:
            return 0, 0
        cache = _field(directory / "memory.stat", "inactive_file", "total_inactive_file")
        return max(0, _number(directory / usage) - cache), limit_bytes

    def _process_bytes(self, pid: int) -> int:
        status = self._root / f"proc/{pid}/status"
        return 1024 * (_field(status, "RssAnon:") + _field(status, "RssShmem:"))

    def _find_cgroup(self) -> tuple[Path, str, str] | None:
        """The directory of our cgroup and its files for usage and limit; v2 before v1."""
        try:
            lines = (self._root / "proc/self/cgroup").read_text().splitlines()
        except OSError:
            return None
        for line in sorted(lines, key=lambda text: text.startswith("0::"), reverse=True):
            _, controllers, path = line.split(":", 2)
            if not controllers:
                place, usage, limit = "sys/fs/cgroup", "memory.current", "memory.max"
            elif "memory" in controllers.split(","):
                place, usage, limit = "sys/fs/cgroup/memory", "memory.usage_in_bytes", "memory.limit_in_bytes"
            else:
                continue
            directory = self._root / place / path.lstrip("/")
            if (directory / limit).exists():
                return directory, usage, limit
        return None


def _number(path: Path) -> int:
    """What the file says; 0 when it cannot be read or says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _field(path: Path, *names: str) -> int:
    """The number behind the first of these names; 0 when there is none, or the process is gone."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(words[1]) for name in names for words in lines if words and words[0] == name), 0)
