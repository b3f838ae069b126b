"""What a connection may ask for and make an engine hold, and what its hub and its peers may say: edges, one by one."""

import mmap
from dataclasses import replace

import pytest
from support import frames
from support.rig import LIFTED, MANUAL, Client, Rig

from chatd.engine.native import Ring

CHUNK = 0x98
CLOSE_AUTH_FAILED = 12
RETRYABLE_NAK = frames.frame(frames.SEND_NAK, bytes([1, 5]) + (401).to_bytes(2, "big") + b"\x00\x00", 2)


@pytest.mark.usefixtures("each_engine")
def test_a_window_is_what_was_asked_for_or_the_largest_that_is_allowed() -> None:
    with Rig() as rig:
        for asked, given in ((7, 7), (1 << 40, MANUAL.window_frames_max)):
            client = Client(rig)
            client.feed(frames.hello(window_frames=asked, window_bytes=1 << 40))
            terms = rig.engine.terms(client.handle) or ()
            assert terms[2:4] == (given, MANUAL.window_bytes_max)


def test_nonces_of_engines_without_a_seed_differ() -> None:
    nonces = set()
    for _ in range(8):
        with Rig(random_seed=0) as rig:
            client = Client(rig)
            client.feed(frames.hello(features=2))
            nonces.add(client.take()[0].body)
    assert len(nonces) == 8
    assert {len(nonce) for nonce in nonces} == {16}


def test_strangers_of_one_moment_make_room_for_the_newest() -> None:
    """Those that have been told to go are not asked to go again."""
    with Rig(preauth_connections_max=1) as rig:
        clients = [Client(rig) for _ in range(4)]
        rig.settle()
        assert rig.counter("closed_preauth_evicted") == 3
        clients[-1].login(1)


def test_a_login_refused_after_the_hub_knew_of_it_is_taken_back() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello())
        rig.automatic = False
        client.feed(frames.auth(device=4))
        rig.engine.register(client.handle, 4, 4, 0, 0, 0)
        rig.settle()
        assert rig.upcalls[-1][:2] == ("registered", client.handle)
        rig.engine.refuse(client.handle, frames.error(200))
        rig.settle()
        assert rig.hub.closed == [(client.handle, CLOSE_AUTH_FAILED)]


def test_a_login_that_the_directory_refuses_leaves_nothing_to_take_back() -> None:
    with Rig() as rig:
        rig.hub.automatic = rig.automatic = False
        client = Client(rig)
        client.feed(frames.hello(), frames.auth(device=4))
        rig.engine.register(client.handle, 4, 4, 0, 0, 0)
        rig.settle()
        rig.hub.registered(client.handle, 0, 0, error=302)
        rig.settle()
        assert rig.upcalls[-1][:3] == ("registered", client.handle, 302)
        # Nor is a fresh hub told of it.
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        assert rig.hub.logins == []
        client.end()
        assert rig.hub.closed == []


def test_who_is_registered_and_not_yet_welcomed_is_attached_to_a_fresh_hub() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello())
        rig.automatic = False
        client.feed(frames.auth(device=4))
        rig.engine.register(client.handle, 4, 4, 0, 0, 0)
        rig.settle()
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        assert [login[:2] for login in rig.hub.logins] == [(1, client.handle)]
        rig.engine.welcome(client.handle, frames.welcome(4, 4, 101))
        assert client.ops() == [frames.WELCOME]


def test_who_is_being_closed_is_not_attached_to_a_fresh_hub() -> None:
    with Rig() as rig:
        staying, leaving = rig.client(1), rig.client(2)
        rig.engine.unlink_hub()
        rig.engine.close(leaving.handle, 3)
        rig.link(rig.hub.successor())
        assert [login[1] for login in rig.hub.logins] == [staying.handle]


def test_bytes_that_wait_are_bounded_for_all_connections_together() -> None:
    with Rig(LIFTED, parked_bytes_max=4096) as rig:
        clients = [rig.client(user) for user in range(1, 4)]
        for client in clients:
            client.feed(frames.send(1, 5, bytes(3000))[:1500])
        assert rig.counter("closed_flood") == 1
        assert rig.counter("parked_bytes") <= 4096


def test_an_answer_for_somebody_else_counts_as_late() -> None:
    with Rig() as rig:
        rig.hub.automatic = False
        first, second = (Client(rig) for _ in range(2))
        for user, client in enumerate((first, second), 1):
            client.feed(frames.hello(), frames.auth(device=user))
            rig.hub.registered(client.handle, user, user)
            client.take()
        first.feed(frames.send(1, 5))
        (send,) = rig.hub.sends
        for handle in (second.handle, first.handle + (1 << 32)):
            rig.hub.answer(replace(send, handle=handle), frames.send_ack(1, 5, 1))
        rig.settle()
        assert rig.counter("answers_late") == 2
        assert first.take() == second.take() == []
        rig.hub.answer(send, frames.send_ack(1, 5, 1))
        assert first.ops() == [frames.SEND_ACK]


