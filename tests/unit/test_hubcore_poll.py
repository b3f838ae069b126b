"""How the hub's core takes from its rings: a bound for each turn, disbelief of every length, and when to come back."""

import mmap
from dataclasses import replace

import pytest
from support.fakehub import FakeHub, answers, of_type
from support.fakeshard import FakeShard, Lost, Registered, Session, varint

from chatd._native import HubCore
from chatd.hub.core_settings import HubCoreSettings

SETTINGS = HubCoreSettings()
HEAD_BYTES = {1: 48, 2: 48, 3: 56, 4: 40, 5: 64, 6: 40, 7: 16, 8: 16, 9: 16, 10: 40}
"""Type of a shard's record → size of its fixed part (native/link.h)."""
WITH_BODY = {1, 2, 3, 7}
POSITIONS_READ_AT_ONCE = 1024


def hub_with(settings: HubCoreSettings = SETTINGS) -> FakeHub:
    hub = FakeHub(HubCore, settings)
    hub.person(1, 11)
    hub.person(2, 21)
    hub.conversation(7, 1, 2)
    return hub


def talking(hub: FakeHub, shard: FakeShard) -> Session:
    """Somebody whose conversation is loaded: what she sends is staged at once."""
    alice = hub.login(shard, 101, 1, 11)
    shard.send(alice, 1, 7)
    hub.run()
    hub.journal.clear()
    return alice


@pytest.mark.parametrize("kind", range(12))
def test_a_record_of_another_length_than_its_type_says_drops_the_link(kind: int) -> None:
    size = HEAD_BYTES.get(kind, 16)
    lengths = {0, 1, 15, 16, size - 1, size + 1, size + 8} - ({size} if kind in HEAD_BYTES else set())
    for length in lengths:
        hub = hub_with()
        shard = FakeShard(hub.core)
        hub.run()
        shard.write(bytes([kind] * min(1, length)) + bytes(max(0, length - 1)))
        assert ("link_lost", 0) in hub.run(), (kind, length)


@pytest.mark.parametrize("kind", sorted(WITH_BODY))
def test_a_body_of_another_length_than_announced_drops_the_link(kind: int) -> None:
    hub = hub_with()
    shard = FakeShard(hub.core)
    hub.run()
    shard.write(bytes([kind, 0, 0, 0]) + (5).to_bytes(4, "little") + bytes(HEAD_BYTES[kind] - 8) + b"four")
    assert ("link_lost", 0) in hub.run()


def test_a_corrupt_ring_drops_its_link_and_no_other() -> None:
    hub = hub_with()
    broken, whole = FakeShard(hub.core, 0), FakeShard(hub.core, 1)
    hub.run()
    with mmap.mmap(broken.to_hub.memfd, 4096 + broken.to_hub.capacity) as memory:
        memory[64:72] = (1 << 40).to_bytes(8, "little")
    assert hub.run() == [("link_lost", 0)]
    hub.login(whole, 101, 1, 11)
    assert hub.core.timeout_ms() == -1


def test_a_batch_ends_the_turn_and_the_rest_stays_in_the_ring() -> None:
    hub = hub_with(replace(SETTINGS, batch_records_max=2))
    shard = FakeShard(hub.core)
    alice = talking(hub, shard)
    for cseq in range(2, 7):
        shard.send(alice, cseq, 7)
    counts = []
    while hub.poll() or hub.core.staged_count:
        counts.append(hub.core.staged_count)
        # There is something to commit, so nobody may wait.
        assert hub.core.timeout_ms() == 0
        hub.commit()
    assert [count for count in counts if count] == [2, 2, 1]


def test_bytes_end_a_batch_too() -> None:
    hub = hub_with(replace(SETTINGS, batch_bytes_max=4096))
    shard = FakeShard(hub.core)
    alice = talking(hub, shard)
    for cseq in range(2, 6):
        shard.send(alice, cseq, 7, bytes(3000))
    hub.run()
    assert [count for _, count, _ in hub.journal] == [2, 2]


def test_one_shard_does_not_keep_the_others_waiting() -> None:
    """A ring has its turn of 1,024 records; what is left of them is no reason to wait."""
    hub = hub_with()
    loud, quiet = FakeShard(hub.core, 0), FakeShard(hub.core, 1)
    hub.login(loud, 101, 1, 11)
    for _ in range(POSITIONS_READ_AT_ONCE + 500):
        loud.position(1, 7)
    quiet.login(201, 2, 21)
    hub.poll()
    assert hub.core.timeout_ms() == 0
    hub.poll()
    assert of_type(quiet.read(), Registered)
    hub.run()
    assert hub.core.timeout_ms() == -1


