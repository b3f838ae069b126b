"""Any interleaving of drops, lost bytes, refusals, LAG, restarts and slow readers: each event once, in order; each send
answered once and stored once. The session machine runs against a model of the server, no clock, no socket."""

import random
from collections import Counter

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from support.fake_server import FakeLink, FakeServer

from chatd.client.login import Credential
from chatd.client.model import Event, Promise, Sent, Settings
from chatd.client.session import ClientSession
from chatd.client.state import State
from chatd.wire import make
from chatd.wire.schema import Close, ErrorCode, Op

ALICE, BOB, CAROL = 1, 2, 3
CIDS = (7, 9, 11)


class Peer:
    """A session machine, its transport and an application that notes what it gets."""

    def __init__(self, server: FakeServer, user: int, rng: random.Random, client_settings: Settings) -> None:
        self.server, self.user, self.rng, self.settings = server, user, rng, client_settings
        self.state = State()
        self.sends: list[tuple[bytes, Promise[Sent]]] = []
        self.seen: dict[int, list[int]] = {}
        self.link: FakeLink | None = None
        self.boot(0.0)

    def boot(self, now: float) -> None:
        self.session = ClientSession(
            Credential.jwt(str(self.user)),
            self.state,
            self.settings,
            address=("server", 1),
            random=self.rng.random,
            random_bytes=self.rng.randbytes,
            now=now,
        )
        self.session.inbox.start()

    def step(self, now: float, fraction: float = 1.0) -> None:
        """Connect when it wants to, and move some bytes both ways."""
        session = self.session
        session.tick(now)
        if session.renewal.take():
            session.new_credential(Credential.jwt(str(self.user)))
        if self.link is None and session.dial(now):
            self.link = self.server.connect()
            session.connected(now)
        if self.link is None:
            return
        out = session.take(now)
        self.link.feed(out)
        count = max(1, int(len(self.link.out) * fraction))
        data, self.link.out = bytes(self.link.out[:count]), self.link.out[count:]
        session.received(data, now)
        if session.hang_up or (self.link.closing and not self.link.out):
            self.link.feed(session.take(now))
            self.drop(now)

    def drop(self, now: float) -> None:
        """The connection breaks: what is on its way is lost in both directions."""
        if self.link is not None:
            self.session.take(now)
            self.link.close()
            self.link = None
            self.session.lost(now)

    def restart(self, now: float) -> None:
        """kill -9 of the program: only the state survives."""
        self.drop(now)
        self.sends = [(payload, promise) for payload, promise in self.sends if promise.done]
        self.boot(now)

    def read(self, now: float, count: int) -> None:
        for _ in range(count):
            ready = self.session.inbox.take()
            if ready is None:
                return
            connection = self.session.connection
            if connection is not None and ready.generation == connection.generation:
                connection.acks.release(ready.size_bytes, now)
            event = ready.update
            assert isinstance(event, Event), f"nothing was dropped by the server, so nothing may be a gap: {event}"
            seen = self.seen.setdefault(event.cid, [0])
            assert event.seq == seen[-1] + 1, f"{event} after {seen[-1]}"
            stored = self.server.logs[event.cid].events[event.seq - 1]
            assert (event.sender, event.payload) == (stored.sender, stored.payload)
            seen.append(event.seq)
            self.session.inbox.confirm(event)

    def send(self, cid: int, payload: bytes) -> None:
        self.sends.append((payload, self.session.outbox.enqueue(cid, 1, payload)[1]))


