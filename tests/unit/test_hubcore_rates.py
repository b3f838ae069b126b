"""What the SENDs of a user may cost: one bucket for all devices and shards, and what they may spread."""

from typing import Any

import pytest
from support.fakehub import FakeHub, answers
from support.fakeshard import Ack, FakeShard, Nak, Session

from chatd._native import HubCore
from chatd.hub.core_settings import HubCoreSettings
from chatd.wire.schema import ErrorCode

RATE = HubCoreSettings(sends_per_s=10, sends_burst=5)


def make(settings: HubCoreSettings, people: int = 2) -> tuple[FakeHub, list[FakeShard], list[Session]]:
    """People 1… with one device each, all in conversation 7; person 1 has device 12 too, on the other shard."""
    hub = FakeHub(HubCore, settings)
    shards = [FakeShard(hub.core, index) for index in range(2)]
    for user in range(1, people + 1):
        hub.person(user, 10 * user + 1, 10 * user + 2)
    hub.conversation(7, *range(1, people + 1))
    online = [hub.login(shards[0], user, user, 10 * user + 1) for user in range(1, people + 1)]
    return hub, shards, [*online, hub.login(shards[1], 1000, 1, 12)]


def sent(hub: FakeHub, shard: FakeShard, session: Session, cseqs: range, cid: int = 7, size: int = 2) -> list[Any]:
    """Their answers, in the order of cseq."""
    for cseq in cseqs:
        shard.send(session, cseq, cid, bytes(size), kind=16)
    hub.run()
    return sorted(answers(shard.read()), key=lambda answer: answer.cseq)


def stored(found: list[Any]) -> int:
    return sum(isinstance(answer, Ack) for answer in found)


def limited(found: list[Any]) -> list[int]:
    """retry_after_ms of those that were over the rate."""
    return [one.retry_after_ms for one in found if isinstance(one, Nak) and one.code == ErrorCode.RATE_LIMITED]


def test_devices_on_all_shards_share_one_bucket() -> None:
    hub, shards, (phone, *_, tablet) = make(RATE)
    assert stored(sent(hub, shards[0], phone, range(1, 4))) == 3
    found = sent(hub, shards[1], tablet, range(1, 4))
    assert stored(found) == 2
    assert limited(found) == [100 + 1]
    assert hub.core.counters()["rate_limited"] == 1


def test_the_time_to_wait_is_true() -> None:
    hub, shards, (phone, *_, tablet) = make(RATE)
    sent(hub, shards[0], phone, range(1, 6))
    (wait_ms,) = limited(sent(hub, shards[1], tablet, range(1, 2)))
    hub.tick_ms += wait_ms - 2
    assert limited(sent(hub, shards[1], tablet, range(1, 2)))
    hub.tick_ms += 2
    assert stored(sent(hub, shards[1], tablet, range(1, 2))) == 1


def test_repeats_and_what_waits_behind_a_refusal_cost_nothing() -> None:
    hub, shards, (phone, *_) = make(RATE)
    sent(hub, shards[0], phone, range(1, 6))
    assert stored(sent(hub, shards[0], phone, range(1, 6))) == 5, "answered from memory"
    found = sent(hub, shards[0], phone, range(6, 10))
    assert [answer.code for answer in found] == [ErrorCode.RATE_LIMITED, *[ErrorCode.OUT_OF_ORDER] * 3]
    hub.tick_ms += 101
    assert stored(sent(hub, shards[0], phone, range(6, 7))) == 1


def test_a_send_to_hundreds_costs_more() -> None:
    """100 members online: each SEND counts for two; a price above the burst is the burst, or it could never be paid."""
    hub, shards, (phone, *_) = make(HubCoreSettings(sends_per_s=10, sends_burst=5), people=100)
    assert stored(sent(hub, shards[0], phone, range(1, 6))) == 2
    hub, shards, (phone, *_) = make(HubCoreSettings(sends_per_s=10, sends_burst=1), people=100)
    assert stored(sent(hub, shards[0], phone, range(1, 3))) == 1


def test_a_debt_outlives_the_session_and_the_memory_for_idle_users() -> None:
    hub, shards, (phone, other, tablet) = make(HubCoreSettings(sends_per_s=10, sends_burst=5, users_max=1))
    sent(hub, shards[0], phone, range(1, 6))
    for shard, session in ((shards[0], phone), (shards[1], tablet), (shards[0], other)):
        shard.closed(session)
    hub.run()
    hub.person(50, 501)
    hub.login(shards[0], 2000, 50, 501)
    again = hub.login(shards[1], 2001, 1, 12)
    assert limited(sent(hub, shards[1], again, range(1, 2)))


@pytest.fixture
def slow() -> tuple[FakeHub, FakeShard, Session]:
    """At most five bytes out per byte in, over 10 s: conversation 7 reaches 20 other devices, conversation 8 two."""
    hub, shards, (phone, *_) = make(HubCoreSettings(amplification_max=5), people=20)
    hub.conversation(8, 1, 2)
    return hub, shards[0], phone


def test_spreading_too_much_is_slowed_to_once_in_ten_seconds(slow: tuple[FakeHub, FakeShard, Session]) -> None:
    hub, shard, phone = slow
    first, second = sent(hub, shard, phone, range(1, 3), size=100)
    assert isinstance(first, Ack), "refused at once, who may write could not write at all"
    assert (second.code, second.retry_after_ms) == (ErrorCode.RATE_LIMITED, 10_000)
    assert hub.core.counters()["slowed"] == 1
    hub.tick_ms += 10_000
    assert stored(sent(hub, shard, phone, range(2, 4), size=100)) == 1


def test_slow_mode_lets_pass_what_does_not_amplify(slow: tuple[FakeHub, FakeShard, Session]) -> None:
    hub, shard, phone = slow
    sent(hub, shard, phone, range(1, 2), size=100)
    assert stored(sent(hub, shard, phone, range(2, 12), cid=8, size=100)) == 10
