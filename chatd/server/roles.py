"""What each role is made of: the worker and the inline server run these, with the same commands and the same ends.

The objects are made here, so that hub and shard import no concrete store and no concrete engine.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from chatd import logs
from chatd.errors import StorageError, StoreLostError
from chatd.storage.moved import followed, kind_of, leaves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOCK_RETRIES, LOCK_PAUSE_S = 20, 0.1
LOST_PAUSE_S, TELL_INTERVAL_S = 0.2, 10.0
# Between two looks whether somebody moves the store: one stat of a file that is not there.
MOVE_PAUSE_S = 0.2
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

    def where(self) -> str:
        """The store, for all but shards: the setting of that name, or where it has moved to since. StoreLostError while
        it moves.
        """
        return followed(self.settings["store"], self.data)

    async def until_moved(self, where: str) -> None:
        """Returns when this store has to be let go."""
        while not leaves(where, self.data):  # noqa: ASYNC110 a file that somebody else writes
            await trio.sleep(MOVE_PAUSE_S)


async def run_folder(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Fold until told to stop, then once more. In a thread: a fold of 100,000 records takes a second. A store that is
    moved is let go, and folded again where it is then.
    """
    from chatd.engine.native import Portion
    from chatd.storage.fold_loop import fold_until
    from chatd.storage.stores import open_folder

    kept = role.settings["backup"]["kept_bytes_max"]
    while True:
        where, folder = await _opened(role, lambda where: open_folder(where, role.data, Portion, kept))
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        if not await _work(role, where, partial(fold_until, folder=folder, pipe=role.descriptors[0])):
            break
        folder.close()
    await trio.to_thread.run_sync(_settle, folder)


async def _opened(role: Role, open_at: Callable[[str], Opened]) -> tuple[str, Opened]:
    """What open_at makes of the store, and where that is."""

    def make() -> tuple[str, Opened]:
        where = role.where()
        return where, open_at(where)

    return await store_opened(make, StorageError)


async def _work(role: Role, where: str, work: Callable[[threading.Event], None]) -> bool:
    """Run work in a thread until it is told to stop. True: only because the store has to be let go."""
    stop, told = threading.Event(), False

    async def until_moved() -> None:
        await role.until_moved(where)
        stop.set()

    async def until_told() -> None:
        """The thread ends, too, when another role has failed and this one is cancelled: nobody waits for it in vain."""
        nonlocal told
        try:
            async for command in role.commands:
                if command[0] == "stop":
                    told = True
                    stop.set()
        finally:
            stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_moved)
        nursery.start_soon(until_told)
        await trio.to_thread.run_sync(work, stop)
        nursery.cancel_scope.cancel()
    return not told


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

    def follow(stop: threading.Event, where: str) -> None:
        with opened_reader(where, role.data) as reader:
            index_until(
                stop,
                lambda: SqliteSearchWriter.open(role.data),
                lambda writer: Indexer(reader, writer, searchable),
            )

    task_status.started()
    while True:
        where, _ = await _opened(role, lambda where: None)
        if not await _work(role, where, partial(follow, where=where)):
            return


async def run_backup(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Make backups when they are due, until told to stop. In a thread: one may take minutes."""
    from chatd.engine.native import Portion
    from chatd.storage.backup.make import Job
    from chatd.storage.backup.retention import Keep
    from chatd.storage.backup.schedule import Schedule, back_up_until

    task_status.started()
    told = role.settings["backup"]
    job = Job(role.data, Path(told["directory"]), Portion, told["copy_bytes_per_s"])
    schedule = Schedule(told["full_every_s"], told["incremental_every_s"])
    keep = Keep(told["keep_days"], told["keep_full"])

    def back_up(stop: threading.Event, where: str) -> None:
        if kind_of(where) == "sqlite":
            back_up_until(stop, job, schedule, keep)
        else:
            stop.wait()

    while True:
        where, _ = await _opened(role, lambda where: None)
        if not await _work(role, where, partial(back_up, where=where)):
            return


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
