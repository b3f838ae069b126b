"""Publishing: full rings, replaced hubs, membership in time, the tail and its floor, what `why` says."""

import sys

import pytest
from support.fakehub import FakeHub, answers, of_type
from support.fakeshard import Answer, Committed, FakeShard, Lost, Session, decode_deliver, split_frames

from chatd._native import HubCore, decode_batch
from chatd.hub.core_settings import HubCoreSettings
from chatd.storage.journal_codec import decode_batch as reference_decode

HISTORY, STUB, TOMBSTONE = 2, 4, 16


def rebuilt(hub: FakeHub, settings: HubCoreSettings | None = None) -> FakeHub:
    """A new hub from the journal of an older one."""
    after = FakeHub(HubCore, settings)
    after.users, after.devices, after.conversations = hub.users, hub.devices, hub.conversations
    for batch in hub.journal:
        after.core.replay(*batch)
    return after


@pytest.fixture
def hub() -> FakeHub:
    hub = FakeHub(HubCore)
    hub.person(1, 11)
    hub.person(2, 21)
    hub.person(3, 31)
    hub.conversation(7, 1, 2)
    return hub


def pushed(records: list[object]) -> list[int]:
    return [record.seq for record in of_type(records, Committed)]


def test_a_full_ring_loses_nothing_and_keeps_room_for_answers(hub: FakeHub) -> None:
    origin = FakeShard(hub.core, 0)
    slow = FakeShard(hub.core, 1, capacity=8192)
    alice = hub.login(origin, 101, 1, 11)
    bob = hub.login(slow, 201, 2, 21)
    for cseq in range(1, 101):
        origin.send(alice, cseq, 7, bytes(100))
    hub.run()
    assert len(answers(origin.read())) == 100
    assert hub.core.timeout_ms() in (0, 1, 2)
    slow.send(bob, 1, 7)
    hub.run()
    first = slow.read()
    seen = pushed(first)
    assert 10 < len(seen) < 100
    assert len(of_type(first, Answer)) == 1
    while len(seen) < 100:
        hub.run()
        more = pushed(slow.read())
        assert more
        seen += more
    assert seen == list(range(1, 101))
    assert hub.core.counters()["lost_events"] == 0


