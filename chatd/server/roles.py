"""What each role is made of: the worker and the inline server run these, with the same commands and the same ends.

The objects are made here, so that hub and shard import no concrete store and no concrete engine.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from chatd import logs
from chatd.errors import StorageError, StoreLockedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOCK_RETRIES, LOCK_PAUSE_S = 20, 0.1


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


async def run_folder(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Fold until told to stop, then once more. In a thread: a fold of 100,000 records takes a second."""
    from chatd.engine.native import Portion
    from chatd.storage.sqlite.fold_loop import fold_until
    from chatd.storage.sqlite.folder import SqliteFolder

    folder = await _patiently(lambda: SqliteFolder.open(role.data, Portion), StorageError)
    task_status.started()
    stop = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_stop, role, stop)
        await trio.to_thread.run_sync(fold_until, stop, folder, role.descriptors[0])
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(_settle, folder)


async def _until_stop(role: Role, stop: threading.Event) -> None:
    async for command in role.commands:
        if command[0] == "stop":
            stop.set()


def _settle(folder: Any) -> None:
    """At the end of a drain: everything folded and checkpointed, so that the next start has nothing to replay."""
    while folder.fold_once().more:
        pass
    folder.settle()
    folder.close()


async def run_hub(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Open the store, recover, and run the hub's loop over it."""
    from chatd.server.hub_role import run

    await run(role, task_status=task_status)


async def run_shard(role: Role, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """An engine with its listeners, and the loop that drives it."""
    from chatd.server.shard_role import run

    await run(role, task_status=task_status)


async def _patiently(make: Callable[[], Any], *errors: type[StorageError]) -> Any:
    """A predecessor killed a moment ago may still hold its locks; a store that is being made is not there yet."""
    for _ in range(LOCK_RETRIES):
        try:
            return make()
        except errors as error:
            logs.get().debug("waiting for the store", reason=str(error))
            await trio.sleep(LOCK_PAUSE_S)
    return make()


async def open_patiently(make: Callable[[], Any]) -> Any:
    """For stores that somebody else has locked a moment ago."""
    return await _patiently(make, StoreLockedError)


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"hub": run_hub, "folder": run_folder, "shard": run_shard}
