"""`--inline`: hub, one shard and the folder in one process and one trio run; the folder's work in a thread.

The same roles with the same commands as under the supervisor, so what tests see here holds there. A role that fails
ends the process, and whoever started it starts it again; but for a hub whose database went away: its connections stay,
and another hub waits for the database.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import trio

from chatd import logs
from chatd.engine.native import Ring
from chatd.errors import ChatdError, StoreFailedError, StoreLostError
from chatd.server.roles import ROLES, Role
from chatd.supervisor.exits import EXIT_REFUSES, EXIT_STORE_FAILED
from chatd.supervisor.memory import Memory
from chatd.supervisor.notify import notify, reloading, watchdog_interval_s
from chatd.supervisor.plan import follower_roles, reload_message, worker_settings

if TYPE_CHECKING:
    from pathlib import Path

    from chatd.config import Settings
    from chatd.supervisor.listeners import Listener

COMMANDS_MAX = 256
LINK_EPOCH = 1
DRAIN_GRACE_S = 3.0


class InlineServer:
    """All roles in this process. Same face as Supervisor: run(), ready, reload()."""

    def __init__(
        self,
        settings: Settings,
        listeners: list[Listener],
        secrets: dict[str, Any],
        config_file: Path | None = None,
        flags: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.listeners, self.secrets = settings, listeners, secrets
        self.config_file, self.flags = config_file, flags
        self.ready = trio.Event()
        self._drained = trio.Event()
        self._epoch = LINK_EPOCH
        self._commands: dict[str, trio.MemorySendChannel[tuple[Any, ...]]] = {}
        self._stopped: dict[str, trio.Event] = {}

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit status."""
        fold_read, fold_write = os.pipe2(os.O_CLOEXEC)
        sockets = [os.dup(listener.descriptor(0)) for listener in self.listeners]
        status = 0
        try:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._answer_signals, signals, nursery.cancel_scope)
                    nursery.start_soon(self._beat)
                    await nursery.start(self._keep_hub, fold_read)
                    await nursery.start(self._run_role, "folder", [fold_write])
                    for role in follower_roles(self.settings):
                        await nursery.start(self._run_role, role, [])
                    await nursery.start(self._run_role, "shard", sockets)
                    await self._link()
                    nursery.start_soon(self._watch_memory)
                    self.ready.set()
        except* StoreFailedError as failures:
            status = self._failed(failures, EXIT_STORE_FAILED)
        except* ChatdError as failures:
            status = self._failed(failures, EXIT_REFUSES)
        finally:
            os.close(fold_read)
            os.close(fold_write)
        return status

    async def _keep_hub(self, fold_read: int, *, task_status: trio.TaskStatus[None]) -> None:
        """A hub, and another one whenever the database goes away."""
        first = True
        while True:
            ended = True
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._run_role, "hub", [os.dup(fold_read)])
                    if first:
                        task_status.started()
                    elif self.ready.is_set():
                        await self._link()
                    first = False
            except* StoreLostError as lost:
                ended = False
                logs.get().warning("the hub ends with its database, another one begins", reason=str(first_of(lost)))
            if ended:
                return
            if self.ready.is_set():
                await self._commands["shard"].send(("unlink", 0))

    async def _run_role(self, role: str, descriptors: list[int], *, task_status: trio.TaskStatus[None]) -> None:
        self._commands[role], commands = trio.open_memory_channel[tuple[Any, ...]](COMMANDS_MAX)
        stopped = self._stopped[role] = trio.Event()
        message = {
            "settings": worker_settings(self.settings, role, self.secrets),
            "index": 0,
            "listeners": [listener.kind for listener in self.listeners],
            "shards": 1,
        }
        await ROLES[role](Role(message, descriptors, commands, self._heard), task_status=task_status)
        stopped.set()

    async def _link(self) -> None:
        """Two objects over each ring, as if the ends were two processes: an end keeps its own positions."""
        capacity = self.settings.hub.hub_ring_bytes
        with Ring.create(capacity, self._epoch) as to_hub, Ring.create(capacity, self._epoch) as to_shard:
            await self._commands["hub"].send(("link", 0, self._epoch, _other_end(to_hub), _other_end(to_shard)))
            await self._commands["shard"].send(("link", 0, self._epoch, _other_end(to_shard), _other_end(to_hub)))
        self._epoch += 1

    async def _heard(self, said: dict[str, Any]) -> None:
        match said["say"]:
            case "drained":
                self._drained.set()
            case "lost":
                logs.get().error("a ring was corrupt; the link is made anew")
                await self._link()

    async def _beat(self) -> None:
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            await trio.sleep(interval_s)
            notify("WATCHDOG=1")

    async def _watch_memory(self) -> None:
        memory, told = Memory(self.settings.process.memory_bytes_max), 0
        while True:
            await trio.sleep(memory.look_again_s)
            level = memory.level([os.getpid()])
            if level != told:
                logs.get().warning("memory pressure", level=level)
                await self._commands["shard"].send(("pressure", level))
                told = level

    async def _answer_signals(self, signals: Any, scope: trio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                with reloading():
                    await self.reload()
                continue
            if self.ready.is_set():
                with trio.move_on_after(self.settings.process.drain_timeout_ms / 1000 + DRAIN_GRACE_S):
                    await self._drain()
            scope.cancel()
            return

    async def reload(self) -> None:
        message = reload_message(self)
        if message is not None:
            for role in ("shard", "hub"):
                await self._commands[role].send(("reload", message))
            logs.get().info("reloaded: log level, certificates, keys, roles")

    async def _drain(self) -> None:
        notify("STOPPING=1")
        logs.get().info("draining", window_ms=self.settings.process.drain_window_ms)
        await self._commands["shard"].send(("drain", self.settings.process.drain_window_ms))
        await self._drained.wait()
        for role in ("shard", "hub", "folder", *follower_roles(self.settings)):
            await self._commands[role].send(("stop",))
            await self._stopped[role].wait()

    @staticmethod
    def _failed(group: BaseExceptionGroup[Any], status: int) -> int:
        logs.get().error(str(first_of(group)))
        return status


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _other_end(ring: Ring) -> Ring:
    return Ring.attach(ring.memfd, ring.fileno(), ring.epoch)
