# The loop: poll the core, run handlers, commit, publish, sleep.
# Everything between poll and publish is synchronous and on one thread; tasks (reads, methods, RPC) run only while the
# loop yields, and then nothing is staged. While traffic flows the loop does not sleep at all: it yields once and polls
# again. A lone wake-up through trio costs 10-60 us, a re-poll hides it, and the batch grows by itself under load.
"""The hub's one loop and the tasks around it."""

import logging
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Any, NoReturn

import trio

from chatd.clock import SYSTEM, AgeWatch, Clock, StepWatch
from chatd.hub.calls import Calls, RequestHandler
from chatd.hub.commit import Committer, abort_process
from chatd.hub.core import Core
from chatd.hub.events import Events, MissingEvents
from chatd.hub.frames import CallError
from chatd.hub.gather import Gather
from chatd.hub.judging import Judge, Judging, refuse_all
from chatd.hub.loading import InThread, Loader, Question
from chatd.hub.memberships import Memberships
from chatd.hub.presence import Presence
from chatd.hub.reads import not_found
from chatd.hub.recovery import FreeGate, recover
from chatd.hub.redactions import Redactions
from chatd.hub.retention import Retention
from chatd.hub.rights import Roles
from chatd.hub.rows import Missing, MissingConversation, MissingRows, Rows
from chatd.hub.rpc import Rpc, RpcMethod
from chatd.hub.search import Search
from chatd.hub.settings import HubSettings
from chatd.hub.streams import Streams
from chatd.hub.telemetry import Telemetry
from chatd.hub.timers import Timed, Timers
from chatd.storage.interface import Store
from chatd.storage.search.empty import EmptySearchReader
from chatd.storage.search.interface import SearchReader
from chatd.wire.schema import ErrorCode, Op

log = logging.getLogger(__name__)

# Rings and the core's deadlines wake it; this is for what nobody has thought of.
SLEEP_MAX_S = 5.0
# While nothing but sends comes, other tasks run at least so often; a checkpoint costs 20 us.
YIELD_INTERVAL_S = 0.002
LOADS_PER_CHANGE_MAX = 8
REVOCATIONS_REMEMBERED = 10_000

Command = tuple[Any, ...]
"""("link", shard, epoch, ring_in, ring_out), ("unlink", shard), ("folded", pos), ("reload", message) or ("stop",);
others are not for a hub."""


