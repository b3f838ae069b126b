"""Who is stuck at the end of a run, when a device may not log in for longer than the others are given."""

from collections.abc import Callable
from random import Random

import pytest
from support.sim import nemesis
from support.sim.device import Device
from support.sim.disk import Hit
from support.sim.hosts import SIDES
from support.sim.nemesis import Fault, Verb
from support.sim.template import name_of
from support.sim.world import LIVENESS_MS, SAFETY_MS, World, run

from chatd.shard.limits import LoginLimits

Play = Callable[..., set[str]]
LONGER_MS = SAFETY_MS + 2 * LIVENESS_MS


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """Devices that lost connection and ticket in the run while they had a SEND to make."""
    late: list[Device] = []

    async def lose_login(world: World, rng: Random, hit: Hit) -> None:
        cid = next(cid for cid in reversed(world.groups) if cid not in world.lively)
        device = world.member_device(cid, rng)
        assert device is not None
        device.ticket = b""
        device.hang_up()
        device.send(cid)
        late.append(device)

    monkeypatch.setitem(nemesis.VERBS, "lose_login", Verb(lose_login, 0, sure=True))
    return late


@pytest.fixture
def play(late: list[Device], monkeypatch: pytest.MonkeyPatch) -> Play:
    """The findings' words of a run in which they are told to wait with their logins until a time."""
    wait_s = LoginLimits.user

    def words(side: str = "native", until_ms: int = LONGER_MS) -> set[str]:
        def user(limits: LoginLimits, name: object) -> float:
            told_ms = [until_ms - device.world.now_ms for device in late if name_of(device.user) == name]
            return max(*told_ms, 0) / 1000 if told_ms else wait_s(limits, name)

        monkeypatch.setattr(LoginLimits, "user", user)
        found = run(1, side, [Fault(SAFETY_MS - 100, "lose_login", 0)]).words
        assert late[0].told_until_ms >= until_ms - 1
        return found

    return words


@pytest.mark.parametrize("side", SIDES)
def test_nobody_is_stuck_who_is_served_as_soon_as_the_login_is_allowed(side: str, play: Play) -> None:
    assert play(side) == set()


def test_a_send_that_has_no_answer_after_the_login_is_stuck(
    late: list[Device], play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_ack = Device._on_ack
    monkeypatch.setattr(Device, "_on_ack", lambda device, *ack: device in late or on_ack(device, *ack))
    assert play() == {"STUCK"}


def test_who_is_told_to_wait_for_ever_is_stuck(play: Play) -> None:
    assert play(until_ms=10 * LONGER_MS) == {"STUCK"}