def test_what_python_has_to_load_is_bounded_for_one_poll() -> None:
    """Logins of strangers need two rows each; a poll asks for some eight thousand and leaves the rest where it is."""
    hub = FakeHub(HubCore, replace(SETTINGS, parked_records_max=20_000), answers=False)
    shards = [FakeShard(hub.core, index) for index in range(10)]
    for index, shard in enumerate(shards):
        for number in range(1000):
            who = 1 + index * 1000 + number
            shard.login(who, who, who)
    upcalls = hub.poll()
    assert 8192 <= len(upcalls) <= 8193
    upcalls += [upcall for _ in range(3) for upcall in hub.poll()]
    assert {upcall[1] for upcall in upcalls if upcall[0] == "need_user"} == set(range(1, 10_001))


def test_a_shard_that_has_seen_more_than_the_journal_holds_is_told_that_it_was_lost() -> None:
    """A restored store: the shard has routed what nobody has any more."""
    hub = hub_with()
    first = FakeShard(hub.core, 0)
    alice = hub.login(first, 101, 1, 11)
    first.send(alice, 1, 7)
    hub.run()
    shard = FakeShard(hub.core, 1, received=None)
    shard.received(99)
    shard.login(201, 2, 21, session_epoch=5, reattach=True)
    shard.ready(99)
    hub.run()
    assert of_type(shard.read(), Lost) == [Lost(hub.core.committed_pos)]


def test_when_to_come_back() -> None:
    hub = hub_with()
    shard = FakeShard(hub.core)
    alice = talking(hub, shard)
    shard.send(alice, 2, 7)
    hub.run()
    assert hub.core.timeout_ms() == -1
    # What is staged, or has moved, is due now; what waits for its interval when that is over.
    shard.position(2, 7, 1, 1)
    hub.run()
    assert hub.core.timeout_ms() == SETTINGS.position_interval_ms
    hub.tick_ms += 200
    hub.run()
    assert hub.core.timeout_ms() == SETTINGS.position_interval_ms - 200
    # A takeover has a time limit of its own; the sooner of the two counts.
    shard.login(102, 1, 11)
    hub.run()
    assert hub.core.timeout_ms() == SETTINGS.position_interval_ms - 200
    hub.tick_ms += 700
    shard.position(2, 7, 2, 2)
    hub.run()
    assert hub.core.timeout_ms() == SETTINGS.takeover_ms - 700
    hub.tick_ms += 300
    hub.run()
    assert hub.core.timeout_ms() == SETTINGS.position_interval_ms - 300
    hub.core.stage_event(7, 1, 1, b"by the server", True)
    assert hub.core.timeout_ms() == 0


def test_what_one_answer_leaves_to_be_asked_is_due_now() -> None:
    hub = FakeHub(HubCore, answers=False)
    shard = FakeShard(hub.core)
    shard.login(101, 1, 11)
    assert ("need_user", 1) in hub.poll()
    # Records may have come while Python heard of this one.
    assert hub.core.timeout_ms() == 0
    hub.poll()
    assert hub.core.timeout_ms() == -1
    hub.core.put_user(1, 0, 0)
    assert hub.core.timeout_ms() == 0
    assert hub.poll() == [("need_device", 11)]


def test_who_does_not_read_is_looked_at_again_soon() -> None:
    """Control records wait in the outbox, committed events in the tail: two milliseconds, less when more is due."""
    hub = hub_with()
    shard = FakeShard(hub.core, capacity=4096)
    alice = talking(hub, shard)
    bob = FakeShard(hub.core, 1)
    hub.login(bob, 201, 2, 21)
    for cseq in range(2, 200):
        shard.send(alice, cseq, 7)
        hub.run()
        if hub.core.timeout_ms() >= 0:
            break
    assert hub.core.timeout_ms() == 2
    bob.position(2, 7, 1, 1)
    hub.run()
    assert hub.core.timeout_ms() == 2
    hub.tick_ms += SETTINGS.position_interval_ms - 1
    hub.poll()
    assert hub.core.timeout_ms() == 1
    shard.read()
    hub.run()
    shard.read()
    hub.run()
    assert hub.core.timeout_ms() != 2


def test_a_call_is_handed_to_python_whatever_its_op() -> None:
    hub = hub_with()
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    shard.call(alice, 0xA2, varint(7))
    shard.rpc(9, b"\x90")
    assert [upcall[0] for upcall in hub.run()] == ["call", "rpc"]


def test_rings_that_are_closed_under_the_core_are_empty_and_full() -> None:
    """The owner of the link lets go first: nothing is read, nothing is written, the others go on."""
    hub = hub_with()
    shard, closing = FakeShard(hub.core), FakeShard(hub.core, 1)
    hub.core.unlink(1)
    hub.core.link(1, 2, closing.to_hub, closing.from_hub)
    alice = talking(hub, shard)
    hub.login(closing, 201, 2, 21)
    silent = FakeShard(hub.core, 2)
    hub.core.unlink(2)
    hub.core.link(2, 2, silent.to_hub, silent.from_hub)
    hub.run()
    closing.close()
    silent.close()
    shard.send(alice, 2, 7)
    hub.run()
    assert [answer.seq for answer in answers(shard.read())] == [1, 2]
    hub.core.unlink(1)
    hub.core.unlink(2)
    hub.run()
    assert hub.core.timeout_ms() == -1
