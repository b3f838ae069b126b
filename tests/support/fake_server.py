"""A server for tests of the client alone: one conversation log after another in memory, without I/O.

It follows the contract (one order, idempotent cseqs, own events only by SEND_ACK, PULL and SYNC over the log) and
breaks connections, answers and pushes exactly where a test says so. Whether the real server follows the contract is
proved elsewhere, with the real server.
"""

from dataclasses import dataclass, field
from typing import Any

from chatd.wire import Frame, Framer, encode, make, schema
from chatd.wire.control import pack, unpack
from chatd.wire.schema import Close, ErrorCode, Method, Op


@dataclass
class Stored:
    cid: int
    seq: int
    sender: int
    time: int
    kind: int
    payload: bytes


@dataclass
class Log:
    members: dict[int, int]  # user: first seq that is readable
    events: list[Stored] = field(default_factory=list)
    changed: int = 0


class FakeServer:
    """The credential's proof is the user's number in decimal; names: of the users, their numbers when left out."""

    def __init__(self, names: dict[int, str] | None = None) -> None:
        self.names = names or {}
        self.logs: dict[int, Log] = {}
        self.devices: dict[int, int] = {}  # device: user
        self.stored: dict[tuple[int, int], tuple[bytes, Stored | None]] = {}
        self.links: list[FakeLink] = []
        self.log_epoch = 1
        self.clock = 0
        self.change = 0
        self.naks: list[tuple[int, int]] = []  # (code, retry_after_ms) for the next SENDs
        self.reply_silence = 0  # so many REQUESTs get no answer
        self.requests: list[tuple[int, dict[int, object]]] = []
        self.refuse_resume = False
        self.refuse_login: int = 0
        self.heartbeat_ms = 25_000
        self.titles: dict[int, str] = {}

    def create(self, cid: int, *members: int) -> None:
        self.logs[cid] = Log(dict.fromkeys(members, 1))

    def connect(self) -> "FakeLink":
        link = FakeLink(self)
        self.links.append(link)
        return link

    def append(self, cid: int, sender: int, kind: int, payload: bytes, origin: "FakeLink | None" = None) -> Stored:
        """Commit one event and push it to every member but the sending connection."""
        log = self.logs[cid]
        self.clock += 1
        self.change += 1
        log.changed = self.change
        event = Stored(cid, len(log.events) + 1, sender, self.clock, kind, payload)
        log.events.append(event)
        for link in self.links:
            if link.live and link is not origin and event.seq >= log.members.get(link.user, 1 << 60):
                link.push(event)
        return event

    def add_member(self, cid: int, user: int, by: int) -> None:
        self.logs[cid].members[user] = len(self.logs[cid].events) + 1
        self.append(cid, by, schema.Kind.MEMBERS_ADDED, b"\x01\x01" + bytes((user,)))


