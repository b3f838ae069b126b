"""The faults of a seed: a list of (time, verb, choices), made before the run, so that single ones can be left out."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from support.faultvfs import IOERR_FSYNC, IOERR_READ, IOERR_WRITE

if TYPE_CHECKING:
    from support.sim.world import World

FAULTS_MIN, FAULTS_MAX = 8, 22
HOURS_MS = 3_600_000


class Fault(NamedTuple):
    """choices: a seed of its own, so that leaving another fault out changes nothing here."""

    at_ms: int
    verb: str
    choices: int


def plan(rng: Random, from_ms: int, to_ms: int) -> list[Fault]:
    """About half of the verbs, each with its weight, at any time; some come in company."""
    verbs = rng.sample(list(VERBS), rng.randint(4, len(VERBS)))
    weights = [VERBS[verb].weight for verb in verbs]
    faults: list[Fault] = []
    while len(faults) < rng.randint(FAULTS_MIN, FAULTS_MAX):
        at_ms = rng.randint(from_ms, to_ms)
        faults += [
            Fault(at_ms + rng.randint(0, 200), *rng.choices(verbs, weights), rng.getrandbits(32))
            for _ in range(rng.choice((1, 1, 1, 2)))
        ]
    return sorted(faults)


async def apply(world: "World", fault: Fault) -> None:
    await VERBS[fault.verb].strike(world, Random(fault.choices))


# Each strikes if it finds something to strike, and only then says so: world.fired(verb).


async def kill_shard(world: "World", rng: Random) -> None:
    host = rng.choice(world.shards)
    if host.up:
        world.fired("kill_shard")
        await world.lose_shard(host, rng)


async def kill_hub(world: "World", rng: Random) -> None:
    if world.hub.up:
        world.fired("kill_hub")
        await world.lose_hub(rng.choice((10, 100, 500, 1500)))


async def kill_folder(world: "World", rng: Random) -> None:
    if world.folder.running:
        world.fired("kill_folder")
        world.folder.kill()


async def kill_all(world: "World", rng: Random) -> None:
    world.fired("kill_all")
    await world.lose_everything(rng, power=False)


async def power_loss(world: "World", rng: Random) -> None:
    world.fired("power_loss")
    await world.lose_everything(rng, power=True)


async def cut(world: "World", rng: Random) -> None:
    """Some connections break; one end may not hear of it."""
    for connection in world.some_connections(rng, 0.3):
        told = rng.choice(((True, True), (True, False), (False, True)))
        connection.cut(tell_server=told[0], tell_device=told[1])
        world.fired({(True, True): "cut", (True, False): "half_open_device", (False, True): "half_open_server"}[told])


async def stall(world: "World", rng: Random) -> None:
    """Some devices do not read for a while."""
    for connection in world.some_connections(rng, 0.3):
        connection.stalled = True
        world.fired("stall")
        world.later(rng.randint(500, 6000), connection.read_again)


async def slow_network(world: "World", rng: Random) -> None:
    world.fired("slow_network")
    world.latency_max_ms = rng.choice((200, 800))
    world.later(rng.randint(500, 4000), world.normal_latency)


async def stall_link(world: "World", rng: Random) -> None:
    link = world.links.get(rng.randrange(len(world.shards)))
    if link is not None:
        world.fired("stall_link")
        world.stall(link, rng.randint(50, 1500))


async def freeze(world: "World", rng: Random) -> None:
    """A process does not run for a while: SIGSTOP, a page fault, a busy machine."""
    host = rng.choice([*world.shards, world.hub])
    if host.up:
        world.fired("freeze")
        host.frozen_until_ms = world.now_ms + rng.randint(20, 2500)


async def clock_step(world: "World", rng: Random) -> None:
    host = rng.choice([*world.shards, world.hub, world.hub])
    world.fired("clock_step")
    host.wall_skew_ms = rng.choice((-1, 1)) * rng.choice((1000, 90_000, HOURS_MS, 9 * HOURS_MS))
    world.later(rng.randint(500, 15_000), host.set_clock)


async def eio_sync(world: "World", rng: Random) -> None:
    world.disk.vfs.fail("sync", rng.choice(("-wal", "-wal", "chatd.db-wal", "chatd.db")), IOERR_FSYNC)


async def eio_write(world: "World", rng: Random) -> None:
    code = rng.choice((IOERR_WRITE, IOERR_WRITE, IOERR_READ))
    operation = "write" if code == IOERR_WRITE else "read"
    world.disk.vfs.fail(operation, rng.choice(("-wal", "chatd.db")), code, after=rng.randint(0, 6))


async def disk_full(world: "World", rng: Random) -> None:
    world.fired("disk_full")
    world.disk.fill()
    world.later(rng.randint(300, 3000), world.disk.empty)


async def slow_disk(world: "World", rng: Random) -> None:
    """Every sync takes its time; whoever waits for it stands."""
    world.fired("slow_disk")
    world.disk.sync_ms = rng.choice((20, 100, 700))
    world.later(rng.randint(300, 4000), world.disk.quicken)


class Verb(NamedTuple):
    strike: Callable[["World", Random], Awaitable[None]]
    weight: int


VERBS: dict[str, Verb] = {
    function.__name__: Verb(function, weight)
    for function, weight in (
        (kill_shard, 4),
        (kill_hub, 4),
        (kill_folder, 2),
        (kill_all, 1),
        (power_loss, 3),
        (cut, 4),
        (stall, 3),
        (slow_network, 2),
        (stall_link, 3),
        (freeze, 3),
        (clock_step, 2),
        (eio_sync, 3),
        (eio_write, 3),
        (disk_full, 2),
        (slow_disk, 2),
    )
}
