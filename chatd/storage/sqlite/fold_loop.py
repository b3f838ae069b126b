"""The folder's process: fold, say how far, rest, until told to stop.

Resting is what makes folding cheap: records that wait for each other are sorted together and share pages. At 100,000
records a second the interval below fills a portion; when little happens it only delays what nobody waits for, because
reads find the unfolded tail in the hub.
"""

import os
import struct
import threading
from contextlib import suppress

from chatd.errors import StoreFullError
from chatd.storage.sqlite.folder import SqliteFolder

INTERVAL_S = 1.0
# While the disk is full: recovery within 5 s of the return of space is promised.
FULL_RETRY_S = 1.0


def fold_until(stop: threading.Event, folder: SqliteFolder, pipe: int, *, interval_s: float = INTERVAL_S) -> None:
    """Fold until `stop` is set; the portion being folded is finished first.

    pipe: after every fold, folded_pos is written to this descriptor, 8 bytes little-endian. A reader that does not read
    misses intermediate positions, never the newest for longer than an interval.
    Raises StoreFailedError and StoreCorruptError (end the process), and OSError when nobody holds the pipe's other end.
    """
    os.set_blocking(pipe, False)
    told = -1
    while not stop.is_set():
        try:
            result = folder.fold_once()
        except StoreFullError:
            stop.wait(FULL_RETRY_S)
            continue
        if result.folded_pos != told:
            told = result.folded_pos if tell(pipe, result.folded_pos) else -1
        if not result.more:
            stop.wait(interval_s)


def tell(pipe: int, folded_pos: int) -> bool:
    """False when the pipe is full. Eight bytes are written whole or not at all (pipe(7), PIPE_BUF)."""
    with suppress(BlockingIOError):
        return os.write(pipe, struct.pack("<Q", folded_pos)) == struct.calcsize("<Q")
    return False
