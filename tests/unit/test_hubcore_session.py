"""Logins, takeover, fencing and what a dying shard leaves, through the hub's core."""

import pytest
from support.fakehub import FakeHub, answers, of_type
from support.fakeshard import Ack, FakeShard, Kick, Nak, Registered, Session

from chatd._native import HubCore
from chatd.hub.core_settings import HubCoreSettings

AUTH_FAILED, REVOKED, LIMIT_REACHED, UNAVAILABLE, BUSY = 200, 202, 303, 500, 401
TAKEN_OVER, CLOSE_REVOKED, REPLACED = 5, 17, 23
STORE_FULL = 501


@pytest.fixture
def hub() -> FakeHub:
    hub = FakeHub(HubCore, HubCoreSettings(session_epoch_base=1000, log_epoch=77))
    hub.person(1, 11, 12)
    hub.person(2, 21)
    hub.conversation(7, 1, 2)
    return hub


@pytest.fixture
def shard(hub: FakeHub) -> FakeShard:
    return FakeShard(hub.core)


def registered(shard: FakeShard) -> Registered:
    (record,) = of_type(shard.read(), Registered)
    return record


def test_a_login_fixes_the_sync_position(hub: FakeHub, shard: FakeShard) -> None:
    alice = hub.login(shard, 101, 1, 11)
    shard.send(alice, 5, 7)
    hub.run()
    shard.closed(alice)
    assert ("closed", 0, 101, 1, 11, 1) in hub.run()
    shard.read()
    shard.login(102, 1, 11)
    hub.run()
    answer = registered(shard)
    assert answer == (0, 0, 102, 1, 11, alice.epoch + 1, alice.epoch, 5, 1, 77)
    assert hub.core.sessions(1) == [(0, 102, 11, alice.epoch + 1)]


@pytest.mark.parametrize(("user", "device"), [(1, 99), (2, 11), (9, 11)])
def test_who_may_not_log_in(hub: FakeHub, shard: FakeShard, user: int, device: int) -> None:
    shard.login(101, user, device)
    hub.run()
    assert registered(shard)[:5] == (AUTH_FAILED, 0, 101, user, device)
    assert hub.core.sessions(user) == []


def test_an_old_token_and_a_revoked_device_are_refused(hub: FakeHub, shard: FakeShard) -> None:
    hub.users[1] = (5, 0)
    hub.devices[12] = (1, 0, 1)
    shard.login(101, 1, 11, token_epoch=4)
    shard.login(102, 1, 12, token_epoch=5)
    shard.login(103, 1, 11, token_epoch=5)
    hub.run()
    outcomes = {record.handle: record.error for record in of_type(shard.read(), Registered)}
    assert outcomes == {101: REVOKED, 102: REVOKED, 103: 0}
    hub.core.put_user(1, 6, 0)
    assert shard.read() == [Kick(CLOSE_REVOKED, 0, 103)]


def test_too_many_devices_of_one_user(hub: FakeHub, shard: FakeShard) -> None:
    hub.person(1, *range(11, 22))
    for device in range(11, 21):
        hub.login(shard, 100 + device, 1, device)
    shard.login(200, 1, 21)
    hub.run()
    assert registered(shard).error == LIMIT_REACHED


def test_one_device_more_replaces_the_one_that_came_first() -> None:
    hub = FakeHub(HubCore, HubCoreSettings(devices_online_max=2, devices_online_replace=True))
    shard = FakeShard(hub.core)
    hub.person(1, 11, 12, 13)
    first = hub.login(shard, 101, 1, 11)
    hub.login(shard, 102, 1, 12)
    shard.login(103, 1, 13)
    hub.run()
    assert shard.read()[0] == Kick(REPLACED, 0, 101)
    assert [device for _, _, device, _ in hub.core.sessions(1)] == [13, 12]
    shard.send(first, 1, 7)
    hub.run()
    assert hub.core.counters()["fenced"] == 1
    shard.login(104, 1, 12)
    hub.run()
    assert [device for _, _, device, _ in hub.core.sessions(1)] == [13], "a takeover of its own waits for the close"


