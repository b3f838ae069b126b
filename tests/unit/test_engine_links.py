"""Links: peers, broken rings, and a hub that says anything."""

import mmap
import random

import pytest
from support import frames
from support import ring_hub as hubs
from support.rig import LIFTED, Client, Rig

from chatd.engine.native import Ring

OPS = [
    0x00,
    0x7F,
    0xFE,
    *range(0x01, 0x04),
    *range(0x10, 0x15),
    *range(0x81, 0x8B),
    *range(0x90, 0x9B),
    *range(0xA0, 0xA6),
]


def linked(first: Rig, second: Rig) -> None:
    there, back = Ring.create(65536, 1), Ring.create(65536, 1)
    first.engine.link_peer(1, 1, back, there)
    second.engine.link_peer(0, 1, there, back)


def test_ephemeral_frames_cross_shards_where_someone_follows() -> None:
    with Rig() as here, Rig() as there:
        linked(here, there)
        sender, neighbour, remote = here.client(1), here.client(2), there.client(3)
        for client in (sender, neighbour, remote):
            client.join(5)
        sender.feed(frames.ephemeral(5, b"only here"))
        there.settle()
        assert remote.take() == []
        here.hub.interest(5, 0b11)
        here.settle()
        sender.feed(frames.ephemeral(5, b"everywhere"))
        there.settle()
        assert [frame.body[3:] for frame in remote.take()] == [b"everywhere"]
        assert [frame.body[3:] for frame in neighbour.take()] == [b"only here", b"everywhere"]
        assert sender.take() == []


def test_full_ring_to_a_peer_drops_and_counts() -> None:
    with Rig(LIFTED) as here, Rig() as there:
        linked(here, there)
        sender = here.client(1)
        sender.join(5)
        here.hub.interest(5, 0b10)
        here.settle()
        for _ in range(30):
            sender.feed(frames.ephemeral(5, bytes(8000)))
        assert here.counter("peer_full") > 20


@pytest.mark.usefixtures("each_engine")
def test_typing_has_an_interval_in_each_conversation() -> None:
    """One that went to another conversation meanwhile changes nothing; the rest is dropped and counted."""
    with Rig() as rig:
        sender, reader = rig.client(1), rig.client(2)
        for client in (sender, reader):
            client.join(5)
            client.join(6)
        typing = [frames.ephemeral(cid, b"\x01", kind=1) for cid in (5, 6, 5, 6, 5)]
        sender.feed(*typing)
        assert len(reader.take()) == 2
        assert rig.counter("ephemeral_dropped") == 3
        rig.advance(2999)
        sender.feed(typing[0])
        assert reader.take() == []
        rig.advance(1)
        sender.feed(*typing)
        assert len(reader.take()) == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.ephemeral(6), 301),
        (frames.ephemeral(5, sender=4), 103),
        (frames.ephemeral(5, kind=2), 101),
        (frames.ephemeral(5, kind=40), 101),
        (frames.ephemeral(5, bytes(16385)), 102),
    ],
)
def test_ephemeral_frames_are_judged(data: bytes, code: int) -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.join(5)
        client.feed(data)
        got = client.take()
        assert (got[0].op, int.from_bytes(got[0].body[:2], "big")) == (frames.ERROR, code)


def test_end_of_a_subscription_ends_delivery() -> None:
    with Rig() as rig:
        sender, reader = rig.client(1), rig.client(2)
        for client in (sender, reader):
            client.join(5)
        rig.hub.grant(reader.handle, 5, 0)
        rig.settle()
        sender.feed(frames.ephemeral(5))
        assert reader.take() == []
        assert rig.counter("subscriptions") == 1


def test_receipts_reach_those_who_asked() -> None:
    with Rig() as rig:
        both, ephemeral_only = rig.client(1), rig.client(2)
        both.join(5)
        ephemeral_only.join(5, topics=1)
        rig.hub.receipts(5, frames.frame(frames.RECEIPT, bytes([5, 1, 3, 9, 9])))
        rig.settle()
        assert both.ops() == [frames.RECEIPT]
        assert ephemeral_only.ops() == []


