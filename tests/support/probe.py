"""A client that is written from protocol/README.md alone and records what it does and sees.

It shares nothing with chatd.client but the codec: where both agree with the server, they agree on the specification.
It retries every SEND until it has an answer, pulls what is missing, and hands events over in order ("applied").
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from random import Random

import trio

from chatd.wire.errors import PeerProtocolError
from chatd.wire.frame import Frame, encode, make
from chatd.wire.framer import Framer
from chatd.wire.schema import Credential, Feature, Kind, Op
from support.history import Applied, Connected, History, Lag, Pulled, Seen, Send, Stored, digest, now

HISTORY_FLAG, RETRYABLE = 0x02, 0x02
connection_numbers = count(1)


class Refused(Exception):
    """The server ended the login or the connection; args[0] is the frame."""


class Connection:
    """One TCP connection after login."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.number = next(connection_numbers)
        self.stream = stream
        self.framer = Framer()
        self.received = 0
        self._write = trio.Lock()
        self._frames: list[Frame] = []  # newest first

    async def send(self, *frames: Frame) -> None:
        async with self._write:
            await self.stream.send_all(b"".join(encode(frame) for frame in frames))

    async def next(self) -> Frame:
        """The next frame; BrokenResourceError at the end."""
        while not self._frames:
            self._frames = self.framer.feed(b"")[::-1]
            if not self._frames:
                data = await self.stream.receive_some(65_536)
                if not data:
                    raise trio.BrokenResourceError("closed by the server")
                self._frames = self.framer.feed(data)[::-1]
        return self._frames.pop()


def hello() -> Frame:
    return make(
        Op.HELLO,
        major=1,
        features=int(Feature.RECEIPTS),
        frame_bytes_max=65_535,
        window_frames=0,
        window_bytes=0,
        agent="chatd-probe",
    )


@dataclass(slots=True)
class Waiting:
    """A SEND without an answer."""

    cid: int
    payload: bytes
    invoked: float
    transmitted: float = 0.0
    connection: Connection | None = None  # it was last sent on


