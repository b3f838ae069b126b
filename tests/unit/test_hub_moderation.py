"""Roles, rules, mutes and bans through the methods: who may, what the log says, and that it holds after fold and
restart."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.hub_rig import Refused, Rig, either_core, running

from chatd.hub.flags import UserFlag
from chatd.wire.schema import ConversationKind, ErrorCode, Kind, Method, Right, Role

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")

HERALD = {"code": 9, "name": "herald", "inherits": "member", "grants": ["edit_info"], "denies": []}


async def group(rig: Rig, *names: str, kind: int = ConversationKind.GROUP) -> tuple[int, list[int]]:
    """A conversation of the first one with the others in it."""
    people = [await rig.user(name) for name in names]
    cid = (await rig.request(people[0], Method.CONVERSATION_CREATE, {1: int(kind), 2: "", 3: people[1:]}))[1]
    return cid, people


async def refusal(attempt: Awaitable[Any]) -> ErrorCode | None:
    try:
        await attempt
    except Refused as refused:
        return refused.code
    return None


async def rights(rig: Rig, user: int, cid: int) -> Right:
    return Right((await rig.request(user, Method.CONVERSATION_RULES, {1: cid}))[8])


async def settled(rig: Rig, cid: int, check: Callable[[], Awaitable[None]]) -> None:
    """The check holds before the fold, after it, and when the core has to load the conversation anew."""
    await check()
    await rig.fold()
    await check()
    rig.forget(cid)
    await check()


@pytest.mark.parametrize("actor", ["owner", "admin", "moderator", "member", "guest"])
async def test_each_role_may_what_its_rights_say(tmp_path: Path, actor: str) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, admin, moderator, member, victim) = await group(
            rig, "owner", "admin", "moderator", "member", "victim"
        )
        guest = await rig.user("", UserFlag.GUEST)
        await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [guest]})
        for user, role in ((admin, Role.ADMIN), (moderator, Role.MODERATOR)):
            await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: user, 3: int(role)})
        who = {"owner": owner, "admin": admin, "moderator": moderator, "member": member, "guest": guest}[actor]
        attempts = {
            Right.MODERATE: (Method.MEMBER_MUTE, {1: cid, 2: victim, 3: int(time.time()) + 60}),
            Right.EDIT_INFO: (Method.CONVERSATION_SET_INFO, {1: cid, 2: "topic"}),
            Right.MANAGE: (Method.CONVERSATION_SET_RULES, {1: cid, 2: 5}),
            Right.INVITE: (Method.INVITE_CREATE, {1: cid}),
            Right.REMOVE: (Method.MEMBER_BAN, {1: cid, 2: victim, 3: 0}),
            Right.DELETE: (Method.CONVERSATION_DELETE, {1: cid}),
        }
        mine = await rights(rig, who, cid)
        for right, (method, params) in attempts.items():
            code = await refusal(rig.request(who, method, params))
            assert code == (None if mine & right else ErrorCode.FORBIDDEN), (right, code)


async def test_a_role_of_the_operator_grants_what_it_says_and_follows_the_configuration(tmp_path: Path) -> None:
    async with running(tmp_path, roles=[HERALD]) as rig:
        cid, (owner, ann) = await group(rig, "owner", "ann")
        listed = {row[0]: row[1:] for row in (await rig.request(ann, Method.ROLE_LIST))[1]}
        assert listed[9] == ["herald", 30, int(Right.WRITE | Right.SEE_MEMBERS | Right.EDIT_INFO)]
        await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: ann, 3: 9})
        await rig.request(ann, Method.CONVERSATION_SET_INFO, {1: cid, 2: "news"})
        with pytest.raises(Refused, match="no role 10"):
            await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: ann, 3: 10})
        await rig.fold()
    async with running(tmp_path) as rig:
        assert await refusal(rig.request(ann, Method.CONVERSATION_SET_INFO, {1: cid, 2: "x"})) == ErrorCode.FORBIDDEN
        assert await rights(rig, ann, cid) == Right(0)


async def test_nobody_acts_on_the_same_or_a_higher_rank(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, one, two) = await group(rig, "owner", "one", "two")
        for user in (one, two):
            await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: user, 3: int(Role.MODERATOR)})
        soon = int(time.time()) + 60
        for target in (two, owner, one):
            for method, params in (
                (Method.MEMBER_MUTE, {1: cid, 2: target, 3: soon}),
                (Method.MEMBER_BAN, {1: cid, 2: target, 3: soon}),
                (Method.MEMBER_REMOVE, {1: cid, 2: [target]}),
            ):
                assert await refusal(rig.request(one, method, params)) == ErrorCode.FORBIDDEN
        params = {1: cid, 2: two, 3: int(Role.OWNER)}
        assert await refusal(rig.request(one, Method.MEMBER_SET_ROLE, params)) == ErrorCode.FORBIDDEN


async def test_ownership_is_given_by_the_owner_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, heir, admin) = await group(rig, "owner", "heir", "admin")
        await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: admin, 3: int(Role.ADMIN)})
        params = {1: cid, 2: heir, 3: int(Role.OWNER)}
        assert await refusal(rig.request(admin, Method.MEMBER_SET_ROLE, params)) == ErrorCode.FORBIDDEN
        await rig.request(owner, Method.MEMBER_SET_ROLE, params)

        async def check() -> None:
            listed = (await rig.request(heir, Method.MEMBER_LIST, {1: cid}))[1]
            assert {row[0]: row[1] for row in listed} == {owner: Role.ADMIN, heir: Role.OWNER, admin: Role.ADMIN}

        await settled(rig, cid, check)


async def test_a_mute_is_an_event_and_holds_after_fold_and_restart(tmp_path: Path) -> None:
    until_s = int(time.time()) + 600
    async with running(tmp_path) as rig:
        cid, (owner, ann) = await group(rig, "owner", "ann")
        seq = (await rig.request(owner, Method.MEMBER_MUTE, {1: cid, 2: ann, 3: until_s}))[1]
        assert (await rig.pull(ann, cid, seq))[0][0][0] == seq

        async def check() -> None:
            assert (await rig.request(ann, Method.CONVERSATION_RULES, {1: cid}))[9] == until_s
            listed = (await rig.request(owner, Method.RESTRICTION_LIST, {1: cid}))[1]
            assert [row[:4] for row in listed] == [[ann, until_s, 0, owner]]

        await settled(rig, cid, check)
        unfolded = (await rig.request(owner, Method.MEMBER_MUTE, {1: cid, 2: ann, 3: until_s + 1}))[1]
        assert unfolded == seq + 1
    async with running(tmp_path) as rig:
        assert (await rig.request(ann, Method.CONVERSATION_RULES, {1: cid}))[9] == until_s + 1
        await rig.request(owner, Method.MEMBER_MUTE, {1: cid, 2: ann, 3: 0})
        assert (await rig.request(ann, Method.CONVERSATION_RULES, {1: cid}))[9] == 0
        assert (await rig.request(owner, Method.RESTRICTION_LIST, {1: cid}))[1] == []
        with pytest.raises(Refused, match="a time to come"):
            await rig.request(owner, Method.MEMBER_MUTE, {1: cid, 2: ann, 3: 5})


async def test_a_banned_user_has_left_and_cannot_come_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, ann) = await group(rig, "owner", "ann")
        token = (await rig.request(owner, Method.INVITE_CREATE, {1: cid}))[1]
        await rig.request(owner, Method.PUBLIC_NAME_SET, {1: cid, 2: "open"})
        banned_at = (await rig.request(owner, Method.MEMBER_BAN, {1: cid, 2: ann, 3: 0, 4: "spam"}))[1]
        await rig.say(cid, owner, "secret")

        async def check() -> None:
            events, end = await rig.pull(ann, cid)
            assert events[-1][0] == banned_at
            assert end[1] == banned_at
            for method, params in (
                (Method.MEMBER_ADD, {1: cid, 2: [ann]}),
                (Method.INVITE_JOIN, {1: token}),
                (Method.PUBLIC_JOIN, {1: "open"}),
            ):
                who = owner if method == Method.MEMBER_ADD else ann
                assert await refusal(rig.request(who, method, params)) == ErrorCode.BANNED
            listed = (await rig.request(owner, Method.RESTRICTION_LIST, {1: cid}))[1]
            assert [(row[0], row[2], row[5]) for row in listed] == [(ann, (1 << 32) - 1, "spam")]

        await settled(rig, cid, check)
        assert (await rig.request(owner, Method.BAN_LIFT, {1: cid, 2: ann}))[1] > banned_at
        assert (await rig.request(owner, Method.BAN_LIFT, {1: cid, 2: ann})) == {1: 0}
        assert (await rig.request(ann, Method.INVITE_JOIN, {1: token}))[1] == cid


async def test_a_ban_ends_with_its_time_and_may_come_before_the_visit(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner,) = await group(rig, "owner")
        ann = await rig.user("ann")
        assert await rig.request(owner, Method.MEMBER_BAN, {1: cid, 2: ann, 3: int(time.time()) + 1}) == {1: 0}
        assert await refusal(rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann]})) == ErrorCode.BANNED
        row = rig.hub.rows.find("restriction", (cid, ann))
        await rig.hub.change(
            lambda: rig.hub.rows.stage("restriction", row._replace(banned_until_s=int(time.time()) - 1))
        )
        assert (await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann]}))[1] > 0


async def test_rules_are_events_and_hold_after_fold_and_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, ann) = await group(rig, "owner", "ann")
        denied = {int(Role.MEMBER): int(Right.WRITE)}
        seq = (await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 2: 30, 3: 7, 4: denied}))[1]
        await rig.request(owner, Method.CONVERSATION_SET_INFO, {1: cid, 2: "topic", 3: "avatar"})
        events, _ = await rig.pull(ann, cid, seq)
        assert events == [(seq, b"\x1e\x07\x01\x01\x01"), (seq + 1, b"\x05topic\x06avatar")]

        await rig.request(owner, Method.CONVERSATION_SET_TITLE, {1: cid, 2: "title"})

        async def check() -> None:
            assert (await rig.request(ann, Method.CONVERSATION_GET, {1: cid}))[3] == "title"
            found = await rig.request(ann, Method.CONVERSATION_RULES, {1: cid})
            assert [found[key] for key in (1, 2, 3, 4, 5)] == ["topic", "avatar", 30, 7, denied]
            assert not Right(found[8]) & Right.WRITE
            assert await rights(rig, owner, cid) & Right.WRITE

        await settled(rig, cid, check)
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 2: 0})
    async with running(tmp_path) as rig:
        found = await rig.request(ann, Method.CONVERSATION_RULES, {1: cid})
        assert (found[3], found[5]) == (0, denied)
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 4: {}})
        assert await rights(rig, ann, cid) & Right.WRITE


async def test_nobody_denies_rights_to_the_own_rank_or_to_the_owner(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, admin) = await group(rig, "owner", "admin")
        await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: admin, 3: int(Role.ADMIN)})
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 4: {int(Role.ADMIN): int(Right.PIN)}})
        for denied in ({int(Role.OWNER): 1}, {int(Role.ADMIN): 0}, {}):
            params = {1: cid, 4: denied}
            assert await refusal(rig.request(admin, Method.CONVERSATION_SET_RULES, params)) == ErrorCode.FORBIDDEN
        params = {1: cid, 4: {int(Role.OWNER): 1}}
        assert await refusal(rig.request(owner, Method.CONVERSATION_SET_RULES, params)) == ErrorCode.FORBIDDEN


async def test_in_a_channel_few_write_and_readers_do_not_see_each_other(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, editor, reader) = await group(rig, "owner", "editor", "reader", kind=ConversationKind.CHANNEL)
        await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: editor, 3: int(Role.MODERATOR)})

        async def check() -> None:
            assert await rights(rig, editor, cid) & Right.WRITE
            assert await rights(rig, reader, cid) == Right(0)
            assert await refusal(rig.request(reader, Method.MEMBER_LIST, {1: cid})) == ErrorCode.FORBIDDEN
            assert (await rig.request(reader, Method.CONVERSATION_GET, {1: cid}))[5] == 3

        await settled(rig, cid, check)


async def test_the_world_room_is_one_and_an_administrators(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        root, ann = await rig.user("root", UserFlag.ADMIN), await rig.user("ann")
        params = {1: int(ConversationKind.WORLD), 2: "world"}
        assert await refusal(rig.request(ann, Method.CONVERSATION_CREATE, params)) == ErrorCode.FORBIDDEN
        cid = (await rig.request(root, Method.CONVERSATION_CREATE, params))[1]
        assert await refusal(rig.request(root, Method.CONVERSATION_CREATE, params)) == ErrorCode.LIMIT_REACHED
        await rig.request(root, Method.PUBLIC_NAME_SET, {1: cid, 2: "world"})
        assert (await rig.request(ann, Method.PUBLIC_JOIN, {1: "World"}))[1] == cid
        assert await rights(rig, ann, cid) == Right.WRITE


async def test_an_archived_conversation_is_read_and_not_written(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, ann) = await group(rig, "owner", "ann")
        seq = (await rig.request(owner, Method.CONVERSATION_ARCHIVE, {1: cid, 2: True}))[1]
        assert (await rig.request(owner, Method.CONVERSATION_ARCHIVE, {1: cid, 2: True})) == {1: 0}

        async def check() -> None:
            assert (await rig.request(ann, Method.CONVERSATION_RULES, {1: cid}))[7]
            state = rig.core.conversation(cid)
            assert state is not None
            assert state[1] == 2
            assert (await rig.pull(ann, cid))[1][1] == seq

        await settled(rig, cid, check)
        await rig.request(owner, Method.CONVERSATION_ARCHIVE, {1: cid, 2: False})
        assert rig.core.conversation(cid)[1] == 0


async def test_deleting_removes_everybody_and_leaves_no_way_in(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, (owner, ann) = await group(rig, "owner", "ann")
        token = (await rig.request(owner, Method.INVITE_CREATE, {1: cid}))[1]
        await rig.request(owner, Method.PUBLIC_NAME_SET, {1: cid, 2: "gone"})
        seq = (await rig.request(owner, Method.CONVERSATION_DELETE, {1: cid}))[1]

        async def check() -> None:
            for user in (owner, ann):
                events, end = await rig.pull(user, cid)
                assert (events[-1][0], end[1]) == (seq, seq)
                assert await refusal(rig.request(user, Method.CONVERSATION_GET, {1: cid})) == ErrorCode.NOT_FOUND
                assert await refusal(rig.request(user, Method.INVITE_JOIN, {1: token})) == ErrorCode.NOT_FOUND
                assert await refusal(rig.request(user, Method.PUBLIC_JOIN, {1: "gone"})) == ErrorCode.NOT_FOUND
            assert (await rig.request(ann, Method.PUBLIC_FIND))[1] == []
            assert (await rig.request(ann, Method.CONVERSATION_LIST))[1] == []

        await settled(rig, cid, check)
        other = (await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: ""}))[1]
        await rig.request(ann, Method.PUBLIC_NAME_SET, {1: other, 2: "gone"})
        assert (await rig.pull(ann, cid))[0][-1][0] == seq
        assert Kind.DELETED == 45


async def test_bounds_of_channels_and_roles(tmp_path: Path) -> None:
    async with running(tmp_path, channel_members_max=2, group_members_max=2) as rig:
        for kind in (ConversationKind.CHANNEL, ConversationKind.GROUP):
            cid, _ = await group(rig, f"owner{kind}", f"first{kind}", kind=kind)
            late = await rig.user(f"late{kind}")
            owner = (await rig.hub.lookup(lambda: rig.hub.rows.find("conversation", cid))).owner  # noqa: B023
            token = (await rig.request(owner, Method.INVITE_CREATE, {1: cid}))[1]
            assert await refusal(rig.request(late, Method.INVITE_JOIN, {1: token})) == ErrorCode.LIMIT_REACHED
            params = {1: cid, 2: [late]}
            assert await refusal(rig.request(owner, Method.MEMBER_ADD, params)) == ErrorCode.LIMIT_REACHED