class Hub:
    """Everything the hub's Python side owns, for the services to use."""

    def __init__(
        self,
        core: Core,
        store: Store,
        settings: HubSettings,
        request: RequestHandler,
        rpc_methods: dict[str, RpcMethod],
        abort: Callable[[str], NoReturn] = abort_process,
        on_link_lost: Callable[[int], None] = lambda shard: None,
        clock: Clock = SYSTEM,
        in_thread: InThread = trio.to_thread.run_sync,
        judge: Judge = refuse_all,
        timed: Mapping[str, Timed] | None = None,
        search_index: SearchReader | None = None,
        kinds: Mapping[str, Any] | None = None,
    ) -> None:
        """on_link_lost: told when the ring of a shard turns out corrupt and the supervisor has to make a new link.
        in_thread: how reads of the main database leave the loop. search_index: None where no indexer runs.
        kinds: names of TYPED messages, with what the services know of them.
        """
        self.core = core
        self.clock = clock
        self._steps = StepWatch()
        self._report_lost = on_link_lost
        self.store = store
        self.settings = settings
        self.roles = Roles(settings.roles)
        core.put_role_rights(self.roles.words)
        self.shards: set[int] = set()
        self._link_epochs: dict[int, int] = {}
        self.revoked: deque[tuple[int, int]] = deque(maxlen=REVOCATIONS_REMEMBERED)
        """(user, token epoch) of this hub's lifetime, for shards."""
        self.started_ms = clock.wall_ms()
        self.rows = Rows(core, store.stored_ids())
        self.memberships = Memberships(core)
        self.redactions = Redactions(core)
        self.events = Events(core, self.redactions, self.rows)
        self.ages = AgeWatch()
        self.loader = Loader(core, store.reader(), self.rows, self.events, in_thread)
        self.search = Search(self, store.reader(), search_index or EmptySearchReader(), in_thread)
        self.streams = Streams(self)
        self.telemetry = Telemetry(self)
        overlays = (self.rows, self.memberships, self.redactions, self.streams)
        self.committer = Committer(core, store, overlays, settings, abort)
        self.committer.wake = self.loader.wake = self.wake
        self.loader.settled = self.committer.settled
        self.calls = Calls(
            self, request, {Op.STREAM_DELTA: self.streams.on_delta, Op.EPHEMERAL: self.telemetry.on_value}
        )
        self.rpc = Rpc(self, rpc_methods)
        self.presence = Presence(self)
        self.judging = Judging(self, judge)
        self.kinds = dict(kinds or {})
        self.timers = Timers(self, dict(timed or {}))
        self.retention = Retention(self)
        self._free_gate = FreeGate(core, clock)
        self._sleep: trio.CancelScope | None = None
        self._handlers = self._upcall_handlers()

    def _upcall_handlers(self) -> dict[str, Callable[..., None]]:
        """By the name of the upcall."""
        return {
            "need_conversation": lambda cid: self._want("conversation", cid),
            "need_user": lambda user: self._want("user", user),
            "need_device": lambda device: self._want("device", device),
            "need_read_count": lambda *question: self._want("read_count", question),
            "need_idempotency": lambda device, cseq: self._want(
                "idempotency", Question(device, cseq, self.core.committed_pos + self.core.staged_count)
            ),
            "need_judgement": self.judging.on_need,
            "call": self.calls.on_call,
            "rpc": self.rpc.on_rpc,
            "attached": self._free_gate.on_attached,
            "closed": self.presence.on_closed,
            "presence": self.presence.on_presence,
            "followed": self.streams.on_followed,
            "link_lost": self._on_link_lost,
        }

    # ------------------------------------------------------------ for services and reads

    async def change(self, apply: Callable[[], Any], *, urgent: bool = False) -> Any:
        """Committer.turn; what apply finds missing is loaded and apply runs again."""

        async def take_turn() -> Any:
            return await self.committer.turn(apply, urgent=urgent)

        return await self._with_loads(take_turn)

    async def lookup(self, find: Callable[[], Any]) -> Any:
        """The result of find, a synchronous function over rows and core that stages nothing, with what it misses
        loaded."""

        async def look() -> Any:
            return find()

        return await self._with_loads(look)

    async def _with_loads(self, attempt: Callable[[], Any]) -> Any:
        for _ in range(LOADS_PER_CHANGE_MAX):
            await self.committer.settled()
            try:
                return await attempt()
            except Missing as missing:
                await self.load(missing)
        raise CallError(ErrorCode.BUSY, "what this needs does not stay in memory; try again later", 1000)

    async def load(self, missing: Missing) -> None:
        """Bring what a turn or a look-up has missed. CallError: there is no such conversation, or no answer in time."""
        if isinstance(missing, MissingRows):
            await self.loader.load("row", missing.names)
        elif isinstance(missing, MissingEvents):
            await self.loader.load("event", missing.places)
        elif isinstance(missing, MissingConversation):
            await self.loader.load("conversation", [missing.cid])
            if self.core.conversation(missing.cid) is None and self.rows.is_absent("conversation", missing.cid):
                raise not_found()

    def reaches(self, shard: int) -> Callable[[], bool]:
        """Is the shard still there that is there now? Another one under its number begins anew with handles and call
        numbers: what was meant for the first must not reach it.
        """
        epoch = self._link_epochs.get(shard)
        return lambda: shard in self.shards and self._link_epochs.get(shard) == epoch

    def wake(self) -> None:
        """End the loop's sleep: there is a turn to take, or the core was given something from outside the loop."""
        if self._sleep is not None:
            self._sleep.cancel()

    # ------------------------------------------------------------ the loop

    async def run(
        self, commands: AsyncIterable[Command], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Recover, then serve until ("stop",). started() is called when links are taken."""
        recover(self)
        try:
            await self._run(commands, task_status)
        finally:
            # Whatever was polled has been committed by the same turn of the loop; nothing staged is left behind.
            self.loader.close()
            self.search.close()

    async def _run(self, commands: AsyncIterable[Command], task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.loader.run)
            await nursery.start(self.calls.run)
            await nursery.start(self.rpc.run)
            await nursery.start(self.judging.run)
            nursery.start_soon(self._serve)
            nursery.start_soon(self.presence.run)
            nursery.start_soon(self.timers.run)
            nursery.start_soon(self.retention.run)
            nursery.start_soon(self.store.lost)
            task_status.started()
            await self._obey(commands)
            nursery.cancel_scope.cancel()

    async def _serve(self) -> None:
        gather, yielded_at_s = Gather(), 0.0
        while True:
            asked, staged = self.turn(gather)
            if self.committer.in_flight:
                await self.committer.land()
            elif not asked and not staged:
                await self._wait()
            elif asked or time.monotonic() - yielded_at_s >= YIELD_INTERVAL_S:
                await trio.lowlevel.checkpoint()
            else:
                continue
            yielded_at_s = time.monotonic()

    def turn(self, gather: Gather | None = None) -> tuple[bool, int]:
        """Poll, handle, commit, publish; what is in flight afterwards has to be landed. Whether there was work for
        Python, and how many records were committed: more of either may have come meanwhile. gather: may have the commit
        wait.
        """
        core, committer = self.core, self.committer
        asked = self._poll()
        if gather and not asked and not committer.has_turns and (pause_s := gather.pause_s(core.staged_count)):
            time.sleep(pause_s)
            asked = self._poll()
        asked = asked or committer.has_turns
        staged = core.staged_count
        committer.run()
        if gather and staged:
            gather.committed(staged, time.monotonic())
        return asked, staged

    def _poll(self) -> bool:
        """Take what the shards sent and what was read. True when something of it is for Python."""
        wall_ms, monotonic_ms = self.clock.wall_ms(), self.clock.monotonic_ms()
        if step_ms := self._steps.step_ms(wall_ms, monotonic_ms):
            log.warning(
                "the clock was set by %+d s: order and deadlines go on, times of events do not fall, tokens are judged"
                " by the new time; look at the time service if nobody meant it",
                round(step_ms / 1000),
            )
        self.ages.sample(wall_ms, monotonic_ms)
        self._free_gate.pass_on()
        upcalls = self.core.poll(wall_ms, monotonic_ms)
        for name, *fields in upcalls:
            self._handlers[name](*fields)
        return self.loader.apply() or bool(upcalls)

    async def _wait(self) -> None:
        timeout_ms = self.core.timeout_ms()
        if timeout_ms == 0:
            await trio.lowlevel.checkpoint()
            return
        seconds = SLEEP_MAX_S if timeout_ms < 0 else min(SLEEP_MAX_S, timeout_ms / 1000)
        with trio.move_on_after(seconds) as self._sleep:
            await trio.lowlevel.wait_readable(self.core.fileno())
        self._sleep = None

    async def _obey(self, commands: AsyncIterable[Command]) -> None:
        async for command in commands:
            await self.committer.settled()
            match command:
                case ("link", shard, epoch, ring_in, ring_out):
                    self.shards.add(shard)
                    self._link_epochs[shard] = epoch
                    self.core.link(shard, epoch, ring_in, ring_out)
                    self._free_gate.on_linked(shard)
                    self.wake()
                case ("unlink", shard):
                    self.shards.discard(shard)
                    self._free_gate.on_unlinked(shard)
                    self.core.unlink(shard)
                case ("folded", pos):
                    self.on_folded(pos)
                case ("reload", message):
                    self.roles = Roles(message["roles"])
                    self.core.put_role_rights(self.roles.words)
                case ("stop",):
                    return

    def on_folded(self, folded_pos: int) -> None:
        """The folder has committed up to here: overlays and tail may let go."""
        self.rows.folded(folded_pos)
        self.memberships.folded(folded_pos)
        self.redactions.folded(folded_pos)
        self.events.folded()
        self.loader.folded(folded_pos)
        self.retention.folded(folded_pos)
        self._free_gate.on_folded(folded_pos)
        self.wake()

    # ------------------------------------------------------------ upcalls

    def _want(self, kind: str, key: Any) -> None:
        try:
            self.loader.want(kind, key)
        except CallError:
            log.warning("no room to load %s %s for the core; what waits for it will time out there", kind, key)

    def _on_link_lost(self, shard: int) -> None:
        log.error("the link to shard %d is corrupt; it is dropped until the supervisor makes a new one", shard)
        self.shards.discard(shard)
        self._free_gate.on_unlinked(shard)
        self.core.unlink(shard)
        self._report_lost(shard)