def answer(kind: int, announced: int, frame: bytes) -> bytes:
    return hubs.ANSWER_LAYOUT.pack(kind, announced, 7, 7) + frame


FRAME = frames.frame(frames.PONG, b"x")
REGISTERED = hubs.REGISTERED_LAYOUT.pack(hubs.H_REGISTERED, 0, 0, 0, *range(8))
CONTRADICTIONS = [
    b"",
    b"\xff",
    b"\x01",
    bytes(40),
    answer(hubs.H_ANSWER, 5, FRAME)[:20],
    answer(hubs.H_ANSWER, 5, FRAME[:3]),
    answer(hubs.H_ANSWER, 4, FRAME),
    b"\x03" + bytes(8),
    hubs.FRAMES_LAYOUT.pack(hubs.H_FRAMES, 0, 0, 9, 7) + FRAME,
    hubs.FRAMES_LAYOUT.pack(hubs.H_FRAMES, 0, 0, 8, 7) + FRAME + FRAME[:3],
    hubs.FRAMES_LAYOUT.pack(hubs.H_FRAMES, 0, 0, 9, 7) + FRAME + FRAME[:4],
    REGISTERED[:-1],
    hubs.KICK_LAYOUT.pack(hubs.H_KICK, 0, 1, 0, 7) + b"x",
    hubs.KICK_LAYOUT.pack(hubs.H_KICK, 0, 255, 0, 7),
    hubs.INTEREST_LAYOUT.pack(hubs.H_INTEREST, 5, 1)[:-1],
    hubs.INTEREST_LAYOUT.pack(hubs.H_INTEREST, 0, 1),
    hubs.GRANT_LAYOUT.pack(hubs.H_GRANT, 1, 7, 5)[:-1],
    hubs.GRANT_LAYOUT.pack(hubs.H_GRANT, 1, 7, 0),
    hubs.RPC_LAYOUT.pack(hubs.H_RPC, 0, 1)[:-1],
    hubs.RPC_LAYOUT.pack(hubs.H_RPC, 2, 1) + b"x",
    hubs.TOPIC_LAYOUT.pack(hubs.H_TOPIC, 2, 0, 5, 5, 0)[:-1],
    hubs.TOPIC_LAYOUT.pack(hubs.H_TOPIC, 2, 0, 4, 5, 0) + FRAME,
    hubs.POS_LAYOUT.pack(hubs.H_LOST, 5) + b"x",
]


@pytest.mark.parametrize("record", CONTRADICTIONS)
def test_record_that_contradicts_itself_drops_the_link_and_nothing_else(record: bytes) -> None:
    with Rig() as rig:
        client = rig.client(1)
        assert rig.hub.to_shard.write(record)
        rig.settle()
        assert rig.upcalls[-1] == ("hub_lost",)
        assert not rig.engine.rpc(1, b"")
        client.feed(frames.frame(frames.PING, b"", 2))
        assert client.ops() == [frames.PONG]
        rig.link(rig.hub.successor())
        assert rig.engine.rpc(1, b"")


def test_a_corrupt_ring_of_the_hub_drops_the_link() -> None:
    with Rig() as rig:
        with mmap.mmap(rig.hub.to_shard.memfd, 4096 + rig.hub.to_shard.capacity) as memory:
            memory[64:72] = (1 << 40).to_bytes(8, "little")
            rig.settle()
        assert rig.upcalls[-1] == ("hub_lost",)


def test_registration_of_somebody_else_changes_nothing() -> None:
    """Of nobody, of a session that is live, of one that is just being closed."""
    with Rig() as rig:
        live, leaving = rig.client(1), Client(rig)
        leaving.feed(frames.hello())
        rig.hub.automatic = False
        leaving.feed(frames.auth(device=2))
        rig.engine.close(leaving.handle, 3)
        rig.upcalls.clear()
        for handle in (live.handle + (9 << 32), live.handle, leaving.handle):
            rig.hub.registered(handle, 8, 8)
        rig.settle()
        assert [upcall[0] for upcall in rig.upcalls if upcall[0] != "closed"] == []
        live.feed(frames.send(1, 5))
        assert rig.hub.sends[0].user == 1


