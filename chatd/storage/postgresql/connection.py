"""Connections to PostgreSQL, and which error of the library means what to us.

Every connection of the store is opened here. All of them go to a server that may write, readers too: a standby that
lags would not show what was acknowledged.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import asyncpg

from chatd.errors import ConfigError, StoreCorruptError, StoreFailedError, StoreFullError, StoreLostError

# The contract promises an answer within 2 s when the database does not give one.
CONNECT_TIMEOUT_S = 1.5
COMMAND_TIMEOUT_S = 1.5
SERVER_VERSION_MIN = 14

# Advisory locks are two 32-bit numbers: ours, and which of ours.
LOCK_CLASS = int.from_bytes(b"chat", "big")
HUB_LOCK, FOLDER_LOCK, MIGRATION_LOCK, COPY_LOCK = 1, 2, 3, 4

SESSION = {
    # A commit that is acknowledged is on the disk, and on that of the synchronous standby where there is one.
    "synchronous_commit": "on",
    # A server whose client has vanished without a word gives back the client's locks after so many seconds.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # Compiling a query costs more than any of ours takes.
    "jit": "off",
}

_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TargetServerAttributeNotMatched,
)
_DAMAGED = (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError)


async def connect(dsn: str, role: str, command_timeout_s: float | None = COMMAND_TIMEOUT_S) -> Any:
    """A connection to the first address of dsn that answers and may write. StoreLostError when there is none now."""
    with storage_errors("connect to", shown(dsn)):
        attributes = {} if "target_session_attrs" in dsn else {"target_session_attrs": "read-write"}
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            server_settings={**SESSION, "application_name": f"chatd {role}"},
            **attributes,
        )
        if connection.get_server_version().major < SERVER_VERSION_MIN:
            version = connection.get_server_version()
            await connection.close()
            raise ConfigError(f"{shown(dsn)} is PostgreSQL {version.major}; chatd needs {SERVER_VERSION_MIN} or newer")
    return connection


@contextmanager
def storage_errors(action: str, database: str) -> Iterator[None]:
    """Turn errors of the library and the system into ours. action: what was being done, for messages ("fold into")."""
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise ConfigError(f"`store` cannot be used: {error}") from error
    except ValueError as error:
        # An argument that the library cannot encode: ours, and no reason to try again.
        raise StoreFailedError(f"cannot {action} {database}: {error}") from error
    except (asyncpg.DiskFullError, asyncpg.OutOfMemoryError) as error:
        raise StoreFullError(f"cannot {action} {database}: the server has no room ({error})") from error
    except _DAMAGED as error:
        raise StoreCorruptError(f"cannot {action} {database}: the database is damaged ({error})") from error
    except _UNREACHABLE as error:
        raise StoreLostError(f"cannot {action} {database}: {explained(error)}") from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise StoreLostError(f"cannot {action} {database}: {error}; look at user, password and pg_hba.conf") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise StoreLostError(f"cannot {action} {database}: {error}; make it with `createdb`") from error
    except asyncpg.PostgresError as error:
        raise StoreFailedError(f"cannot {action} {database}: {error} [{error.sqlstate}]") from error


def explained(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(error) or type(error).__name__


async def locked(connection: Any, lock: int) -> bool:
    """Take one of our advisory locks for as long as this connection lives. False: another session has it."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, lock))


async def holder(connection: Any, lock: int) -> str:
    """Who holds one of our advisory locks, for messages."""
    sql = """
    SELECT coalesce(host(client_addr), 'this host') || ', server process ' || pid FROM pg_stat_activity
    WHERE pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1 AND objid = $2
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1)"""
    return str(await connection.fetchval(sql, LOCK_CLASS, lock) or "a session that has just ended")


async def database_name(connection: Any) -> str:
    """For messages: no password in it. Often the first question to a session, which may have ended already."""
    with storage_errors("open", "the PostgreSQL database"):
        name = await connection.fetchval("SELECT current_database()")
    return f"the PostgreSQL database {name!r}"


def shown(dsn: str) -> str:
    """A DSN for messages: without its password."""
    return re.sub("//.*@", "//", dsn)


@lru_cache(maxsize=512)
def numbered(sql: str) -> str:
    """The placeholders of shared SQL, `?1`, as PostgreSQL writes them."""
    return re.sub(r"\?(\d+)", r"$\1", sql)
