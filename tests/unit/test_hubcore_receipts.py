"""Positions, receipts and subscriptions through the hub's core."""

import select

import pytest
from support.fakehub import FakeHub, of_type
from support.fakeshard import (
    OP_ERROR,
    OP_RECEIPT,
    OP_SUBSCRIBE,
    OP_UNSUBSCRIBE,
    FakeShard,
    Frames,
    Grant,
    Interest,
    Receipts,
    Session,
    varint,
    varints,
)

from chatd._native import HubCore, decode_batch
from chatd.hub.core_settings import HubCoreSettings

FEATURE_RECEIPTS = 4


@pytest.fixture
def hub() -> FakeHub:
    hub = FakeHub(HubCore)
    hub.person(1, 11, 12)
    hub.person(2, 21, 22)
    hub.person(3, 31)
    hub.conversation(7, 1, 2)
    return hub


@pytest.fixture
def shard(hub: FakeHub) -> FakeShard:
    return FakeShard(hub.core)


@pytest.fixture
def alice(hub: FakeHub, shard: FakeShard) -> Session:
    alice = hub.login(shard, 101, 1, 11, features=FEATURE_RECEIPTS)
    for cseq in range(1, 11):
        shard.send(alice, cseq, 7)
    hub.run()
    shard.read()
    return alice


def positions(hub: FakeHub) -> list[tuple[int, ...]]:
    return [row[1:5] for batch in hub.journal for row in decode_batch(*batch)[4]]


