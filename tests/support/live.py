"""A client of a running server, frame by frame: what a test of the contract looks at.

Nothing happens behind the test's back but that every DELIVER is acknowledged. Frames that nobody has asked for yet wait
in `frames`, in the order in which they came.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import msgpack
import trio

from chatd.testing import ChatdServer
from chatd.wire.frame import Extensions, Frame, encode, make
from chatd.wire.framer import Framer
from chatd.wire.payload import encode_payload
from chatd.wire.schema import Credential, ErrorCode, Feature, Kind, Method, Op
from support.processes import workers

PATIENCE_S = 10.0
LOGIN_S_MAX = 60.0
DUP, SKIPPED, HISTORY, STUB, RETRYABLE, MORE = 2, 4, 2, 4, 2, 2
Event = tuple[int, bytes]
"""seq, payload"""


class Closed(Exception):
    """The server closed; args[0] is its last frame, None when it said nothing."""


class Peer:
    """One device over one connection. cseq: of the last SEND."""

    def __init__(self, server: ChatdServer, name: str, stream: trio.SocketStream) -> None:
        self.server, self.name, self.stream = server, name, stream
        self.framer = Framer()
        self.frames: list[Frame] = []
        self.welcome = make(Op.PING, echo=b"")
        self.received = self.cseq = self.requests = 0
        self.acknowledges = True

    # ---- login
    @classmethod
    async def connect(cls, server: ChatdServer, name: str = "", receive_bytes: int = 0) -> Self:
        """receive_bytes: SO_RCVBUF, for readers that are to get stuck."""
        stream = trio.SocketStream(trio.socket.socket())
        if receive_bytes:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_bytes)
        await stream.socket.connect(("127.0.0.1", server.port))
        return cls(server, name, stream)

    async def hello(self, features: Feature = Feature.RECEIPTS, frame_bytes_max: int = 65_535, window: int = 0) -> None:
        await self.put(Op.HELLO, major=1, features=int(features), frame_bytes_max=frame_bytes_max,
                       window_frames=window, window_bytes=0, agent="contract")  # fmt: skip

    async def login(self, device: int = 0, token: str = "", **terms: Any) -> Frame:
        """HELLO and AUTH by token. Returns WELCOME, or the refusal."""
        await self.hello(**terms)
        proof = (token or self.server.token(self.name)).encode()
        return await self.auth(Credential.JWT, proof, device=device)

    async def auth(self, credential: Credential, proof: bytes = b"", identity: str = "", device: int = 0) -> Frame:
        await self.put(Op.AUTH, credential=int(credential), device=device, identity=identity, proof=proof, label="t")
        return await self._logged_in()

    async def resume(self, ticket: bytes, log_epoch: int, cursor: bytes) -> Frame:
        await self.put(Op.RESUME, ticket=ticket, log_epoch=log_epoch, cursor=cursor)
        return await self._logged_in()

    async def _logged_in(self) -> Frame:
        answer = await self.next(Op.WELCOME, Op.RESUMED, Op.ERROR)
        if answer.op != Op.ERROR:
            self.welcome = answer
            self.cseq = answer["cseq_stored"]
        return answer

    @property
    def user(self) -> int:
        return int(self.welcome["user"])

    @property
    def device(self) -> int:
        return int(self.welcome["device"])

    # ---- frames
    async def put(self, op: Op, **fields: Any) -> None:
        await self.stream.send_all(encode(make(op, **fields)))

    async def next(
        self, *ops: Op, where: Callable[[Frame], bool] = lambda _: True, within_s: float = PATIENCE_S
    ) -> Frame:
        """The first frame of one of these ops, taken out of `frames`; others stay. TooSlowError, Closed."""
        looked = 0
        with trio.fail_after(within_s):
            while True:
                for index in range(looked, len(self.frames)):
                    if self.frames[index].op in ops and where(self.frames[index]):
                        return self.frames.pop(index)
                looked = len(self.frames)
                await self.read()

    async def read(self) -> None:
        """Wait for bytes and append what they complete to `frames`."""
        try:
            data = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise Closed(self.frames[-1] if self.frames else None)
        count = self.received
        while frames := self.framer.feed(data):
            self.frames += frames
            self.received += sum(frame.op == Op.DELIVER for frame in frames)
            data = b""
        if self.acknowledges and self.received > count:
            with suppress(trio.BrokenResourceError):
                await self.put(Op.ACK, count=self.received)

    async def end(self, within_s: float = PATIENCE_S) -> int:
        """The close reason that the server gives; everything else that comes first stays in `frames`."""
        return int((await self.next(Op.BYE, within_s=within_s))["reason"])

    def take(self, *ops: Op) -> list[Frame]:
        """What has come of these ops so far."""
        found = [frame for frame in self.frames if frame.op in ops]
        self.frames = [frame for frame in self.frames if frame.op not in ops]
        return found

    async def barrier(self) -> None:
        """Returns when everything the hub pushed to this connection before has come: it travels ahead of the answer."""
        await self.sync(self.welcome["cursor"], limit=1)

    # ---- durable
    async def post(
        self, cid: int, payload: bytes = b"hi", cseq: int = 0, kind: Kind = Kind.TEXT, extensions: Extensions = ()
    ) -> int:
        """SEND without waiting. Returns its cseq; 0 takes the next one."""
        self.cseq = max(cseq, self.cseq) if cseq else self.cseq + 1
        await self.put(Op.SEND, cseq=cseq or self.cseq, cid=cid, kind=int(kind), payload=payload,
                       extensions=extensions)  # fmt: skip
        return cseq or self.cseq

    async def answer(self, cseq: int, within_s: float = PATIENCE_S) -> Frame:
        return await self.next(Op.SEND_ACK, Op.SEND_NAK, where=lambda frame: frame["cseq"] == cseq, within_s=within_s)

    async def send(
        self, cid: int, payload: bytes = b"hi", cseq: int = 0, kind: Kind = Kind.TEXT, extensions: Extensions = ()
    ) -> Frame:
        """SEND and its answer, SEND_ACK or SEND_NAK."""
        return await self.answer(await self.post(cid, payload, cseq, kind, extensions))

    async def act(self, cid: int, kind: Kind, extensions: Extensions = (), **fields: Any) -> Frame:
        """SEND of a kind whose payload has fields, and its answer."""
        return await self.send(cid, encode_payload(kind, fields), kind=kind, extensions=extensions)

    async def say(self, cid: int, payload: bytes = b"hi") -> int:
        """SEND until it is stored. Returns the seq."""
        cseq = 0
        while True:
            answer = await self.send(cid, payload, cseq)
            if answer.op == Op.SEND_ACK:
                return int(answer["seq"])
            assert answer.flags & RETRYABLE, answer
            cseq = answer["cseq"]
            await trio.sleep(min(0.1, answer["retry_after_ms"] / 1000))

    async def delivered(self, cid: int, upto: int) -> list[Frame]:
        """All pushed DELIVERs of cid so far, after waiting for that seq."""

        def fits(frame: Frame) -> bool:
            return bool(frame["cid"] == cid and not frame.flags & HISTORY)

        last = await self.next(Op.DELIVER, where=lambda frame: fits(frame) and frame["seq"] == upto)
        before = [frame for frame in self.frames if frame.op == Op.DELIVER and fits(frame)]
        self.frames = [frame for frame in self.frames if frame not in before]
        return sorted([*before, last], key=lambda frame: frame["seq"])

    async def pull(self, cid: int, start: int = 0, to: int = 0, limit: int = 0) -> tuple[list[Event], Frame]:
        """One PULL: its events and PULL_END, or ERROR."""
        frames, end = await self.pull_frames(cid, start, to, limit)
        return [(frame["seq"], frame["payload"]) for frame in frames], end

    async def pull_frames(self, cid: int, start: int = 0, to: int = 0, limit: int = 0) -> tuple[list[Frame], Frame]:
        await self.put(Op.PULL, cid=cid, from_seq=start, to_seq=to, limit=limit)
        end = await self.next(Op.PULL_END, Op.ERROR)
        history = [frame for frame in self.frames if frame.op == Op.DELIVER and frame.flags & HISTORY]
        self.frames = [frame for frame in self.frames if frame not in history]
        return history, end

    async def log(self, cid: int, start: int = 0) -> list[Event]:
        """The whole log that this user may read."""
        events, end = await self.pull(cid, start)
        assert end.op == Op.PULL_END, end
        while end["next_seq"]:
            more, end = await self.pull(cid, end["next_seq"])
            events += more
        return events

    async def sync(self, cursor: bytes = b"", limit: int = 0) -> Frame:
        await self.put(Op.SYNC, cursor=cursor, limit=limit)
        return await self.next(
            Op.SYNC_PAGE, Op.ERROR, where=lambda frame: frame.op != Op.ERROR or frame["op"] == Op.SYNC
        )

    async def synced(self, cid: int) -> dict[str, Any] | None:
        """The entry of cid, over all pages from the beginning."""
        page = await self.sync()
        while True:
            for entry in page["entries"]:
                if entry["cid"] == cid:
                    return dict(entry)
            if not page.flags & MORE:
                return None
            page = await self.sync(page["cursor"])

    # ---- control
    async def request(self, method: Method, params: dict[int, Any] | None = None) -> Frame:
        self.requests += 1
        number = self.requests
        await self.put(Op.REQUEST, id=number, method=int(method), params=msgpack.packb(params or {}))
        return await self.next(Op.REPLY, Op.ERROR, where=lambda frame: frame.op == Op.ERROR or frame["id"] == number)

    async def call(self, method: Method, params: dict[int, Any] | None = None) -> dict[int, Any]:
        """The result of a REQUEST that succeeds."""
        reply = await self.request(method, params)
        assert reply.op == Op.REPLY, reply
        assert reply["code"] == 0, reply
        return content(reply["result"])

    async def group(self, members: Iterable[int] = (), title: str = "g") -> int:
        """A new group of this user and others."""
        return int((await self.call(Method.CONVERSATION_CREATE, {1: 2, 2: title, 3: list(members)}))[1])


def content(packed: bytes) -> dict[int, Any]:
    return dict(msgpack.unpackb(packed, strict_map_key=False))


@asynccontextmanager
async def peer(server: ChatdServer, name: str, *, shard: int | None = None, **login: Any) -> AsyncIterator[Peer]:
    """A logged-in device of that user, on that shard if one is named. A server that is too busy for a login now is
    asked again."""
    receive_bytes = login.pop("receive_bytes", 0)
    with trio.fail_after(LOGIN_S_MAX):
        while True:
            made = await Peer.connect(server, name, receive_bytes)
            if shard is None or await shard_of(made) == shard:
                answer = await made.login(**login)
                if answer.op == Op.WELCOME:
                    break
                assert (answer.op, answer["code"]) == (Op.ERROR, ErrorCode.UNAVAILABLE), answer
            await made.stream.aclose()
    async with made.stream:
        yield made


async def ready(server: ChatdServer) -> None:
    """Returns when somebody could log in: a port answers long before hub and shards are there."""
    async with peer(server, "early"):
        pass


async def shard_of(made: Peer) -> int:
    """Which shard has accepted the connection: the one whose descriptors hold its socket."""
    await made.put(Op.PING, flags=2, echo=b"")
    await made.next(Op.PONG)
    mine, theirs = made.stream.socket.getsockname()[1], made.server.port
    inode = f"socket:[{inode_of(theirs, mine)}]"
    for name, pid in workers(made.server.pid).items():
        if name.startswith("shard") and inode in descriptors(pid):
            return int(name.split()[1])
    return 0


def inode_of(local_port: int, remote_port: int) -> str:
    """Of the socket between these ports, as the kernel lists it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if (int(words[1].split(":")[1], 16), int(words[2].split(":")[1], 16)) == (local_port, remote_port):
            return words[9]
    raise AssertionError("the server has no such connection")


def descriptors(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(entry))  # noqa: PTH115 a Path cannot be compared with "socket:[1]"
    return found
