"""One script, both engines: every step is done to the native and to the reference engine, and everything that can be
seen of them is compared after it.

A step is (name, arguments …) and makes sense in every state; one that names what is not there does nothing. Order is
compared where it is promised: bytes, upcalls and records per connection, SENDs per connection. Clocks move in steps of
8 ms, the grain of the native timing wheel.
"""

import random
from collections.abc import Callable
from typing import Any, Self

from chatd.engine import native, reference
from chatd.engine.interface import Engine
from chatd.engine.settings import EngineSettings
from support import frames
from support.ring_hub import H_COMMITTED, TOPICS_KNOWN, Call, RingHub, Send

Step = tuple[Any, ...]
GRAIN_MS = 8
CLIENTS_MAX = 4
PEER = 1
BUDGET_US = 1_000_000
POLLS_MAX = 200
RESUMED_BYTES = 10
OF_THE_ENGINE = {"rpc", "hub_lost", "peer_lost"}

# Not compared: sockets, memory and the number of ticks.
NOT_COMPARED = {"writes", "short_writes", "probes", "events_stale", "memory_refused", "polls", "ticks"}
NOT_COMPARED |= {"pool_bytes", "slab_bytes", "parked_bytes", "connections"}


class ScriptedHub(RingHub):
    """Answers nothing by itself but REGISTERED; the script does."""

    def _on_send(self, send: Send) -> None:
        self.sends.append(send)

    def _on_call(self, call: Call) -> None:
        self.calls.append(call)