class Probe:
    """One device of one user.

    address: host and port. token: a JSON Web Token. The conversations to follow are the keys of `positions`.
    """

    def __init__(
        self, history: History, address: tuple[str, int], token: str, *, seed: int = 0, window: int = 8
    ) -> None:
        self.history = history
        self.address = address
        self.token = token
        self.random = Random(seed)
        self.window = window
        self.user = self.device = 0
        self.ticket = b""
        self.positions: dict[int, int] = {}
        self.held: dict[int, dict[int, str]] = defaultdict(dict)
        self.pending: dict[int, Waiting] = {}
        self.cseq = 0
        self.acked_until = 0.0
        self.connection: Connection | None = None
        self.answered = trio.Condition()
        self.welcome = trio.Event()
        self.kinds: dict[str, int] = defaultdict(int)
        self.breaks = 0

    # ---- life
    async def run(self) -> None:
        """Connect, and again whenever the connection breaks, until cancelled."""
        while True:
            try:
                await self._live()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, Refused, PeerProtocolError) as errors:
                self.breaks += len(errors.exceptions)
            self._forget_connection()
            await trio.sleep(self.random.uniform(0.01, 0.15))

    def _forget_connection(self) -> None:
        for cseq, waiting in self.pending.items():
            if waiting.connection is not None:
                self._record(cseq, waiting, "unknown")
        self.connection = None
        self.welcome = trio.Event()

    async def _live(self) -> None:
        async with self._login() as connection, trio.open_nursery() as nursery:
            nursery.start_soon(self._acknowledge, connection)
            while unsent := [c for c in sorted(self.pending) if self.pending[c].connection is not connection]:
                await self._transmit(connection, unsent[0])  # in cseq order, whatever `send` adds meanwhile
            self.connection = connection
            for cid in self.positions:
                await self._pull(connection, cid)
            self.welcome.set()
            while True:
                await self._on(connection, await connection.next())

    @asynccontextmanager
    async def _login(self) -> AsyncIterator[Connection]:
        with trio.move_on_after(5) as scope:
            stream = await trio.open_tcp_stream(*self.address)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("connect timed out")
        async with stream:
            connection = Connection(stream)
            with trio.move_on_after(10) as deadline:
                await connection.send(hello(), self._credential())
                while (frame := await connection.next()).op not in (Op.WELCOME, Op.RESUMED):
                    if frame.op in (Op.ERROR, Op.BYE):
                        self.ticket = b""
                        raise Refused(frame)
            if deadline.cancelled_caught:
                raise trio.BrokenResourceError("login timed out")
            self.user, self.device, self.ticket = frame["user"], frame["device"], frame["ticket"]
            if not self.pending:
                self.cseq = max(self.cseq, frame["cseq_stored"])
            self.history.add(Connected(connection.number, self.user, self.device, now()))
            yield connection

    def _credential(self) -> Frame:
        if self.ticket:
            return make(Op.RESUME, ticket=self.ticket, log_epoch=0, cursor=b"")
        return make(
            Op.AUTH,
            credential=int(Credential.JWT),
            device=self.device,
            identity="",
            proof=self.token.encode(),
            label="probe",
        )

    async def _acknowledge(self, connection: Connection) -> None:
        sent = 0
        while True:
            await trio.sleep(0.05)
            if connection.received > sent:
                sent = connection.received
                await connection.send(make(Op.ACK, count=sent))

    # ---- sending
    async def send(self, cid: int) -> None:
        """Queue one event; returns when it is under way. At most `window` wait for their answer."""
        async with self.answered:
            while len(self.pending) >= self.window:
                await self.answered.wait()
        self.cseq += 1
        tag = {"u": self.user, "d": self.device, "n": self.cseq, "c": cid, "r": self.random.getrandbits(32)}
        self.pending[self.cseq] = Waiting(cid, json.dumps(tag).encode(), now())
        if self.connection is not None:
            try:
                await self._transmit(self.connection, self.cseq)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return  # _live notices and repeats it over the next connection

    async def _transmit(self, connection: Connection, cseq: int) -> None:
        waiting = self.pending[cseq]
        waiting.transmitted, waiting.connection = now(), connection
        await connection.send(make(Op.SEND, cseq=cseq, cid=waiting.cid, kind=int(Kind.TEXT), payload=waiting.payload))

    async def settled(self) -> None:
        """Returns when no SEND waits for an answer."""
        async with self.answered:
            while self.pending:
                await self.answered.wait()

    def _record(self, cseq: int, waiting: Waiting, outcome: str, seq: int = 0) -> None:
        number = waiting.connection.number if waiting.connection else 0
        self.history.add(
            Send(
                self.user,
                self.device,
                cseq,
                waiting.cid,
                digest(waiting.payload),
                waiting.invoked,
                waiting.transmitted,
                now(),
                outcome,
                seq,
                connection=number,
            )
        )

    # ---- receiving
    async def _on(self, connection: Connection, frame: Frame) -> None:
        if frame.op == Op.DELIVER:
            await self._on_deliver(connection, frame)
        elif frame.op == Op.SEND_ACK:
            await self._on_ack(frame)
        elif frame.op == Op.SEND_NAK:
            await self._on_nak(connection, frame)
        elif frame.op == Op.LAG:
            self.history.add(Lag(connection.number, frame["cid"], frame["from_seq"], frame["to_seq"], now()))
            for cid in [frame["cid"]] if frame["cid"] else list(self.positions):
                await self._pull(connection, cid)
        elif frame.op == Op.PULL_END:
            if frame["next_seq"] or self.positions.get(frame["cid"], 0) < frame["head_seq"]:
                await connection.send(make(Op.ACK, count=connection.received))
                await self._pull(connection, frame["cid"])
        elif frame.op == Op.ERROR and frame["code"] >= 400 and frame["op"] == Op.PULL:
            await trio.sleep(0.05)
            await self._pull(connection, frame["ref"])
        elif frame.op == Op.ERROR and frame["op"] in (Op.SEND, Op.SKIP):
            self.kinds[f"not known {frame['code']}"] += 1  # it is still answered
        elif frame.op in (Op.BYE, Op.ERROR):
            raise Refused(frame)

    async def _on_deliver(self, connection: Connection, frame: Frame) -> None:
        connection.received += 1
        cid, seq, hash_ = frame["cid"], frame["seq"], digest(frame["payload"])
        who = (connection.number, self.user, self.device)
        pulled = bool(frame.flags & HISTORY_FLAG)
        self.history.add(Seen(*who, cid, seq, frame["sender"], frame["time"], hash_, now(), pulled))
        self._hold(cid, seq, hash_)

    def _hold(self, cid: int, seq: int, hash_: str) -> None:
        position = self.positions.setdefault(cid, 0)
        if seq <= position:
            return
        held = self.held[cid]
        held[seq] = hash_
        while (position + 1) in held:
            position += 1
            self.history.add(Applied(self.device, cid, position, held.pop(position), now()))
        self.positions[cid] = position

    async def _on_ack(self, frame: Frame) -> None:
        waiting = self.pending.pop(frame["cseq"], None)
        if waiting is not None:
            self._record(frame["cseq"], waiting, "ok", frame["seq"])
            self.acked_until = max(self.acked_until, waiting.transmitted)
            self._hold(waiting.cid, frame["seq"], digest(waiting.payload))
            await self._tell()

    async def _on_nak(self, connection: Connection, frame: Frame) -> None:
        waiting = self.pending.get(frame["cseq"])
        if waiting is None:
            return
        self.kinds[f"nak {frame['code']}"] += 1
        if frame.flags & RETRYABLE:
            self._record(frame["cseq"], waiting, "retryable")
            await trio.sleep(min(frame["retry_after_ms"], 500) / 1000)
            await self._transmit(connection, frame["cseq"])
            return
        self._record(frame["cseq"], waiting, "final")
        del self.pending[frame["cseq"]]
        await self._tell()

    async def _tell(self) -> None:
        async with self.answered:
            self.answered.notify_all()

    async def _pull(self, connection: Connection, cid: int) -> None:
        start = self.positions.get(cid, 0) + 1
        await connection.send(make(Op.PULL, cid=cid, from_seq=start, to_seq=0, limit=200))