def test_a_takeover_waits_for_the_close_and_fences_at_once(hub: FakeHub, shard: FakeShard) -> None:
    other = FakeShard(hub.core, 1)
    old = hub.login(shard, 101, 1, 11)
    other.login(201, 1, 11)
    hub.run()
    assert shard.read() == [Kick(TAKEN_OVER, 0, 101)]
    assert other.read() == []
    shard.send(old, 1, 7)
    hub.run()
    assert hub.core.counters()["fenced"] == 1
    shard.closed(old)
    hub.run()
    answer = registered(other)
    assert (answer.error, answer.cseq_stored, answer.previous_epoch) == (0, 0, old.epoch)
    assert hub.core.sessions(1) == [(1, 201, 11, old.epoch + 1)]


def test_a_takeover_waits_a_second_at_most(hub: FakeHub, shard: FakeShard) -> None:
    hub.login(shard, 101, 1, 11)
    shard.login(102, 1, 11)
    hub.run()
    assert hub.core.timeout_ms() == 1000
    hub.tick_ms += 999
    hub.run()
    assert of_type(shard.read(), Registered) == []
    hub.tick_ms += 1
    hub.run()
    assert registered(shard).error == 0
    assert hub.core.timeout_ms() == -1


def test_three_logins_at_once_leave_one(hub: FakeHub, shard: FakeShard) -> None:
    first = hub.login(shard, 101, 1, 11)
    shard.login(102, 1, 11)
    shard.login(103, 1, 11)
    hub.run()
    assert shard.read() == [Kick(TAKEN_OVER, 0, 101), Kick(TAKEN_OVER, 0, 102)]
    shard.closed(first)
    shard.closed(Session(102, 1, 11, 0))
    hub.run()
    assert registered(shard).handle == 103


def test_a_takeover_waits_for_the_old_sessions_batch(hub: FakeHub, shard: FakeShard) -> None:
    old = hub.login(shard, 101, 1, 11)
    shard.send(old, 1, 7)
    hub.poll()
    hub.poll()
    assert hub.core.staged_count == 1
    shard.login(102, 1, 11)
    shard.closed(old)
    hub.poll()
    assert of_type(shard.read(), Registered) == []
    hub.core.reject(STORE_FULL, 1000)
    assert of_type(shard.read(), Registered)[0].cseq_stored == 0


def test_a_login_whose_connection_closed_while_waiting_is_forgotten(hub: FakeHub, shard: FakeShard) -> None:
    hub.answers = False
    shard.login(101, 1, 11)
    assert ("need_user", 1) in hub.run()
    shard.closed(Session(101, 1, 11, 0))
    hub.run()
    hub.answers = True
    hub.answer(("need_user", 1))
    hub.run()
    assert shard.read() == []
    assert hub.core.sessions(1) == []


def test_parking_is_bounded(shard: FakeShard) -> None:
    hub = FakeHub(HubCore, HubCoreSettings(parked_records_max=2), answers=False)
    shard = FakeShard(hub.core)
    for handle in (1, 2, 3):
        shard.login(handle, 1, 11)
    hub.run()
    assert registered(shard)[:3] == (UNAVAILABLE, 500, 3)
    assert hub.core.counters()["parked_records"] == 2


def test_parked_sends_keep_their_order(hub: FakeHub, shard: FakeShard) -> None:
    hub.conversation(8, 1, 2)
    alice = hub.login(shard, 101, 1, 11)
    hub.answers = False
    shard.send(alice, 1, 7)
    shard.send(alice, 2, 8)
    shard.send(alice, 3, 7)
    assert [upcall for upcall in hub.run() if upcall[0].startswith("need")] == [("need_conversation", 7)]
    hub.answer(("need_conversation", 7))
    assert ("need_conversation", 8) in hub.run()
    assert [answer.cseq for answer in answers(shard.read())] == [1]
    hub.answer(("need_conversation", 8))
    hub.run()
    assert [(answer.cseq, answer.cid, answer.seq) for answer in answers(shard.read())] == [(2, 8, 1), (3, 7, 2)]