def test_refusals_of_the_hub_are_bounded_too() -> None:
    with Rig(refused_sends_max=8) as rig:
        client = rig.client(1)
        rig.hub.automatic = False
        client.feed(*(frames.send(cseq, 5) for cseq in range(1, 11)))
        for send in rig.hub.sends:
            rig.hub.answer(send, RETRYABLE_NAK)
        rig.settle()
        assert client.take()[-1].op == frames.BYE


def test_a_call_ends_with_its_last_record_whatever_that_holds() -> None:
    with Rig(pulls_outstanding_max=1) as rig:
        client = rig.client(1)
        for end in (b"", frames.pull_end(5), frames.frame(CHUNK, b"\x05\x00"), frames.deliver(5, 1)):
            client.feed(frames.pull(5))
            assert client.take() == []
            rig.hub.frames(client.handle, end, done=True)
            rig.settle()
            client.take()
        assert rig.counter("calls_refused") == 0


def test_a_tick_reads_a_bounded_number_of_records_and_the_next_one_the_rest() -> None:
    """4,096 from the hub, 1,024 from each peer."""
    with Rig(LIFTED) as rig:
        client = rig.client(1)
        client.join(5)
        to_peer, from_peer = Ring.create(1 << 20, 1), Ring.create(1 << 20, 1)
        rig.engine.link_peer(1, 1, from_peer, to_peer)
        for cid in range(1, 5001):
            assert rig.hub.interest(cid, 2)
        for number in range(1500):
            assert from_peer.write(peer_record(frames.ephemeral(5, number.to_bytes(2, "big"), sender=9)))
        rig.engine.poll(0)
        assert rig.counter("ephemeral_out") == 1024
        assert rig.hub.to_shard.read() is not None
        rig.settle()
        assert len([frame for frame in client.take() if frame.op == frames.EPHEMERAL]) == 1500


def peer_record(frame: bytes, cid: int = 5, sender: int = 9, kind: int = 1, size: int | None = None) -> bytes:
    head = bytes([kind, 0, 0, 0]) + (len(frame) if size is None else size).to_bytes(4, "little")
    return head + cid.to_bytes(8, "little") + sender.to_bytes(8, "little") + frame


@pytest.mark.parametrize(
    "record",
    [
        b"",
        peer_record(b"")[:-1],
        peer_record(frames.ephemeral(5, sender=9), kind=2),
        peer_record(frames.ephemeral(5, sender=9), size=4),
        peer_record(b"\x00\x00\x10"),
        peer_record(frames.frame(frames.EPHEMERAL, b"\x05\x09")),
    ],
)
def test_a_peer_whose_record_contradicts_itself_is_dropped_and_nobody_else(record: bytes) -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.join(5)
        to_peer, from_peer = Ring.create(65536, 1), Ring.create(65536, 1)
        rig.engine.link_peer(1, 1, from_peer, to_peer)
        assert from_peer.write(record)
        rig.settle()
        assert rig.upcalls[-1] == ("peer_lost", 1)
        client.feed(frames.send(1, 5))
        assert client.ops() == [frames.SEND_ACK]


@pytest.mark.parametrize("at", [64, 128])
def test_a_peer_that_breaks_either_ring_is_dropped(at: int) -> None:
    """Its head in the ring it writes, its tail in the ring it reads."""
    with Rig(LIFTED) as rig:
        client = rig.client(1)
        client.join(5)
        rig.hub.interest(5, 0b10)
        rig.settle()
        to_peer, from_peer = Ring.create(4096, 1), Ring.create(4096, 1)
        rig.engine.link_peer(1, 1, from_peer, to_peer)
        broken = from_peer if at == 64 else to_peer
        with mmap.mmap(broken.memfd, 8192) as memory:
            memory[at : at + 8] = (1 << 40).to_bytes(8, "little")
            for _ in range(3):
                client.feed(frames.ephemeral(5, bytes(1500)))
        assert rig.upcalls[-1] == ("peer_lost", 1)


def test_small_followers_do_not_get_ephemeral_frames_that_they_could_not_hold() -> None:
    with Rig(LIFTED) as rig:
        small, sender = Client(rig), rig.client(2)
        small.login(1, frame_bytes_max=128)
        small.join(5)
        sender.join(5)
        sender.feed(frames.ephemeral(5, bytes(200)), frames.ephemeral(5, bytes(20)))
        assert [len(frame.body) for frame in small.take()] == [23]