async def read_log(history: History, probe: Probe, cid: int) -> None:
    """The final read: the whole log of cid over a connection of its own, into history.stored and history.pulls."""
    begun = now()
    reader = Probe(History(), probe.address, probe.token)
    events: dict[int, Stored] = {}
    async with reader._login() as connection:
        after = 0
        while True:
            await connection.send(make(Op.PULL, cid=cid, from_seq=after + 1, to_seq=0, limit=200))
            while (frame := await connection.next()).op != Op.PULL_END:
                if frame.op == Op.DELIVER:
                    connection.received += 1
                    events[frame["seq"]] = stored_event(frame)
                elif frame.op in (Op.ERROR, Op.BYE):
                    raise Refused(frame)
            await connection.send(make(Op.ACK, count=connection.received))
            after = frame["next_seq"] - 1
            if frame["next_seq"] == 0:
                break
    for event in events.values():
        history.add(event)
    history.add(Pulled(reader.user, cid, begun, 1, tuple(sorted(events))))


def stored_event(frame: Frame) -> Stored:
    cid, seq, payload = frame["cid"], frame["seq"], frame["payload"]
    event = Stored(cid, seq, frame["sender"], None, frame["time"], digest(payload))
    if frame["kind"] >= Kind.CONVERSATION_CREATED:
        return event
    tag = json.loads(payload)
    return event._replace(device_cseq=(tag["d"], tag["n"]))