def test_a_dead_shard_takes_its_sessions_and_parked_records_along(hub: FakeHub, shard: FakeShard) -> None:
    alice = hub.login(shard, 101, 1, 11)
    other = FakeShard(hub.core, 1)
    hub.run()
    hub.answers = False
    shard.send(alice, 1, 7)
    other.login(201, 1, 11)
    hub.run()
    assert of_type(other.read(), Registered) == []
    hub.core.unlink(0)
    hub.run()
    assert registered(other).error == 0
    hub.answer(("need_conversation", 7))
    hub.run()
    assert hub.core.staged_count == 0
    assert hub.core.committed_pos == 0


def test_reattached_sessions_stand_without_an_answer(hub: FakeHub) -> None:
    shard = FakeShard(hub.core, received=None)
    shard.received(0)
    shard.login(101, 1, 11, session_epoch=900, reattach=True)
    shard.login(102, 1, 11, session_epoch=901, reattach=True)
    shard.login(103, 2, 12, session_epoch=902, reattach=True)
    shard.ready()
    alice = Session(102, 1, 11, 901)
    shard.send(alice, 1, 7)
    assert ("attached", 0, 0) in hub.run()
    records = shard.read()
    assert of_type(records, Registered) == []
    assert of_type(records, Kick) == [Kick(TAKEN_OVER, 0, 101), Kick(CLOSE_REVOKED, 0, 103)]
    assert answers(records) == [Ack(1, 7, 1, hub.now_ms, 0)]


@pytest.mark.parametrize("known", [False, True])
def test_what_a_dead_hub_revoked_ends_when_it_reattaches(hub: FakeHub, known: bool) -> None:
    """known: the new hub had to load user and device before the shard says who is connected."""
    hub.users[1] = (5, 0)
    hub.devices[21] = (2, 0, 1)
    shard = FakeShard(hub.core, received=None)
    if known:
        hub.core.put_user(1, 5, 0)
        hub.core.put_device(21, 2, 0, 1)
    shard.received(0)
    shard.login(101, 1, 11, token_epoch=4, session_epoch=900, reattach=True)
    shard.login(102, 1, 12, token_epoch=5, session_epoch=901, reattach=True)
    shard.login(103, 2, 21, session_epoch=902, reattach=True)
    shard.ready()
    hub.run()
    assert sorted(shard.read()) == [Kick(CLOSE_REVOKED, 0, 101), Kick(CLOSE_REVOKED, 0, 103)]
    shard.closed(Session(101, 1, 11, 900))
    hub.run()
    hub.core.put_user(1, 5, 0)
    assert shard.read() == []
    hub.core.put_user(1, 6, 0)
    assert shard.read() == [Kick(CLOSE_REVOKED, 0, 102)]


def test_a_fresh_hub_holds_back_what_the_dead_one_did(hub: FakeHub) -> None:
    shard = FakeShard(hub.core, received=None)
    shard.received(0)
    shard.login(101, 1, 11, session_epoch=900, reattach=True)
    alice = Session(101, 1, 11, 900)
    shard.mark(alice, 7, 4)
    shard.ready()
    shard.send(alice, 5, 7)
    shard.send(alice, 4, 7)
    shard.send(alice, 5, 7)
    hub.run()
    assert [answer[0] for answer in answers(shard.read())] == [5, 4, 5]
    assert [tuple(hub.core.counters()[name] for name in ("naks", "sends_staged"))] == [(1, 2)]
    log = hub.core.tail_events(7, 1, 9, 9, 1 << 16, 1 << 16, 1, False)[0]
    assert log.count(b"hello") == 2


def test_a_device_that_cannot_queue_more_is_busy(shard: FakeShard) -> None:
    hub = FakeHub(HubCore, HubCoreSettings(parked_records_max=3))
    hub.person(1, 11)
    shard = FakeShard(hub.core)
    alice = hub.login(shard, 101, 1, 11)
    hub.answers = False
    for cseq in range(1, 6):
        shard.send(alice, cseq, 7)
    hub.run()
    assert answers(shard.read()) == [Nak(4, 7, BUSY, 500, True), Nak(5, 7, BUSY, 500, True)]