def test_a_replaced_hub_pushes_what_was_committed_and_not_routed(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    hub.login(shard, 201, 2, 21)
    for cseq in range(1, 6):
        shard.send(alice, cseq, 7)
        hub.run()
    after = rebuilt(hub)
    again = FakeShard(after.core, received=None)
    again.received(2)
    again.login(101, 1, 11, session_epoch=alice.epoch, reattach=True)
    again.login(201, 2, 21, session_epoch=alice.epoch + 1, reattach=True)
    again.ready(2)
    again.send(alice, 5, 7)
    again.send(alice, 6, 7)
    after.run()
    records = again.read()
    assert pushed(records) == [3, 4, 5, 6]
    assert {record.handles for record in of_type(records, Committed)} == {(201,)}
    assert [(answer.cseq, answer.seq, answer.flags) for answer in answers(records)] == [(5, 5, 2), (6, 6, 0)]
    hops = [hop for _, hop, _ in after.core.ledger(7, 4)]
    assert hops == ["link-replayed"]


def test_what_cannot_be_replayed_is_said_to_be_lost(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    for cseq in range(1, 6):
        shard.send(alice, cseq, 7)
        hub.run()
    after = rebuilt(hub)
    after.core.freed(4)
    again = FakeShard(after.core, received=None)
    again.received(2)
    again.login(101, 1, 11, session_epoch=alice.epoch, reattach=True)
    again.ready(2)
    after.run()
    assert of_type(again.read(), Lost) == [Lost(5)]


def test_replay_rebuilds_heads_windows_members_and_positions(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    shard.send(alice, 1, 7)
    shard.send(alice, 3, 7)
    shard.skip(alice, 2)
    hub.run()
    hub.core.stage_event(7, 1, 33, b"\x01\x01\x03", False)
    hub.core.stage_member(7, 3, 1, 3, 0)
    hub.core.stage_row(b"row")
    hub.core.stage_position(7, 2, 3, 2)
    hub.commit()
    after = FakeHub(HubCore)
    rows, members, _ = zip(*(after.core.replay(*batch) for batch in hub.journal), strict=True)
    assert [row for batch in rows for row in batch] == [(6, b"row")]
    assert [member for batch in members for member in batch] == [(7, 3, 3, 0, 1, 5)]
    after.users, after.devices, after.conversations = hub.users, hub.devices, hub.conversations
    assert after.core.conversation(7) is None
    after.answer(("need_conversation", 7))
    assert after.core.conversation(7) == hub.core.conversation(7)
    assert after.core.members(7) == hub.core.members(7)
    assert after.core.committed_pos == hub.core.committed_pos == 7
    shard = FakeShard(after.core)
    alice = after.login(shard, 101, 1, 11)
    shard.send(alice, 3, 7)
    shard.skip(alice, 2)
    shard.send(alice, 4, 7)
    after.run()
    assert [(answer.cseq, answer.seq, answer.flags) for answer in answers(shard.read())] == [
        (3, 2, 2),
        (2, 0, 4),
        (4, 4, 0),
    ]


def test_with_nothing_to_replay_positions_go_on_where_they_are_told(hub: FakeHub) -> None:
    hub.core.replay(500, 0, b"")
    assert hub.core.committed_pos == 499
    assert hub.core.stage_row(b"x") == 500
    assert hub.core.batch()[:2] == (500, 1)


def test_a_damaged_batch_is_refused(hub: FakeHub) -> None:
    hub.core.stage_row(b"x")
    pos, count, blob = hub.core.batch()
    for damaged in (blob[:-1], blob + bytes(8), blob[:4] + b"\x09" + blob[5:]):
        with pytest.raises(ValueError, match=r"journal record|holds"):
            FakeHub(HubCore).core.replay(pos, count, damaged)


def test_removal_and_rejoin_take_effect_at_their_seq(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    bob = hub.login(shard, 201, 2, 21)
    shard.send(alice, 1, 7)
    hub.run()
    removed_at = hub.core.stage_event(7, 1, 34, b"", False)
    hub.core.stage_member(7, 2, 1, 1, removed_at)
    shard.send(alice, 2, 7)
    shard.send(bob, 1, 7)
    hub.run()
    joined_at = hub.core.stage_event(7, 1, 33, b"", False)
    hub.core.stage_member(7, 2, 1, joined_at, 0)
    shard.send(alice, 3, 7)
    hub.run()
    records = shard.read()
    to_bob = [record.seq for record in of_type(records, Committed) if bob.handle in record.handles]
    assert to_bob == [1, removed_at, joined_at, joined_at + 1]
    assert [answer.code for answer in answers(records) if hasattr(answer, "code")] == [301]
    assert hub.core.intervals(7, 2) == [(2, 1, 1, 2, 0, 0, 0), (2, 1, 4, 0, 0, 0, 0)]
    frames, next_seq = hub.core.tail_events(7, 1, 5, 100, 10_000, 65535, 2, False)
    assert [decode_deliver(*frame).seq for frame in split_frames(frames)] == [1, 2, 4, 5]
    assert next_seq == 6


def test_reject_undoes_members_too(hub: FakeHub) -> None:
    hub.answer(("need_conversation", 7))
    before = (hub.core.conversation(7), hub.core.members(7))
    seq = hub.core.stage_event(7, 1, 34, b"", False)
    hub.core.stage_member(7, 2, 1, 1, seq)
    hub.core.stage_member(7, 3, 1, seq, 0)
    hub.core.stage_member(7, 3, 2, seq, 0)
    assert (hub.core.conversation(7), hub.core.members(7)) != before
    hub.core.reject(501, 0)
    assert (hub.core.conversation(7), hub.core.members(7)) == before


def test_the_tail_is_contiguous_from_its_floor_to_the_head(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    for cseq in range(1, 51):
        shard.send(alice, cseq, 7, b"%d" % cseq)
    hub.run()
    shard.read()
    hub.run()
    assert hub.core.tail_floor(7, 50) == 1
    hub.core.freed(20)
    assert hub.core.tail_floor(7, 50) == 21
    assert hub.core.tail_events(7, 20, 50, 100, 10_000, 65535, 2, False) == (b"", 20)
    frames, next_seq = hub.core.tail_events(7, 21, 50, 10, 10_000, 65535, 2, False)
    assert [decode_deliver(*frame).payload for frame in split_frames(frames)] == [b"%d" % n for n in range(21, 31)]
    assert next_seq == 31
    frames, next_seq = hub.core.tail_events(7, 31, 50, 100, 3 * 15 + 14, 65535, 2, False)
    assert next_seq == 34
    assert hub.core.last_event(7) == (50, 1, hub.now_ms, 1, b"50")
    hub.core.freed(50)
    assert hub.core.tail_floor(7, 50) == 51
    assert hub.core.last_event(7) is None
    assert hub.core.counters()["tail_bytes"] == 0


def test_large_events_become_stubs_for_small_clients(hub: FakeHub) -> None:
    hub.run()
    hub.answer(("need_conversation", 7))
    hub.core.stage_event(7, 1, 1, bytes(500), True)
    hub.commit()
    frames, _ = hub.core.tail_events(7, 1, 1, 10, 10_000, 124, 2, True)
    ((op, flags, body),) = split_frames(frames)
    event = decode_deliver(op, flags, body)
    assert (event.flags, event.payload) == (HISTORY | STUB, b"\xf4\x03")
    row = (7, 1, hub.now_ms, 1, 1, bytes(500), 1)
    assert hub.core.encode_events([row], 124) == frames
    assert hub.core.encode_events([row]) == hub.core.tail_events(7, 1, 1, 10, 10_000, 65535, 2, False)[0]


def test_batches_read_the_same_through_codec_and_reference(hub: FakeHub) -> None:
    hub.answer(("need_conversation", 7))
    hub.core.stage_event(7, 1, 1, b"x" * 13, True)
    hub.core.stage_member(7, 3, 1, 2, 0)
    hub.core.stage_position(7, 2, 1, 1)
    hub.core.stage_row(b"row")
    hub.core.stage_redact(7, 1, 1)
    batch = hub.core.batch()
    assert decode_batch(*batch) == tuple(reference_decode(*batch))


def test_why_names_every_hop(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    bob = hub.login(shard, 201, 2, 21)
    hub.now_ms += 10
    shard.send(alice, 1, 7)
    hub.run()
    hub.now_ms += 5
    shard.send(alice, 1, 7)
    shard.closed(bob)
    hub.run()
    start = hub.now_ms - 5
    assert hub.core.ledger(7, 1) == [
        (start, "accepted", "device 11, kind 1"),
        (start, "committed", "position 1"),
        (start, "pushed", "shard 0, 1 connections"),
        (start + 5, "duplicate", "device 11"),
    ]
    assert hub.core.ledger(7, 1, 2) == hub.core.ledger(7, 1)
    assert hub.core.ledger(7, 1, 3)[-1][1] == "not_member"
    shard.send(alice, 2, 7)
    hub.run()
    assert hub.core.ledger(7, 2, 2)[-1][1:] == ("offline", "user 2 had no session")
    assert hub.core.ledger(7, 99) == []


def test_idle_conversations_are_evicted_only_when_nothing_pins_them() -> None:
    hub = FakeHub(HubCore, HubCoreSettings(conversations_max=4))
    for cid in range(1, 9):
        hub.conversation(cid, 1)
        hub.answer(("need_conversation", cid))
        hub.core.stage_event(cid, 1, 1, b"", True)
        hub.commit()
    assert hub.core.counters()["conversations"] == 8
    hub.core.freed(8)
    for cid in range(11, 16):
        hub.conversation(cid, 1)
        hub.answer(("need_conversation", cid))
    assert hub.core.counters()["conversations"] <= 9
    assert hub.core.conversation(1) is None


def test_a_corrupt_or_nonsensical_ring_is_given_up(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    shard.write(b"\x01" + bytes(60))
    assert ("link_lost", 0) in hub.run()
    hub.core.unlink(0)
    assert hub.run() == []


def test_python_allocates_nothing_per_send(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    hub.login(shard, 201, 2, 21)
    hub.answer(("need_conversation", 7))
    grown = []
    for round_number in range(4):
        for cseq in range(1000):
            shard.send(alice, round_number * 1000 + cseq + 1, 7)
        before = sys.getallocatedblocks()
        hub.core.poll(hub.now_ms, hub.tick_ms)
        batch = hub.core.batch()
        hub.core.publish()
        grown.append(sys.getallocatedblocks() - before)
        assert batch[1] == 1000
        del batch
        shard.read_raw()
    assert max(grown[1:]) < 20


def test_many_frames_for_one_call_are_cut_between_frames(hub: FakeHub) -> None:
    shard = FakeShard(hub.core, capacity=4096)
    frame = (200).to_bytes(2, "big") + b"\x94\x02" + bytes(200)
    assert hub.core.frames(0, 5, frame * 12, True)
    hub.run()
    records = shard.read()
    while sum(len(record.frames) for record in records) < 12:
        hub.run()
        records += shard.read()
    assert [record.done for record in records][-1]
    assert not any(record.done for record in records[:-1])
    assert not hub.core.frames(1, 5, frame, True)


def test_sessions_registered_after_a_commit_are_not_pushed_to(hub: FakeHub) -> None:
    origin = FakeShard(hub.core, 0)
    slow = FakeShard(hub.core, 1, capacity=8192)
    alice = hub.login(origin, 101, 1, 11)
    hub.login(slow, 201, 2, 21)
    hub.person(2, 21, 22)
    for cseq in range(1, 101):
        origin.send(alice, cseq, 7, bytes(100))
    hub.run()
    late = Session(202, 2, 22, 0)
    slow.login(late.handle, 2, 22)
    hub.run()
    seen: list[int] = []
    for _ in range(20):
        records = slow.read()
        assert all(late.handle not in record.handles for record in of_type(records, Committed))
        seen += pushed(records)
        hub.run()
    assert seen == list(range(1, 101))


def shown(hub: FakeHub, cid: int = 7, seq: int = 1) -> tuple[int, bytes]:
    frames, _ = hub.core.tail_events(cid, seq, seq, 1, 10_000, 65535, 2, False)
    (frame,) = split_frames(frames)
    event = decode_deliver(*frame)
    return event.flags, event.payload


def test_a_redacted_event_is_a_tombstone_from_the_commit_on(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice, bob = hub.login(shard, 101, 1, 11), hub.login(shard, 201, 2, 21)
    shard.send(alice, 1, 7, b"\x03\x02\x01\x01oops", flags=1)
    shard.send(alice, 2, 7, b"oops")
    hub.run()
    (nak, ack), (pushed,) = answers(records := shard.read()), of_type(records, Committed)
    assert (nak.cseq, ack.seq, pushed.seq) == (1, 1, 1), "nothing to answer to yet"
    assert shown(hub) == (HISTORY, b"oops")
    hub.core.stage_redact(7, 1, 1)
    hub.core.reject(501, 0)
    assert shown(hub) == (HISTORY, b"oops"), "what is not stored has not happened"
    hub.core.stage_redact(7, 1, 1)
    assert shown(hub) == (HISTORY, b"oops")
    hub.commit()
    assert shown(hub) == (HISTORY | TOMBSTONE, b"")
    assert hub.core.last_event(7) == (1, 1, hub.now_ms, 1, b"")
    assert bob.handle in pushed.handles


def test_an_event_and_its_redaction_in_one_batch_push_a_tombstone(hub: FakeHub) -> None:
    shard = FakeShard(hub.core)
    alice, _ = hub.login(shard, 101, 1, 11), hub.login(shard, 201, 2, 21)
    shard.send(alice, 1, 7, b"oops")
    hub.poll()
    hub.core.stage_redact(7, 1, 1)
    hub.commit()
    (pushed,) = of_type(shard.read(), Committed)
    (frame,) = split_frames(pushed.frame)
    event = decode_deliver(*frame)
    assert (event.flags, event.payload) == (TOMBSTONE, b"")
    after = FakeHub(HubCore)
    rows = after.core.replay(*hub.journal[0])
    assert rows[2] == [(7, 1, 2)]
    after.conversation(7, 1, 2)
    after.answer(("need_conversation", 7))
    assert shown(after) == (HISTORY | TOMBSTONE, b""), "a restart does not bring it back"
