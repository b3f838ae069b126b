"""Which store a server has, chosen here and nowhere else: files in its data directory, or a PostgreSQL database.

where: the setting `store`, "sqlite" or a DSN. A store's libraries are imported when it is chosen. The lock file of a
data directory says what was chosen for it: a server never begins an empty store beside one that it had before.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chatd.errors import ConfigError
from chatd.storage.interface import Decoder, Folder, Portion, Reader, Report, Store
from chatd.storage.lock_file import WRITER_LOCK, LockFile, prepare_directory
from chatd.storage.migrations import Plan
from chatd.storage.moved import GONE, kind_of, refuse_moved

if TYPE_CHECKING:
    from chatd.storage.postgresql.store import PostgresStore

SQLITE = "sqlite"
POSTGRESQL_MARK = "postgresql"
_SQLITE_FILE = "chatd.db"


def is_postgresql(where: str) -> bool:
    return kind_of(where) == "postgresql"


def open_store(where: str, directory: Path, *, read_only: bool = False) -> Store:
    """Open or create it. Blocks, for PostgreSQL up to half a minute.

    Raises ConfigError, StoreLockedError, StoreLostError (PostgreSQL cannot be reached now), StoreCorruptError,
    StoreFullError, StorageError.
    """
    refuse_moved(where, directory)
    refuse_to_mix(where, directory)
    if not is_postgresql(where):
        from chatd.storage.sqlite.store import SqliteStore, StoreSettings

        return SqliteStore.open(directory, StoreSettings(read_only=read_only))
    return _open_postgresql(where, directory, read_only=read_only)


def _open_postgresql(where: str, directory: Path, *, read_only: bool) -> "PostgresStore":
    from chatd.storage.postgresql.store import PostgresSettings, PostgresStore

    prepare_directory(directory)
    lock = LockFile(directory, WRITER_LOCK, "hub")
    try:
        store = PostgresStore.open(where, PostgresSettings(read_only=read_only), lock)
        lock.write(POSTGRESQL_MARK)
    except BaseException:
        lock.close()
        raise
    return store


def open_folder(where: str, directory: Path, portion: Callable[[], Portion], kept_bytes_max: int = 0) -> Folder:
    """Of a store that was opened once. portion: chatd._native.Portion. StorageError while there is none yet.

    kept_bytes_max: of folded segments that wait for an incremental backup; a store in files only.
    """
    if not is_postgresql(where):
        from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder

        return SqliteFolder.open(directory, portion, FoldSettings(kept_bytes_max=kept_bytes_max))
    from chatd.storage.postgresql.folder import PostgresFolder

    return PostgresFolder.open(where, portion)


@contextmanager
def opened_reader(where: str, directory: Path) -> Iterator[Reader]:
    """For somebody who follows the main database: one connection, opened when it is first needed."""
    if not is_postgresql(where):
        from chatd.storage.sqlite.reader import SqliteReader

        with closing(SqliteReader(directory / _SQLITE_FILE, 1)) as reader:
            yield reader
        return
    from chatd.bridge import Bridge
    from chatd.storage.postgresql.reader import PostgresReader

    with closing(Bridge("postgresql index")) as bridge, closing(PostgresReader(bridge, where, 1)) as followed:
        yield followed


def begin_new_log(where: str, directory: Path, portion: Callable[[], Portion]) -> int:
    """Of a store that went back to an earlier state by other means than `chatd restore`. The new log epoch.

    Raises StoreLockedError while a server runs on it, StorageError.
    """
    refuse_to_mix(where, directory)
    if not is_postgresql(where):
        from chatd.storage.sqlite import new_log

        return new_log.begin_new_log(directory, portion)
    store = _open_postgresql(where, directory, read_only=False)
    try:
        return store.begin_new_log()
    finally:
        store.close()


def check_store(where: str, directory: Path, decode: Decoder | None = None) -> Report:
    """What `chatd check` finds, beside a running server or without. decode: every journal batch, too."""
    refuse_to_mix(where, directory)
    if not is_postgresql(where):
        from chatd.storage.sqlite import check

        return check.check_store(directory, decode)
    from chatd.storage.postgresql import check as check_postgresql

    return check_postgresql.check_store(where, decode)


def migration_plan(where: str, directory: Path) -> Plan:
    """What a start would apply. Changes nothing."""
    refuse_to_mix(where, directory)
    if not is_postgresql(where):
        from chatd.storage.sqlite.migrate import plan_of

        return plan_of(directory)
    from chatd.storage.postgresql.migrate import plan_of as plan_of_postgresql

    return plan_of_postgresql(where)


def refuse_to_mix(where: str, directory: Path) -> None:
    """ConfigError when the directory belongs to a server with another kind of store."""
    if is_postgresql(where) and (directory / _SQLITE_FILE).exists() and not _has_gone(directory):
        raise ConfigError(
            f"{directory} holds a store in files ({_SQLITE_FILE}), but `store` names a PostgreSQL database. "
            "Give another --data, or leave `store` out"
        )
    if not is_postgresql(where) and mark_of(directory) == POSTGRESQL_MARK:
        raise ConfigError(
            f"the server of {directory} keeps its store in PostgreSQL: say which database with --store or CHATD_STORE"
        )


def _has_gone(directory: Path) -> bool:
    """Have the files in it been moved to another kind of store?"""
    with opened_reader(SQLITE, directory) as reader, reader.view() as view:
        return view.meta(GONE) is not None


def mark_of(directory: Path) -> str:
    try:
        return (directory / WRITER_LOCK).read_text("ascii").strip()
    except OSError:
        return ""
