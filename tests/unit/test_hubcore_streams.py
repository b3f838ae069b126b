"""What the hub's core does for live streams: who follows, frames that may be lost, and a verdict about kind."""

import pytest
from support.fakehub import FakeHub, of_type
from support.fakeshard import FakeShard, Frames, Grant, Session, Topic, varint

from chatd._native import HubCore, decode_batch
from chatd.hub.core_settings import HubCoreSettings

FEATURE_STREAMS, STREAMS, EPHEMERAL = 16, 4, 1
DELTA = b"\x00\x05\x12\x00\x07\x05\x00hi"
FOLLOWED = ("followed", 0, 101, 7, 65_535)


@pytest.fixture
def hub() -> FakeHub:
    hub = FakeHub(HubCore)
    hub.person(1, 11)
    hub.person(2, 21)
    hub.conversation(7, 1, 2)
    hub.answer(("need_conversation", 7))
    return hub


@pytest.fixture
def shard(hub: FakeHub) -> FakeShard:
    return FakeShard(hub.core)


@pytest.fixture
def alice(hub: FakeHub, shard: FakeShard) -> Session:
    return hub.login(shard, 101, 1, 11, features=FEATURE_STREAMS)


def test_a_new_follower_is_told_of_where_streams_run(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.subscribe(alice, 7, STREAMS)
    assert hub.run() == [], "nothing runs"
    hub.core.streaming(7, True)
    shard.subscribe(alice, 7, STREAMS)
    assert hub.run() == [FOLLOWED]
    shard.subscribe(alice, 7, EPHEMERAL)
    assert hub.run() == []
    hub.core.streaming(7, False)
    shard.subscribe(alice, 7, STREAMS)
    assert hub.run() == []


def test_the_topic_needs_the_feature(hub: FakeHub, shard: FakeShard) -> None:
    bob = hub.login(shard, 201, 2, 21)
    hub.core.streaming(7, True)
    shard.subscribe(bob, 7, STREAMS | EPHEMERAL)
    assert hub.run() == []
    assert of_type(shard.read(), Grant) == [Grant(EPHEMERAL, 201, 7)]


def test_a_session_of_before_is_not_told_again(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.core.streaming(7, True)
    shard.subscribe(alice, 7, STREAMS, reattach=True)
    assert hub.run() == []


def test_a_frame_goes_once_to_each_shard_that_follows(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    other = FakeShard(hub.core, 1)
    bob = hub.login(other, 201, 2, 21, features=FEATURE_STREAMS)
    assert hub.core.to_followers(7, STREAMS, DELTA, 1, 201) == 0
    for place, session in ((shard, alice), (other, bob)):
        place.subscribe(session, 7, STREAMS)
    hub.run()
    for place in (shard, other):
        place.read()
    assert hub.core.to_followers(7, STREAMS, DELTA, 1, 201) == 0
    assert shard.read() == [Topic(7, STREAMS, 0, 0x12, DELTA[4:])]
    assert other.read() == [Topic(7, STREAMS, 201, 0x12, DELTA[4:])], "but for that one"
    hub.core.revoke(2, 7)
    other.read()
    hub.core.to_followers(7, STREAMS, DELTA, 1, 201)
    assert other.read() == []


def test_what_may_be_lost_is_lost_before_an_answer_has_to_wait(hub: FakeHub) -> None:
    slow = FakeShard(hub.core, 0, capacity=8192)
    alice = hub.login(slow, 101, 1, 11, features=FEATURE_STREAMS)
    slow.subscribe(alice, 7, STREAMS)
    hub.run()
    slow.read()
    dropped = sum(hub.core.to_followers(7, STREAMS, DELTA[:1] + b"\xf5" + DELTA[2:] + bytes(240)) for _ in range(100))
    assert dropped > 50
    assert hub.core.counters()["topic_dropped"] == dropped
    assert hub.core.frames(0, 101, DELTA, False)
    told = slow.read()
    assert len(of_type(told, Topic)) == 100 - dropped
    assert len(of_type(told, Frames)) == 1, "there was room for an answer"


def test_a_conversation_with_streams_stays(hub: FakeHub) -> None:
    small = FakeHub(HubCore, HubCoreSettings(conversations_max=2))
    for cid in range(1, 9):
        small.conversation(cid, 1, 2)
        small.answer(("need_conversation", cid))
        if cid == 1:
            small.core.streaming(1, True)
    assert small.core.conversation(1) is not None
    assert small.core.conversation(2) is None


def test_a_verdict_may_change_the_kind(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.answers = False
    stream = b"\x05\x0a\x03\x05\x00\x00"
    shard.send(alice, 1, 7, stream, flags=1)
    (need,) = hub.run()
    assert need == ("need_judgement", 11, 1, 1, 7, 1, True, stream)
    assert hub.core.judge(11, 1, 0, b"", stream + b"whole", True, 2) == 1
    hub.commit()
    (event,) = [row for batch in hub.journal for row in decode_batch(*batch)[0]]
    assert 2 in event
    assert stream + b"whole" in event
    again = shard.send(alice, 1, 7, stream, flags=1)
    hub.run()
    assert again
    assert varint(1) in shard.read()[-1].body, "the same send is known again"
