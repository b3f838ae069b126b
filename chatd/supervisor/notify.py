"""systemd's notification protocol, as much of it as a daemon needs; see sd_notify(3)."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager


def notify(*assignments: str) -> None:
    """Tell systemd ("READY=1", "STATUS=…", "WATCHDOG=1"). Nothing happens outside of systemd, errors included."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto("\n".join(assignments).encode(), path)
    except OSError:
        return


@contextmanager
def reloading() -> Iterator[None]:
    """What systemd wants to hear around a reload."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        notify("READY=1")


def watchdog_interval_s() -> float | None:
    """How often to send WATCHDOG=1: half of what the unit demands. None: it demands nothing."""
    owner = os.environ.get("WATCHDOG_PID")
    if owner and owner != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else None