def test_positions_only_rise_and_never_pass_the_head(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    for delivered, read in ((3, 0), (2, 2), (99, 0), (0, 5), (0, 4)):
        shard.position(2, 7, delivered, read)
    hub.run()
    assert hub.core.intervals(7, 2) == [(2, 1, 1, 0, 10, 5, 5)]
    assert hub.core.intervals(7, 1) == [(1, 1, 1, 0, 10, 10, 10)]


def test_a_pair_writes_one_record_in_each_interval(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    for seq in range(1, 9):
        shard.position(2, 7, seq, seq)
        hub.run()
        hub.tick_ms += 50
    assert positions(hub) == [(2, 1, 1, 1)]
    assert hub.core.timeout_ms() == 100 + 50
    hub.tick_ms += 100
    hub.run()
    assert positions(hub) == [(2, 1, 1, 1), (2, 8, 8, 8)]
    hub.tick_ms += 1000
    hub.run()
    assert len(positions(hub)) == 2
    assert hub.core.timeout_ms() == -1


def test_a_position_waits_for_its_conversation(hub: FakeHub, shard: FakeShard) -> None:
    hub.conversations[7] = (*hub.conversations[7][:2], 5, 5, 0, 0, hub.conversations[7][6])
    hub.answers = False
    shard.position(2, 7, 4, 0)
    shard.position(2, 7, 5, 5)
    assert ("need_conversation", 7) in hub.run()
    hub.answer(("need_conversation", 7))
    hub.tick_ms += 1000
    hub.run()
    assert hub.core.intervals(7, 2) == [(2, 1, 1, 0, 5, 5, 5)]


def test_a_refused_position_is_staged_again(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.position(2, 7, 4, 4)
    hub.poll()
    assert hub.core.staged_count == 1
    hub.core.reject(501, 0)
    hub.tick_ms += 1000
    hub.run()
    assert positions(hub) == [(2, 4, 4, 4)]


def test_the_count_at_a_folded_seq_is_asked_for(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.core.freed(hub.core.committed_pos)
    shard.position(2, 7, 6, 6)
    assert ("need_read_count", 7, 2, 6) in hub.run()
    assert hub.core.intervals(7, 2) == [(2, 1, 1, 0, 6, 0, 0)]
    hub.core.put_read_count(7, 2, 6, 6)
    hub.tick_ms += 1000
    hub.run()
    assert positions(hub)[-1] == (2, 6, 6, 6)


def test_followers_share_one_receipt_frame_per_shard(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    other = FakeShard(hub.core, 1)
    hub.run()
    shard.subscribe(alice, 7)
    hub.run()
    assert shard.read() == [
        Interest(7, 1),
        Grant(3, 101, 7),
        Frames(101, ((OP_SUBSCRIBE, 0, varint(7) + varint(3)),), True),
    ]
    bob = hub.login(other, 201, 2, 21, features=FEATURE_RECEIPTS)
    hub.login(other, 202, 2, 22)
    other.position(2, 7, 4, 0)
    hub.run()
    assert shard.read() == [Receipts(7, ((2, 4, 0),))]
    assert other.read() == []
    hub.tick_ms += 1000
    other.position(2, 7, 0, 3)
    other.position(2, 7, 0, 5)
    hub.run()
    assert shard.read() == [Receipts(7, ((2, 5, 5),))]
    ((handle, ((op, _, body),), done),) = other.read()
    assert (handle, op, done) == (bob.handle, OP_RECEIPT, False)
    assert varints(body, 5)[0] == [7, 1, 2, 5, 5]


def test_the_topic_of_receipts_needs_the_feature(hub: FakeHub, shard: FakeShard) -> None:
    plain = hub.login(shard, 102, 1, 12)
    for topics in (3, 2):
        shard.subscribe(plain, 7, topics)
        hub.run()
    granted = [body for said in of_type(shard.read(), Frames) for _, _, body in said.frames]
    assert granted == [varint(7) + varint(1), varint(7) + varint(0)]


def test_nobody_hears_of_a_position_before_it_is_durable(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.subscribe(alice, 7)
    hub.run()
    shard.read()
    shard.position(2, 7, 2, 0)
    shard.position(2, 7, 4, 4)
    hub.poll()
    assert shard.read() == []
    hub.core.reject(501, 0)
    assert shard.read() == [], "refused: it is as if nobody had read"
    hub.tick_ms += 1000
    hub.run()
    assert shard.read() == [Receipts(7, ((2, 4, 4),))]
    shard.position(2, 7, 6, 6)
    hub.run()
    shard.read()
    shard.position(2, 7, 8, 8)
    hub.run()
    assert shard.read() == [], "the pair has just written a record, this move waits for the next one"
    hub.tick_ms += 1000
    hub.run()
    assert shard.read() == [Receipts(7, ((2, 8, 8),))]


def test_large_conversations_have_no_receipts() -> None:
    hub = FakeHub(HubCore, HubCoreSettings(receipt_members_max=2))
    hub.person(1, 11)
    hub.conversation(7, 1, 2, 3)
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    shard.send(alice, 1, 7)
    shard.subscribe(alice, 7)
    hub.run()
    shard.read()
    shard.position(2, 7, 1, 1)
    hub.run()
    assert shard.read() == []
    assert positions(hub) == [(2, 1, 1, 1)]


def test_who_may_not_follow(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(8, 2, 3)
    for cid in (8, 9):
        shard.subscribe(alice, cid)
    hub.run()
    foreign, absent = shard.read()
    assert foreign == Frames(101, ((OP_ERROR, 0, b"\x01\x2d\xa4\x08\x00\x00"),), True)
    assert absent == Frames(101, ((OP_ERROR, 0, b"\x01\x2d\xa4\x09\x00\x00"),), True)


def test_unsubscribing_from_nothing_is_echoed_and_grants_nothing(
    hub: FakeHub, shard: FakeShard, alice: Session
) -> None:
    """A grant for conversation 0 is a corrupt record to the engine: any client could have cut the link."""
    shard.unsubscribe(alice, 0)
    shard.subscribe(alice, 0, 0)
    hub.run()
    assert shard.read() == [
        Frames(101, ((OP_UNSUBSCRIBE, 0, varint(0)),), True),
        Frames(101, ((OP_SUBSCRIBE, 0, varint(0) + varint(0)),), True),
    ]


def test_shards_learn_who_follows(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    other = FakeShard(hub.core, 3)
    hub.run()
    bob = hub.login(other, 201, 2, 21)
    shard.subscribe(alice, 7, 1)
    other.subscribe(bob, 7, 1)
    hub.run()
    assert of_type(shard.read(), Interest) == [Interest(7, 1), Interest(7, 9)]
    assert of_type(other.read(), Interest) == [Interest(7, 9)]
    other.unsubscribe(bob, 7)
    hub.run()
    assert of_type(shard.read(), Interest) == [Interest(7, 1)]
    assert other.read() == [
        Interest(7, 1),
        Grant(0, 201, 7),
        Frames(201, ((OP_UNSUBSCRIBE, 0, varint(7)),), True),
    ]
    other.subscribe(bob, 7, 1)
    hub.run()
    other.closed(bob)
    hub.run()
    assert of_type(shard.read(), Interest) == [Interest(7, 9), Interest(7, 1)]


def test_a_removed_member_stops_following(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.subscribe(alice, 7)
    hub.run()
    shard.read()
    hub.core.revoke(1, 7)
    assert shard.read() == [
        Interest(7, 0),
        Grant(0, 101, 7),
        Frames(101, ((OP_UNSUBSCRIBE, 0, varint(7)),), False),
    ]


def test_a_fresh_hub_is_told_of_standing_subscriptions(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(8, 2, 3)
    shard.subscribe(alice, 7, reattach=True)
    shard.subscribe(alice, 8, reattach=True)
    hub.run()
    assert shard.read() == [
        Interest(7, 1),
        Grant(0, 101, 8),
        Frames(101, ((OP_UNSUBSCRIBE, 0, varint(8)),), False),
    ]


def test_subscriptions_of_a_session_are_bounded() -> None:
    hub = FakeHub(HubCore, HubCoreSettings(subscriptions_max=2))
    hub.person(1, 11)
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    for cid in (5, 6, 7):
        hub.conversation(cid, 1)
        shard.subscribe(alice, cid)
    hub.run()
    assert [record.frames[0][0] for record in of_type(shard.read(), Frames)] == [
        OP_SUBSCRIBE,
        OP_SUBSCRIBE,
        OP_ERROR,
    ]


def test_other_calls_go_to_python(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.call(alice, 0xA0, b"\x00\x05", window=(10, 2000))
    shard.rpc(9, b"packed")
    upcalls = hub.run()
    assert upcalls[0] == ("call", 0, 101, 1, 11, 0xA0, 0, 10, 2000, 65535, 0, b"\x00\x05")
    assert upcalls[1] == ("rpc", 0, 9, b"packed")
    assert hub.core.frames(0, 101, b"\x00\x01\x01\x00x", True)
    assert hub.core.rpc(0, 9, b"answer")
    frames, rpc = shard.read()
    assert frames == Frames(101, ((1, 0, b"x"),), True)
    assert (rpc.call, rpc.payload) == (9, b"answer")


def test_a_quiet_poll_leaves_the_rings_armed(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    assert hub.poll() == []
    assert select.select([hub.core], [], [], 0)[0] == []
    shard.position(2, 7, 1, 0)
    assert select.select([hub.core], [], [], 0)[0]
    hub.run()
    assert select.select([hub.core], [], [], 0)[0] == []


def test_a_large_conversation_writes_what_is_read_and_counts_what_came() -> None:
    hub = FakeHub(HubCore, HubCoreSettings(receipt_members_max=2))
    for user in (1, 2, 3):
        hub.person(user, 10 * user + 1)
    hub.conversation(7, 1, 2, 3)
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    for cseq in range(1, 6):
        shard.send(alice, cseq, 7)
    shard.position(2, 7, 4, 0)
    hub.run()
    assert positions(hub) == []
    assert hub.core.receipt_counts(7, 4, 1) == (2, 1, 0)
    assert hub.core.receipt_counts(7, 5, 1) == (2, 0, 0)
    assert hub.core.receipt_counts(9, 1, 1) is None
    hub.tick_ms += 5000
    shard.position(2, 7, 0, 3)
    hub.run()
    assert positions(hub) == [(2, 4, 3, 3)]
    assert hub.core.receipt_counts(7, 3, 1) == (2, 1, 1)
    assert hub.core.receipt_counts(7, 3, 2) == (2, 1, 1), "alice has read what she wrote"