class Side:
    """One engine with its hub, a peer shard and the Python side; `seen` is what the last step showed."""

    def __init__(self, make_engine: Callable[[EngineSettings], Engine], settings: EngineSettings) -> None:
        self.settings = settings
        self.engine = make_engine(settings)
        self.now_ms = 1000
        self.engine.set_time(self.now_ms * 1_000_000)
        self.handles: dict[int, int] = {}  # the newest connection of each client
        self.names: dict[int, int] = {}
        self.backlog: dict[int, bytes] = {}
        self.received: dict[int, bytes] = {}  # taken, and not a whole frame yet
        self.delivered: dict[int, int] = {}
        self.live: set[int] = set()
        self.drains = False  # from here on BYE says a random time, drawn in no promised order
        self.unanswered: dict[int, list[Send]] = {}
        self.open_calls: dict[int, list[Call]] = {}
        self.asked: dict[int, list[tuple[Any, ...]]] = {}
        self.closed: set[int] = set()
        self.serves = True
        self.heads: dict[int, int] = {}
        self.seen: list[Any] = []
        self.upcalls: dict[Any, list[Any]] = {}
        self.hub = ScriptedHub(ring_bytes=1 << 17)
        self.linked = False
        self.peer = RingHub(ring_bytes=1 << 12)
        self.engine.link_peer(PEER, 1, self.peer.to_shard, self.peer.to_hub)  # type: ignore[arg-type]
        self.link()

    def link(self) -> None:
        self.engine.link_hub(self.hub.epoch, self.hub.to_shard, self.hub.to_hub)  # type: ignore[arg-type]
        self.linked = True

    def close(self) -> None:
        self.engine.dispose()
        for hub in (self.hub, self.peer):
            hub.to_shard.close()
            hub.to_hub.close()

    def name(self, handle: int) -> int:
        return self.names[handle]

    def handle(self, client: int) -> int:
        """0, which names nobody, when there is no such client yet."""
        return self.handles.get(client, 0)

    # -- running --

    def do(self, step: Step) -> Any:
        self.seen = []
        self.upcalls = {}
        getattr(self, f"do_{step[0]}")(*step[1:])
        self.settle()
        records = self._records()
        counters = self.engine.counters()
        if self.drains:
            del counters["bytes_out"]
        if not self.settings.queue_ephemeral_bytes:
            # They are all dropped, unless nobody is there any more in that tick.
            del counters["ephemeral_dropped"]
        numbers = {key: value for key, value in counters.items() if key not in NOT_COMPARED}
        return {"seen": self.seen, "upcalls": self.upcalls, "records": records, "counters": numbers}

    def settle(self) -> None:
        for _ in range(POLLS_MAX):
            upcalls = self.engine.poll(BUDGET_US)
            for upcall in sorted(upcalls, key=self._whose):
                self._upcall(upcall)
            if not (self.hub.pump() | bool(upcalls) | self.engine.busy()):
                return
        raise AssertionError("the engine does not come to rest")

    def _whose(self, upcall: tuple[Any, ...]) -> int:
        return -1 if upcall[0] in OF_THE_ENGINE else self.name(upcall[1])

    def _upcall(self, upcall: tuple[Any, ...]) -> None:
        kind = upcall[0]
        if kind in OF_THE_ENGINE:
            self.upcalls.setdefault("engine", []).append(upcall)
            self.linked = self.linked and kind != "hub_lost"
            return
        client = self.name(upcall[1])
        self.upcalls.setdefault(client, []).append((kind, *upcall[2:]))
        if kind in {"auth", "resume", "reauth", "registered"}:
            self.asked.setdefault(client, []).append(upcall)
            if self.serves:
                self.do_serve(client)
        elif kind == "resumed":
            # In two parts: the second may find the first frame over its rate when half of it is taken.
            waiting = self.backlog.pop(client, b"")
            self._feed(client, waiting[:RESUMED_BYTES])
            self._feed(client, waiting[RESUMED_BYTES:])
        elif kind == "closed" and upcall[1] == self.handles[client]:
            self.closed.add(client)

    def _records(self) -> dict[str, Any]:
        """What the hub and the peer were told, in the order that is promised."""
        told: dict[Any, list[Any]] = {}
        for send in self.hub.sends:
            client = self.name(send.handle)
            self.unanswered.setdefault(client, []).append(send)
            who = (send.user, send.device, send.session_epoch)
            told.setdefault(("send", client), []).append((send.op, send.flags, send.body, who))
        for call in self.hub.calls:
            client = self.name(call.handle)
            self.open_calls.setdefault(client, []).append(call)
            room = (call.window_frames, call.window_bytes, call.frame_bytes_max, call.features)
            told.setdefault(("call", client), []).append((call.op, call.flags, call.user, call.device, room, call.body))
        told["logins"] = sorted((flags, self.name(handle), *ids) for flags, handle, *ids in self.hub.logins)
        told["closed"] = sorted((self.name(handle), reason) for handle, reason in self.hub.closed)
        told["positions"] = sorted(self.hub.positions)
        told["marks"] = sorted((self.name(handle), *ids) for handle, *ids in self.hub.marks)
        told["starts"] = self.hub.starts[:]
        told["rpcs"] = self.hub.rpcs[:]
        hub = self.hub
        for listed in (hub.sends, hub.calls, hub.logins, hub.closed, hub.positions, hub.marks):
            listed.clear()
        self.hub.starts.clear()
        self.hub.rpcs.clear()
        peer = []
        while (record := self.peer.to_hub.read()) is not None:
            peer.append(record)
        told["peer"] = sorted(peer)
        return told

    # -- transport --

    def do_open(self, client: int) -> None:
        """A new connection for this client, unless the one it has is open."""
        if client in self.handles and client not in self.closed:
            return
        self.closed.discard(client)
        self.live.discard(client)
        for held in (self.backlog, self.received, self.delivered, self.unanswered, self.open_calls, self.asked):
            held.pop(client, None)  # type: ignore[attr-defined]
        self.handles[client] = self.engine.open("192.0.2.1")
        self.names[self.handles[client]] = client

    def do_login(self, client: int, terms: dict[str, int]) -> None:
        self.do_open(client)
        self._feed(client, frames.hello(**terms) + frames.auth(device=client + 1))

    def do_refused_login(self, client: int, times: int) -> None:
        """The credential is bad, again and again."""
        served, self.serves = self.serves, False
        self.do_open(client)
        self._feed(client, frames.hello())
        for _ in range(times):
            self._feed(client, frames.auth())
            self.settle()
            self.do_refuse(client, 0)
        self.serves = served

    def do_feed(self, client: int, data: bytes, cut: str, seed: int) -> None:
        """cut: "whole", "bytes" or "random". Before login most of it would close the connection: left out."""
        if client not in self.live and seed % 8:
            return
        rng = random.Random(seed)
        at = 0
        while at < len(data):
            size = {"whole": len(data), "bytes": 1, "random": rng.randint(1, 40)}[cut]
            self._feed(client, data[at : at + size])
            at += size
            if rng.random() < 0.2:
                self.settle()

    def _feed(self, client: int, data: bytes) -> None:
        if not self.handle(client) or not data:
            return
        if client in self.backlog:
            self.backlog[client] += data
            return
        taken = self.engine.feed(self.handle(client), data)
        self.seen.append(("taken", client, taken))
        if taken < len(data):
            self.backlog[client] = data[taken:]

    def do_ack(self, client: int, back: int) -> None:
        self._feed(client, frames.ack(max(0, self.delivered.get(client, 0) - back)))

    def do_take(self, client: int, limit: int) -> None:
        self._took(client, self.engine.take(self.handle(client), limit))

    def do_drain_output(self, client: int) -> None:
        out = b""
        while part := self.engine.take(self.handle(client)):
            out += part
            self.settle()
        self._took(client, out)

    def _took(self, client: int, out: bytes) -> None:
        self.seen.append(("bytes", client, b"" if self.drains else out))
        held = self.received.get(client, b"") + out
        while len(held) >= 4 and len(held) >= (size := 4 + int.from_bytes(held[:2], "big")):
            self.delivered[client] = self.delivered.get(client, 0) + (held[2] == frames.DELIVER)
            if self.drains:
                self.seen.append(("frame", client, held[2], held[4:6] if held[2] == frames.BYE else held[4:size]))
            held = held[size:]
        self.received[client] = held

    def do_end(self, client: int) -> None:
        self.engine.end(self.handle(client))

    def do_advance(self, grains: int) -> None:
        self.now_ms += grains * GRAIN_MS
        self.engine.set_time(self.now_ms * 1_000_000)

    # -- Python --

    def do_python(self, serves: bool) -> None:
        self.serves = serves

    def do_serve(self, client: int) -> None:
        if not self.asked.get(client):
            return
        upcall = self.asked[client].pop(0)
        if upcall[0] == "registered":
            frame = frames.error(upcall[2]) if upcall[2] else frames.welcome(upcall[4], upcall[5], upcall[6])
            answer = self.engine.refuse if upcall[2] else self.engine.welcome
            answered = answer(upcall[1], frame)
            self.seen.append(("welcome", client, answered))
            if answered and not upcall[2]:
                self.live.add(client)
        elif upcall[0] == "reauth":
            expires_s = 1735689600 + self.now_ms // 1000 + 30
            frame = frames.welcome(1, 1, 1)
            self.seen.append(("reauthenticated", self.engine.reauthenticated(upcall[1], expires_s, frame)))
        else:
            expires_s = 1735689600 + self.now_ms // 1000 + 40 if client % 2 else 0
            self.seen.append(("register", self.engine.register(upcall[1], client + 1, client + 1, 3, 4, expires_s)))

    def do_refuse(self, client: int, reason: int) -> None:
        if self.asked.get(client):
            self.asked[client].pop(0)
        self.seen.append(("refuse", self.engine.refuse(self.handle(client), frames.error(200), reason)))

    def do_close(self, client: int, reason: int, retry_ms: int, text: str) -> None:
        self.seen.append(("close", self.engine.close(self.handle(client), reason, retry_ms, text)))

    def do_terms(self, client: int) -> None:
        self.seen.append(("terms", self.engine.terms(self.handle(client))))

    def do_rpc(self, call: int) -> None:
        self.seen.append(("rpc", self.engine.rpc(call, b"\x80")))

    def do_drain(self, window_grains: int) -> None:
        self.drains = True
        self.engine.drain(window_grains * GRAIN_MS)
        self.do_advance(window_grains)

    def do_close_all(self, reason: int) -> None:
        self.engine.close_all(reason)

    def do_ledger(self, cid: int, seq: int) -> None:
        entries, aged_out = self.engine.ledger(cid, seq)
        self.seen.append(("ledger", sorted(entries), aged_out))

    # -- the hub --

    def do_unlink(self) -> None:
        self.engine.unlink_hub()
        self.linked = False

    def do_relink(self) -> None:
        """Another hub; what the old one had not answered is its successor's."""
        old, self.hub = (
            self.hub,
            ScriptedHub(
                epoch=self.hub.epoch + 1,
                ring_bytes=self.hub.ring_bytes,
                pos=self.hub.pos,
                session_epoch=self.hub.session_epoch,
            ),
        )
        self.unanswered.clear()
        self.open_calls.clear()
        self.link()
        self.settle()
        old.to_shard.close()
        old.to_hub.close()

    def do_hub_pauses(self, grains: int) -> None:
        """The hub reads nothing for a while: its ring may fill up."""
        pump, self.hub.pump = self.hub.pump, lambda: 0  # type: ignore[method-assign]
        self.do_advance(grains)
        self.settle()
        self.hub.pump = pump  # type: ignore[method-assign]

    def do_commit(self, client: int, recipients: int) -> None:
        if not self.unanswered.get(client):
            return
        send = self.unanswered[client].pop(0)
        if send.op == 1:
            seq = self._push(send.cid, 5, recipients & ~(1 << client), 0)
            self.hub.answer(send, frames.send_ack(send.cseq, send.cid, seq))
        else:
            self.hub.answer(send, frames.frame(frames.SEND_ACK, frames.varint(send.cseq) + bytes(7), 4))

    def do_nak(self, client: int) -> None:
        """The hub refuses for now: RATE_LIMITED."""
        if self.unanswered.get(client):
            send = self.unanswered[client].pop(0)
            nak = frames.varint(send.cseq) + frames.varint(1) + bytes([1, 144, 100, 0])
            self.hub.answer(send, frames.frame(frames.SEND_NAK, nak, 2))

    def do_push(self, cid: int, size: int, recipients: int, skip: int) -> None:
        self._push(cid, size, recipients, skip)

    def _push(self, cid: int, size: int, recipients: int, skip: int) -> int:
        seq = self.heads[cid] = self.heads.get(cid, 0) + 1 + skip
        handles = [handle for client, handle in self.handles.items() if recipients >> client & 1]
        self.hub.committed(cid, seq, frames.deliver(cid, seq, 7, bytes(size)), handles)
        return seq

    def do_push_again(self, cid: int, back: int) -> None:
        """A replay: an old position, or an old seq at a new position."""
        seq = max(1, self.heads.get(cid, 1) - back)
        pos = max(1, self.hub.pos) if back % 2 else None
        self.hub.committed(cid, seq, frames.deliver(cid, seq), list(self.handles.values()), pos=pos)

    def do_answer_call(self, client: int, events: int, kind: str) -> None:
        if not self.open_calls.get(client):
            return
        call = self.open_calls[client].pop(0)
        ref = frames.read_varint(call.body)[0] if call.op != frames.SYNC else 0
        data = b"".join(frames.deliver(3, 100 + seq, flags=2) for seq in range(events))
        if kind == "grant" and call.op == frames.SUBSCRIBE:
            self.hub.grant(call.handle, ref, TOPICS_KNOWN)
            data += frames.subscribe(ref)
        elif kind == "error":
            data += frames.frame(frames.ERROR, bytes([1, 45, call.op]) + frames.varint(ref) + bytes(2))
        elif call.op == frames.PULL:
            data += frames.pull_end(ref)
        elif call.op == frames.STREAM_START:
            data += frames.frame(frames.STREAM_START, frames.varint(ref) + b"\x09\x01")
        elif call.op == frames.SYNC:
            data += frames.frame(frames.SYNC_PAGE, bytes(2))
        else:
            data += frames.frame(frames.REPLY, frames.varint(ref) + bytes(3) + b"\x80")
        self.hub.frames(call.handle, data, done=True)

    def do_grant(self, client: int, cid: int, topics: int) -> None:
        self.hub.grant(self.handle(client), cid, topics)

    def do_grant_all(self, cid: int) -> None:
        for client in sorted(self.live):
            self.do_grant(client, cid, TOPICS_KNOWN)

    def do_interest(self, cid: int, shards: int) -> None:
        self.hub.interest(cid, shards)

    def do_receipts(self, cid: int) -> None:
        self.hub.receipts(cid, frames.frame(frames.RECEIPT, bytes([cid, 1, 7, 2, 1])))

    def do_topic(self, cid: int, topics: int, size: int, but: int) -> None:
        self.hub.topic(cid, topics, frames.frame(frames.STREAM_DELTA, bytes(size + 1)), self.handle(but))

    def do_kick(self, client: int, reason: int) -> None:
        self.hub.kick(self.handle(client), reason)

    def do_lost(self) -> None:
        self.hub.lost(self.hub.pos)

    def do_hub_rpc(self, call: int) -> None:
        self.hub.rpc(call, b"\x90")

    def do_record(self, record: bytes) -> None:
        """Anything at all in the hub's ring; what contradicts itself costs the link."""
        self.hub.to_shard.write(record)

    def do_truncated(self, cut: int) -> None:
        whole = bytes([H_COMMITTED]) + bytes(39)
        self.hub.to_shard.write(whole[:cut])

    def do_peer(self, cid: int, kind: int, size: int) -> None:
        data = frames.ephemeral(cid, bytes(size), kind, sender=50)
        head = bytes([1, 0, 0, 0]) + len(data).to_bytes(4, "little")
        self.peer.to_shard.write(head + cid.to_bytes(8, "little") + (50).to_bytes(8, "little") + data)


def differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """What is not equal, native first."""
    told = []
    for part, ours in found.items():
        theirs = expected[part]
        if isinstance(ours, dict):
            keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
            told += [f"{part} {key}: {ours.get(key)!r}, not {theirs.get(key)!r}" for key in keys]
        elif ours != theirs:
            told.append(f"{part}: {ours!r}, not {theirs!r}")
    return "\n".join(told)


class Twins:
    """Both sides. `do` asserts that nothing tells them apart."""

    def __init__(self, settings: EngineSettings) -> None:
        self.native = Side(native.Engine, settings)
        self.reference = Side(reference.ReferenceEngine, settings)

    def do(self, *step: Any) -> dict[str, Any]:
        expected: dict[str, Any] = self.reference.do(step)
        found = self.native.do(step)
        assert found == expected, f"{step[0]}: {differences(found, expected)}"
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.native.close()
        self.reference.close()
