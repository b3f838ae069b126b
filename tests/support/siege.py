"""Around an attack: was anybody else harmed, was anything left behind?

`siege(server)` looks at every process of a running server before and after its block, and keeps two well-behaved
clients talking through it all the while. Afterwards: all processes are the same ones, memory grew by no more than was
allowed, descriptors are back where they were, every connection that was lost is counted under exactly one close
reason, the log got no more than a line a minute for an address and a reason, and no payload or token is in it.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import trio

from chatd.testing import ChatdServer
from chatd.wire.schema import Close, Method, Op
from support.live import Peer, descriptors, peer
from support.processes import workers

# The interpreter's own arenas breathe by about this much; a leak of one buffer per attack would be far above it.
GROWTH_BYTES_MAX = 8 << 20
ANSWER_S_MAX = 3.0
SETTLE_S = 6.0
PAYLOAD_TAG = b"siege-payload-5a17"


@dataclass
class Siege:
    """What the attack may ask: closes() since the beginning, by reason."""

    admin: Peer
    before: dict[str, int]
    round_trips: int = 0
    slowest_s: float = 0.0
    secrets: list[bytes] = field(default_factory=list)

    async def counters(self) -> dict[str, int]:
        """Since the siege began: the engines' counters of all shards, gauges included."""
        now = await figures(self.admin)
        return {name: count - self.before.get(name, 0) for name, count in now.items()}

    async def closes(self) -> Counter[Close]:
        grown = await self.counters()
        return Counter({reason: grown.get(f"shards_closed_{reason.name.lower()}", 0) for reason in Close})

    async def closed(self, expected: dict[Close, int], within_s: float = SETTLE_S) -> None:
        """Exactly these reasons were counted, each so often and no other; within that time."""
        counted: dict[Close, int] = {}
        with trio.move_on_after(within_s):
            while (counted := {k: v for k, v in (await self.closes()).items() if v}) != expected:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert counted == expected


async def figures(admin: Peer) -> dict[str, int]:
    return dict((await admin.call(Method.ADMIN_STATS))[1])


async def administrator(server: ChatdServer) -> Peer:
    """The first administrator, whom a new server makes by itself."""
    made = await Peer.connect(server, "admin")
    answer = await made.login()
    assert answer.op == Op.WELCOME, answer
    return made


def processes(server: ChatdServer) -> dict[str, int]:
    return {"supervisor": server.pid, **workers(server.pid)}


def memory_bytes(pid: int) -> int:
    """Private memory and rings: RssAnon + RssShmem."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    words = [line.split() for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(int(kib) for _, kib, _ in words) * 1024


def descriptor_count(pid: int, data: Path) -> int:
    """Without the files of the store: its readers are a bounded pool that grows when it is needed."""
    return sum(not name.startswith(str(data)) for name in descriptors(pid))


async def settled(look: Callable[[], object], expected: object, within_s: float = SETTLE_S) -> object:
    """look() once it equals expected, or what it is after that time."""
    with trio.move_on_after(within_s):
        while look() != expected:  # noqa: ASYNC110 /proc has no events
            await trio.sleep(0.05)
    return look()


@asynccontextmanager
async def siege(server: ChatdServer, *, growth_bytes_max: int = GROWTH_BYTES_MAX) -> AsyncIterator[Siege]:
    admin = await administrator(server)
    async with admin.stream, peer(server, "citizen-a") as a, peer(server, "citizen-b") as b:
        cid = await a.group([b.user])
        await a.say(cid, PAYLOAD_TAG)
        alive = processes(server)
        memory = {name: memory_bytes(pid) for name, pid in alive.items()}
        before = {name: descriptor_count(pid, server.data) for name, pid in alive.items()}
        log_from = server.log.stat().st_size
        state = Siege(admin, await figures(admin), secrets=[PAYLOAD_TAG, server.token("citizen-a").encode()[-40:]])
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            nursery.start_soon(_talk, state, a, b, cid, stop)
            try:
                yield state
            finally:
                stop.set()
        assert processes(server) == alive, "a process was replaced"
        assert state.round_trips
        assert state.slowest_s < ANSWER_S_MAX, f"a round trip of the others took {state.slowest_s:.1f} s"

        def counted() -> dict[str, int]:
            return {name: descriptor_count(pid, server.data) for name, pid in alive.items()}

        now = await settled(lambda: all(count <= before[name] for name, count in counted().items()), True)
        assert now is True, f"descriptors: {before} became {counted()}"
        grown = {name: memory_bytes(pid) - memory[name] for name, pid in alive.items()}
        assert max(grown.values()) <= growth_bytes_max, f"memory grew by {grown}"
        judge_log(server.log.read_bytes()[log_from:], state.secrets)


async def _talk(state: Siege, a: Peer, b: Peer, cid: int, stop: trio.Event) -> None:
    """A message there every 30 ms, each within ANSWER_S_MAX."""
    while not stop.is_set():
        begun = time.monotonic()
        seq = await a.say(cid, PAYLOAD_TAG)
        await b.delivered(cid, seq)
        state.round_trips += 1
        state.slowest_s = max(state.slowest_s, time.monotonic() - begun)
        await trio.sleep(0.03)


def judge_log(lines: bytes, secrets: list[bytes]) -> None:
    """JSON lines (`--log json`): at most one for an address and a reason, and none with a secret or a traceback."""
    for secret in secrets:
        assert secret not in lines
    assert b"Traceback" not in lines, lines.decode()
    written: Counter[tuple[str, str]] = Counter()
    for line in lines.splitlines():
        said = orjson.loads(line)
        if "reason" in said:
            written[said.get("address", ""), said["reason"]] += 1
        assert said["level"] not in ("error", "critical"), said
    assert all(count == 1 for count in written.values()), written


async def together(*attacks: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for attack in attacks:
            nursery.start_soon(attack)
