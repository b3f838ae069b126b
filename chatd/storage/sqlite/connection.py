"""Connections to SQLite files, and which error of the library means what to us.

Every connection of the store is opened here, always through apsw: Python's own sqlite3 module brings another copy of
the library, and two copies in one process drop each other's POSIX locks (sqlite.org/howtocorrupt.html, section 2.2.1).
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from chatd.errors import StorageError, StoreCorruptError, StoreFailedError, StoreFullError

BUSY_TIMEOUT_MS = 10_000
# At most this much of a WAL is kept as a file once it has been checkpointed and begins anew.
WAL_BYTES_KEPT = 64 * 1024 * 1024
# Mapped reads spare a copy through the pager's cache. Writes never go through the map in WAL mode but in a checkpoint,
# which SQLite does with pwrite.
READ_MAP_BYTES = 256 * 1024 * 1024
# Of pages that nobody needs twice: a reader has its map, and a segment is written from one end to the other. SQLite's
# own 2 MB per connection would be filled by a few thousand logins and kept.
CACHE_BYTES = 128 * 1024


def connect(
    path: Path, *, vfs: str | None = None, create: bool = False, write: bool = True, unshared: bool = False
) -> apsw.Connection:
    """Open one SQLite file with the settings that all of ours share.

    The file must exist unless `create`. write=False forbids statements that write; the file itself is opened for
    writing even so, because a reader of a WAL may have to make the shared-memory index.
    unshared: never used by two threads, which spares a mutex per bound value (5 % of a fold, measured 2026-11).
    A WAL is never checkpointed by surprise: not after a number of pages, not by the last connection that closes.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    flags |= apsw.SQLITE_OPEN_NOMUTEX if unshared else 0
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("temp_store", "memory")
    connection.pragma("cache_size", -(CACHE_BYTES // 1024))
    if not write:
        connection.pragma("query_only", 1)
    return connection


@contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn errors of the library and the system into ours. action: what was being done, for messages ("fold into")."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreFullError(f"cannot {action} {path}: the disk is full ({error})") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorruptError(f"cannot {action} {path}: the file is damaged ({error})") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StorageError(f"cannot {action} {path}: another process holds it ({error})") from error
    except apsw.Error as error:
        raise StoreFailedError(f"cannot {action} {path}: {explained(error)}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"cannot {action} {path}: the disk is full ({error})") from error
        raise StoreFailedError(f"cannot {action} {path}: {error}") from error


def explained(error: apsw.Error) -> str:
    """The library's text and its extended code: 'disk I/O error' alone does not say whether an fsync failed."""
    code = getattr(error, "extendedresult", 0)
    name = apsw.mapping_extended_result_codes.get(code, code)
    return f"{error} [{name}]"
