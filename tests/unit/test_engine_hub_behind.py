"""A hub that does not read: the ring to it is full, what the shard owes it waits, and everything arrives in the end."""

import mmap
from collections.abc import Iterator

import pytest
from support import frames
from support.rig import LIFTED, Client, Rig
from support.ring_hub import MARK_LAYOUT, S_MARK, RingHub

from chatd.engine.native import Ring

PEOPLE = 120
"""Their records of LOGIN (72 bytes each) or CLOSED (48) do not fit into a ring at once."""
RING_BYTES = 4096
ERR_BUSY = 401


class SlowHub(RingHub):
    """Reads as many records as it is given time for."""

    time = 1 << 30

    def pump(self) -> int:
        count = 0
        while self.time and (record := self.to_hub.read()) is not None:
            self.time -= 1
            count += 1
            self._record(record)
        return count


def small(epoch: int = 1) -> SlowHub:
    return SlowHub(epoch=epoch, ring_bytes=RING_BYTES)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(LIFTED, hub=False) as rig:
        rig.link(small())
        yield rig


def patience(rig: Rig, hub: SlowHub) -> None:
    """One record at a time until the hub has read everything."""
    while True:
        hub.time = 1
        rig.settle()
        if hub.time:
            hub.time = 1 << 30
            return


def test_everybody_is_attached_to_a_fresh_hub_that_reads_slowly(rig: Rig) -> None:
    """Sessions, what they follow, the SENDs that were refused for now: all of it through a ring that is always full."""
    clients = [rig.client(user) for user in range(1, PEOPLE + 1)]
    for client in clients:
        client.join(5)
        client.join(6)
    rig.engine.unlink_hub()
    for client in clients:
        client.feed(frames.send(1, 5), frames.send(2, 5))
    rig.advance(2500)
    assert {frame.op for client in clients for frame in client.take()} == {frames.SEND_NAK}
    hub = small(2)
    hub.time = 0
    rig.link(hub)
    assert hub.starts == []
    patience(rig, hub)
    assert [login[3] for login in hub.logins] == list(range(1, PEOPLE + 1))
    assert sum(call.reattach for call in hub.calls) == 2 * PEOPLE
    assert sorted((device, cseq) for _, device, _, cseq in hub.marks) == [
        (device, cseq) for device in range(1, PEOPLE + 1) for cseq in (1, 2)
    ]
    assert len(hub.starts) == 2


def test_a_fresh_hub_whose_ring_is_full_is_greeted_later(rig: Rig) -> None:
    hub = small(2)
    hub.time = 0
    while hub.to_hub.write(MARK_LAYOUT.pack(S_MARK, 0, 0, 0, 0)):
        pass
    rig.engine.unlink_hub()
    rig.link(hub)
    patience(rig, hub)
    assert len(hub.starts) == 2


def test_who_left_while_the_hub_did_not_read_is_told_of_later(rig: Rig) -> None:
    clients = [rig.client(user) for user in range(1, PEOPLE + 1)]
    hub = rig.hub
    assert isinstance(hub, SlowHub)
    hub.time = 0
    for client in clients:
        client.end()
    rig.advance(3000)
    assert hub.closed == []
    patience(rig, hub)
    assert sorted(handle for handle, _ in hub.closed) == sorted(client.handle for client in clients)


def test_who_logs_in_while_the_hub_does_not_read_waits_and_may_leave(rig: Rig) -> None:
    hub = rig.hub
    assert isinstance(hub, SlowHub)
    hub.time = 0
    clients = [Client(rig) for _ in range(PEOPLE)]
    for user, client in enumerate(clients, 1):
        client.feed(frames.hello(), frames.auth(device=user))
    clients[-1].end()
    assert hub.logins == []
    patience(rig, hub)
    assert [login[3] for login in hub.logins] == list(range(1, PEOPLE))
    assert all(client.ops() == [frames.WELCOME] for client in clients[:-1])


def test_a_call_that_the_ring_does_not_take_is_refused_for_now(rig: Rig) -> None:
    caller, other = rig.client(1), rig.client(2)
    hub = rig.hub
    assert isinstance(hub, SlowHub)
    hub.time = 0
    for cseq in range(1, 6):
        other.feed(frames.send(cseq, 5, bytes(900)))
    for number in range(16):
        other.feed(frames.request(number))
    caller.feed(frames.subscribe(5))
    (refused,) = caller.take()
    assert (refused.op, int.from_bytes(refused.body[:2], "big")) == (frames.ERROR, ERR_BUSY)
    patience(rig, hub)
    caller.join(5)
    # Half of the ring is the most that one record may take.
    assert not rig.engine.rpc(1, bytes(RING_BYTES // 2))
    assert rig.engine.rpc(1, bytes(RING_BYTES // 4))


def test_a_tail_that_cannot_be_drops_the_link(rig: Rig) -> None:
    """The hub says that it has read what was never written."""
    client = rig.client(1)
    hub = rig.hub
    assert isinstance(hub, SlowHub)
    hub.time = 0
    with mmap.mmap(hub.to_hub.memfd, 4096 + RING_BYTES) as memory:
        memory[128:136] = (1 << 40).to_bytes(8, "little")
        for cseq in range(1, 9):
            client.feed(frames.send(cseq, 5, bytes(900)))
    assert rig.upcalls[-1] == ("hub_lost",)


def test_rings_that_are_closed_under_the_engine_are_empty_and_full() -> None:
    """The owner of the link lets go first: nothing is read, nothing is written, nothing breaks."""
    with Rig(LIFTED) as rig:
        client = rig.client(1)
        client.join(5)
        there, back = Ring.create(RING_BYTES, 1), Ring.create(RING_BYTES, 1)
        rig.engine.link_peer(1, 1, back, there)
        rig.hub.interest(5, 0b10)
        rig.settle()
        for ring in (rig.hub.to_shard, rig.hub.to_hub, there, back):
            ring.close()
        client.rig.engine.feed(client.handle, frames.send(1, 5) + frames.ephemeral(5) + frames.pull(5))
        rig.engine.poll(1000)
        data = rig.engine.take(client.handle)
        assert [frame.op for frame in frames.split(data)] == [frames.ERROR]
        rig.engine.unlink_hub()
        rig.engine.unlink_peer(1)
