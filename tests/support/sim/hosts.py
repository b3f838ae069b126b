"""The processes of a run: what a kernel and the supervisor would do with them, and the same trio tasks inside.

Each host drives the loop of its process itself, by the loop's own turn(); everything else of the process runs in trio.
A kill cancels those tasks and closes what the process had open: nothing is written any more.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import trio

from chatd.clock import Clock
from chatd.config import Settings, plain
from chatd.config.engine import engine_settings
from chatd.engine import native
from chatd.engine.reference import ReferenceEngine
from chatd.engine.settings import EngineSettings
from chatd.errors import StorageError, StoreFullError
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.loop import Hub
from chatd.hub.reference import ReferenceHubCore
from chatd.hub.settings import HubSettings
from chatd.services.registry import Registry
from chatd.services.signin import RPC_METHODS
from chatd.shard.loop import Shard
from chatd.storage.portion import Portion as ReferencePortion
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
from support.sim.disk import Hit, ignore
from support.sim.rings import MakeRing, memory_ring, native_ring

if TYPE_CHECKING:
    from support.sim.cluster import Cluster

POLL_BUDGET_US = 10_000_000
"""Never reached: how much a poll does must not depend on how fast the machine is."""
JWT_SECRET, TICKET_KEY = "simulated" * 5, "ab" * 32
SECRETS: dict[str, Any] = {
    "tickets": [[1, TICKET_KEY]],
    "issuers": [
        {
            "issuer": "chatd",
            "audience": "chatd",
            "algorithm": "HS256",
            "keys": {"local": JWT_SECRET},
            "types": ["JWT"],
            "create_users": True,
        }
    ],
}


class Side(NamedTuple):
    """One of the two implementations of what is native."""

    name: str
    engine: Callable[[EngineSettings], Any]
    core: Callable[[HubCoreSettings], Any]
    portion: Callable[[], Any]
    ring: MakeRing


SIDES = {
    "native": Side("native", native.Engine, native.HubCore, native.Portion, native_ring),
    "reference": Side("reference", ReferenceEngine, ReferenceHubCore, ReferencePortion, memory_ring),
}


@cache
def shard_settings() -> dict[str, Any]:
    settings = Settings()
    accept = plain(settings.accept) | {"address_exempt": ["127.0.0.0/8"]}
    return {
        "engine": engine_settings(settings),
        "auth": plain(settings.auth),
        "session": plain(settings.session),
        "accept": accept,
        "secrets": SECRETS,
    }


class Died(Exception):
    """A process has ended. of_store: by itself, because its store failed."""

    of_store = True


class Struck(Died):
    """A point of buggify ended it."""

    of_store = False


class Host:
    """A place for a process. wall_skew_ms: its wall clock is so far from the world's. frozen_until_ms: it stands."""

    def __init__(self, world: "Cluster") -> None:
        self.world = world
        self.up = False
        self.dirty = False
        self.wall_skew_ms = 0
        self.frozen_until_ms = 0
        self.on_step: Hit = ignore
        self.on_wait: Hit = ignore
        """Called when the clock is read that was set, and when something has arrived that has to wait."""
        self.clock = Clock(self._wall_ns, lambda: self.world.now_ms * 1_000_000)
        self._scope = trio.CancelScope()
        self._commands: Any = None

    def _wall_ns(self) -> int:
        if self.wall_skew_ms:
            self.on_step()
        return (self.world.wall_base_ms + self.world.now_ms + self.wall_skew_ms) * 1_000_000

    def set_clock(self, skew_ms: int = 0, hit: Hit = ignore) -> None:
        """Back to the right time is a step, too."""
        self.wall_skew_ms, self.on_step = skew_ms, hit

    def stand(self, duration_ms: int) -> None:
        """Do not run for a while."""
        self.frozen_until_ms = max(self.frozen_until_ms, self.world.now_ms + duration_ms)

    def arrived(self) -> None:
        """There is something to do."""
        self.dirty = True
        if self.world.now_ms < self.frozen_until_ms:
            self.on_wait()

    @property
    def runs(self) -> bool:
        return self.up and self.dirty and self.world.now_ms >= self.frozen_until_ms

    def tell(self, *command: Any) -> None:
        """A command of the supervisor."""
        if self.up:
            self._commands.send_nowait(command)

    async def _start(self, run: Callable[..., Any]) -> None:
        self._scope = trio.CancelScope()
        self._commands, commands = trio.open_memory_channel[tuple[Any, ...]](256)

        async def process(task_status: trio.TaskStatus[None]) -> None:
            with self._scope:
                await run(commands, task_status=task_status)

        await self.world.nursery.start(process)
        self.up = self.dirty = True

    async def _stop(self) -> None:
        self.up = False
        self._scope.cancel()
        await trio.testing.wait_all_tasks_blocked()


