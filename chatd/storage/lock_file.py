"""Who may use a data directory: one process per role.

Facts: SQLite locks single statements, not a process; a second hub would happily interleave. flock belongs to the open
file description and dies with the process, however it ends. Consequence: one flock per role, taken before any file of
the store is touched and never given back. The writer's text says what the store is (journal.py, stores.py).
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from chatd.errors import ConfigError, StorageError, StoreLockedError

WRITER_LOCK = "lock"
FOLDER_LOCK = "folder.lock"


def is_in_use(directory: Path, name: str = WRITER_LOCK) -> bool:
    """Does a process hold this lock now? Takes nothing."""
    with suppress(OSError), (directory / name).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def prepare_directory(path: Path) -> None:
    """Make the directory if it is missing, for this user only."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the data directory {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            f"the data directory {path} is not readable and writable for this user; chown it, or run as its owner"
        )


class LockFile:
    """An exclusive flock, held until close or the end of the process, and a few durable bytes of text."""

    def __init__(self, directory: Path, name: str, role: str) -> None:
        self._path = directory / name
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise StorageError(f"{self._path} cannot be opened: {error.strerror}") from error
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StorageError(f"{self._path} cannot be locked: {error.strerror}") from error
            raise StoreLockedError(
                f"{directory} is in use: another process is its {role}. Stop that one first, or use another --data"
            ) from error

    def text(self) -> str:
        return os.pread(self._fd, 64, 0).decode("ascii", "replace").strip()

    def write(self, text: str) -> None:
        """Durable when it returns. One sector, so it is the old text or the new one."""
        os.pwrite(self._fd, text.ljust(32).encode("ascii") + b"\n", 0)
        os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
