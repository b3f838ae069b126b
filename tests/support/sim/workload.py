"""What people do in a run: a list made before it, in bursts, so that sends meet in one batch."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from chatd.wire.schema import ConversationKind, Method
from support.sim.template import AUDITOR

if TYPE_CHECKING:
    from support.sim.device import Device
    from support.sim.world import World

BURST_MAX = 30


class Action(NamedTuple):
    at_ms: int
    verb: str
    choices: int


def plan(rng: Random, from_ms: int, to_ms: int, count: int) -> list[Action]:
    verbs, weights = list(VERBS), [weight for _, weight in VERBS.values()]
    actions: list[Action] = []
    while len(actions) < count:
        at_ms = rng.randint(from_ms, to_ms)
        actions += [
            Action(at_ms + rng.choice((0, 0, 0, 10, 20)), *rng.choices(verbs, weights), rng.getrandbits(32))
            for _ in range(rng.randint(1, BURST_MAX))
        ]
    return sorted(actions)


def act(world: "World", action: Action) -> None:
    rng = Random(action.choices)
    cid = rng.choice(world.groups)
    device = world.member_device(cid, rng)
    if device is not None:
        VERBS[action.verb][0](world, device, cid, rng)


def send(world: "World", device: "Device", cid: int, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 3))):
        device.send(cid)


def read(world: "World", device: "Device", cid: int, rng: Random) -> None:
    device.read(cid)


def pull(world: "World", device: "Device", cid: int, rng: Random) -> None:
    device.pull(cid)


def sync(world: "World", device: "Device", cid: int, rng: Random) -> None:
    device.sync()


def subscribe(world: "World", device: "Device", cid: int, rng: Random) -> None:
    device.subscribe(cid)


def ephemeral(world: "World", device: "Device", cid: int, rng: Random) -> None:
    device.subscribe(cid)
    device.ephemeral(cid)


def come_back(world: "World", device: "Device", cid: int, rng: Random) -> None:
    """Reconnect, with or without the ticket, sometimes while the old connection is still there."""
    if device.connection is None:
        return
    if rng.random() < 0.3:
        device.ticket = b""
    if rng.random() < 0.5:
        device.hang_up()
    else:
        connection = device.connection
        connection.client_open = False
        device.on_end(connection)
        device.retry_ms = world.now_ms


def be_twice(world: "World", device: "Device", cid: int, rng: Random) -> None:
    device.be_twice(cid)


def change_members(world: "World", device: "Device", cid: int, rng: Random) -> None:
    """An admin of a lively group adds or removes somebody, or the device's user leaves."""
    lively = rng.choice(world.lively)
    admin = world.admin_device(lively, rng)
    if admin is None:
        return
    users = [rng.choice(world.users)]
    method = rng.choice((Method.MEMBER_ADD, Method.MEMBER_ADD, Method.MEMBER_REMOVE, Method.MEMBER_LEAVE))
    if method == Method.MEMBER_LEAVE:
        leaver = world.member_device(lively, rng)
        if leaver is not None and leaver.user != admin.user:
            leaver.request(method, {1: lively}, ignore)
        return
    admin.request(method, {1: lively, 2: [user for user in users if user != admin.user]}, ignore)


def create(world: "World", device: "Device", cid: int, rng: Random) -> None:
    """A new group with the auditor in it, who is to read it in the end."""
    users = [AUDITOR, *rng.sample(world.users, min(3, len(world.users)))]

    def done(result: dict[int, Any]) -> None:
        world.on_created(result[1], [device.user, *users])

    device.request(Method.CONVERSATION_CREATE, {1: int(ConversationKind.GROUP), 2: "new", 3: users}, done)


def look(world: "World", device: "Device", cid: int, rng: Random) -> None:
    method = rng.choice((Method.CONVERSATION_LIST, Method.DEVICE_LIST, Method.MEMBER_LIST))
    device.request(method, {1: cid} if method == Method.MEMBER_LIST else {}, ignore)


def ignore(result: dict[int, Any]) -> None: ...


Verb = Callable[["World", "Device", int, Random], None]
VERBS: dict[str, tuple[Verb, int]] = {
    function.__name__: (function, weight)
    for function, weight in (
        (send, 100),
        (read, 15),
        (pull, 8),
        (sync, 4),
        (subscribe, 5),
        (ephemeral, 4),
        (come_back, 5),
        (be_twice, 2),
        (change_members, 8),
        (create, 1),
        (look, 2),
    )
}
