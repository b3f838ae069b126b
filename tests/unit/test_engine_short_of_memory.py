"""The engine under every bound of its memory: a connection or a frame pays, never the process, and all comes back."""

import contextlib
from dataclasses import replace

from support import frames
from support.rig import MANUAL, Client, Rig

from chatd.engine.native import Ring

TABLES = {"connections_max": 8, "ledger_entries": 64, "gate_entries": 64, "positions_max": 64}
SMALL = replace(MANUAL.lifted(), **TABLES)
PEOPLE = 4
TELEMETRY = 4
STEP_BYTES = 32
"""The smallest block of the pool: no bound between two steps makes a difference."""
EVERYTHING_BYTES = 256 << 10


class Life(Rig):
    """Four people log in, follow, talk, read, stop in the middle of a frame; a peer and a dying hub besides."""

    def __init__(self, memory_bytes_max: int) -> None:
        super().__init__(SMALL, memory_bytes_max=memory_bytes_max)
        self.hub.members[5] = set(range(1, PEOPLE + 1))
        self.hub.interest(5, 0b11)
        self.from_peer = Ring.create(65536, 1)
        self.acked = 0

    def play(self) -> None:
        to_peer = Ring.create(65536, 1)
        self.engine.link_peer(1, 1, self.from_peer, to_peer)
        clients: list[Client] = []
        with contextlib.suppress(MemoryError):
            clients += [Client(self) for _ in range(PEOPLE)]
        for user, client in enumerate(clients, 1):
            client.feed(frames.hello(), frames.auth(device=user, label="of a person with a long name"))
        for client in clients:
            client.feed(frames.request(7))
        for client in clients:
            client.feed(frames.subscribe(5), frames.subscribe(6))
        for client in clients:
            self.talk(client)
        self.speak_of(clients)
        for client in clients:
            self.acked += sum(frame.op == frames.SEND_ACK for frame in client.take())
        self.break_links()
        for client in clients:
            client.end()
        self.advance(120_000)
        self.advance(120_000)

    def talk(self, client: Client) -> None:
        client.feed(
            frames.send(1, 5, bytes(100)), frames.ephemeral(5, bytes(200)), frames.ephemeral(5, bytes(200), TELEMETRY)
        )
        client.feed(frames.pull(5), frames.frame(frames.SYNC, b"\x00\x01"))
        client.feed(frames.send(2, 5, bytes(1500))[:2])
        client.feed(frames.send(2, 5, bytes(1500))[2:])
        client.feed(frames.frame(frames.REAUTH, b"\x01\x00" + frames.prefixed(bytes(1900))))
        client.feed(frames.frame(frames.PING, b"echo", 2))

    def speak_of(self, clients: list[Client]) -> None:
        """What the hub and the other shard have to say."""
        ephemeral = frames.ephemeral(5, bytes(100), sender=9)
        record = bytes([1, 0, 0, 0]) + len(ephemeral).to_bytes(4, "little") + bytes([5, *bytes(7), 9, *bytes(7)])
        self.from_peer.write(record + ephemeral)
        self.hub.receipts(5, frames.frame(frames.RECEIPT, bytes([5, 100]) + bytes([3, 9, 9]) * 2000))
        self.hub.rpc(1, bytes(300))
        for client in clients:
            self.hub.frames(client.handle, frames.deliver(5, 1, payload=bytes(400)) + frames.pull_end(5), done=True)
        self.settle()
        self.hub.lost(1)
        self.settle()

    def break_links(self) -> None:
        self.from_peer.write(b"\xff")
        self.hub.to_shard.write(b"\xff")
        self.settle()


def test_every_bound_of_memory_costs_connections_and_frames_but_never_the_engine() -> None:
    with Life(EVERYTHING_BYTES) as plenty:
        base = plenty.counter("pool_bytes")
        plenty.play()
        assert (plenty.acked, plenty.counter("memory_refused")) == (2 * PEOPLE, 0)
    refused = complete = 0
    bound = base
    while complete < 8:
        with Life(bound) as life:
            life.play()
            counters = life.engine.counters()
            refused += counters["memory_refused"]
            for name in ("connections", "sessions", "subscriptions", "sends_pending", "queued_bytes", "parked_bytes"):
                assert counters[name] == 0, (bound, name)
            assert counters["pool_bytes"] <= bound
            assert life.acked <= len(life.hub.sends)
            assert sum(upcall[0] == "hub_lost" for upcall in life.upcalls) == 1, bound
            complete = complete + 1 if (life.acked, counters["memory_refused"]) == (2 * PEOPLE, 0) else 0
        bound += STEP_BYTES
        assert bound < base + EVERYTHING_BYTES
    assert refused
