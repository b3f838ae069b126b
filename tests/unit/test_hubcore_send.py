"""SEND and SKIP through the hub's core: order, idempotency, rights, refusals, the batch in between."""

import pytest
from support.fakehub import FakeHub, answers, of_type
from support.fakeshard import Ack, Committed, FakeShard, Nak, Session, decode_deliver, split_frames

from chatd._native import HubCore, decode_batch
from chatd.hub.core_settings import HubCoreSettings

UNSUPPORTED, TOO_LARGE, CSEQ_REUSE, FORBIDDEN, NOT_FOUND = 101, 102, 104, 300, 301
BUSY, STORE_FULL, OUT_OF_ORDER = 401, 501, 502
BAD_REQUEST = 103
EVENT_BYTES = 80 + 8  # of a record with a payload of up to 8


@pytest.fixture
def hub() -> FakeHub:
    hub = FakeHub(HubCore)
    hub.person(1, 11, 12)
    hub.person(2, 21)
    hub.person(3, 31)
    hub.conversation(7, 1, 2)
    return hub


@pytest.fixture
def shard(hub: FakeHub) -> FakeShard:
    return FakeShard(hub.core)


@pytest.fixture
def alice(hub: FakeHub, shard: FakeShard) -> Session:
    return hub.login(shard, 101, 1, 11)


