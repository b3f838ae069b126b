"""Presence of the hub: bounds of leases, and what becomes of them."""

from types import SimpleNamespace
from typing import Any

import pytest

from chatd.clock import Clock
from chatd.hub import presence
from chatd.hub.frames import CallError
from chatd.hub.presence import FOLLOWED_PER_SESSION_MAX, FOLLOWERS_PER_USER_MAX, LEASE_S, Presence, Session
from chatd.wire.schema import ErrorCode, PresenceState


class Core:
    """Who is watched; everybody asked about has one session, of a device and an epoch that are his number."""

    def __init__(self) -> None:
        self.watched: set[int] = set()
        self.online = set(range(10_000))
        self.told: list[tuple[int, bytes]] = []

    def watch(self, user: int, on: bool) -> None:
        (self.watched.add if on else self.watched.discard)(user)

    def sessions(self, user: int) -> list[tuple[int, int, int, int]]:
        return [(0, user, user, user)] if user in self.online else []

    def frames(self, shard: int, handle: int, frame: bytes, done: bool) -> bool:
        assert not done
        self.told.append((handle, frame))
        return True


class World:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.core = Core()
        clock = Clock(wall_ns=lambda: 5_000_000_000, monotonic_ns=lambda: int(self.now_s * 1e9))
        hub: Any = SimpleNamespace(core=self.core, clock=clock)
        self.presence = Presence(hub)


def session(number: int) -> Session:
    return Session(number, number, number)


@pytest.fixture
def world() -> World:
    return World()


def test_a_session_follows_so_many(world: World) -> None:
    world.presence.follow(session(1), list(range(1, FOLLOWED_PER_SESSION_MAX + 1)))
    world.presence.follow(session(1), [1, 2, 3])
    with pytest.raises(CallError) as refusal:
        world.presence.follow(session(1), [9999])
    assert refusal.value.code == ErrorCode.LIMIT_REACHED
    world.presence.unfollow(session(1), [1])
    assert world.presence.follow(session(1), [9999]) == []


def test_a_user_is_followed_by_so_many(world: World) -> None:
    for number in range(1, FOLLOWERS_PER_USER_MAX + 1):
        assert world.presence.follow(session(number), [9999]) == []
    assert world.presence.follow(session(5000), [9998, 9999]) == [9999]
    assert world.presence.follow(session(1), [9999]) == [], "who follows already may go on"


def test_leases_end_and_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LEASES_MAX", 3)
    world.presence.follow(session(1), [7, 8])
    world.now_s += LEASE_S - 1
    world.presence.follow(session(2), [8])
    with pytest.raises(CallError) as refusal:
        world.presence.follow(session(3), [9])
    assert refusal.value.code == ErrorCode.BUSY
    assert refusal.value.retry_after_ms > 0
    world.now_s += 2
    world.presence.follow(session(3), [9])
    assert world.core.watched == {8, 9}, "the older leases have ended, and with them 7 is nobody's"


def test_who_has_gone_is_told_nothing_and_forgotten(world: World) -> None:
    world.presence.follow(session(1), [7])
    world.core.online.discard(1)
    world.presence.hide(7, {1})
    assert world.core.told == []
    assert world.core.watched == set()


def test_what_an_older_session_said_does_not_count(world: World) -> None:
    world.presence.set_state(Session(7, 7, 6), PresenceState.AWAY)
    assert world.presence.state(7) == PresenceState.ONLINE
    world.presence.set_state(Session(7, 7, 7), PresenceState.AWAY)
    assert world.presence.state(7) == PresenceState.AWAY
