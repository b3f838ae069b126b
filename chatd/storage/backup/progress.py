"""How a backup says how far it is, and how it is held back and stopped."""

import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import apsw

from chatd.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Iterator

Progress = Callable[[str, int, int], None]
"""(stage, done, of how many), often; of 0: nobody knows. May raise BackupStoppedError."""

_VM_STEPS = 20_000


class BackupStoppedError(BackupError):
    """Somebody wants it to end now. Nothing of it is left."""


def silent(stage: str, done: int, of: int) -> None:
    del stage, done, of


class Pace:
    """Holds a copy back to so many bytes a second; 0: as fast as it goes."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._begun_at = time.monotonic()
        self._done_bytes = 0

    def done(self, size_bytes: int) -> None:
        self._done_bytes += size_bytes
        if self._bytes_per_s:
            due_at = self._begun_at + self._done_bytes / self._bytes_per_s
            time.sleep(max(0.0, due_at - time.monotonic()))


@contextmanager
def watched(connection: apsw.Connection, progress: Progress, stage: str) -> "Iterator[None]":
    """A long statement of SQLite reports, and can be stopped."""

    def step() -> bool:
        progress(stage, 0, 0)
        return False

    connection.set_progress_handler(step, _VM_STEPS)
    try:
        yield
    finally:
        with suppress(apsw.ConnectionClosedError):
            connection.set_progress_handler(None)
