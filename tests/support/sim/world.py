"""One run: a seed, one of the two sides, a list of faults; then its judgement."""

import gc
import logging
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import trio
import trio.testing
from trio._core import _run as trio_run

from chatd import logs
from chatd.shard.tokens import issue
from support.history import History
from support.invariants import Finding, check
from support.sim import final_read, nemesis, workload
from support.sim.cluster import Cluster
from support.sim.device import Device
from support.sim.disk import Hit, ignore
from support.sim.hosts import JWT_SECRET, ShardHost
from support.sim.nemesis import Fault
from support.sim.network import Connection
from support.sim.template import AUDITOR, name_of, template

SETTLED_MS, SAFETY_MS, LIVENESS_MS = 1000, 61_000, 5_000
LOGINS_MS = 60_000
"""Longer than all devices of a user need for a login each: five a minute are allowed to it."""
TICK_MS = 200
FAULTS_MIN, OPERATIONS_MIN, VIRTUAL_S_MIN = 5, 1000, 60
ACTIONS = 450
TOKEN_LIFETIME_S = 40
"""Short, so that tokens expire under live sessions."""


class Outcome(NamedTuple):
    """invalid: why the run proves nothing. fired: faults by verb, as far as they struck."""

    seed: int
    side: str
    findings: list[Finding]
    invalid: list[str]
    fired: dict[str, int]
    notes: dict[str, int]
    operations: int
    virtual_s: float
    faults: list[Fault]
    history: History
    cpu_s: float

    @property
    def words(self) -> set[str]:
        return {finding.word for finding in self.findings}

    @property
    def passed(self) -> bool:
        return not self.findings and not self.invalid

    def digest(self) -> str:
        """Of the whole history: the same seed gives the same."""
        hashed = blake2b(digest_size=16)
        for record in self.history.records():
            hashed.update(repr(record).encode())
        return hashed.hexdigest()


def run(seed: int, side: str = "native", faults: list[Fault] | None = None) -> Outcome:
    """Simulate one seed. faults: instead of those of the seed."""
    template()  # made by a run of trio of its own
    began = time.process_time()
    with tempfile.TemporaryDirectory(dir=fast_directory()) as name, deterministic(seed) as clock:
        world = World(seed, side, Path(name), clock, faults)
        with world.disk.mounted():
            try:
                trio.run(world.main, clock=clock, restrict_keyboard_interrupt_to_checkpoints=True)
            except Exception:  # noqa: BLE001 whatever it is: the run is judged, replayed and shrunk as any other
                world.crashed(traceback.format_exc())
            finally:
                world.close()
    outcome = world.outcome(time.process_time() - began)
    # Everything holds everything else: cut here, the whole run goes away without the collector having to find it.
    vars(world).clear()
    return outcome


def fast_directory() -> Path | None:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


