"""A client of the simulation, written from protocol/README.md: it keeps its numbers, retries, repairs gaps, and notes
in the history of its world what it did and saw."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import msgpack

from chatd.wire.frame import Frame, decode, encode, make
from chatd.wire.schema import CLOSE_THEN, FLAG_DELIVER_HISTORY, Credential, ErrorCode, Method, Op
from chatd.wire.varint import decode as varint
from support.history import Applied, Connected, Lag, Pulled, Receipt, Seen, Send
from support.sim.network import Connection
from support.sim.positions import Positions
from support.sim.unanswered import HELLOS, Done, Request, Waiting, ack, send

if TYPE_CHECKING:
    from support.sim.world import World

LOGIN_MS = 5000
RETRY_MS = 1600
SILENCE_MS = 3000
"""Without a byte while something is unanswered: the connection is taken for dead."""
PENDING_MAX = 12
FORMER_MS = (0, 10, 30, 100, 300, 1000)
"""After a WELCOME, when a connection that was taken over sends once more."""
RETRYABLE = 0x02
SKIPPED = 0x04
ACK_EVERY = 32


class Device:
    """One device of one user. What outlives a connection is what the specification says a client stores."""

    def __init__(self, world: "World", user: int, number: int) -> None:
        self.world, self.user, self.number = world, user, number
        self.ticket = b""
        self.log_epoch = 0
        self.cseq = 0
        self.pending: dict[int, Waiting] = {}
        self.requests: dict[int, Request] = {}
        self.positions = Positions()
        self.connection: Connection | None = None
        self.live = False
        self.wanted = True
        self.retry_ms = 0
        self.live_ms = 0
        """When it was last seen live."""
        self.told_until_ms = 0
        """How long the server has told it to wait with its login."""
        self.operations = 0
        self._request_count = self._tries = 0
        self._former: tuple[Connection, int] | None = None
        self._lose_connection()

    def _lose_connection(self) -> None:
        self.connection, self.live = None, False
        self._buffer = b""
        self._received = self._acked = 0
        self._ack_every = ACK_EVERY
        self._since_ms = self._heard_ms = self.world.now_ms
        self._asked_ms = -1
        self._proved = False
        self.heartbeat_ms = 10_000

    # -- life --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """What becomes due with time; called often enough."""
        now = self.world.now_ms
        if self.live:
            self.live_ms = now
            if self._rests:
                self._beat(now)
                return
        if self.connection is None:
            if self.wanted and now >= self.retry_ms:
                self._connect()
        elif not self.live:
            if now - self._since_ms > LOGIN_MS:
                self.hang_up()
        elif self._asked_ms >= 0 and now - max(self._heard_ms, self._asked_ms) > SILENCE_MS:
            self.hang_up()
        else:
            self._work(now)

    def _connect(self) -> None:
        host = self.world.door()
        if host is None:
            self.retry_ms = self._next_try_ms(0)
            return
        self._lose_connection()
        self.connection = self.world.connect(self, host)
        self.connection.send(HELLOS[self.world.rng.randrange(len(HELLOS))] + self._credential())
        self.operations += 1

    def _credential(self) -> bytes:
        if self.ticket:
            return encode(make(Op.RESUME, ticket=self.ticket, log_epoch=self.log_epoch, cursor=self.positions.cursor))
        token = self.world.token(self.user)
        fields = {"device": self.number, "identity": "", "proof": token, "label": ""}
        return encode(make(Op.AUTH, credential=int(Credential.JWT), **fields))

    def _prove_again(self, connection: Connection | None) -> None:
        if connection is self.connection and self.live:
            terms = {"identity": "", "proof": self.world.token(self.user)}
            self._put(encode(make(Op.REAUTH, credential=int(Credential.JWT), **terms)))

    def hang_up(self, *, pause_ms: int = 0) -> None:
        """End the connection; the next one comes after a random pause."""
        connection = self.connection
        if connection is not None:
            connection.leave()
            self.on_end(connection)
        self.retry_ms = self._next_try_ms(pause_ms)

    def on_end(self, connection: Connection) -> None:
        if connection is not self.connection:
            return
        for cseq, waiting in self.pending.items():
            if waiting.connection:
                self._record(cseq, waiting, "unknown")
            waiting.connection = waiting.due_ms = 0
        for request in self.requests.values():
            request.asked, request.due_ms = False, 0
        self.positions.connection_lost()
        self._lose_connection()
        self.retry_ms = self._next_try_ms(0)

    def _next_try_ms(self, pause_ms: int) -> int:
        """Later with every connection that came to nothing."""
        self._tries += 1
        return self.world.now_ms + pause_ms + self.world.rng.randint(20, min(200 << self._tries, RETRY_MS))

    def _work(self, now: int) -> None:
        out = b""
        if self._received > self._acked:
            self._acked = self._received
            out += ack(self._received)
        for cseq, waiting in self.pending.items():
            if not waiting.connection and now >= waiting.due_ms:
                out += self._transmission(cseq, waiting)
        for request in self.requests.values():
            if not request.asked and now >= request.due_ms:
                request.asked = True
                out += request.frame
        self.positions.want_gaps()
        if self.positions.idle:
            self.positions.keep_cursor()
        else:
            asks = self.positions.next_asks(now, self.world.rng.choice((0, 0, 7)))
            self.operations += bool(asks)
            out += asks
        if out:
            self._ask(out)
        else:
            self._beat(now)

    @property
    def _rests(self) -> bool:
        """Nothing is waited for, and nothing to be done."""
        at_rest = not self.pending and not self.requests and self._received == self._acked
        return at_rest and self._asked_ms < 0 and self.positions.at_rest

    def _beat(self, now: int) -> None:
        if now - max(self._heard_ms, self._asked_ms, self._since_ms) > self.heartbeat_ms // 2:
            self._since_ms = now
            self._put(encode(make(Op.PING, echo=b"")))

    def _put(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.send(data)

    def _ask(self, data: bytes) -> None:
        """Send what may want an answer."""
        if self.waits:
            self._asked_ms = self.world.now_ms
        self._put(data)

    @property
    def waits(self) -> bool:
        """An answer is due."""
        positions = self.positions
        return bool(
            positions.asked
            or positions.sync_asked
            or any(waiting.connection for waiting in self.pending.values())
            or any(request.asked for request in self.requests.values())
        )

    @property
    def done(self) -> bool:
        """It is logged in, and everything that it wanted has its final answer."""
        return self.live and not self.pending and not self.requests

    # -- what an application does ------------------------------------------------------------------------------------

    def send(self, cid: int) -> None:
        """Queue one event. At most PENDING_MAX wait for their answer; one more is not begun."""
        if len(self.pending) >= PENDING_MAX:
            return
        self.cseq += self.world.rng.choice((1, 1, 1, 1, 2))
        size = self.world.rng.choice((0, 0, 0, 30, 400))
        self.pending[self.cseq] = Waiting(cid, self._content(cid, size), self.world.now_s)
        self.operations += 1
        # Behind one that waits for its retry in the same conversation it would only be refused.
        if self.live and not any(not waiting.connection for waiting in list(self.pending.values())[:-1]):
            self._ask(self._transmission(self.cseq, self.pending[self.cseq]))

    def _content(self, cid: int, size: int) -> str:
        return f"{self.number}.{self.cseq}.{cid}.{self.user}." + "x" * size

    def be_twice(self, cid: int) -> None:
        """Log in anew while the connection of before goes on sending: it is taken over and must not be heard."""
        if self.connection is not None and self.live:
            self._former = self.connection, cid
            self.on_end(self.connection)
            self.retry_ms = self.world.now_ms

    def _send_as_before(self, connection: Connection, cid: int) -> None:
        """Once, whatever comes of it."""
        if connection.server_open and connection.client_open:
            self.cseq += 1
            self.operations += 1
            former = Waiting(cid, self._content(cid, 0), self.world.now_s)
            connection.send(self._transmission(self.cseq, former, connection))
            self._record(self.cseq, former, "unknown")

    def read(self, cid: int) -> None:
        if self.live and self.positions.at.get(cid):
            self.operations += 1
            self._put(encode(make(Op.READ, cid=cid, seq=self.positions.at[cid])))

    def subscribe(self, cid: int) -> None:
        if self.live:
            self.operations += 1
            self._put(encode(make(Op.SUBSCRIBE, cid=cid, topics=3)))

    def ephemeral(self, cid: int) -> None:
        if self.live:
            self.operations += 1
            self._put(encode(make(Op.EPHEMERAL, cid=cid, sender=0, kind=16, payload=b"here")))

    def pull(self, cid: int) -> None:
        """Read the conversation anew from somewhere, as a user who scrolls back."""
        if self.live and cid not in self.positions.wanted and cid not in self.positions.asked:
            from_seq = self.world.rng.randint(1, max(1, self.positions.at.get(cid, 0)))
            self.positions.wanted[cid] = (from_seq, 0)

    def sync(self) -> None:
        self.positions.sync_wanted = True

    def request(self, method: Method, params: dict[int, Any], done: Done) -> None:
        """Call a method once, whatever happens to connections. done: gets the result of a success."""
        self._request_count += 1
        number = self._request_count
        key = self.number.to_bytes(8, "big") + number.to_bytes(8, "big")
        body = msgpack.packb({0: key, **params})
        self.requests[number] = Request(encode(make(Op.REQUEST, id=number, method=int(method), params=body)), done)
        self.operations += 1

    # -- sends -------------------------------------------------------------------------------------------------------

    def _transmission(self, cseq: int, waiting: Waiting, connection: Connection | None = None) -> bytes:
        connection = connection or self.connection
        assert connection is not None
        waiting.transmitted, waiting.connection = self.world.now_s, connection.number
        if waiting.skipping:
            return encode(make(Op.SKIP, cseq=cseq))
        return send(cseq, waiting.cid, waiting.content)

    def _record(self, cseq: int, waiting: Waiting, outcome: str, seq: int = 0, ts: int = 0) -> None:
        if waiting.skipping and outcome != "final":
            return
        self.world.history.sends.append(
            Send(
                self.user,
                self.number,
                cseq,
                waiting.cid,
                waiting.content,
                waiting.invoked,
                waiting.transmitted,
                self.world.now_s,
                outcome,
                seq,
                ts,
                waiting.connection,
            )
        )

    def _on_ack(self, flags: int, body: bytes) -> None:
        cseq, at = varint(body, 0)
        cid, at = varint(body, at)
        seq, at = varint(body, at)
        waiting = self.pending.pop(cseq, None)
        if waiting is None:
            return
        if flags & SKIPPED:
            self._record(cseq, waiting, "final")
            return
        waiting.skipping = False
        if cid != waiting.cid:
            text = f"device {self.number}: cseq {cseq} was sent to {waiting.cid} and acknowledged in {cid}"
            self.world.found("CROSS", text)
        self._record(cseq, waiting, "ok", seq, int.from_bytes(body[at:], "big"))
        self._apply(waiting.cid, self.positions.hold(waiting.cid, seq, waiting.content))

    def _on_nak(self, flags: int, body: bytes) -> None:
        cseq, at = varint(body, 0)
        _, at = varint(body, at)
        code = int.from_bytes(body[at : at + 2], "big")
        retry_after_ms, _ = varint(body, at + 2)
        waiting = self.pending.get(cseq)
        if waiting is None or not waiting.connection:
            return
        self.world.note(f"nak_{ErrorCode(code).name.lower()}")
        if flags & RETRYABLE:
            self._record(cseq, waiting, "retryable")
            waiting.connection = 0
            waiting.due_ms = self.world.now_ms + min(retry_after_ms, 1000)
            waiting.skipping = waiting.skipping or self.world.rng.random() < 0.05
        else:
            self._record(cseq, waiting, "final")
            del self.pending[cseq]

    # -- what arrives ------------------------------------------------------------------------------------------------

    def on_bytes(self, connection: Connection, data: bytes) -> None:
        if connection is not self.connection:
            return
        self._heard_ms = self.world.now_ms
        data, at = self._buffer + data, 0
        while len(data) - at >= 4 and len(data) - at >= (size := 4 + int.from_bytes(data[at : at + 2], "big")):
            self._on_frame(data[at + 2], data[at + 3], data[at + 4 : at + size])
            at += size
            if self.connection is not connection:
                return
        self._buffer = data[at:]
        if self.live and self._received - self._acked >= self._ack_every:
            self._acked = self._received
            self._put(ack(self._received))
        if self.live and not self.waits:
            self._asked_ms = -1

    def _on_frame(self, op: int, flags: int, body: bytes) -> None:
        if op == Op.DELIVER:
            self._on_deliver(flags, body)
        elif op == Op.SEND_ACK:
            self._on_ack(flags, body)
        elif op == Op.SEND_NAK:
            self._on_nak(flags, body)
        elif op in self.HANDLERS:
            self.HANDLERS[op](self, decode(op, flags, body))

    def _on_deliver(self, flags: int, body: bytes) -> None:
        cid, at = varint(body, 0)
        seq, at = varint(body, at)
        sender, at = varint(body, at)
        time = int.from_bytes(body[at : at + 5], "big")
        _, at = varint(body, at + 5)
        content = body[at:].decode("latin-1")
        self._received += 1
        assert self.connection is not None
        history = bool(flags & FLAG_DELIVER_HISTORY)
        who = (self.connection.number, self.user, self.number)
        self.world.history.seen.append(Seen(*who, cid, seq, sender, time, content, self.world.now_s, history))
        if history and (ask := self.positions.asked.get(cid)):
            ask.seqs.append(seq)
        self._apply(cid, self.positions.hold(cid, seq, content))

    def _apply(self, cid: int, ready: list[tuple[int, str]]) -> None:
        if ready and self.world.is_steady(cid, self.user):
            self.world.history.applied += [Applied(self.number, cid, *event, self.world.now_s) for event in ready]

    def _on_welcome(self, frame: Frame) -> None:
        assert self.connection is not None
        if self.number == 0:
            self.number = frame["device"]
            self.world.devices[self.number] = self
        assert (frame["user"], frame["device"]) == (self.user, self.number), frame
        again = self.live
        self._tries = 0
        self.live, self._since_ms, self._proved = True, self.world.now_ms, False
        self._ack_every = min(ACK_EVERY, frame["window_frames"] // 2)
        self.ticket, self.log_epoch, self.heartbeat_ms = frame["ticket"], frame["log_epoch"], frame["heartbeat_ms"]
        if not again:
            opened = Connected(self.connection.number, self.user, self.number, self.world.now_s)
            self.world.history.connections.append(opened)
        if frame["cseq_stored"] > self.cseq:
            self.world.found("PHANTOM", f"device {self.number}: cseq_stored {frame['cseq_stored']} was never used")
        if self._former is not None:
            for delay_ms in FORMER_MS:
                self.world.later(delay_ms, self._send_as_before, *self._former)
            self._former = None
        self._work(self.world.now_ms)

    def _on_error(self, frame: Frame) -> None:
        code, retry_ms = frame["code"], frame["retry_after_ms"]
        if code == ErrorCode.RATE_LIMITED and not self.live:
            self.told_until_ms = self.world.now_ms + retry_ms
        self.world.note(f"error_{ErrorCode(code).name.lower()}")
        if frame["op"] == Op.RESUME and not self.live and not frame.flags & RETRYABLE:
            self.ticket = b""
            self._put(self._credential())
        elif not self.live:
            self.hang_up(pause_ms=min(retry_ms, 1000))
        elif frame["op"] == Op.REAUTH and (frame.flags & RETRYABLE or not self._proved):
            # A token that is refused for good is not tried again: this shard has another time.
            self._proved = True
            pause_ms = retry_ms if frame.flags & RETRYABLE else 0
            self.world.later(pause_ms, self._prove_again, self.connection)
        elif frame["op"] == Op.SYNC:
            self.positions.sync_asked, self.positions.sync_wanted = False, True
        elif frame["op"] == Op.PULL:
            ask = self.positions.asked.pop(frame["ref"], None)
            if ask is not None and frame.flags & RETRYABLE:
                self.positions.want(frame["ref"], ask.to_seq)
        elif frame["op"] == Op.REQUEST and frame["ref"] in self.requests:
            self._ask_later(self.requests[frame["ref"]], retry_ms)

    def _ask_later(self, request: Request, retry_ms: int) -> None:
        request.asked, request.due_ms = False, self.world.now_ms + min(retry_ms, 1000)

    def _on_reply(self, frame: Frame) -> None:
        request = self.requests.get(frame["id"])
        if request is None:
            return
        if frame["code"]:
            self.world.note(f"reply_{ErrorCode(frame['code']).name.lower()}")
        if frame["code"] and frame.flags & RETRYABLE:
            self._ask_later(request, frame["retry_after_ms"])
            return
        del self.requests[frame["id"]]
        if not frame["code"]:
            request.done(msgpack.unpackb(frame["result"], strict_map_key=False))

    def _on_lag(self, frame: Frame) -> None:
        assert self.connection is not None
        cid, from_seq, to_seq = frame["cid"], frame["from_seq"], frame["to_seq"]
        self.world.history.lags.append(Lag(self.connection.number, cid, from_seq, to_seq, self.world.now_s))
        self.world.note("lag")
        if cid:
            self.positions.want(cid, to_seq)
        else:
            self.positions.sync_wanted = True
        self._work(self.world.now_ms)

    def _on_pull_end(self, frame: Frame) -> None:
        cid = frame["cid"]
        ask, ready = self.positions.on_end(cid, frame["next_seq"], frame["head_seq"])
        if ask is not None and not ask.to_seq and self.world.is_steady(cid, self.user):
            seqs = tuple(ask.seqs)
            self.world.history.pulls.append(Pulled(self.user, cid, ask.begun_ms / 1000, ask.from_seq, seqs))
        self._apply(cid, ready)
        self._work(self.world.now_ms)

    def _on_page(self, frame: Frame) -> None:
        self.positions.on_page(frame["cursor"], frame["entries"], bool(frame.flags & 2))
        self._work(self.world.now_ms)

    def _on_receipt(self, frame: Frame) -> None:
        assert self.connection is not None
        for entry in frame["entries"]:
            place = (self.connection.number, frame["cid"], entry["user"])
            receipt = Receipt(*place, entry["delivered_seq"], entry["read_seq"], self.world.now_s)
            self.world.history.receipts.append(receipt)

    def _on_bye(self, frame: Frame) -> None:
        self.world.note(f"bye_{frame['reason']}")
        if CLOSE_THEN[frame["reason"]] == "fresh":
            self.ticket = b""
        self.hang_up(pause_ms=min(frame["retry_after_ms"], 500))

    HANDLERS: ClassVar[dict[int, Callable[["Device", Frame], None]]] = {
        Op.WELCOME: _on_welcome,
        Op.RESUMED: _on_welcome,
        Op.ERROR: _on_error,
        Op.REPLY: _on_reply,
        Op.LAG: _on_lag,
        Op.PULL_END: _on_pull_end,
        Op.SYNC_PAGE: _on_page,
        Op.RECEIPT: _on_receipt,
        Op.BYE: _on_bye,
    }