def test_login_is_asked_again_when_the_hub_is_replaced() -> None:
    with Rig() as rig:
        rig.hub.automatic = False
        client = Client(rig)
        client.feed(frames.hello(), frames.auth(device=4))
        assert len(rig.hub.logins) == 1
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        rig.hub.automatic = True
        assert [login[:4] for login in rig.hub.logins] == [(0, client.handle, 4, 4)]
        rig.hub.registered(client.handle, 4, 4)
        rig.settle()
        assert client.ops() == [frames.WELCOME]


def test_a_fresh_hub_is_told_what_everybody_follows() -> None:
    with Rig() as rig:
        first, second = rig.client(1), rig.client(2)
        for cid in (5, 6, 7):
            first.join(cid)
        second.join(6)
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        rig.settle()
        told = [(call.user, frames.read_varint(call.body)[0]) for call in rig.hub.calls if call.reattach]
        assert sorted(told) == [(1, 5), (1, 6), (1, 7), (2, 6)]
        assert len(rig.hub.starts) == 2, "RECEIVED and READY"
        assert second.take() == []


@pytest.mark.parametrize("seed", range(20))
def test_random_traffic_keeps_the_books(seed: int) -> None:
    """Whatever clients and hub say: no invariant breaks, and when everybody has left nothing is held."""
    rng = random.Random(seed)
    with Rig(LIFTED, queue_soft_bytes=4096, queue_hard_bytes=16384, queue_drained_bytes=1024, stall_ms=5000) as rig:
        rig.hub.members = {cid: set(range(1, 9)) for cid in range(1, 5)}
        clients: list[Client] = []

        def random_frame() -> bytes:
            body = bytes(rng.choice([0, 1, 2, 5, 0x80, 0xFF, 16]) for _ in range(rng.randint(0, 12)))
            return frames.frame(rng.choice(OPS), body, rng.choice([0, 0, 0, 1, 2]))

        def good_frame(client: Client) -> bytes:
            cid = rng.randint(1, 5)
            return rng.choice(
                [
                    frames.send(rng.randint(1, 99), cid, bytes(rng.randint(0, 900))),
                    frames.ephemeral(cid, bytes(rng.randint(0, 900)), rng.choice([1, 4, 16])),
                    frames.subscribe(cid, rng.randint(0, 3)),
                    frames.pull(cid),
                    frames.frame(frames.PING, b"x", 2),
                    frames.frame(frames.SKIP, frames.varint(rng.randint(1, 99))),
                    frames.hello() + frames.auth(device=rng.randint(1, 8)),
                ]
            )

        for _ in range(400):
            if len(clients) < 12:
                clients.append(Client(rig))
                clients[-1].feed(frames.hello(window_frames=rng.randint(0, 9)), frames.auth(device=rng.randint(1, 8)))
            client = rng.choice(clients)
            action = rng.random()
            if action < 0.6:
                data = b"".join(good_frame(client) for _ in range(rng.randint(1, 20)))
                client.feed(data[: rng.randint(0, len(data))] if rng.random() < 0.1 else data)
            elif action < 0.65:
                client.feed(random_frame())
            elif action < 0.9:
                client.take()
            elif action < 0.93:
                rig.engine.unlink_hub()
                rig.link(rig.hub.successor())
            elif action < 0.95:
                rig.hub.kick(client.handle, 5)
            else:
                rig.advance(rng.choice([10, 300, 2000]))
            if rng.random() < 0.03:
                client.end()
                clients.remove(client)
        for client in clients:
            client.end()
        rig.advance(5000)
        counters = rig.engine.counters()
        for name in (
            "connections",
            "sessions",
            "preauth",
            "subscriptions",
            "sends_pending",
            "queued_bytes",
            "parked_bytes",
        ):
            assert counters[name] == 0, name
