# The shard's loop: wait for the engine, poll it, hand upcalls to Python.
# Facts: a wake-up through trio costs 10-60 us, a poll that finds nothing 1 us. Consequence: while traffic flows the
# loop does not sleep, it yields and polls again; other tasks (logins, control) run at least every 500 us, which is the
# budget of one poll. Price: under load one core is busy, which is what it is there for.
"""The loop of one shard, and its commands from the supervisor."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import trio

from chatd import logs
from chatd.clock import SYSTEM, Clock
from chatd.engine.interface import Engine, Upcall
from chatd.shard.hub_calls import HubCalls
from chatd.shard.limits import AddressGate
from chatd.shard.logins import Logins

POLL_BUDGET_US = 500
DRAIN_POLL_S = 0.02
# Levels of memory pressure, as the supervisor tells them.
PRESSURE_SHED, PRESSURE_STOP = 1, 2

Say = Callable[[dict[str, Any]], Awaitable[None]]


class Shard:
    """Everything Python of one shard. Engine commands are given from this loop's thread only; wake() after them."""

    def __init__(self, engine: Engine, settings: dict[str, Any], say: Say, clock: Clock = SYSTEM) -> None:
        self.engine = engine
        self._say = say
        self._sleep: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None
        self._log = logs.get()
        self._began_ms = clock.wall_ms()
        self.hub = HubCalls(engine, self.wake)
        self.hub.questions |= {"ledger": self._ledger, "counters": engine.counters}
        self.logins = Logins(engine, self.hub, settings, self.wake, self.start_soon, clock)
        accept = settings["accept"]
        self.addresses = AddressGate(
            accept["address_connects_per_s"],
            accept["address_connects_burst"],
            accept["address_connections_max"],
            accept["address_exempt"],
            clock.monotonic_s,
        )
        self.handlers: dict[str, Callable[..., None]] = {
            "auth": self.logins.on_auth,
            "resume": self.logins.on_resume,
            "reauth": self.logins.on_reauth,
            "registered": self.logins.on_registered,
            "rpc": self.hub.on_rpc,
            "hub_lost": lambda: self._lost("hub", 0),
            "peer_lost": lambda index: self._lost("shard", index),
            "closed": self.logins.on_closed,
            "readable": lambda handle: None,
            "resumed": lambda handle: None,
        }
        # Called at the end of a reload; the TLS listener reads its certificates anew.
        self.on_reload: list[Callable[[dict[str, Any]], None]] = []
        # Called when a drain begins; listeners stop accepting.
        self.on_drain: list[Callable[[], None]] = []
        # Called with False when memory is nearly exhausted, with True when it is not any more.
        self.on_accepting: list[Callable[[bool], None]] = []
        self._accepting = True

    def wake(self) -> None:
        """End the loop's sleep: a command was given to the engine."""
        if self._sleep is not None:
            self._sleep.cancel()

    def start_soon(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(function, *arguments)

    async def run(
        self, commands: AsyncIterable[tuple[Any, ...]], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until ("stop",)."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._serve)
            task_status.started()
            await self._obey(commands)
            self._nursery.cancel_scope.cancel()

    async def _serve(self) -> None:
        while True:
            if self.turn(POLL_BUDGET_US):
                await trio.lowlevel.checkpoint()
            else:
                await self._wait()

    def turn(self, budget_us: int) -> bool:
        """Poll the engine and hand its upcalls out. True: there was work, so more may have come meanwhile."""
        upcalls = self.engine.poll(budget_us)
        if upcalls:
            self._dispatch(upcalls)
        return bool(upcalls) or self.engine.busy()

    async def _wait(self) -> None:
        timeout_ms = self.engine.timeout_ms()
        if timeout_ms == 0:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope() as self._sleep:
            if timeout_ms > 0:
                self._sleep.deadline = trio.current_time() + timeout_ms / 1000
            await trio.lowlevel.wait_readable(self.engine.fileno())
        self._sleep = None

    def _dispatch(self, upcalls: list[Upcall]) -> None:
        """One bad upcall must not take the shard's other connections with it: it is logged and its client times out."""
        for name, *fields in upcalls:
            try:
                self.handlers[str(name)](*fields)
            except Exception:  # noqa: BLE001
                self._log.exception("upcall failed", upcall=name)
        self.logins.flush()

    def _lost(self, role: str, index: int) -> None:
        self.start_soon(self._say, {"say": "lost", "to": role, "index": index})

    def _ledger(self, cid: int, seq: int, user: int | None, time_ms: int) -> tuple[list[tuple[int, str, str]], bool]:
        """(time_ms, hop, detail) for docs/internals/rpc.md, and whether nothing since the event's time is missing."""
        entries, aged_out = self.engine.ledger(cid, seq, user)
        hops = [
            (wall_ms, hop, f"user {user_}" if user_ else f"{count} recipients")
            for wall_ms, _, hop, user_, count in entries
        ]
        return hops, not aged_out and time_ms >= self._began_ms

    async def _obey(self, commands: AsyncIterable[tuple[Any, ...]]) -> None:
        engine = self.engine
        async for command in commands:
            match command:
                case ("link", _, epoch, ring_in, ring_out):
                    engine.link_hub(epoch, ring_in, ring_out)
                    self.hub.on_link()
                    self.logins.on_link()
                case ("link_peer", index, epoch, ring_in, ring_out):
                    engine.link_peer(index, epoch, ring_in, ring_out)
                case ("unlink", _):
                    engine.unlink_hub()
                case ("unlink_peer", index):
                    engine.unlink_peer(index)
                case ("reload", message):
                    self._reload(message)
                case ("pressure", level):
                    self._relieve(level)
                case ("drain", window_ms):
                    self.on_accepting.clear()
                    for stop_accepting in self.on_drain:
                        stop_accepting()
                    engine.drain(window_ms)
                    self.start_soon(self._report_drained, window_ms)
                case ("stop",):
                    return
            self.wake()

    def _relieve(self, level: int) -> None:
        """Memory is short: refuse logins (from level SHED on), leave newcomers in the kernel's queue (STOP)."""
        self.logins.sheds = level >= PRESSURE_SHED
        accepting = level < PRESSURE_STOP
        if accepting != self._accepting:
            self._accepting = accepting
            for switch in self.on_accepting:
                switch(accepting)

    def _reload(self, message: dict[str, Any]) -> None:
        self.logins.use_secrets(message["secrets"])
        for reload in self.on_reload:
            reload(message)

    async def _report_drained(self, window_ms: int) -> None:
        """When no connection is left; the window behind the last GOAWAY and the linger of BYE end it in any case."""
        with trio.move_on_after(2 * window_ms / 1000 + 2):
            while self.engine.counters().get("connections", 0):  # noqa: ASYNC110 the engine has no event
                await trio.sleep(DRAIN_POLL_S)
        await self._say({"say": "drained"})
