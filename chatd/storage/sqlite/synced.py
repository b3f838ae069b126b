"""The mark: up to which position every record of the journal has certainly reached the disk.

Facts: a process that dies between write and fsync leaves a batch that SQLite takes for committed; after a failed fsync
that batch lies in the page cache alone, and Linux calls it clean. Either way only the last batch is concerned, since
the one before it was synced first; but from the files alone nobody can say whether it was acknowledged or lost.
Decision: the writer notes in eight bytes, after every fsync and before anybody hears of it, how far it has come. Who
may write makes the rest durable before it is shown (segment.harden_end); who may not, because the disk fails, does not
show it; and the folder never folds it. The word is written through a map: it costs no system call, outlives the
process, and need not outlive the machine, since after a power loss whatever can be read has been on the disk.
Price: one more file.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path

FILE_NAME = "synced"
WORD_BYTES = 8


class SyncedMark:
    """The writer's end. OSError when the file cannot be made."""

    def __init__(self, directory: Path) -> None:
        descriptor = os.open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < WORD_BYTES:
                # Written, not only made longer: a page without a block on a full disk would be a SIGBUS later.
                os.pwrite(descriptor, bytes(WORD_BYTES), 0)
            self._map = mmap.mmap(descriptor, WORD_BYTES)
        finally:
            os.close(descriptor)
        # An aligned word is written whole; struct with "<" would go byte by byte.
        self._word = memoryview(self._map).cast("Q")

    def set(self, pos: int) -> None:
        self._word[0] = pos

    def close(self) -> None:
        self._word.release()
        self._map.close()


def synced_pos(directory: Path) -> int:
    """For readers; 0 when no writer has been here yet."""
    with suppress(FileNotFoundError), (directory / FILE_NAME).open("rb") as file:
        # In the byte order of the machine, as the writer's word.
        word = file.read(WORD_BYTES)
        if len(word) == WORD_BYTES:
            return memoryview(word).cast("Q")[0]
    return 0