class SimShard(Shard):
    """The loop is driven from outside; wake() says that there is something to do."""

    host: "ShardHost"

    async def _serve(self) -> None:
        await trio.sleep_forever()

    def wake(self) -> None:
        self.host.dirty = True


class ShardHost(Host):
    def __init__(self, world: "Cluster", index: int) -> None:
        super().__init__(world)
        self.index = index
        self.incarnation = 0
        self.engine: Any = None
        self.shard: SimShard | None = None
        self.connections: dict[int, Any] = {}

    async def start(self) -> None:
        world = self.world
        self.incarnation += 1
        settings = replace(
            EngineSettings(**shard_settings()["engine"]),
            manual_clock=1,
            lull_us=0,
            random_seed=world.rng.getrandbits(63) | 1,
            connections_max=4096,
            **world.shape.engine_limits,
        )
        self.engine = world.side.engine(settings)
        self._set_time()
        self.shard = SimShard(self.engine, shard_settings(), self._say, self.clock)
        self.shard.host = self
        closed_too = self.shard.handlers["closed"]
        self.shard.handlers |= {
            "readable": self._on_readable,
            "resumed": self._on_resumed,
            "closed": lambda handle, *session: (closed_too(handle, *session), self._on_closed(handle)),
        }
        await self._start(self.shard.run)

    async def _say(self, said: dict[str, Any]) -> None:
        if said["say"] == "lost":
            self.world.note("link_lost")
            self.world.relink(self.index)

    def _on_readable(self, handle: int) -> None:
        if connection := self.connections.get(handle):
            connection.on_readable()

    def _on_resumed(self, handle: int) -> None:
        if connection := self.connections.get(handle):
            connection.on_resumed()

    def _on_closed(self, handle: int) -> None:
        if connection := self.connections.pop(handle, None):
            connection.on_closed()

    def tick(self) -> None:
        self._set_time()
        self.dirty = True

    def _set_time(self) -> None:
        self.engine.set_time((1000 + self.world.now_ms) * 1_000_000, self.clock.wall_ms())

    def turn(self) -> None:
        self.dirty = False
        assert self.shard is not None
        while self.shard.turn(POLL_BUDGET_US):
            pass

    @property
    def serves(self) -> bool:
        """Somebody is logged in here."""
        return self.up and any(connection.device.live for connection in self.connections.values())

    async def kill(self) -> None:
        await self._stop()
        self.engine.dispose()
        connections, self.connections = self.connections, {}
        for connection in connections.values():
            connection.on_closed(lost=True)


