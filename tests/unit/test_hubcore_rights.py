"""Rights, mute and slow mode in the hub's core: who may SEND, when, and that a refused batch changed none of it."""

from typing import Any

import pytest
from support.fakehub import FakeHub, answers
from support.fakeshard import Ack, FakeShard, Nak, Session

from chatd._native import HubCore
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.reference import ReferenceHubCore
from chatd.hub.rights import NOTHING_DENIED, ROLES, Roles
from chatd.wire.schema import ErrorCode, Right, Role

CID = 7
FOR_EVER = (1 << 32) - 1
WRITE, FAST = int(Right.WRITE), int(Right.NO_SLOW_MODE)


def denied(**roles: int) -> tuple[int, ...]:
    words = [0] * ROLES
    for name, rights in roles.items():
        words[Role[name]] = rights
    return tuple(words)


@pytest.fixture(params=[HubCore, ReferenceHubCore])
def hub(request: pytest.FixtureRequest) -> FakeHub:
    hub = FakeHub(request.param, HubCoreSettings())
    hub.person(1, 11, 12)
    hub.person(2, 21)
    return hub


@pytest.fixture
def shard(hub: FakeHub) -> FakeShard:
    return FakeShard(hub.core)


@pytest.fixture
def alice(hub: FakeHub, shard: FakeShard) -> Session:
    return hub.login(shard, 101, 1, 11)


def said(hub: FakeHub, shard: FakeShard, who: Session, cseq: int, kind: int = 1) -> int:
    """0, or the code of the refusal."""
    shard.send(who, cseq, CID, b"x", kind=kind)
    hub.run()
    (answer,) = answers(shard.read())
    return 0 if isinstance(answer, Ack) else answer.code


@pytest.mark.parametrize(("role", "flags", "words", "code"), [
    (Role.MEMBER, 0, NOTHING_DENIED, 0),
    (Role.GUEST, 0, NOTHING_DENIED, 0),
    (Role.MEMBER, 0, denied(MEMBER=WRITE), ErrorCode.FORBIDDEN),
    (Role.ADMIN, 0, denied(MEMBER=WRITE), 0),
    (Role.MEMBER, 0, denied(ADMIN=WRITE), 0),
    (Role.OWNER, 2, NOTHING_DENIED, ErrorCode.FORBIDDEN),
    (9, 0, NOTHING_DENIED, ErrorCode.FORBIDDEN),
])  # fmt: skip
def test_who_may_write(
    hub: FakeHub, shard: FakeShard, alice: Session, role: int, flags: int, words: Any, code: int
) -> None:
    """A role that nobody has defined (9) grants nothing."""
    hub.conversation(CID, 1, 2, role=role, flags=flags, denied=words)
    assert said(hub, shard, alice, 1) == code


def test_rights_are_those_of_the_role_without_what_the_conversation_denies(hub: FakeHub) -> None:
    hub.conversation(CID, 1, role=Role.MODERATOR, denied=denied(MODERATOR=int(Right.PIN)))
    assert hub.core.rights(CID, 1) is None
    hub.answer(("need_conversation", CID))
    assert hub.core.rights(CID, 1) == Roles().by_code[Role.MODERATOR].rights & ~Right.PIN
    assert hub.core.rights(CID, 2) == 0


