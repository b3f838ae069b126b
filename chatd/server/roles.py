"""What each role is made of: the worker and the inline server run these, with the same commands and the same ends.

The objects are made here, so that hub and shard import no concrete store and no concrete engine.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from chatd import logs
from chatd.errors import StorageError, StoreLostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOCK_RETRIES, LOCK_PAUSE_S = 20, 0.1
LOST_PAUSE_S, TELL_INTERVAL_S = 0.2, 10.0
# A store that is being made, or a server that restarts, is nothing to tell anybody.
TELL_AFTER_S = 2.0

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Role:
    """What a role gets: its first packet, the descriptors beside it, commands, and a way to report."""

    message: dict[str, Any]
    descriptors: list[int]
    commands: trio.MemoryReceiveChannel[tuple[Any, ...]]
    say: Callable[[dict[str, Any]], Awaitable[None]]

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.message["settings"]
        return settings

    @property
    def data(self) -> Path:
        return Path(self.settings["data"])

    @property
    def store(self) -> str:
        """Of hub and folder: the setting of that name."""
        where: str = self.settings["store"]
        return where


async def run_folder(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Fold until told to stop, then once more. In a thread: a fold of 100,000 records takes a second."""
    from chatd.engine.native import Portion
    from chatd.storage.fold_loop import fold_until
    from chatd.storage.stores import open_folder

    kept = role.settings["backup"]["kept_bytes_max"]
    folder = await store_opened(lambda: open_folder(role.store, role.data, Portion, kept), StorageError)
    task_status.started()
    stop = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_stop, role, stop)
        await trio.to_thread.run_sync(fold_until, stop, folder, role.descriptors[0])
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(_settle, folder)


async def _until_stop(role: Role, stop: threading.Event) -> None:
    """The thread ends, too, when another role has failed and this one is cancelled: nobody waits for it in vain."""
    try:
        async for command in role.commands:
            if command[0] == "stop":
                stop.set()
    finally:
        stop.set()


def _settle(folder: Any) -> None:
    """At the end of a drain: everything folded and checkpointed, so that the next start has nothing to replay."""
    while folder.fold_once().more:
        pass
    folder.settle()
    folder.close()


async def run_indexer(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Follow the main database until told to stop. In a thread: a step takes up to a second."""
    from chatd.hub.searchable import searchable
    from chatd.storage.search.index_loop import index_until
    from chatd.storage.search.indexer import Indexer
    from chatd.storage.sqlite.search_store import SqliteSearchWriter
    from chatd.storage.stores import opened_reader

    task_status.started()
    stop = threading.Event()

    def follow() -> None:
        with opened_reader(role.store, role.data) as reader:
            index_until(
                stop,
                lambda: SqliteSearchWriter.open(role.data),
                lambda writer: Indexer(reader, writer, searchable),
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_stop, role, stop)
        await trio.to_thread.run_sync(follow)
        nursery.cancel_scope.cancel()


async def run_backup(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Make backups when they are due, until told to stop. In a thread: one may take minutes."""
    from chatd.engine.native import Portion
    from chatd.storage.backup.make import Job
    from chatd.storage.backup.retention import Keep
    from chatd.storage.backup.schedule import Schedule, back_up_until

    task_status.started()
    stop = threading.Event()
    told = role.settings["backup"]
    job = Job(role.data, Path(told["directory"]), Portion, told["copy_bytes_per_s"])
    schedule = Schedule(told["full_every_s"], told["incremental_every_s"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_stop, role, stop)
        keep = Keep(told["keep_days"], told["keep_full"])
        await trio.to_thread.run_sync(back_up_until, stop, job, schedule, keep)
        nursery.cancel_scope.cancel()


async def run_hub(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Open the store, recover, and run the hub's loop over it."""
    from chatd.server.hub_role import run

    await run(role, task_status=task_status)


async def run_shard(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """An engine with its listeners, and the loop that drives it."""
    from chatd.server.shard_role import run

    await run(role, task_status=task_status)


async def store_opened(make: Callable[[], Opened], *errors: type[StorageError]) -> Opened:
    """What make opens, in a thread. A predecessor killed a moment ago may still hold its locks, and a store that is
    being made is not there yet: such `errors` are waited out for a moment, a database that cannot be reached for ever.
    """
    retries, told_at = LOCK_RETRIES, time.monotonic() + TELL_AFTER_S - TELL_INTERVAL_S
    while True:
        try:
            return await trio.to_thread.run_sync(make, abandon_on_cancel=True)
        except StoreLostError as error:
            if time.monotonic() - told_at >= TELL_INTERVAL_S:
                told_at = time.monotonic()
                logs.get().warning("waiting for the database", reason=str(error))
            await trio.sleep(LOST_PAUSE_S)
        except errors as error:
            if not retries:
                raise
            retries -= 1
            logs.get().debug("waiting for the store", reason=str(error))
            await trio.sleep(LOCK_PAUSE_S)


ROLES: dict[str, Callable[..., Awaitable[None]]] = {
    "hub": run_hub,
    "folder": run_folder,
    "indexer": run_indexer,
    "backup": run_backup,
    "shard": run_shard,
}
