"""Time, disk, processes and links of a run, and what the supervisor does when one of them dies."""

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import combinations, count
from pathlib import Path
from random import Random
from typing import Any

import trio
import trio.testing
from trio._core import _run as trio_run

from chatd.errors import StorageError, StoreCorruptError
from support.history import History
from support.invariants import Finding
from support.sim.buggify import Buggify
from support.sim.disk import Hit, SimDisk, ignore
from support.sim.hosts import SIDES, Died, FolderHost, Host, HubHost, ShardHost
from support.sim.rings import Link
from support.sim.shape import Shape
from support.sim.template import WALL_BASE_MS, template

READ_ONLY_AFTER, READ_ONLY_WINDOW_MS, OPERATOR_MS = 3, 60_000, 2000
ROUNDS_MAX = 10_000
"""Of all processes at one moment: more means that they keep each other busy for ever."""
RECORDS_MAX = 1 << 30
"""That a link brings at once: all there are."""


class Cluster:
    """now_ms: the world's time, which only moves when nothing is left to do at this moment."""

    def __init__(self, seed: int, side: str, path: Path, clock: Any) -> None:
        self.seed, self.side, self.wall_base_ms = seed, SIDES[side], WALL_BASE_MS
        self.rng = Random(f"world {seed}")
        self.power_rng = self.rng
        """Of the fault that waits for a write or sync to end the power."""
        self.shape = Shape(Random(f"shape {seed}"))
        self.buggify = Buggify(seed)
        self.now_ms = 0
        self.boots = 1
        """Of the whole server."""
        self.history = History()
        self.nursery: Any = None
        self.disk = SimDisk(path, template().files)
        self.shards = [ShardHost(self, index) for index in range(self.shape.shard_count)]
        self.hub, self.folder = HubHost(self), FolderHost(self)
        self.links: dict[int, Link] = {}
        self.findings: list[Finding] = []
        self.fired_count: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._clock = clock
        self._events: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order, self._epochs = count(), count(1)
        self._store_failures: list[int] = []
        self._rings: list[Any] = []
        self._timers_due = False

    @property
    def now_s(self) -> float:
        return self.now_ms / 1000

    def later(self, delay_ms: int, function: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), function, arguments))

    def fired(self, verb: str) -> None:
        self.fired_count[verb] += 1

    def note(self, what: str) -> None:
        self.notes[what] += 1

    def found(self, word: str, text: str) -> None:
        """Once, however often; without the run's directory, which has another name each time."""
        finding = Finding(word, text.replace(str(self.disk.path), "the directory"))
        if finding not in self.findings:
            self.findings.append(finding)

    # -- time --------------------------------------------------------------------------------------------------------

    async def until(self, end_ms: int) -> None:
        events = self._events
        while events and events[0][0] <= end_ms:
            at_ms = events[0][0]
            if at_ms > self.now_ms:
                self._clock.jump((at_ms - self.now_ms) / 1000)
                self.now_ms = at_ms
            while events and events[0][0] <= at_ms:
                _, _, function, arguments = heapq.heappop(events)
                if (result := function(*arguments)) is not None:
                    await result
                if self.disk.vfs.powerless:
                    await self.lose_power(self.power_rng)
            await self._settle()

    async def _turn_shards(self, due: list[ShardHost]) -> None:
        if len(due) > 1:
            self.rng.shuffle(due)
        for host in due:
            host.turn()
            if self.buggify("shard_dies_after_turn"):
                await self.lose_shard(host, self.rng)
            elif (link := self.links.get(host.index)) and link.stalled_until_ms <= self.now_ms:
                self._carry_up(link)
                if link.down.held:
                    self._carry_down(link, host)

    def _takes_turn(self, host: Host) -> bool:
        """host.dirty is known."""
        if host.runs and self.buggify("late_turn"):
            host.stand(self.rng.randint(1, 50))
        return host.runs

    async def _turn_hub(self) -> None:
        try:
            self.hub.turn()
        except Died as death:
            self.note("store_failed" if death.of_store else "hub_struck")
            if not self.disk.vfs.powerless:
                await self.lose_hub(self.rng.choice((50, 300)), store_failed=death.of_store)
        self.carry()

    def carry(self) -> None:
        """What processes have published, or could not while there was no room, arrives at the other end."""
        for index, link in self.links.items():
            self._carry(index, link)

    def _carry(self, index: int, link: Link) -> bool:
        """Whether anything has moved."""
        if link.stalled_until_ms > self.now_ms:
            return False
        up, down = self._carry_up(link), self._carry_down(link, self.shards[index])
        return up or down

    def _carry_up(self, link: Link) -> bool:
        moved = link.up.carry(self._most())
        if moved:
            self.hub.arrived()
        return moved > 0

    def _carry_down(self, link: Link, host: ShardHost) -> bool:
        moved = link.down.carry(self._most())
        if moved:
            host.arrived()
        return moved > 0

    def _most(self) -> int:
        """So many records may move at once; the others a moment later."""
        if not self.buggify("slow_link"):
            return RECORDS_MAX
        self.later(20, self.carry)
        return 1

    def stall(self, index: int, link: Link, duration_ms: int, hit: Hit = ignore) -> None:
        """Nothing moves for a while. hit: called when something had to wait."""

        def end() -> None:
            if self._carry(index, link):
                hit()

        link.stalled_until_ms = self.now_ms + duration_ms
        self.later(duration_ms, end)

    async def _settle(self) -> None:
        """Let every process run until none has anything left to do at this moment."""
        shards, hub = self.shards, self.hub
        for _ in range(ROUNDS_MAX):
            due = [host for host in shards if host.dirty and self._takes_turn(host)]
            if due:
                await self._turn_shards(due)
            if hub.dirty and self._takes_turn(hub):
                await self._turn_hub()
                if self.disk.vfs.powerless:
                    await self.lose_power(self.power_rng)
            elif not due:
                if not self._timers_due and not trio_run.GLOBAL_RUN_CONTEXT.runner.runq:
                    return
                self._timers_due = False
                await trio.testing.wait_all_tasks_blocked()
                self.carry()
                if not any(host.runs for host in (*shards, hub)):
                    return
        raise AssertionError(f"seed {self.seed}: the processes do not come to rest at {self.now_ms} ms")

    # -- processes ---------------------------------------------------------------------------------------------------

    async def lose_shard(self, host: ShardHost, rng: Random) -> None:
        link = self.links.pop(host.index, None)
        if link is not None:
            link.lose_shard(rng)
        await host.kill()
        self.later(rng.choice((0, 20, 100)), self._shard_gone, host.index)
        self.later(rng.choice((100, 300, 1000)), self.start_shard, host)

    def _shard_gone(self, index: int) -> None:
        if index not in self.links:
            self.hub.tell("unlink", index)
        for other in self.shards:
            if other.index != index:
                other.tell("unlink_peer", index)

    async def start_shard(self, host: ShardHost) -> None:
        if not host.up:
            await host.start()
            self._link(host.index)
            self._link_peers(host.index)

    async def lose_hub(self, restart_ms: int, *, store_failed: bool = False) -> None:
        for link in self.links.values():
            link.lose_hub(self.rng)
        self.links.clear()
        await self._kill_hub()
        for host in self.shards:
            host.tell("unlink", 0)
        if store_failed:
            self._store_failures.append(self.now_ms)
        self.later(restart_ms, self.start_hub)

    async def _kill_hub(self) -> None:
        await self.hub.kill()

    async def start_hub(self) -> None:
        if self.hub.up:
            return
        recent = [at for at in self._store_failures if at > self.now_ms - READ_ONLY_WINDOW_MS]
        read_only = len(recent) >= READ_ONLY_AFTER
        try:
            await self.hub.start(read_only=read_only)
        except StorageError as error:
            self.note(f"start_{type(error).__name__}")
            if isinstance(error, StoreCorruptError):
                self.found("LOST", f"the hub does not start: {error}")
            self.later(500, self.start_hub)
            return
        if read_only:
            self.note("read_only")
            self._store_failures.clear()
            self.later(OPERATOR_MS, self._restart_by_operator)
        for host in self.shards:
            self._link(host.index)

    async def _restart_by_operator(self) -> None:
        if self.hub.up:
            await self.lose_hub(100)

    @property
    def serves(self) -> bool:
        return any(host.serves for host in self.shards)

    async def lose_power(self, rng: Random) -> None:
        """A fault that is named after what it did to the disk; when that was nothing, after what it did to others."""
        served = self.serves
        await self.lose_everything(rng)
        keep, lost_bytes = self.disk.power_loss(rng)
        self.note(f"power_{keep}")
        if lost_bytes:
            self.fired("torn_write" if keep == "torn" else "power_loss")
        elif served:
            self.fired("kill_all")

    async def lose_everything(self, rng: Random) -> None:
        self.boots += 1
        self.folder.kill()
        self.links.clear()
        if self.hub.up:
            await self._kill_hub()
        for host in self.shards:
            if host.up:
                await host.kill()
        restart_ms = rng.choice((100, 500, 2000))
        self.later(restart_ms, self.start_hub)
        for host in self.shards:
            self.later(restart_ms + rng.randint(0, 200), self.start_shard, host)

    def relink(self, index: int) -> None:
        self.later(20, self._link, index)

    def _link(self, index: int) -> None:
        host = self.shards[index]
        if not (self.hub.up and host.up):
            return
        epoch = next(self._epochs)
        link = self.links[index] = Link(self.side.ring, self.shape.ring_bytes, epoch)
        self._rings.append(link)
        self.hub.tell("link", index, epoch, *link.of_hub())
        host.tell("link", 0, epoch, *link.of_shard())

    def _link_peers(self, index: int) -> None:
        for one, other in combinations(self.shards, 2):
            if index in (one.index, other.index) and one.up and other.up:
                epoch = next(self._epochs)
                there, back = self.side.ring(1 << 16, epoch), self.side.ring(1 << 16, epoch)
                self._rings += [there, back]
                one.tell("link_peer", other.index, epoch, back, there)
                other.tell("link_peer", one.index, epoch, there, back)

    async def heal(self) -> None:
        """What is full empties, what stands goes on, what is dead starts."""
        self.buggify.disarm()
        self.disk.empty()
        self.disk.quicken()
        self.disk.vfs.forget_failures()
        self._store_failures.clear()
        for host in (*self.shards, self.hub):
            host.frozen_until_ms = host.wall_skew_ms = 0
        for link in self.links.values():
            link.stalled_until_ms = 0
        self.carry()
        if self.hub.store is not None and self.hub.up and self.hub.hub is not None and self.hub.hub.settings.read_only:
            await self.lose_hub(0)
        await self.start_hub()
        for host in self.shards:
            await self.start_shard(host)

    async def stop(self) -> None:
        self.folder.kill()
        if self.hub.up:
            await self.hub.kill()
        for host in self.shards:
            if host.up:
                await host.kill()

    def close(self) -> None:
        for link in self._rings:
            link.close()
        self.disk.close()
