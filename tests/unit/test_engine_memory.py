"""What connections and frames cost: bytes, and Python objects."""

import contextlib
import gc
import sys

from support import frames
from support.rig import LIFTED, Client, Rig

# Of 512 for a connection in all processes: malloc's headers, Python and the hub's share come on top.
IDLE_BYTES_MAX = 340


def held_bytes(rig: Rig) -> int:
    counters = rig.engine.counters()
    return counters["pool_bytes"] + counters["slab_bytes"]


def test_idle_subscribed_connection_is_small() -> None:
    count = 2048
    with Rig(LIFTED) as rig:
        before = held_bytes(rig)
        for user in range(1, count + 1):
            client = rig.client(user)
            client.join((user + 1) // 2)
        rig.upcalls.clear()
        rig.advance(100)
        assert rig.counter("sessions") == rig.counter("subscriptions") == count
        assert (held_bytes(rig) - before) / count <= IDLE_BYTES_MAX


def test_what_a_connection_needs_for_a_moment_is_given_back() -> None:
    with Rig(LIFTED) as rig:
        client = rig.client(1)
        client.join(5)
        idle = rig.counter("pool_bytes")
        ping = frames.frame(frames.PING)
        client.feed(frames.pull(5), ping[:3])
        assert rig.counter("pool_bytes") > idle
        rig.hub.frames(client.handle, frames.pull_end(5), done=True)
        client.feed(ping[3:])
        client.take()
        assert rig.counter("pool_bytes") == idle


def test_a_connection_finds_few_and_many_subscriptions() -> None:
    with Rig(LIFTED) as rig:
        sender, reader = rig.client(1), rig.client(2)
        for cid in range(1, 11):
            sender.join(cid)
            reader.join(cid)
            relayed = rig.counter("ephemeral_out")
            for known in range(1, cid + 1):
                sender.feed(frames.ephemeral(known))
            assert rig.counter("ephemeral_out") - relayed == cid
        reader.end()
        sender.end()
        rig.advance(3000)
        assert rig.counter("subscriptions") == 0


def test_everything_is_given_back() -> None:
    with Rig(LIFTED) as rig:
        clients = [rig.client(user) for user in range(1, 33)]
        baseline = 0
        for turn in range(3):
            rig.hub.members[5] = set(range(1, 33))
            for client in clients:
                client.join(5)
                client.feed(frames.send(turn + 1, 5), frames.ephemeral(5), frames.pull(5), frames.send(9, 5)[:7])
            for client in clients:
                client.end()
            rig.advance(3000)
            counters = rig.engine.counters()
            for name in ("connections", "sessions", "subscriptions", "sends_pending", "queued_bytes", "parked_bytes"):
                assert counters[name] == 0, name
            baseline = baseline or counters["pool_bytes"]
            assert counters["pool_bytes"] == baseline
            clients = [rig.client(user) for user in range(1, 33)]


def test_relayed_frames_make_no_python_objects() -> None:
    """1,000 EPHEMERAL frames through sockets' code path cost the objects of their polls and nothing per frame."""
    with Rig(LIFTED) as rig:
        sender, reader = Client(rig), Client(rig)
        sender.login(1)
        reader.login(2)
        sender.join(5)
        reader.join(5)
        one = frames.ephemeral(5, bytes(64))
        data = one * 100
        engine, feed, take = rig.engine, sender.handle, reader.handle

        def round_trip() -> None:
            engine.feed(feed, data)
            engine.poll(0)
            while engine.take(take):
                pass

        for _ in range(10):
            round_trip()
        gc.collect()
        blocks = sys.getallocatedblocks()
        for _ in range(10):
            round_trip()
        assert sys.getallocatedblocks() - blocks < 20
        assert rig.counter("ephemeral_out") == 2000


def test_pushed_and_sent_frames_make_no_python_objects() -> None:
    with Rig(LIFTED) as rig:
        rig.hub.members[5] = {1, 2}
        client = rig.client(1)
        data = [b"".join(frames.send(turn * 50 + n, 5) for n in range(1, 51)) for turn in range(20)]
        rig.hub.automatic = False

        def round_trip(turn: int) -> None:
            rig.engine.feed(client.handle, data[turn])
            rig.engine.poll(0)
            rig.hub.pump()
            for send in rig.hub.sends:
                rig.hub.commit(send)
            rig.hub.sends.clear()
            rig.engine.poll(0)
            while rig.engine.take(client.handle):
                pass

        for turn in range(10):
            round_trip(turn)
        gc.collect()
        blocks = sys.getallocatedblocks()
        for turn in range(10, 20):
            round_trip(turn)
        gc.collect()
        assert sys.getallocatedblocks() - blocks < 20
        assert rig.counter("answers") == 1000


def test_memory_limit_refuses_connections_not_the_process() -> None:
    with Rig(memory_bytes_max=200_000) as rig:
        live = rig.client(1)
        opened = 0
        with contextlib.suppress(MemoryError):
            while opened < 4000:
                Client(rig)
                opened += 1
        assert 100 < opened < 4000
        assert rig.counter("pool_bytes") <= 200_000
        rig.advance(5_000)
        live.feed(frames.frame(frames.PING, b"still here", 2))
        assert live.take()[-1].body == b"still here"
