"""A running hub on a real store, called as shards call it: upcalls in, frames out."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgpack
import pytest
import trio

from chatd._native import HubCore
from chatd.clock import SYSTEM, Clock
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.flags import UserFlag
from chatd.hub.loop import Hub
from chatd.hub.rows import MissingConversation
from chatd.hub.settings import HubSettings
from chatd.services.role import make_hub
from chatd.services.users import stage_user
from chatd.storage.interface import Folder
from chatd.storage.portion import Portion
from chatd.storage.sqlite.folder import SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
from chatd.wire.schema import TIME_EPOCH_MS, ErrorCode, Method, Op
from chatd.wire.varint import encode as varint
from support import fakeshard
from support.fakeshard import FakeShard
from support.plain_core import PlainCore
from support.postgres import Postgres
from support.stores import PostgresPlace, StorePlace

UNLIMITED = {"pulls_per_s": 0, "requests_per_s": 0, "searches_per_s": 0, "resolves_per_min": 0}
NO_FLAGS = UserFlag(0)
FLIGHT_S = 0.003
WINDOW = (1000, 1 << 20)
PATIENCE_S = 60


class Refused(Exception):
    def __init__(self, code: int, text: str, retry_after_ms: int) -> None:
        super().__init__(f"{ErrorCode(code).name}: {text}")
        self.code = ErrorCode(code)
        self.retry_after_ms = retry_after_ms


class Frame:
    """Op, flags and a cursor over the body."""

    def __init__(self, op: int, flags: int, body: bytes) -> None:
        self.op, self.flags, self.body, self.at = op, flags, body, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.body[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def take(self, count: int) -> bytes:
        self.at += count
        return self.body[self.at - count : self.at]

    def string(self) -> bytes:
        return self.take(self.varint())

    def rest(self) -> bytes:
        return self.take(len(self.body) - self.at)

    def time(self) -> int:
        return int.from_bytes(self.take(5), "big") + TIME_EPOCH_MS


def split(data: bytes) -> list[Frame]:
    found = []
    while data:
        length = int.from_bytes(data[:2], "big")
        found.append(Frame(data[2], data[3], data[4 : 4 + length]))
        data = data[4 + length :]
    return found


class Aborted(Exception):
    pass


class PlainDoor:
    """Upcalls straight into the plain core."""

    def __init__(self, core: PlainCore) -> None:
        self._core = core
        self._number = 0

    async def call(self, user: int, device: int, op: int, flags: int, limits: tuple[int, ...], body: bytes) -> bytes:
        self._number += 1
        self._core.push("call", 0, self._number, user, device, op, flags, *limits, body)
        return await self._answer("frames", self._number)

    async def rpc(self, payload: bytes) -> bytes:
        self._number += 1
        self._core.push("rpc", 0, self._number, payload)
        return await self._answer("rpc", self._number)

    async def _answer(self, kind: str, number: int) -> bytes:
        with trio.fail_after(PATIENCE_S):
            while True:
                for entry in self._core.sent:
                    if entry[0] == kind and entry[2] == number:
                        self._core.sent.remove(entry)
                        found: bytes = entry[3]
                        return found
                await trio.sleep(0.001)

    def close(self) -> None: ...


class NativeDoor:
    """Records through the rings of a link, from sessions that log in when they are first needed."""

    def __init__(self, core: HubCore) -> None:
        self.shard = FakeShard(core)
        self.inbox: list[Any] = []
        self._sessions: dict[tuple[int, int], int] = {}
        self._number = 0

    async def call(self, user: int, device: int, op: int, flags: int, limits: tuple[int, ...], body: bytes) -> bytes:
        handle = await self._session(user, device)
        record = (fakeshard.S_CALL, flags, op, 0, len(body), handle, user, device, *limits)
        self.shard.write(fakeshard._CALL.pack(*record) + body)
        # A NOTICE that comes meanwhile ends no call.
        answer = await self._wait(lambda record: _is_answer(record, handle))
        return b"".join(len(body).to_bytes(2, "big") + bytes((op, flags)) + body for op, flags, body in answer.frames)

    async def _session(self, user: int, device: int) -> int:
        if (user, device) not in self._sessions:
            self._number += 1
            handle = self._sessions[user, device] = self._number
            self.shard.login(handle, user, device)
            answer = await self._wait(lambda record: isinstance(record, fakeshard.Registered))
            assert (answer.handle, answer.error) == (handle, 0)
        return self._sessions[user, device]

    async def rpc(self, payload: bytes) -> bytes:
        self._number += 1
        call = self._number
        self.shard.rpc(call, payload)
        answer = await self._wait(lambda record: isinstance(record, fakeshard.Rpc) and record.call == call)
        found: bytes = answer.payload
        return found

    async def _wait(self, wanted: Callable[[Any], bool]) -> Any:
        with trio.fail_after(PATIENCE_S):
            while True:
                self.inbox += self.shard.read()
                for record in self.inbox:
                    if wanted(record):
                        self.inbox.remove(record)
                        return record
                await trio.sleep(0.001)

    def pushed(self, cid: int) -> dict[int, list[int]]:
        """What was pushed of a conversation since the last look: user → seqs, in order. Each user has one session."""
        self.inbox += self.shard.read()
        users = {handle: user for (user, _), handle in self._sessions.items()}
        found: dict[int, list[int]] = {}
        for record in [record for record in self.inbox if isinstance(record, fakeshard.Committed)]:
            self.inbox.remove(record)
            for handle in record.handles if record.cid == cid else ():
                found.setdefault(users[handle], []).append(record.seq)
        return found

    def close(self) -> None:
        self.shard.close()


def _is_answer(record: Any, handle: int) -> bool:
    return isinstance(record, fakeshard.Frames) and record.handle == handle and record.done


class Rig:
    """One hub. Users are made by user(); every call comes from a connection that is named by its user and device."""

    def __init__(self, core: Any, door: Any, hub: Hub, folder: Folder) -> None:
        self.core, self.door, self.hub, self.folder = core, door, hub, folder
        self.store: Any = hub.store
        self._devices: dict[int, int] = {}

    async def call(
        self,
        user: int,
        op: int,
        body: bytes,
        flags: int = 0,
        *,
        device: int = 0,
        window: tuple[int, int] = WINDOW,
        frame_bytes_max: int = 65_535,
        features: int = 0,
    ) -> list[Frame]:
        device = device or await self._device(user)
        return split(await self.door.call(user, device, op, flags, (*window, frame_bytes_max, features), body))

    async def _device(self, user: int) -> int:
        """The one device of a user, made when first needed. The plain core asks for none."""
        if isinstance(self.door, PlainDoor):
            return user
        if user not in self._devices:
            self._devices[user] = (await self.rpc("device", user, 0, "rig"))["device"]
        return self._devices[user]

    async def rpc(self, method: str, *arguments: Any) -> Any:
        answer = msgpack.unpackb(await self.door.rpc(msgpack.packb([method, list(arguments)])), strict_map_key=False)
        if answer[0]:
            raise Refused(*answer)
        return answer[1]

    async def request(self, user: int, method: Method, params: dict[int, Any] | None = None, **options: Any) -> Any:
        body = varint(7) + varint(method) + msgpack.packb(params or {})
        (frame,) = await self.call(user, Op.REQUEST, body, **options)
        assert frame.op == Op.REPLY
        assert frame.varint() == 7
        code, retry_after_ms = int.from_bytes(frame.take(2), "big"), frame.varint()
        result = msgpack.unpackb(frame.rest(), strict_map_key=False)
        if code:
            assert bool(frame.flags & 2) == (400 <= code < 600 or code == ErrorCode.AUTH_BUSY)
            raise Refused(code, result[1], retry_after_ms)
        return result

    async def pull(
        self, user: int, cid: int, from_seq: int = 1, to_seq: int = 0, limit: int = 0, **options: Any
    ) -> Any:
        """The seqs and payloads delivered, then (next_seq, head_seq, floor_seq). Refused for ERROR."""
        body = varint(cid) + varint(from_seq) + varint(to_seq) + varint(limit)
        *events, end = await self.call(user, Op.PULL, body, **options)
        raise_error(end)
        assert end.op == Op.PULL_END
        found = []
        for event in events:
            assert event.op == Op.DELIVER
            assert event.flags & 2
            assert event.varint() == cid
            seq = event.varint()
            event.varint(), event.time(), event.varint()
            found.append((seq, event.rest()))
        assert end.varint() == cid
        return found, (end.varint(), end.varint(), end.varint())

    async def sync(self, user: int, cursor: bytes = b"", limit: int = 0, **options: Any) -> Any:
        """Entries as dictionaries, the new cursor, more."""
        (page,) = await self.call(user, Op.SYNC, varint(len(cursor)) + cursor + varint(limit), **options)
        raise_error(page)
        assert page.op == Op.SYNC_PAGE
        new_cursor = page.string()
        entries = []
        for _ in range(page.varint()):
            names = ("head", "floor", "count", "read_seq", "read_count", "sender")
            entry: dict[str, Any] = {"cid": page.varint(), "kind": page.take(1)[0], "state": page.take(1)[0]}
            entry |= {name: page.varint() for name in names}
            entry |= {"time": page.time(), "last_kind": page.varint(), "preview": page.string()}
            entries.append(entry)
        assert page.at == len(page.body)
        return entries, new_cursor, bool(page.flags & 2)

    async def user(self, name: str, flags: UserFlag = NO_FLAGS) -> int:
        row = await self.hub.change(lambda: stage_user(self.hub.rows, name, name.title(), None, flags, 1))
        found: int = row.id
        return found

    async def say(self, cid: int, user: int, *texts: str) -> int:
        """Messages as if sent by SEND; the last seq."""

        def apply() -> int:
            if self.core.conversation(cid) is None:
                raise MissingConversation(cid)
            return [self.core.stage_event(cid, user, 1, text.encode(), True) for text in texts][-1]

        seq: int = await self.hub.change(apply)
        return seq

    async def settled(self) -> None:
        """Nothing is staged, and no position waits for its record any more. Native core."""
        with trio.fail_after(PATIENCE_S):
            while self.core.timeout_ms() != -1:  # noqa: ASYNC110
                await trio.sleep(0.005)

    def forget(self, cid: int) -> None:
        """The plain core evicts a folded conversation; the native one does so when it likes."""
        if isinstance(self.core, PlainCore):
            self.core.forget(cid)

    async def fold(self) -> None:
        """Everything committed goes into the main database, and the hub is told."""
        while True:
            result = await trio.to_thread.run_sync(self.folder.fold_once)
            if not result.more:
                break
        self.hub.on_folded(result.folded_pos)
        self.core.freed(result.folded_pos)


def raise_error(frame: Frame) -> None:
    if frame.op == Op.ERROR:
        code = int.from_bytes(frame.take(2), "big")
        frame.take(1), frame.varint()
        retry_after_ms = frame.varint()
        raise Refused(code, frame.string().decode(), retry_after_ms)


def abort(message: str) -> NoReturn:
    raise Aborted(message)


core_kind = "plain"
places: dict[Path, StorePlace] = {}
"""Of directories whose store is a database."""
ON_POSTGRESQL = "native, postgresql"


@pytest.fixture(params=["plain", "native", "native, distant store", ON_POSTGRESQL])
def either_core(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of the module runs on both cores, with batches that are in flight for a while, and on both stores."""
    global core_kind
    core_kind = request.param
    if core_kind == ON_POSTGRESQL:
        path = request.getfixturevalue("tmp_path")
        places[path] = PostgresPlace(path, request.getfixturevalue("postgres"))
    yield
    core_kind = "plain"
    places.clear()