@contextmanager
def deterministic(seed: int) -> Iterator[trio.testing.MockClock]:
    """trio shuffles its tasks; here it does so by the seed. The logs of a dying hub are of no use."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    logging.disable(logging.CRITICAL)
    logs.get().set_level(logging.CRITICAL + 1)
    gc.disable()
    try:
        yield trio.testing.MockClock()
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
        logs.get().set_level(logging.INFO)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before


class World(Cluster):
    """Devices, faults and actions over a cluster. Everything random comes from the seed; faults and actions are drawn
    beforehand.
    """

    def __init__(self, seed: int, side: str, path: Path, clock: Any, faults: list[Fault] | None) -> None:
        super().__init__(seed, side, path, clock)
        self.latency_max_ms = self.shape.latency_ms
        self._on_late: Hit = ignore
        self.invalid: list[str] = []
        self.created: dict[int, list[int]] = {}
        self.system_events: list[tuple[int, int, int, bytes]] = []
        self.users, self.groups, self.lively = self.shape.users, self.shape.groups, self.shape.lively
        self._numbers = count(1)
        self.devices: dict[int, Device] = {}
        for user in self.users:
            for number in template().devices[user][: self.shape.devices_each]:
                self.devices[number] = Device(self, user, number)
        self._readers: list[Device] = []
        self._actions = workload.plan(Random(f"workload {seed}"), SETTLED_MS, SAFETY_MS, ACTIONS)
        if faults is None:
            busy_ms = sorted({action.at_ms for action in self._actions})
            faults = nemesis.plan(Random(f"nemesis {seed}"), SETTLED_MS, SAFETY_MS - 500, busy_ms)
        self.faults = faults
        self._tokens: dict[int, tuple[bytes, int]] = {}

    # -- what hosts, devices and faults ask ---------------------------------------------------------------------------

    def latency_ms(self) -> int:
        """In steps, so that what is under way arrives together."""
        if self.buggify("late_bytes"):
            return 1000
        drawn_ms = int(self.rng.random() * (self.latency_max_ms + 1)) // 10 * 10 + 2
        if drawn_ms > self.shape.latency_ms + 2:
            self._on_late()
        return drawn_ms

    def slow_network(self, latency_ms: int, hit: Hit) -> None:
        self.latency_max_ms, self._on_late = latency_ms, hit

    def normal_network(self) -> None:
        self.latency_max_ms = self.shape.latency_ms

    def piece(self, size: int) -> int:
        """How much of so many bytes arrives at once."""
        if size and self.buggify("single_byte"):
            return 1
        split = self.shape.split
        return self.rng.randint(1, size) if split and size and self.rng.random() < split else size

    def door(self) -> ShardHost | None:
        """Where a device that connects comes out; None: nobody accepts."""
        host = self.rng.choice(self.shards)
        return host if host.up else None

    def connect(self, device: Device, host: ShardHost) -> Connection:
        return Connection(self, device, host, next(self._numbers))

    def token(self, user: int) -> bytes:
        """A token that is good for half of its life at least, by the right time."""
        now_s = (self.wall_base_ms + self.now_ms) // 1000
        token, expires_s = self._tokens.get(user, (b"", 0))
        if expires_s < now_s + TOKEN_LIFETIME_S // 2:
            expires_s = now_s + TOKEN_LIFETIME_S
            times = {"iat": now_s, "nbf": now_s, "exp": expires_s}
            token = issue(JWT_SECRET, "local", "chatd", name_of(user), TOKEN_LIFETIME_S, **times).encode()
            self._tokens[user] = token, expires_s
        return token

    def is_steady(self, cid: int, user: int) -> bool:
        """This user is a member from the first event on and stays one."""
        members = template().groups.get(cid)
        return members is not None and cid not in self.lively and (user in members or user == AUDITOR)

    def member_device(self, cid: int, rng: Random) -> Device | None:
        users = [user for user in template().groups[cid] if user in self.users]
        return self._device_of(rng.choice(users), rng) if users else None

    def admin_device(self, cid: int, rng: Random) -> Device | None:
        return self._device_of(template().groups[cid][0], rng)

    def _device_of(self, user: int, rng: Random) -> Device | None:
        found = [device for device in self.devices.values() if device.user == user]
        return rng.choice(found) if found else None

    def some_connections(self, rng: Random, share: float) -> list[Connection]:
        live = [device.connection for device in self.devices.values() if device.connection is not None]
        return [connection for connection in live if rng.random() < share]

    def on_created(self, cid: int, users: list[int]) -> None:
        self.created[cid] = users

    # -- the run -----------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            await self.start_hub()
            for host in self.shards:
                await self.start_shard(host)
            self._schedule()
            await self.until(SAFETY_MS)
            await self._heal()
            await self.until(self.now_ms + LIVENESS_MS)
            await self._judge_liveness()
            await final_read.read(self)
            await self.stop()
            self.nursery.cancel_scope.cancel()

    def _schedule(self) -> None:
        for device in self.devices.values():
            device.retry_ms = self.rng.randint(0, SETTLED_MS // 50 // 2) * 50
        for fault in self.faults:
            self.later(fault.at_ms, nemesis.apply, self, fault)
        for action in self._actions:
            self.later(action.at_ms, workload.act, self, action)
        self.later(TICK_MS, self._tick)
        self.later(self.shape.fold_ms, self._fold)

    def _tick(self) -> None:
        for host in self.shards:
            if host.up:
                host.tick()
        self.hub.dirty = True
        self._timers_due = True
        for device in list(self.devices.values()):
            device.tick()
        for device in self._readers:
            device.tick()
        self.later(TICK_MS, self._tick)

    def _fold(self) -> None:
        if self.hub.up:
            self.folder.fold()
        self.later(self.shape.fold_ms, self._fold)

    async def _heal(self) -> None:
        """The faults end: what is full empties, what is dead starts, what is broken is found to be."""
        self.normal_network()
        await self.heal()
        for device in self.devices.values():
            connection = device.connection
            if connection is not None and connection.stalled:
                connection.read_again()
            if connection is not None and connection.broken:
                device.on_end(connection)

    async def _judge_liveness(self) -> None:
        """Of everybody now; of who was told to wait with its login when it has had as long since as the others."""
        last_ms = self.now_ms + LOGINS_MS
        for device in sorted(self.devices.values(), key=lambda device: device.told_until_ms):
            while not device.done and self.now_ms < min(device.told_until_ms + LIVENESS_MS, last_ms):
                await self.until(self.now_ms + TICK_MS)
            self._judge(device)

    def _judge(self, device: Device) -> None:
        # A session may end at any time, of a token's age for example.
        if not device.live and device.live_ms < self.now_ms - LIVENESS_MS:
            self.found("STUCK", f"device {device.number} is not logged in {LIVENESS_MS} ms after it could have been")
        for cseq, waiting in device.pending.items():
            self.found("STUCK", f"device {device.number}: cseq {cseq} to {waiting.cid} has no answer")
        for request in device.requests.values():
            self.found("STUCK", f"device {device.number}: a request has no answer: {request.frame.hex()}")

    async def reading(self, device: Device, most_ms: int, done: Callable[[], bool]) -> None:
        """Let the time go on for a device of the final read until it is done."""
        self._readers.append(device)
        end_ms = self.now_ms + most_ms
        while not done() and self.now_ms < end_ms:
            await self.until(self.now_ms + TICK_MS)

    def crashed(self, text: str) -> None:
        self.found("CRASHED", text)
        self.invalid.append("the run did not come to its end")

    # -- judgement ---------------------------------------------------------------------------------------------------

    def outcome(self, cpu_s: float) -> Outcome:
        self.notes.update({f"buggify_{point}": times for point, times in self.buggify.strikes.items()})
        operations = sum(device.operations for device in (*self.devices.values(), *self._readers))
        self.history.expected_online = {
            cid: frozenset(number for number, device in self.devices.items() if self.is_steady(cid, device.user))
            for cid in self.groups
            if cid not in self.lively
        }
        invalid = list(self.invalid)
        if sum(self.fired_count.values()) < FAULTS_MIN:
            invalid.append(f"{sum(self.fired_count.values())} faults struck")
        if operations < OPERATIONS_MIN:
            invalid.append(f"{operations} operations")
        if self.now_s < VIRTUAL_S_MIN:
            invalid.append(f"{self.now_s} s")
        findings = list(self.findings)
        if not self.invalid:
            final_read.intervals(self)
            findings += check(self.history)
        return Outcome(
            self.seed,
            self.side.name,
            findings,
            invalid,
            dict(self.fired_count),
            dict(self.notes),
            operations,
            self.now_s,
            self.faults,
            self.history,
            cpu_s,
        )
