"""A program in a terminal of its own, as a person has it: keys in, everything it ever painted out."""

import fcntl
import os
import pty
import re
import signal
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

ROWS, COLUMNS = 40, 110
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Terminal:
    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._raw = bytearray()
        Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, 65_536)
            except OSError:  # the program has ended
                return
            self._raw += data

    @property
    def painted(self) -> str:
        """All text so far, without colours and cursor movements."""
        return CONTROL.sub(b"", bytes(self._raw)).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, text: str, within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while text not in self.painted:
            assert time.monotonic() < deadline, f"{text!r} was not painted; the end of it:\n{self.painted[-3000:]}"
            time.sleep(0.02)


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[Terminal]:
    pid, descriptor = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.execvpe(command[0], command, os.environ | {"TERM": "xterm-256color"})
    try:
        yield Terminal(pid, descriptor)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)
