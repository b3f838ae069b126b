"""Login rates: charged before the work, per address, user and device; bounded tables."""

import trio

from chatd.shard import limits
from chatd.shard.limits import AddressGate, Bans, Buckets, LoginLimits, limited_prefix
from chatd.shard.passwords import PasswordBusyError, PasswordVerifier


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def login_limits(clock: Clock) -> LoginLimits:
    return LoginLimits(5, 20, 15, 300, ["10.0.0.0/8", "::1/128"], clock)


def test_bucket_refills_at_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(0.5, 2, clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    clock.now += 2
    assert buckets.take("a") == 0.0
    assert buckets.take("b") == 0.0


def test_tables_are_bounded() -> None:
    clock = Clock()
    buckets, bans = Buckets(1, 1, clock), Bans(60, clock)
    for key in range(limits.TABLE_ENTRIES_MAX + 100):
        buckets.take(key)
        bans.add(key)
    assert len(buckets) == limits.TABLE_ENTRIES_MAX
    assert not bans.remaining_s(0)
    assert bans.remaining_s(limits.TABLE_ENTRIES_MAX + 99)


def test_twenty_per_address_and_minute() -> None:
    clock = Clock()
    limiter = login_limits(clock)
    assert [limiter.address("192.0.2.1") for _ in range(20)] == [0.0] * 20
    assert limiter.address("192.0.2.1") == 3.0
    assert limiter.address("192.0.2.2") == 0.0
    clock.now += 3
    assert limiter.address("192.0.2.1") == 0.0


def test_ipv6_counts_by_64() -> None:
    assert limited_prefix("2001:db8::1") == limited_prefix("2001:db8::ffff:1") != limited_prefix("2001:db8:0:1::1")
    assert limited_prefix("192.0.2.1") == "192.0.2.1"


def test_exempt_networks_have_no_address_limit() -> None:
    limiter = login_limits(Clock())
    assert not any(limiter.address("10.1.2.3") for _ in range(1000))
    assert not any(limiter.address("::1") for _ in range(1000))


def test_guessing_is_limited_from_everywhere_and_success_is_free_for_the_exempt() -> None:
    limiter = login_limits(Clock())
    for _ in range(100):
        assert limiter.user("alice") == 0.0
        limiter.user_succeeded("alice", "10.0.0.1")
    assert [bool(limiter.user("alice")) for _ in range(6)] == [False] * 5 + [True]
    for _ in range(5):
        assert limiter.user("bob") == 0.0
        limiter.user_succeeded("bob", "192.0.2.1")
    assert limiter.user("bob")


def test_flapping_device_is_banned_for_five_minutes() -> None:
    clock = Clock()
    limiter = login_limits(clock)
    assert not any(limiter.device(7, "192.0.2.1") for _ in range(15))
    assert limiter.device(7, "192.0.2.1") == 300
    clock.now += 299
    assert limiter.device(7, "192.0.2.1") == 1
    clock.now += 2
    assert limiter.device(7, "192.0.2.1") == 0.0
    assert not any(limiter.device(0, "192.0.2.1") for _ in range(100))


def test_naming_a_device_does_not_shut_it_out() -> None:
    limiter = login_limits(Clock())
    assert not any(limiter.banned(7) for _ in range(1000))
    limiter.ban(7)
    assert limiter.banned(7) == 300
    assert not limiter.banned(8)


def test_a_full_bucket_is_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(1, 5, clock)
    for key in range(1000):
        buckets.take(key)
        clock.now += 0.1
    assert len(buckets) <= 11
    clock.now += 5
    buckets.take("a")
    buckets.give_back("a")
    clock.now += 5
    buckets.take("b")
    assert len(buckets) <= 10


def test_connections_of_an_address_have_a_rate_and_a_bound() -> None:
    clock = Clock()
    gate = AddressGate(1, 3, 2, ["10.0.0.0/8"], clock)
    assert [gate.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    gate.leave("192.0.2.1")
    assert [gate.enter("192.0.2.1") for _ in range(2)] == [True, False]
    gate.leave("192.0.2.1")
    assert not gate.enter("192.0.2.1")  # the burst is used up
    clock.now += 1
    assert gate.enter("192.0.2.1")
    assert all(gate.enter("10.1.2.3") for _ in range(100))
    for _ in range(2):
        gate.leave("192.0.2.1")
        gate.leave("10.1.2.3")
    assert len(gate) == 0


async def test_passwords_that_wait_to_be_checked_are_bounded() -> None:
    """One is checked, one waits, the third is told to come back: AUTH_BUSY."""
    verifier, refused = PasswordVerifier(queue_max=1), list[int]()

    async def check(number: int) -> None:
        try:
            assert not await verifier.verify(None, b"guess")
        except PasswordBusyError:
            refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(check, number)
    assert len(refused) == 1