class FakeLink:
    """One connection: `feed` what the client wrote, send it `out`."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.user = self.device = 0
        self.live = False
        self.closing = False
        self.out = bytearray()
        self.lagging: dict[int, tuple[int, int]] | None = None
        self.acked = 0
        self.delivered = 0
        self.hold_acks: list[Frame] | None = None
        self.seen: list[Frame] = []
        self._framer = Framer()

    def feed(self, data: bytes) -> None:
        while frames := self._framer.feed(data):
            data = b""
            for frame in frames:
                self.seen.append(frame)
                getattr(self, f"on_{frame.name.lower()}", lambda _: None)(frame)

    def emit(self, frame: Frame) -> None:
        self.out += encode(frame)

    def close(self, reason: int = 0, retry_after_ms: int = 0) -> None:
        if reason:
            self.emit(make(Op.BYE, reason=reason, retry_after_ms=retry_after_ms, text=""))
        self.closing, self.live = True, False
        if self in self.server.links:
            self.server.links.remove(self)

    def deliver(self, event: Stored, flags: int = 0) -> None:
        self.delivered += 1
        self.emit(make(Op.DELIVER, flags=flags, **vars(event)))

    def push(self, event: Stored) -> None:
        if self.lagging is None:
            self.deliver(event)
            return
        first, _ = self.lagging.get(event.cid, (event.seq, 0))
        self.lagging[event.cid] = (first, event.seq)

    def catch_up(self) -> None:
        """The socket drains: LAG for what was not pushed."""
        for cid, (first, last) in (self.lagging or {}).items():
            self.emit(make(Op.LAG, cid=cid, from_seq=first, to_seq=last))
        self.lagging = None

    # ------------------------------------------------------------ login

    def error(self, frame: Frame, code: int, retry_after_ms: int = 0, ref: int = 0) -> None:
        flags = schema.FLAG_ERROR_RETRYABLE if code in schema.RETRYABLE else 0
        fields = {"code": code, "op": frame.op, "ref": ref, "retry_after_ms": retry_after_ms, "text": "refused"}
        self.emit(make(Op.ERROR, flags=flags, **fields))

    def on_auth(self, frame: Frame) -> None:
        if self.server.refuse_login:
            self.error(frame, self.server.refuse_login)
            return
        device = frame["device"]
        self.user = int(frame["proof"] or b"0")
        if not device:
            device = len(self.server.devices) + 1
            self.server.devices[device] = self.user
        self.welcome(Op.WELCOME, device)

    def on_reauth(self, frame: Frame) -> None:
        if self.server.refuse_login:
            self.error(frame, self.server.refuse_login)
        else:
            self.welcome(Op.WELCOME, self.device)

    def on_resume(self, frame: Frame) -> None:
        if self.server.refuse_resume:
            self.error(frame, ErrorCode.AUTH_FAILED)
            return
        device = int(frame["ticket"])
        self.user = self.server.devices[device]
        self.welcome(Op.RESUMED, device, continuity=int(frame["log_epoch"] == self.server.log_epoch))

    def welcome(self, op: Op, device: int, **more: int) -> None:
        for other in [link for link in self.server.links if link.device == device and link.live and link is not self]:
            other.close(Close.TAKEN_OVER)
        self.device, self.live = device, True
        stored = [cseq for known, cseq in self.server.stored if known == device]
        self.emit(
            make(
                op,
                **more,
                user=self.user,
                device=device,
                session_epoch=1,
                cseq_stored=max(stored, default=0),
                features=int(schema.Feature.RECEIPTS | schema.Feature.STREAMS),
                frame_bytes_max=schema.BODY_BYTES_MAX,
                window_frames=schema.WINDOW_FRAMES_DEFAULT,
                window_bytes=schema.WINDOW_BYTES_DEFAULT,
                frames_per_s=0,
                sends_per_s=0,
                heartbeat_ms=self.server.heartbeat_ms,
                time=self.server.clock,
                log_epoch=self.server.log_epoch,
                cursor=b"%d" % self.server.change,
                ticket=b"%d" % device,
            )
        )

    # ------------------------------------------------------------ events

    def on_send(self, frame: Frame) -> None:
        cseq, cid = frame["cseq"], frame["cid"]
        known = self.server.stored.get((self.device, cseq))
        digest = b"%d/%d/" % (cid, frame["kind"]) + frame["payload"]
        log = self.server.logs.get(cid)
        if known is not None and known[0] != digest:
            self.nak(cseq, cid, ErrorCode.CSEQ_REUSE)
        elif known is not None and known[1] is not None:
            self.ack(cseq, known[1], schema.FLAG_SEND_ACK_DUP)
        elif log is None or self.user not in log.members:
            self.nak(cseq, cid, ErrorCode.NOT_FOUND)
        elif self.refused_before(cid, cseq):
            self.nak(cseq, cid, ErrorCode.OUT_OF_ORDER)
        elif self.server.naks:
            code, retry_after_ms = self.server.naks.pop(0)
            if code in schema.RETRYABLE:
                self.refused[cid] = min(cseq, self.refused.get(cid, cseq))
            self.nak(cseq, cid, code, retry_after_ms)
        else:
            if self.refused.get(cid) == cseq:
                del self.refused[cid]
            event = self.server.append(cid, self.user, frame["kind"], frame["payload"], origin=self)
            self.server.stored[self.device, cseq] = (digest, event)
            self.ack(cseq, event)

    @property
    def refused(self) -> dict[int, int]:
        return self.__dict__.setdefault("_refused", {})

    def refused_before(self, cid: int, cseq: int) -> bool:
        return cseq > self.refused.get(cid, cseq)

    def ack(self, cseq: int, event: Stored, flags: int = 0) -> None:
        answer = make(Op.SEND_ACK, flags=flags, cseq=cseq, cid=event.cid, seq=event.seq, time=event.time)
        self.emit(answer) if self.hold_acks is None else self.hold_acks.append(answer)

    def nak(self, cseq: int, cid: int, code: int, retry_after_ms: int = 0) -> None:
        flags = schema.FLAG_SEND_NAK_RETRYABLE if code in schema.RETRYABLE else 0
        self.emit(
            make(Op.SEND_NAK, flags=flags, cseq=cseq, cid=cid, code=code, retry_after_ms=retry_after_ms, text="no")
        )

    def on_skip(self, frame: Frame) -> None:
        cseq = frame["cseq"]
        known = self.server.stored.get((self.device, cseq))
        if known is not None and known[1] is not None:
            self.ack(cseq, known[1], schema.FLAG_SEND_ACK_DUP)
            return
        self.server.stored[self.device, cseq] = (b"", None)
        for cid in [cid for cid, first in self.refused.items() if first == cseq]:
            del self.refused[cid]
        self.emit(make(Op.SEND_ACK, flags=schema.FLAG_SEND_ACK_SKIPPED, cseq=cseq, cid=0, seq=0, time=0))

    def on_ack(self, frame: Frame) -> None:
        assert self.acked <= frame["count"] <= self.delivered, "an ACK counts what was delivered on this connection"
        self.acked = frame["count"]

    def on_sync(self, frame: Frame) -> None:
        since = int(frame["cursor"] or b"0")
        changed = sorted(
            (log.changed, cid)
            for cid, log in self.server.logs.items()
            if self.user in log.members and log.changed > since
        )
        page = changed[: min(frame["limit"], 2)]  # small pages: MORE is seen often
        more = len(changed) > len(page)
        cursor = page[-1][0] if more else self.server.change
        entries = [self.sync_entry(cid) for _, cid in page]
        flags = schema.FLAG_SYNC_PAGE_MORE if more else 0
        self.emit(make(Op.SYNC_PAGE, flags=flags, cursor=b"%d" % cursor, entries=entries))

    def sync_entry(self, cid: int) -> dict[str, object]:
        log = self.server.logs[cid]
        last = log.events[-1] if log.events else Stored(cid, 0, 0, 0, 0, b"")
        entry = {"cid": cid, "kind": 2, "state": 1, "head_seq": len(log.events), "floor_seq": log.members[self.user]}
        entry |= {"message_count": len(log.events), "read_seq": 0, "read_count": 0, "last_sender": last.sender}
        return entry | {"last_time": last.time, "last_kind": last.kind, "last_preview": last.payload[:96]}

    def on_pull(self, frame: Frame) -> None:
        many = frame.extension(schema.EXTENSION_PULL_RANGES)
        if many is None:
            around = frame.extension(schema.EXTENSION_PULL_AROUND) or {"before": 0}
            from_seq = max(1, frame["from_seq"] - int(around["before"]))
            self.pulled(frame, frame["cid"], from_seq, frame["to_seq"], frame["limit"] if around["before"] else 3)
            return
        room, next_range = 5, 0
        for number, wanted in enumerate(many["ranges"], 1):
            if not room:
                next_range = number
                break
            room -= self.pulled(frame, wanted["cid"], wanted["from_seq"], wanted["to_seq"], room)
        self.emit(make(Op.PULL_END, cid=0, next_seq=next_range, head_seq=0, floor_seq=0))

    def pulled(self, frame: Frame, cid: int, from_seq: int, to_seq: int, limit: int) -> int:
        """DELIVERs and PULL_END of one range; how many of them."""
        log = self.server.logs.get(cid)
        if log is None or self.user not in log.members:
            self.error(frame, ErrorCode.NOT_FOUND, ref=cid)
            return 0
        floor = log.members[self.user]
        last = min(to_seq or len(log.events), len(log.events))
        wanted = log.events[max(from_seq, floor) - 1 : last]
        page = wanted[: min(frame["limit"], limit)]
        for event in page:
            self.deliver(event, schema.FLAG_DELIVER_HISTORY)
        next_seq = wanted[len(page)].seq if len(wanted) > len(page) else 0
        self.emit(make(Op.PULL_END, cid=cid, next_seq=next_seq, head_seq=len(log.events), floor_seq=floor))
        return len(page)

    # ------------------------------------------------------------ the rest

    def on_ping(self, frame: Frame) -> None:
        if frame.flags & schema.FLAG_PING_REPLY_WANTED:
            self.emit(make(Op.PONG, echo=frame["echo"]))

    def on_bye(self, frame: Frame) -> None:
        del frame
        self.close()

    def on_subscribe(self, frame: Frame) -> None:
        self.emit(make(Op.SUBSCRIBE, cid=frame["cid"], topics=frame["topics"]))

    def on_ephemeral(self, frame: Frame) -> None:
        for link in self.server.links:
            if link.live and link is not self:
                link.emit(
                    make(
                        Op.EPHEMERAL,
                        cid=frame["cid"],
                        sender=self.user,
                        kind=frame["kind"],
                        payload=frame["payload"],
                    )
                )

    def on_request(self, frame: Frame) -> None:
        params = unpack(frame["params"])
        self.server.requests.append((frame["method"], params))
        if self.server.reply_silence:
            self.server.reply_silence -= 1
            return
        code: int = 0
        result: dict[int, Any] = {}
        if frame["method"] == Method.USER_RESOLVE:
            known = {name: user for user, name in self.server.names.items()}
            known |= {name: int(name) for name in params[1] if name.isdigit()}
            result = {1: [[known[name], name, name.title()] for name in params[1] if name in known]}
        elif frame["method"] == Method.DIRECT_OPEN:
            cid = 1000 + params[1]
            if cid not in self.server.logs:
                self.server.create(cid, self.user, params[1])
            result = {1: cid}
        elif self.server.names:
            result = self.answer(frame["method"], params)
        else:
            code, result = ErrorCode.FORBIDDEN, {1: "not for you"}
        self.emit(make(Op.REPLY, id=frame["id"], code=code, retry_after_ms=0, result=pack(result)))

    def answer(self, method: int, params: dict[int, Any]) -> dict[int, Any]:
        """Methods that a screen needs."""
        server = self.server
        if method == Method.CONVERSATION_CREATE:
            cid = 2000 + len(server.logs)
            server.create(cid, self.user, *params[3])
            server.titles[cid] = params[2]
            return {1: cid, 2: 0}
        if method == Method.SEARCH:
            events = [
                event for log in server.logs.values() for event in log.events if params[1].encode() in event.payload
            ]
            hits = [[it.cid, it.seq, it.sender, it.time, it.kind, it.payload.decode(), [[0, 2]]] for it in events]
            return {1: hits, 2: b"", 3: True}
        if method == Method.USER_GET:
            return {1: [[user, server.names[user], server.names[user].title()] for user in params[1]]}
        if method == Method.MEMBER_LIST:
            members = server.logs[params[1]].members
            return {1: [[user, 1, 1, 0, 0, server.names[user]] for user in members], 2: False}
        if method == Method.CONVERSATION_GET:
            log = server.logs[params[1]]
            title = server.titles.get(params[1], "")
            return {1: params[1], 2: 2, 3: title, 4: len(log.events), 5: len(log.members), 6: 1, 7: 1}
        rows = [[cid, 2, server.titles.get(cid, ""), len(log.events), 2, 1] for cid, log in server.logs.items()]
        return {1: rows, 2: False}