class SimStore(SqliteStore):
    """Its process may die at either side of a commit, and stands while a slow disk syncs."""

    host: "HubHost"

    def append(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        world = self.host.world
        if world.buggify("hub_dies_before_commit"):
            raise Struck(f"before the commit of {pos}")
        super().append(pos, count, blob, urgent=urgent)
        if world.buggify("hub_dies_after_commit"):
            raise Struck(f"after the commit of {pos}")
        if world.disk.sync_ms:
            world.disk.on_slow()
            self.host.sync(world.disk.sync_ms)


class SimHub(Hub):
    """As SimShard."""

    host: "HubHost"

    async def _serve(self) -> None:
        await trio.sleep_forever()

    def wake(self) -> None:
        self.host.dirty = True


class HubHost(Host):
    def __init__(self, world: "Cluster") -> None:
        super().__init__(world)
        self.hub: SimHub | None = None
        self.core: Any = None
        self.store: Any = None
        self._last_ms = -1

    async def start(self, *, read_only: bool = False) -> None:
        """StorageError: it cannot."""
        world = self.world
        settings = StoreSettings(**world.shape.store_limits, read_only=read_only, vfs=world.disk.vfs.name)
        self.store = SimStore.open(world.disk.path, settings)
        self.store.host = self
        try:
            self.core = world.side.core(self._core_settings())
            self.hub = self._make_hub(read_only)
            await self._start(self.hub.run)
        except* StorageError as errors:
            self._let_go()
            raise errors.exceptions[0] from None

    def _core_settings(self) -> HubCoreSettings:
        return HubCoreSettings(
            log_epoch=self.store.log_epoch,
            session_epoch_base=self.store.boot_count << 32,
            **self.world.shape.core_limits,
        )

    def _make_hub(self, read_only: bool) -> SimHub:
        rates = {"pulls_per_s": 0, "requests_per_s": 0, "resolves_per_min": 0}
        settings = HubSettings.from_mapping({**rates, "read_only": read_only})
        registry, relink = Registry(), self.world.relink
        on_thread = (self.clock, self._in_thread)
        hub = SimHub(self.core, self.store, settings, registry, RPC_METHODS, self._abort, relink, *on_thread)
        hub.host = self
        registry.hub = hub
        return hub

    def _abort(self, message: str) -> NoReturn:
        raise Died(message)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any, limiter: Any = None) -> Any:
        """A read that takes its time before and after it looks."""
        rng = self.world.rng
        async with limiter:
            if rng.random() < self.world.shape.slow_reads:
                await trio.sleep(rng.choice((0.0, 0.01, 0.1)))
            if self.world.buggify("late_answer"):
                await trio.sleep(0.5)
            answer = function(*arguments)
            if rng.random() < self.world.shape.slow_reads:
                await trio.sleep(rng.choice((0.0, 0.01, 0.1)))
        return answer

    def turn(self) -> None:
        """Died: the store failed and the process with it."""
        self.dirty = False
        assert self.hub is not None
        while any(self.hub.turn()):
            pass

    def sync(self, duration_ms: int) -> None:
        """The whole process waits for its disk: what this turn publishes leaves when that is done."""
        self.stand(duration_ms)
        for index, link in self.world.links.items():
            self.world.stall(index, link, duration_ms)

    async def kill(self) -> None:
        """The store's connections go away like those of a process: nothing is rolled back that reached the files."""
        await self._stop()
        self._let_go()

    def _let_go(self) -> None:
        if hasattr(self.core, "close"):
            self.core.close()
        self.store.close()


class FolderHost(Host):
    def __init__(self, world: "Cluster") -> None:
        super().__init__(world)
        self._folder: SqliteFolder | None = None
        self._told: tuple[Any, int] | None = None

    def fold(self) -> None:
        """Everything that waits, by a folder that is started when there is none and ends when anything fails."""
        world = self.world
        try:
            if self._folder is None:
                settings = FoldSettings(**world.shape.fold_limits, vfs=world.disk.vfs.name)
                self._folder = SqliteFolder.open(world.disk.path, world.side.portion, settings)
            while self._folder is not None:
                result = self._folder.fold_once()
                self._tell(result.folded_pos)
                if not result.records:
                    break
        except StoreFullError:
            world.note("fold_full")
        except StorageError:
            world.note("fold_failed")
            self.kill()

    def _tell(self, folded_pos: int) -> None:
        """What is written into the pipe stays there for the hub that comes next."""
        world = self.world
        if not world.hub.up or self._told == (world.hub.core, folded_pos):
            return
        if world.buggify("folder_dies_with_news"):
            self.kill()
            return
        self._told = world.hub.core, folded_pos
        late_ms = world.rng.randint(100, 2000) if world.buggify("late_news_of_fold") else world.disk.sync_ms
        if late_ms:
            world.later(late_ms, self._arrive, world.boots, folded_pos)
        else:
            world.hub.tell("folded", folded_pos)

    def _arrive(self, boot: int, folded_pos: int) -> None:
        """What was on its way when everything died does not reach the hubs of later."""
        if boot == self.world.boots:
            self.world.hub.tell("folded", folded_pos)

    @property
    def has_work(self) -> bool:
        """It runs, and something waits for it."""
        hub = self.world.hub
        return self._folder is not None and hub.up and hub.core.committed_pos > hub.hub.rows.floor_pos

    def kill(self) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None