def act(server: FakeServer, peers: list[Peer], action: tuple[str, int, int], now: float, number: int) -> None:
    name, who, argument = action
    peer = peers[who % len(peers)]
    cid = CIDS[argument % len(CIDS)]
    link = peer.link
    match name:
        case "send":
            peer.send(cid, b"%d/%d" % (peer.user, number))
        case "inject":
            server.append(cid, CAROL, 1, b"carol/%d" % number)
        case "step":
            peer.step(now, (argument + 1) / 8)
        case "drop":
            peer.drop(now)
        case "restart":
            peer.restart(now)
        case "read":
            peer.read(now, argument)
        case "nak":
            server.naks.append(((ErrorCode.BUSY, ErrorCode.UNAVAILABLE)[argument % 2], argument * 20))
        case "lag" if link is not None and link.live:
            if link.lagging is None:
                link.lagging = {}
            else:
                link.catch_up()
        case "hold" if link is not None:
            if link.hold_acks is None:
                link.hold_acks = []
            else:
                held, link.hold_acks = link.hold_acks, None
                for answer in held:
                    link.emit(answer)
        case "repeat" if link is not None and link.live and server.logs[cid].events:
            link.deliver(server.logs[cid].events[-1 - argument % len(server.logs[cid].events)])
        case "goaway" if link is not None and link.live:
            link.emit(make(Op.GOAWAY, reason=Close.GOING_AWAY, window_ms=argument * 100, ticket=b""))
        case "redirect" if link is not None and link.live:
            link.emit(make(Op.REDIRECT, host="elsewhere", port=1, retry_after_ms=argument * 20))
        case "expire" if link is not None and link.live:
            link.error(make(Op.REAUTH, credential=0, identity="", proof=b""), ErrorCode.TOKEN_EXPIRED, 1000)
        case "resume":
            server.refuse_resume = not server.refuse_resume


COMMON = ["send", "inject", "step"] * 2 + ["step", "read"]
FAULTS = ["drop", "restart", "nak", "lag", "hold", "resume", "repeat", "goaway", "redirect", "expire"]
ACTIONS = st.tuples(st.sampled_from(COMMON + FAULTS), st.integers(0, 1), st.integers(0, 7))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(ACTIONS, max_size=120),
    seed=st.integers(0, 2**32),
    ready_max=st.sampled_from([210, 4096]),
    held=st.sampled_from([1, 256]),
)
def test_each_event_once_in_order_and_each_send_answered_once(
    script: list[tuple[str, int, int]], seed: int, ready_max: int, held: int
) -> None:
    rng = random.Random(seed)
    server = FakeServer()
    for cid in CIDS:
        server.create(cid, ALICE, BOB)
    client_settings = Settings(start="beginning", ready_max=ready_max, held_per_conversation_max=held)
    peers = [Peer(server, user, rng, client_settings) for user in (ALICE, BOB)]
    now = 0.0
    for number, action in enumerate(script):
        act(server, peers, action, now, number)
        now += 0.05
    settle(server, peers, now)
    check(server, peers)


def settle(server: FakeServer, peers: list[Peer], now: float) -> None:
    """The faults end; a while later everything has arrived."""
    server.naks.clear()
    server.refuse_resume = False
    for peer in peers:
        if peer.link is not None:
            peer.link.catch_up()
            held, peer.link.hold_acks = peer.link.hold_acks or [], None
            for answer in held:
                peer.link.emit(answer)
    for _ in range(400):
        for peer in peers:
            peer.step(now)
            peer.read(now, 1000)
        now += 0.25


def check(server: FakeServer, peers: list[Peer]) -> None:
    stored = Counter(event.payload for log in server.logs.values() for event in log.events)
    assert max(stored.values(), default=1) == 1, "every payload is unique, so nothing may be stored twice"
    for peer in peers:
        for cid, log in server.logs.items():
            assert peer.seen.get(cid, [0])[1:] == [event.seq for event in log.events]
        for payload, promise in peer.sends:
            sent = promise.result()
            assert server.logs[sent.cid].events[sent.seq - 1].payload == payload
        assert not peer.session.outbox, "nothing waits for an answer any more"
    for log in server.logs.values():
        for peer in peers:
            numbers = [int(event.payload.split(b"/")[1]) for event in log.events if event.sender == peer.user]
            assert numbers == sorted(numbers), "sends of a device keep their order within a conversation"
