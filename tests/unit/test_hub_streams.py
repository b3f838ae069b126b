"""Live streams of the hub: bounds, and how a stream ends that nobody ends."""

from types import SimpleNamespace
from typing import Any

import pytest

from chatd.clock import Clock
from chatd.hub import streams
from chatd.hub.calls import Call
from chatd.hub.frames import CallError
from chatd.hub.streams import CHECK_S, PER_CONVERSATION_MAX, PER_DEVICE_MAX, Streams
from chatd.storage.people_rows import StreamRow
from chatd.wire.frame import decode_one, encode, make
from chatd.wire.schema import HEADER_BYTES, ErrorCode, Kind, Op, Right, Topic

IDLE_S = 30
Key = tuple[int, int]


class Core:
    """Everybody may write everywhere, but who is told off."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.refused: list[Any] = []
        self.events: list[tuple[int, int, int, bytes]] = []
        self.streamed: set[int] = set()
        self.silent: set[int] = set()
        self.gone: set[int] = set()

    def intervals(self, cid: int, user: int) -> list[tuple[int, ...]]:
        return [(user, 1, 1, 5 if user in self.gone else 0, 0, 0, 0)]

    def conversation(self, cid: int) -> tuple[int, ...]:
        return (2, 0, 1, 1, 0, 0, 2)

    def rights(self, cid: int, user: int) -> int:
        return 0 if user in self.silent else int(Right.WRITE)

    def muted_until_s(self, cid: int, user: int) -> int:
        return 0

    def streaming(self, cid: int, on: bool) -> None:
        (self.streamed.add if on else self.streamed.discard)(cid)

    def to_followers(self, cid: int, topics: int, frame: bytes, but_shard: int, but_handle: int) -> int:
        assert topics == Topic.STREAMS
        self.told.append(decode_one(frame))
        return 0

    def frames(self, shard: int, handle: int, frame: bytes, done: bool) -> bool:
        assert not done
        (self.refused if frame[2] == Op.ERROR else self.told).append(decode_one(frame))
        return True

    def stage_event(self, cid: int, sender: int, kind: int, content: bytes, flags: int) -> int:
        self.events.append((cid, sender, kind, content))
        return 2


class Rows:
    """The rows that would be stored, and one conversation after the other in slow mode."""

    def __init__(self) -> None:
        self.kept: dict[Key, StreamRow] = {}
        self.slow_mode_s = 0

    def find(self, table: str, key: Any) -> Any:
        return SimpleNamespace(slow_mode_s=self.slow_mode_s) if table == "conversation" else self.kept.get(key)

    def stage(self, table: str, row: StreamRow) -> None:
        self.kept[row[:2]] = row

    def remove(self, table: str, row: StreamRow) -> None:
        del self.kept[row[:2]]


class World:
    """A hub whose every turn is durable at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.core, self.rows = Core(), Rows()
        clock = Clock(wall_ns=lambda: int(self.now_s * 1e9), monotonic_ns=lambda: int(self.now_s * 1e9))
        self.hub: Any = SimpleNamespace(
            core=self.core,
            rows=self.rows,
            clock=clock,
            change=self.change,
            timers=SimpleNamespace(expect=lambda table, due_ms: None),
            settings=SimpleNamespace(stream_idle_s=IDLE_S),
            committer=SimpleNamespace(submit=self.submit),
        )
        self.streams = Streams(self.hub)

    async def change(self, apply: Any) -> Any:
        result = apply()
        self.streams.committed()
        return result

    def submit(self, apply: Any, settled: Any) -> bool:
        apply()
        self.streams.committed()
        settled(None)
        return True

    def call(self, op: Op, device: int = 7, **fields: Any) -> Call:
        frame = encode(make(op, **fields))
        return Call(0, 100 + device, device, device, op, 0, 0, 0, 65_535, 0, frame[HEADER_BYTES:])

    async def start(self, cid: int = 1, device: int = 7, kind: int = Kind.TEXT) -> int:
        answer = await self.streams.start(self.call(Op.STREAM_START, device, cid=cid, stream=0, kind=kind))
        number: int = decode_one(answer)["stream"]
        return number

    def write(self, stream: int, offset: int, data: bytes, cid: int = 1, device: int = 7) -> None:
        call = self.call(Op.STREAM_DELTA, device, cid=cid, stream=stream, offset=offset, payload=data)
        self.streams.on_delta(call)

    def look(self) -> None:
        """The timer's turn, for all that is due."""
        for row in list(self.rows.kept.values()):
            if row.due_ms <= self.now_s * 1000:
                self.streams.look_at(row)
                self.streams.committed()


