"""A new log for a store that went back: a snapshot of the machine, a copy of the directory, an older disk."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from chatd.errors import StoreCorruptError
from chatd.storage.interface import Portion
from chatd.storage.lock_file import WRITER_LOCK, LockFile
from chatd.storage.sqlite.directory import remove_database, segment_numbers, segment_path, sync_directory
from chatd.storage.sqlite.folder import SqliteFolder
from chatd.storage.sqlite.store import SqliteStore


def begin_new_log(directory: Path, portion: Callable[[], Portion]) -> int:
    """Fold everything, then leave the old journal behind. Returns the new log epoch.

    Cut short at any point it can be run again, and a server that starts instead goes on or says what to do.
    Raises StoreLockedError, StoreCorruptError, StorageError.
    """
    if segment_numbers(directory):
        with closing(SqliteStore.open(directory)) as store, closing(SqliteFolder.open(directory, portion)) as folder:
            while folder.fold_once().more:
                pass
            folder.settle()
            if store.folded_pos() != store.next_pos - 1:
                raise StoreCorruptError(f"the journal in {directory} could not be folded to its end. Run `chatd check`")
        with closing(LockFile(directory, WRITER_LOCK, "hub")) as lock:
            lock.write("")
            for number in segment_numbers(directory):
                remove_database(segment_path(directory, number))
            sync_directory(directory)
    with closing(SqliteStore.open(directory, accept_lost_journal=True)) as store:
        return store.log_epoch