def test_a_new_table_of_roles_holds_for_the_next_send(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(CID, 1, role=9)
    assert said(hub, shard, alice, 1) == ErrorCode.FORBIDDEN
    own = {"code": 9, "name": "herald", "inherits": "guest", "grants": ["pin"], "denies": []}
    hub.core.put_role_rights(Roles([own]).words)
    assert said(hub, shard, alice, 2) == 0
    assert hub.core.rights(CID, 1) == Right.WRITE | Right.SEE_MEMBERS | Right.PIN


def test_a_muted_member_may_not_write_until_the_time_has_come(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    until_s = hub.now_ms // 1000 + 60
    hub.conversation(CID, 1, 2, muted=[(1, until_s)])
    assert said(hub, shard, alice, 1) == ErrorCode.MUTED
    assert hub.core.muted_until_s(CID, 1) == until_s
    hub.now_ms = until_s * 1000 - 1
    assert said(hub, shard, alice, 2) == ErrorCode.MUTED
    hub.now_ms += 1
    assert said(hub, shard, alice, 3) == 0
    hub.core.change_mute(CID, 1, FOR_EVER)
    assert said(hub, shard, alice, 4) == ErrorCode.FORBIDDEN
    hub.core.change_mute(CID, 1, 0)
    assert said(hub, shard, alice, 5) == 0


def test_a_mute_survives_leaving_and_coming_back(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(CID, 1, 2, muted=[(1, FOR_EVER)])
    hub.answer(("need_conversation", CID))
    hub.core.stage_member(CID, 1, 1, 1, hub.core.stage_event(CID, 1, 35, b"", False))
    hub.core.stage_member(CID, 1, 1, hub.core.stage_event(CID, 2, 33, b"", False), 0)
    hub.commit()
    shard.read()
    assert said(hub, shard, alice, 1) == ErrorCode.FORBIDDEN


def test_slow_mode_lets_one_message_through_in_its_time(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(CID, 1, 2, slow_mode_s=10)
    bob = hub.login(shard, 102, 2, 21)
    assert said(hub, shard, alice, 1) == 0
    shard.read()
    hub.now_ms += 9_999
    shard.send(alice, 2, CID, b"x")
    hub.run()
    assert answers(shard.read()) == [Nak(2, CID, ErrorCode.RATE_LIMITED, 1, True)]
    shard.send(bob, 1, CID, b"x")
    hub.run()
    assert any(isinstance(answer, Ack) for answer in answers(shard.read()))
    hub.now_ms += 1
    shard.send(alice, 2, CID, b"x")
    hub.run()
    assert any(isinstance(answer, Ack) for answer in answers(shard.read()))


def test_slow_mode_counts_the_second_that_has_begun(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    """Nobody is too early: a message in the middle of a second counts from the end of it."""
    hub.now_ms += 400
    hub.conversation(CID, 1, slow_mode_s=1)
    assert said(hub, shard, alice, 1) == 0
    hub.now_ms += 1_599
    assert said(hub, shard, alice, 2) == ErrorCode.RATE_LIMITED
    hub.now_ms += 1
    assert said(hub, shard, alice, 2) == 0


def test_slow_mode_is_not_for_those_with_the_right(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(CID, 1, slow_mode_s=10, role=Role.MODERATOR)
    assert [said(hub, shard, alice, cseq) for cseq in (1, 2, 3)] == [0, 0, 0]
    hub.core.change_rules(CID, 0, 10, denied(MODERATOR=FAST))
    assert said(hub, shard, alice, 4) == ErrorCode.RATE_LIMITED


def test_a_refused_batch_changed_nothing(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    hub.conversation(CID, 1, 2, slow_mode_s=10)
    hub.answer(("need_conversation", CID))
    shard.send(alice, 1, CID, b"x")
    hub.poll()
    hub.core.change_mute(CID, 1, FOR_EVER)
    hub.core.change_rules(CID, 2, 99, denied(MEMBER=WRITE))
    assert hub.core.rights(CID, 1) == int(Right.SEE_MEMBERS)
    hub.core.reject(ErrorCode.STORE_FULL, 100)
    assert hub.core.rights(CID, 1) == int(Right.SEE_MEMBERS | Right.WRITE)
    assert hub.core.conversation(CID)[1] == 0
    assert hub.core.muted_until_s(CID, 1) == 0
    shard.read()
    assert said(hub, shard, alice, 1) == 0
    assert said(hub, shard, alice, 2) == ErrorCode.RATE_LIMITED


def test_slow_mode_is_known_after_replay_as_far_as_the_tail_reaches(hub: FakeHub, shard: FakeShard) -> None:
    alice = hub.login(shard, 101, 1, 11)
    hub.conversation(CID, 1, 2, slow_mode_s=10)
    assert said(hub, shard, alice, 1) == 0
    after = FakeHub(type(hub.core))
    after.users, after.devices, after.conversations, after.rules = (
        hub.users, hub.devices, hub.conversations, hub.rules,
    )  # fmt: skip
    for batch in hub.journal:
        after.core.replay(*batch)
    fresh = FakeShard(after.core)
    again = after.login(fresh, 101, 1, 11)
    after.now_ms += 5_000
    assert said(after, fresh, again, 2) == ErrorCode.RATE_LIMITED
    after.now_ms += 5_000
    assert said(after, fresh, again, 2) == 0


def test_slow_mode_knows_from_the_database_who_spoke(hub: FakeHub, shard: FakeShard, alice: Session) -> None:
    spoke = [(1, hub.now_ms - 4_000), (1, hub.now_ms - 9_000), (99, hub.now_ms)]
    hub.conversation(CID, 1, 2, slow_mode_s=10, spoke=spoke)
    assert said(hub, shard, alice, 1) == ErrorCode.RATE_LIMITED
    hub.now_ms += 7_000
    assert said(hub, shard, alice, 1) == 0


def test_present_members_come_in_pages(hub: FakeHub) -> None:
    hub.conversation(CID, 1, 2, 5, 9)
    hub.answer(("need_conversation", CID))
    hub.core.stage_member(CID, 5, 1, 1, hub.core.stage_event(CID, 5, 35, b"", False))
    assert [one[0] for one in hub.core.present(CID, 0, 2)] == [1, 2]
    assert [one[0] for one in hub.core.present(CID, 2, 2)] == [9]
    assert hub.core.present(8, 0, 2) is None