@pytest.fixture
def world() -> World:
    return World()


async def refused(world: World, **where: Any) -> CallError:
    with pytest.raises(CallError) as refusal:
        await world.start(**where)
    return refusal.value


async def test_a_device_has_so_many(world: World) -> None:
    for cid in range(1, PER_DEVICE_MAX + 1):
        await world.start(cid)
    assert (await refused(world, cid=99)).code == ErrorCode.LIMIT_REACHED
    await world.start(99, device=8)
    world.streams.finish(world.streams.of(1, next(number for cid, number in world.rows.kept if cid == 1), 7))
    world.streams.committed()
    await world.start(99)


async def test_a_conversation_has_so_many(world: World) -> None:
    for device in range(1, PER_CONVERSATION_MAX + 1):
        await world.start(device=device)
    assert (await refused(world, device=99)).code == ErrorCode.LIMIT_REACHED
    await world.start(2, device=99)


async def test_the_hub_has_so_many_and_so_many_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 2)
    monkeypatch.setattr(streams, "BYTES_MAX", 10)
    first, second = await world.start(1), await world.start(2)
    refusal = await refused(world, cid=3)
    assert refusal.code == ErrorCode.BUSY
    assert refusal.retry_after_ms > 0
    world.write(first, 0, b"1234567")
    world.write(second, 0, b"1234", cid=2)
    assert world.core.refused[-1]["code"] == ErrorCode.BUSY
    world.streams.finish(world.streams.of(1, first, 7))
    world.streams.committed()
    world.write(second, 0, b"1234", cid=2)
    assert len(world.core.refused) == 1, "bytes of streams that have ended are free"


async def test_a_stream_without_deltas_ends_as_truncated(world: World) -> None:
    stream = await world.start()
    for _ in range(10):
        world.now_s += IDLE_S - 1
        world.write(stream, len(world.streams.of(1, stream, 7).content), "ü".encode())
        world.look()
    world.write(stream, 20, "ü".encode()[:1])
    world.now_s += IDLE_S - 1
    world.look()
    assert not world.core.events, "it goes on"
    world.now_s += 1
    world.look()
    ((cid, sender, kind, content),) = world.core.events
    assert (cid, sender, kind) == (1, 7, Kind.TEXT)
    assert content.endswith("üüüüüüüüüü".encode()), "half a character is none"
    assert not world.rows.kept
    assert not world.core.streamed
    assert world.core.told[-1].op == Op.STREAM_END
    world.write(stream, 20, b"x")
    assert world.core.refused[-1]["code"] == ErrorCode.NOT_FOUND


async def test_another_hub_makes_the_event_of_what_was_kept(world: World) -> None:
    stream = await world.start()
    world.write(stream, 0, b"kept")
    world.now_s += CHECK_S
    world.look()
    world.write(stream, 4, b" and lost")
    world.streams = Streams(world.hub)
    world.look()
    assert not world.core.events, "not before it is due"
    world.now_s += CHECK_S
    world.look()
    assert world.core.events[0][3].endswith(b"kept")
    assert not world.rows.kept


async def test_nothing_comes_of_nothing_nor_of_those_who_may_not_write(world: World) -> None:
    await world.start()
    silenced, removed = await world.start(2), await world.start(3, device=8)
    world.write(silenced, 0, b"said", cid=2)
    world.write(removed, 0, b"said", cid=3, device=8)
    world.core.silent.add(7)
    world.core.gone.add(8)
    world.now_s += IDLE_S
    world.look()
    assert not world.core.events
    assert not world.rows.kept


async def test_a_refused_batch_leaves_the_stream_running(world: World) -> None:
    stream = await world.start()
    world.write(stream, 0, b"abc")
    running = world.streams.of(1, stream, 7)
    world.streams.finish(running)
    with pytest.raises(CallError):
        world.streams.of(1, stream, 7)
    world.streams.rejected()
    assert world.streams.of(1, stream, 7) is running


async def test_slow_mode_is_for_streams_too(world: World) -> None:
    world.rows.slow_mode_s = 10
    assert (await refused(world)).code == ErrorCode.FORBIDDEN


async def test_a_snapshot_goes_to_those_who_can_take_it(world: World) -> None:
    stream = await world.start()
    world.write(stream, 0, b"x" * 1000)
    world.core.told.clear()
    world.streams.on_followed(0, 5, 1, 128)
    world.streams.on_followed(0, 5, 2, 65_535)
    assert world.core.told == []
    world.streams.on_followed(0, 5, 1, 65_535)
    assert [(frame.op, len(frame["payload"])) for frame in world.core.told] == [(Op.STREAM_SNAPSHOT, 1000)]
