"""The folder's process: fold, say how far, rest, until told to stop.

Resting is what makes folding cheap: records that wait for each other are sorted together and share pages. At 100,000
records a second the interval below fills a portion; when little happens it only delays what nobody waits for, because
reads find the unfolded tail in the hub.

Nor does anybody wait for a fold, while hub and shards may want the same cores. So a fold runs in a thread that has
lowered its own priority (Linux has nice values per thread, and they only go down), but only as long as that is enough:
while more than a portion waits, the next one is folded with the full share, because a tail that grows until it has no
room would refuse sends.
"""

import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from chatd.errors import StoreFullError, StoreLostError
from chatd.storage.interface import Folder

INTERVAL_S = 1.0
# Of the thread that folds while nothing presses: a third of the weight of a process with nice 0. With a tenth (10) one
# portion can take 6 s while hub and shard fill two cores, and at 250,000 records a second the tail has room for 8 s.
POLITE_NICE = 5
# While the disk is full or the database away: recovery within 5 s of their return is promised.
RETRY_S = 1.0
# What retention deletes between two folds: at most 10,000 events a second.
TRIMS_MAX = 20


def fold_until(stop: threading.Event, folder: Folder, pipe: int, *, interval_s: float = INTERVAL_S) -> None:
    """Fold until `stop` is set; the portion being folded is finished first.

    pipe: after every fold, folded_pos is written to this descriptor, 8 bytes little-endian. A reader that does not read
    misses intermediate positions, never the newest for longer than an interval.
    Raises StoreFailedError and StoreCorruptError (end the process), and OSError when nobody holds the pipe's other end.
    """
    os.set_blocking(pipe, False)
    told, behind = -1, False
    with ThreadPoolExecutor(1, "polite fold", initializer=os.nice, initargs=(POLITE_NICE,)) as polite:
        while not stop.is_set():
            try:
                result = folder.fold_once() if behind else polite.submit(folder.fold_once).result()
            except (StoreFullError, StoreLostError):
                stop.wait(RETRY_S)
                continue
            if result.folded_pos != told:
                told = result.folded_pos if tell(pipe, result.folded_pos) else -1
            behind = result.more
            if not behind:
                polite.submit(_trim, folder, stop).result()
                stop.wait(interval_s)


def _trim(folder: Folder, stop: threading.Event) -> None:
    """A full disk and a lost database are met again by the next fold."""
    with suppress(StoreFullError, StoreLostError):
        for _ in range(TRIMS_MAX):
            if stop.is_set() or not folder.trim():
                return


def tell(pipe: int, folded_pos: int) -> bool:
    """False when the pipe is full. Eight bytes are written whole or not at all (pipe(7), PIPE_BUF)."""
    with suppress(BlockingIOError):
        return os.write(pipe, struct.pack("<Q", folded_pos)) == struct.calcsize("<Q")
    return False