server: Postgres | None = None
"""Where every store is, each path a database of its own; None: as `places` says."""


@contextmanager
def using(kind: str, postgres: Postgres | None = None) -> Iterator[None]:
    """What `running` runs, without the fixture: a kind of core; with `postgres` its store is there."""
    global core_kind, server
    core_kind, server = kind, postgres
    try:
        yield
    finally:
        core_kind, server = "plain", None
        places.clear()


def place_of(path: Path) -> StorePlace | None:
    if server is not None and path not in places:
        places[path] = PostgresPlace(path, server)
    return places.get(path)


def move_away(store: SqliteStore) -> None:
    """Its batches need a while, in which tasks run."""

    async def fly(pos: int, count: int, blob: bytes, urgent: bool) -> None:
        await trio.sleep(FLIGHT_S)
        store.append(pos, count, blob, urgent=urgent)

    def begin_append(pos: int, count: int, blob: bytes, *, urgent: bool = False) -> Any:
        return fly(pos, count, blob, urgent)

    store.begin_append = begin_append  # type: ignore[method-assign]


def plain_only() -> None:
    if core_kind != "plain":
        pytest.skip("looks into the plain core")


@asynccontextmanager
async def running(path: Path, clock: Clock = SYSTEM, **settings: Any) -> AsyncIterator[Rig]:
    """A hub on the store of `path`, made if there is none. Ending it is a kill: nothing is folded or cleaned up."""
    place = place_of(path)
    store: Any = place.open() if place else SqliteStore.open(path, StoreSettings(reserve_bytes=1 << 20))
    core: Any = PlainCore() if core_kind == "plain" else HubCore(HubCoreSettings(log_epoch=store.log_epoch))
    if core_kind.endswith("distant store"):
        move_away(store)
    folder: Folder = place.folder(batch_age_s=30.0) if place else SqliteFolder.open(path, Portion)
    hub = make_hub(core, store, HubSettings.from_mapping(UNLIMITED | settings), abort=abort, clock=clock)
    hub.shards.add(0)
    _send, receive = trio.open_memory_channel[tuple[Any, ...]](4)
    door: Any = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda *, task_status: hub.run(receive, task_status=task_status))
            door = PlainDoor(core) if core_kind == "plain" else NativeDoor(core)
            hub.wake()
            yield Rig(core, door, hub, folder)
            nursery.cancel_scope.cancel()
    finally:
        if door is not None:
            door.close()
        folder.close()
        store.close()
        core.close()
