"""The processes of a running server, as /proc shows them."""

import os
import signal
import time
from pathlib import Path


def children(supervisor: int) -> list[int]:
    """Its worker processes, those that have no name yet included."""
    tasks = Path(f"/proc/{supervisor}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def workers(supervisor: int) -> dict[str, int]:
    """name ("hub", "shard 1") → pid of the supervisor's children."""
    return {name: pid for pid in children(supervisor) if (name := name_of(pid))}


def name_of(pid: int) -> str:
    """What the worker calls itself, "" before it has a name or when it is gone."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    except OSError:
        return ""
    return line.removeprefix("chatd: ").strip() if line.startswith("chatd: ") else ""


def is_alive(pid: int) -> bool:
    """Not gone, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state != b"Z"


def kill9(pid: int) -> float:
    """Kill a process of a server under test. The moment, for measuring."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()
