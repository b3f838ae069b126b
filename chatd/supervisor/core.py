"""The supervisor's loop: keep every worker alive, linked and fresh; end all of them in order.

One task per worker slot starts it, listens to it and starts its replacement; one task watches heartbeats; one reads
signals. The supervisor does no work of the service itself, so there is little in it that could fail, and when it does
fail, its workers see their control sockets close and end with it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import trio

from chatd import logs
from chatd.config import Settings
from chatd.supervisor import links
from chatd.supervisor.backoff import AbortCounter, Backoff
from chatd.supervisor.child import Child
from chatd.supervisor.exits import EXIT_REFUSES, EXIT_STORE_FAILED
from chatd.supervisor.listeners import Listener
from chatd.supervisor.memory import Memory
from chatd.supervisor.notify import notify, reloading, watchdog_interval_s
from chatd.supervisor.plan import follower_roles, reload_message, start_message

# Between two looks at a worker that has just become too late.
WATCH_PAUSE_S = 0.01
LINGER_S = 1.0


class Supervisor:
    """Runs hub, folder, indexer, backup and shards until a signal, or until a worker refuses to run."""

    def __init__(
        self,
        settings: Settings,
        listeners: list[Listener],
        secrets: dict[str, Any],
        config_file: Path | None = None,
        flags: dict[str, Any] | None = None,
    ) -> None:
        """config_file, flags: where the settings came from; SIGHUP reads them again."""
        self.settings, self.listeners, self.secrets = settings, listeners, secrets
        self.config_file, self.flags = config_file, flags
        self.shards = settings.shard_count
        self.children: dict[tuple[str, int], Child] = {}
        self.draining = trio.Event()
        self.refused = False
        self.read_only = False
        self.ready = trio.Event()
        self._aborts = AbortCounter()
        # Both ends must hear of links in one order, or each waits on rings that the other has dropped.
        self._linking = trio.Lock()
        # One pipe for all generations: writes of 8 bytes are atomic, and an old position is still true.
        self.fold_read, self.fold_write = os.pipe2(os.O_CLOEXEC)
        self._scope = trio.CancelScope()
        self._log = logs.get()

    def slots(self) -> Iterator[tuple[str, int]]:
        yield "hub", 0
        yield "folder", 0
        for role in follower_roles(self.settings):
            yield role, 0
        for index in range(self.shards):
            yield "shard", index

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit status: 0, or EXIT_REFUSES."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                with self._scope:
                    async with trio.open_nursery() as slots:
                        for role, index in self.slots():
                            slots.start_soon(self._keep, role, index)
                        slots.start_soon(self._watch)
                        slots.start_soon(self._watch_memory)
                        slots.start_soon(self._answer_signals, signals, nursery)
                nursery.cancel_scope.cancel()
        os.close(self.fold_read)
        os.close(self.fold_write)
        return EXIT_REFUSES if self.refused else 0

    # -- one worker ------------------------------------------------------------------------------------------------

    async def _keep(self, role: str, index: int) -> None:
        """Start a worker and its replacements until the drain."""
        backoff = Backoff(self.settings.process.restart_delay_max_ms / 1000)
        died_at: float | None = None
        while not self.draining.is_set():
            try:
                child = Child(role, index)
            except OSError as error:
                self._log.error("worker cannot be started", role=role, index=index, error=str(error))
                await trio.sleep(self.settings.process.restart_delay_max_ms / 1000)
                continue
            self.children[role, index] = child
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._converse, child, died_at)
                status = await self._ended(child)
                died_at = trio.current_time()
                nursery.cancel_scope.cancel()
            del self.children[role, index]
            if self.draining.is_set():
                return
            await self._bury(child, status)
            await trio.sleep(backoff.delay_s(died_at - child.spawned_at))

    async def _ended(self, child: Child) -> int:
        try:
            return await child.wait()
        except trio.Cancelled:
            # The end of the supervisor, whatever the reason: nobody of ours outlives it.
            child.kill()
            raise

    async def _bury(self, child: Child, status: int) -> None:
        """Tell the living, and judge what the end means."""
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        self._log.warning("worker ended", worker=child.name, pid=child.pid, how=how)
        if status == EXIT_REFUSES:
            self._log.error("it refuses to run; a restart cannot help", worker=child.name)
            self.refused = True
            self._scope.cancel()
            return
        store_failed = child.role == "hub" and not child.hung and status in (EXIT_STORE_FAILED, -signal.SIGABRT)
        if store_failed and self._aborts.aborted(trio.current_time()) and not self.read_only:
            self.read_only = True
            self._log.error("the store failed three times in a minute: read-only until SIGHUP or restart")
        async with self._linking:
            for peer in links.peers_of(child, list(self.children.values())):
                if peer.ready.is_set():
                    await links.unlink(peer, child)

    async def _converse(self, child: Child, died_at: float | None) -> None:
        """Give it its settings, then listen. Its silence and its end are noticed elsewhere."""
        message, descriptors = start_message(self, child)
        await child.send(message, descriptors)
        while (received := await child.control.receive()) is not None:
            said = received[0]
            match said.get("say"):
                case "ready":
                    await self._introduce(child, died_at)
                case "lost":
                    await self._relink(child, said["to"], said["index"])
                case "drained":
                    child.drained.set()
        # Its control socket is closed: it is ending by itself, and if it lingers it is of no use any more.
        await trio.sleep(LINGER_S)
        child.kill()

    async def _introduce(self, child: Child, died_at: float | None) -> None:
        async with self._linking:
            child.ready.set()
            for peer in links.peers_of(child, list(self.children.values())):
                if peer.ready.is_set():
                    await self._link(child, peer)
        if died_at is not None:
            self._log.info("worker replaced", worker=child.name, pid=child.pid, after_ms=self._since_ms(died_at))
        present = [key for key, known in self.children.items() if known.ready.is_set()]
        if not self.ready.is_set() and all(slot in present for slot in self.slots()):
            self.ready.set()

    @staticmethod
    def _since_ms(moment: float) -> int:
        return round(1000 * (trio.current_time() - moment))

    async def _link(self, a: Child, b: Child) -> None:
        await links.link(a, b, self.settings.hub.hub_ring_bytes, self.settings.hub.peer_ring_bytes)

    async def _relink(self, child: Child, role: str, index: int) -> None:
        self._log.error("a ring was corrupt; the link is made anew", worker=child.name, peer=f"{role} {index}")
        async with self._linking:
            peer = self.children.get((role, index))
            if peer is not None and peer.ready.is_set():
                await self._link(child, peer)

    # -- all of them -----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Heartbeats of workers, and ours to systemd. Sleeps until somebody's silence could have become too long."""
        limit_s = self.settings.process.silence_timeout_ms / 1000
        notify_s = watchdog_interval_s()
        notify_at = time.monotonic()
        async with trio.open_nursery() as nursery:
            while True:
                now = time.monotonic()
                for child in list(self.children.values()):
                    if now - child.pulse.beat_at > limit_s and not child.hung:
                        self._log.error("worker is silent: stack dump, then SIGKILL", worker=child.name, pid=child.pid)
                        nursery.start_soon(child.dump_and_kill)
                if notify_s is not None and now >= notify_at:
                    notify_at = now + notify_s
                    notify("WATCHDOG=1")
                # A worker that is started meanwhile has the whole limit before it.
                due = [child.pulse.beat_at + limit_s for child in self.children.values() if not child.hung]
                wake_at = min([*due, now + limit_s, now + limit_s if notify_s is None else notify_at])
                await trio.sleep(max(wake_at - now, WATCH_PAUSE_S))

    async def _watch_memory(self) -> None:
        """Tell the shards when it gets short and when it is enough again; new shards, too."""
        memory = Memory(self.settings.process.memory_bytes_max)
        told: dict[int, int] = {}
        while True:
            await trio.sleep(memory.look_again_s)
            level = memory.level([os.getpid(), *(child.pid for child in self.children.values())])
            if level != max(told.values(), default=0):
                self._log.warning("memory pressure", pressure=level)
            shards = [child for child in self.children.values() if child.role == "shard" and child.ready.is_set()]
            for child in shards:
                if told.get(child.pid, 0) != level:
                    await child.send({"do": "pressure", "level": level})
            told = {child.pid: level for child in shards}

    async def _answer_signals(self, signals: Any, nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                with reloading():
                    await self.reload()
            elif not self.draining.is_set():
                self.draining.set()
                nursery.start_soon(self._drain)
            else:
                self._log.warning("second signal: not waiting for clients any longer")
                self._scope.cancel()

    async def reload(self) -> None:
        message = reload_message(self)
        if message is not None:
            for child in list(self.children.values()):
                await child.send(message)
            self._aborts.reset()
            if self.read_only:
                self.read_only = False
                self.children["hub", 0].kill(signal.SIGTERM)
            self._log.info("reloaded: log level, certificates, keys, roles")

    async def _drain(self) -> None:
        """Shards first, so that nothing new comes; then the hub, which commits what it has; then who follows it."""
        notify("STOPPING=1")
        self._log.info("draining", window_ms=self.settings.process.drain_window_ms)
        with trio.move_on_after(self.settings.process.drain_timeout_ms / 1000) as patience:
            shards = [child for child in self.children.values() if child.role == "shard"]
            for child in shards:
                await child.send({"do": "drain", "window_ms": self.settings.process.drain_window_ms})
            await self._until(lambda: all(self._is_drained(child) for child in shards))
            for stage in ("shard", "hub", "folder", *follower_roles(self.settings)):
                for child in [child for child in self.children.values() if child.role == stage]:
                    await child.send({"do": "stop"})
                await self._until(partial(self._none_is, stage))
        if patience.cancelled_caught:
            left = [child.name for child in self.children.values()]
            self._log.warning("drain took too long; the rest is killed", left=left)
        self._scope.cancel()

    def _none_is(self, role: str) -> bool:
        return all(child.role != role for child in self.children.values())

    def _is_drained(self, child: Child) -> bool:
        """It says so, or is gone."""
        return child.drained.is_set() or self.children.get((child.role, child.index)) is not child

    @staticmethod
    async def _until(reached: Callable[[], bool]) -> None:
        while not reached():  # noqa: ASYNC110 ends once in a process' life; an event per state would say less
            await trio.sleep(0.01)
