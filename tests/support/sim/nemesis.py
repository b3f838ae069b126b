"""The faults of a seed: a list of (time, verb, choices), made before the run, so that single ones can be left out."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from support.faultvfs import IOERR_FSYNC, IOERR_READ, IOERR_WRITE
from support.sim.disk import Hit

if TYPE_CHECKING:
    from support.sim.world import World

FAULTS_MIN, FAULTS_MAX = 7, 16
SURE_MIN = 7
"""So many of each run are of verbs that strike nearly always."""
NEAR, NEAR_MS = 0.7, 60
"""This share comes so soon after people have done something: there is something under way to strike."""
HOURS_MS = 3_600_000


class Fault(NamedTuple):
    """choices: a seed of its own, so that leaving another fault out changes nothing here."""

    at_ms: int
    verb: str
    choices: int


def plan(rng: Random, from_ms: int, to_ms: int, busy_ms: list[int]) -> list[Fault]:
    """About half of the verbs, each with its weight; some come in company. busy_ms: when something begins."""
    verbs = rng.sample(list(VERBS), rng.randint(4, len(VERBS)))
    weights = [VERBS[verb].weight for verb in verbs]
    faults: list[Fault] = []

    def add(verb: str) -> None:
        near = busy_ms and rng.random() < NEAR
        at_ms = rng.choice(busy_ms) + rng.randint(0, NEAR_MS) if near else rng.randint(from_ms, to_ms)
        faults.append(Fault(min(at_ms, to_ms), verb, rng.getrandbits(32)))

    for _ in range(rng.randint(FAULTS_MIN, FAULTS_MAX)):
        add(*rng.choices(verbs, weights))
        if rng.random() < 0.2:
            at_ms = faults[-1].at_ms + rng.randint(0, 200)
            faults.append(Fault(at_ms, *rng.choices(verbs, weights), rng.getrandbits(32)))
    sure = [verb for verb in verbs if VERBS[verb].sure] or [verb for verb in VERBS if VERBS[verb].sure]
    while sum(VERBS[fault.verb].sure for fault in faults) < SURE_MIN:
        add(rng.choice(sure))
    return sorted(faults)


async def apply(world: "World", fault: Fault) -> None:
    await VERBS[fault.verb].strike(world, Random(fault.choices), Counted(world, fault.verb))


class Counted:
    """A fault counts, once, when it has hit something: somebody was served by what dies, bytes were lost or had to
    wait, a call has failed, a clock that was set has been read.
    """

    def __init__(self, world: "World", verb: str) -> None:
        self._world, self._verb, self._counted = world, verb, False

    def __call__(self) -> None:
        if not self._counted:
            self._counted = True
            self._world.fired(self._verb)


async def kill_shard(world: "World", rng: Random, hit: Hit) -> None:
    host = rng.choice(world.shards)
    if host.serves:
        hit()
    if host.up:
        await world.lose_shard(host, rng)


async def kill_hub(world: "World", rng: Random, hit: Hit) -> None:
    if world.hub.up:
        if world.serves:
            hit()
        await world.lose_hub(rng.choice((10, 100, 500, 1500)))


async def kill_folder(world: "World", rng: Random, hit: Hit) -> None:
    if world.folder.has_work:
        hit()
    world.folder.kill()


async def kill_all(world: "World", rng: Random, hit: Hit) -> None:
    if world.serves:
        hit()
    await world.lose_everything(rng)


async def power_loss(world: "World", rng: Random, hit: Hit) -> None:
    """Now, or in the middle of the store's work: at one of its next writes or syncs."""
    if rng.random() < 0.3:
        await world.lose_power(rng)
        return
    world.power_rng = rng
    suffix = rng.choice(("-wal", "-wal", "chatd.db-wal", "chatd.db"))
    world.disk.vfs.cut_power(rng.choice(("write", "sync")), suffix, after=rng.randint(0, 4))


async def cut(world: "World", rng: Random, hit: Hit) -> None:
    """Some connections break; one end may not hear of it."""
    for connection in world.some_connections(rng, 0.3):
        if connection.in_flight:
            hit()
        told = rng.choice(((True, True), (True, False), (False, True)))
        connection.cut(tell_server=told[0], tell_device=told[1])
        if not all(told):
            world.note("half_open_device" if told[0] else "half_open_server")


async def stall(world: "World", rng: Random, hit: Hit) -> None:
    """Some devices do not read for a while."""
    for connection in world.some_connections(rng, 0.3):
        connection.stall(hit)
        world.later(rng.randint(500, 6000), connection.read_again)


async def slow_network(world: "World", rng: Random, hit: Hit) -> None:
    world.slow_network(rng.choice((200, 800)), hit)
    world.later(rng.randint(500, 4000), world.normal_network)


async def stall_link(world: "World", rng: Random, hit: Hit) -> None:
    index = rng.randrange(len(world.shards))
    if index in world.links:
        world.stall(index, world.links[index], rng.randint(50, 1500), hit)


async def freeze(world: "World", rng: Random, hit: Hit) -> None:
    """A process does not run for a while: SIGSTOP, a page fault, a busy machine."""
    host = rng.choice([*world.shards, world.hub])
    host.on_wait = hit
    host.stand(rng.randint(20, 2500))


async def clock_step(world: "World", rng: Random, hit: Hit) -> None:
    host = rng.choice([*world.shards, world.hub, world.hub])
    host.set_clock(rng.choice((-1, 1)) * rng.choice((1000, 90_000, HOURS_MS, 9 * HOURS_MS)), hit)
    world.later(rng.randint(500, 15_000), host.set_clock)


async def eio_sync(world: "World", rng: Random, hit: Hit) -> None:
    suffix = rng.choice(("-wal", "-wal", "chatd.db-wal", "chatd.db"))
    world.disk.vfs.fail("sync", suffix, IOERR_FSYNC, then=hit)


async def eio_write(world: "World", rng: Random, hit: Hit) -> None:
    world.disk.vfs.fail("write", rng.choice(("-wal", "chatd.db")), IOERR_WRITE, after=rng.randint(0, 6), then=hit)


async def eio_read(world: "World", rng: Random, hit: Hit) -> None:
    world.disk.vfs.fail("read", rng.choice(("-wal", "chatd.db")), IOERR_READ, after=rng.randint(0, 6), then=hit)


async def disk_full(world: "World", rng: Random, hit: Hit) -> None:
    world.disk.fill(hit)
    world.later(rng.randint(300, 3000), world.disk.empty)


async def slow_disk(world: "World", rng: Random, hit: Hit) -> None:
    """Every sync takes its time; whoever waits for it stands."""
    world.disk.slow_down(rng.choice((20, 100, 700)), hit)
    world.later(rng.randint(300, 4000), world.disk.quicken)


class Verb(NamedTuple):
    """sure: it strikes nearly always."""

    strike: Callable[["World", Random, Hit], Awaitable[None]]
    weight: int
    sure: bool


VERBS: dict[str, Verb] = {
    function.__name__: Verb(function, weight, sure)
    for function, weight, sure in (
        (kill_shard, 4, True),
        (kill_hub, 4, True),
        (kill_folder, 2, False),
        (kill_all, 1, True),
        (power_loss, 4, True),
        (cut, 4, True),
        (stall, 3, False),
        (slow_network, 2, True),
        (stall_link, 3, False),
        (freeze, 3, True),
        (clock_step, 2, True),
        (eio_sync, 3, False),
        (eio_write, 3, False),
        (eio_read, 1, False),
        (disk_full, 2, False),
        (slow_disk, 2, False),
    )
}