def test_a_send_is_committed_delivered_and_acked(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    bob = hub.login(shard, 102, 2, 21)
    tablet = hub.login(shard, 103, 1, 12)
    shard.send(alice, 1, 7, b"hi")
    hub.poll()
    hub.poll()
    assert hub.core.staged_count == 1
    assert shard.read() == []
    pos, count, blob = hub.core.batch()
    assert (pos, count, len(blob)) == (1, 1, hub.core.staged_bytes)
    (event,) = decode_batch(pos, count, blob)[0]
    assert event[:8] == (7, 1, hub.now_ms, 1, 11, 1, 1, 1)
    assert event[9] == b"hi"
    hub.core.publish()
    committed, answer = shard.read()
    assert isinstance(committed, Committed)
    assert (committed.pos, committed.cid, committed.seq) == (1, 7, 1)
    assert sorted(committed.handles) == [bob.handle, tablet.handle]
    (frame,) = split_frames(committed.frame)
    assert decode_deliver(*frame) == (7, 1, 1, hub.now_ms, 1, b"hi", 0)
    assert answers([answer]) == [Ack(1, 7, 1, hub.now_ms, 0)]


def test_seq_and_ts_never_go_back(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7)
    hub.run()
    first = hub.now_ms
    hub.now_ms -= 3_600_000
    shard.send(alice, 2, 7)
    hub.run()
    assert answers(shard.read()) == [Ack(1, 7, 1, first, 0), Ack(2, 7, 2, first, 0)]


def test_a_repeated_cseq_gets_the_first_answer(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7)
    shard.send(alice, 1, 7)
    hub.run()
    shard.send(alice, 1, 7)
    hub.run()
    assert [answer.flags for answer in answers(shard.read())] == [0, 2, 2]
    assert sum(count for _, count, _ in hub.journal) == 1


def test_other_content_under_a_used_cseq_is_refused(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7, b"one")
    shard.send(alice, 1, 7, b"two")
    hub.run()
    nak, ack = answers(shard.read())
    assert nak == Nak(1, 7, CSEQ_REUSE, 0, False)
    assert isinstance(ack, Ack)


def test_a_cseq_older_than_the_window_is_looked_up(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    for cseq in range(1, 301):
        shard.send(alice, cseq, 7)
    hub.run()
    shard.read()
    digest = decode_batch(*hub.journal[0])[0][0][8] & (1 << 64) - 1
    hub.sent[11, 1] = (7, 1, hub.now_ms, digest)
    shard.send(alice, 1, 7)
    shard.send(alice, 2, 7)
    shard.send(alice, 300, 7)
    hub.run()
    assert answers(shard.read()) == [
        Ack(1, 7, 1, hub.now_ms, 2),
        Ack(2, 7, 301, hub.now_ms, 0),
        Ack(300, 7, 300, hub.now_ms, 2),
    ]


@pytest.mark.parametrize(("cid", "code"), [(9, NOT_FOUND), (8, NOT_FOUND), (7, None)])
def test_members_may_write(hub: FakeHub, shard: FakeShard, alice: Session, cid: int, code: int | None) -> None:
    hub.conversation(8, 2, 3)
    shard.send(alice, 1, cid)
    hub.run()
    (answer,) = answers(shard.read())
    assert answer == (Ack(1, 7, 1, hub.now_ms, 0) if code is None else Nak(1, cid, code, 0, False))


def test_absent_and_foreign_look_the_same(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(8, 2, 3)
    shard.send(alice, 1, 8)
    shard.send(alice, 1, 9)
    hub.run()
    foreign, absent = shard.read()
    assert foreign.body[2:] == absent.body[2:]
    assert foreign.flags == absent.flags


@pytest.mark.parametrize(("kind", "size", "code"), [(1, 8193, 102), (16, 32768, 102), (32, 1, 300), (15, 1, 101)])
def test_size_and_kind(hub: FakeHub, shard: FakeShard, alice: Session, kind: int, size: int, code: int) -> None:
    shard.send(alice, 1, 7, bytes(size), kind=kind)
    hub.run()
    (answer,) = answers(shard.read())
    assert answer.code == code


def test_a_refused_batch_never_happened(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7)
    hub.run()
    before = (hub.core.conversation(7), hub.core.members(7))
    shard.read()
    shard.send(alice, 2, 7)
    shard.send(alice, 3, 7)
    shard.skip(alice, 4)
    hub.poll()
    assert hub.core.staged_count == 3
    hub.core.reject(STORE_FULL, 1000)
    assert hub.core.staged_count == 0
    assert (hub.core.conversation(7), hub.core.members(7)) == before
    assert [answer.code for answer in answers(shard.read())] == [STORE_FULL] * 3
    shard.send(alice, 3, 7)
    shard.send(alice, 2, 7)
    hub.run()
    late, retried = answers(shard.read())
    assert late == Nak(3, 7, OUT_OF_ORDER, 500, True)
    assert retried == Ack(2, 7, 2, hub.now_ms, 0)
    shard.send(alice, 3, 7)
    hub.run()
    assert answers(shard.read()) == [Ack(3, 7, 3, hub.now_ms, 0)]


def test_skip_lets_later_sends_pass_and_keeps_the_cseq_unused(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(8, 1, 2)
    shard.send(alice, 1, 7)
    hub.run()
    shard.send(alice, 2, 7)
    hub.poll()
    hub.core.reject(STORE_FULL, 1000)
    shard.read()
    shard.send(alice, 3, 7)
    shard.send(alice, 4, 8)
    hub.run()
    blocked, other = answers(shard.read())
    assert isinstance(blocked, Nak)
    assert isinstance(other, Ack)
    shard.skip(alice, 2)
    shard.skip(alice, 3)
    shard.send(alice, 5, 7)
    shard.send(alice, 2, 7)
    hub.run()
    reuse, *acks = answers(shard.read())
    assert reuse.code == CSEQ_REUSE
    assert [(ack.cseq, ack.seq, ack.flags) for ack in acks] == [(2, 0, 4), (3, 0, 4), (5, 2, 0)]


def test_a_final_refusal_of_a_retry_lets_later_sends_pass(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7)
    hub.poll()
    hub.core.reject(STORE_FULL, 1000)
    shard.send(alice, 1, 7, kind=1 << 40)
    shard.send(alice, 2, 7)
    hub.run()
    assert [type(answer) for answer in answers(shard.read())] == [Nak, Nak, Ack]


@pytest.mark.parametrize("bound", [{"tail_records_max": 2}, {"tail_bytes_max": 2 * EVENT_BYTES}])
def test_a_full_tail_says_busy(bound: dict[str, int]) -> None:
    small = FakeHub(HubCore, HubCoreSettings(**bound))
    small.person(1, 11)
    small.conversation(7, 1)
    shard = FakeShard(small.core)
    alice = small.login(shard, 5, 1, 11)
    for cseq in range(1, 4):
        shard.send(alice, cseq, 7)
    small.run()
    assert [getattr(answer, "code", 0) for answer in answers(shard.read())] == [BUSY, 0, 0]
    small.core.freed(2)
    shard.send(alice, 3, 7)
    small.run()
    assert answers(shard.read()) == [Ack(3, 7, 3, small.now_ms, 0)]


def test_a_send_of_an_older_session_is_dropped(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice._replace(epoch=alice.epoch - 1), 1, 7)
    shard.send(alice._replace(handle=999), 1, 7)
    shard.send(alice._replace(user=2), 1, 7)
    hub.run()
    assert shard.read() == []
    assert hub.core.counters()["fenced"] == 3


def test_unknown_odd_extensions_are_refused_even_ones_ignored(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7, b"\x03\x01\x01x" + b"text", flags=1)
    shard.send(alice, 1, 7, b"\x03\x7e\x01x" + b"text", flags=1)
    hub.run()
    nak, ack = answers(shard.read())
    assert nak.code == UNSUPPORTED
    assert isinstance(ack, Ack)
    assert decode_batch(*hub.journal[0])[0][0][9:] == (b"\x03\x7e\x01xtext", 3), "stored as they came"


@pytest.mark.parametrize(
    ("reply_to", "code"), [(b"\x01", 0), (b"\x02", NOT_FOUND), (b"\x00", BAD_REQUEST), (b"\x01\x01", BAD_REQUEST)]
)
def test_a_reply_names_an_event_that_its_sender_may_see(
    hub: FakeHub, shard: FakeShard, alice: Session, reply_to: bytes, code: int
) -> None:
    shard.send(alice, 1, 7)
    hub.run()
    extension = b"\x02" + bytes([len(reply_to)]) + reply_to
    shard.send(alice, 2, 7, bytes([len(extension)]) + extension + b"re", flags=1)
    hub.run()
    last = answers(shard.read())[-1]
    assert (last.code if code else last.seq) == (code or 2)


def test_a_reply_to_what_was_said_before_joining_is_refused(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7)
    hub.run()
    hub.core.stage_event(7, 1, 33, b"", 0)
    hub.core.stage_member(7, 3, 1, 2, 0)
    carl = hub.login(shard, 103, 3, 31)
    shard.send(carl, 1, 7, b"\x03\x02\x01\x01re", flags=1)
    shard.send(carl, 2, 7, b"\x03\x02\x01\x02re", flags=1)
    hub.run()
    nak, ack = answers(shard.read())
    assert (nak.code, ack.seq) == (NOT_FOUND, 3)


def test_sending_moves_the_senders_own_position(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    shard.send(alice, 1, 7)
    shard.send(alice, 2, 7)
    hub.run()
    assert hub.core.intervals(7, 1) == [(1, 1, 1, 0, 2, 2, 2)]
    assert hub.core.intervals(7, 2) == [(2, 1, 1, 0, 0, 0, 0)]


def test_events_reach_other_shards(hub: FakeHub, alice: Session, shard: FakeShard) -> None:
    other = FakeShard(hub.core, 1)
    hub.run()
    bob = hub.login(other, 102, 2, 21)
    shard.send(alice, 1, 7)
    hub.run()
    assert answers(other.read()) == []
    other_records = shard.read()
    assert of_type(other_records, Committed) == []
    assert answers(other_records) == [Ack(1, 7, 1, hub.now_ms, 0)]
    shard.send(alice, 2, 7)
    hub.run()
    (committed,) = other.read()
    assert committed.handles == (bob.handle,)
