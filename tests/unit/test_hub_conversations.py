"""Conversations and their members: who may do what, and what the log says of it."""

from pathlib import Path

import pytest
from support.hub_rig import Refused, Rig, either_core, running
from support.plain_core import PlainCore

from chatd.wire.schema import TITLE_BYTES_MAX, ErrorCode, Method

CREATE, ADD, REMOVE = Method.CONVERSATION_CREATE, Method.MEMBER_ADD, Method.MEMBER_REMOVE

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")


async def people(rig: Rig, *names: str) -> list[int]:
    return [await rig.user(name) for name in names]


async def roles(rig: Rig, user: int, cid: int) -> dict[int, int]:
    listed = await rig.request(user, Method.MEMBER_LIST, {1: cid})
    return {entry[0]: entry[1] for entry in listed[1]}


async def test_direct_conversation_is_one_however_it_is_opened(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await people(rig, "ann", "bob")
        first = await rig.request(ann, Method.DIRECT_OPEN, {1: bob})
        assert await rig.request(bob, Method.DIRECT_OPEN, {1: ann}) == first
        await rig.fold()
        assert await rig.request(bob, Method.DIRECT_OPEN, {1: ann}) == first
        with pytest.raises(Refused, match="NOT_FOUND"):
            await rig.request(ann, Method.DIRECT_OPEN, {1: 999})


async def test_group_has_its_creator_as_owner_and_everyone_reads_from_the_start(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await people(rig, "ann", "bob")
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "friends", 3: [bob, ann]}))[1]
        assert await roles(rig, bob, cid) == {ann: 3, bob: 1}
        assert (await rig.request(bob, Method.CONVERSATION_GET, {1: cid})) == {
            1: cid, 2: 2, 3: "friends", 4: 2, 5: 2, 6: 1, 7: 1,
        }  # fmt: skip
        events, end = await rig.pull(bob, cid)
        assert [event[0] for event in events] == [1, 2]
        assert events[0][1] == b"\x02\x07friends"
        assert events[1][1] == bytes((1, 1, bob))
        assert end == (0, 2, 1)


async def test_removed_member_reads_up_to_the_removal_and_nothing_after(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await people(rig, "ann", "bob")
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "", 3: [bob]}))[1]
        gone_at = (await rig.request(ann, REMOVE, {1: cid, 2: [bob]}))[1]
        if isinstance(rig.core, PlainCore):
            assert ("revoke", bob, cid) in rig.core.sent
        await rig.say(cid, ann, "secret")
        for _ in range(2):
            events, end = await rig.pull(bob, cid)
            assert [event[0] for event in events] == [1, 2, 3]
            assert end == (0, gone_at, 1)
            await rig.fold()
            rig.forget(cid)
        with pytest.raises(Refused, match="NOT_FOUND"):
            await rig.request(bob, Method.CONVERSATION_GET, {1: cid})
        back_at = (await rig.request(ann, ADD, {1: cid, 2: [bob]}))[1]
        events, end = await rig.pull(bob, cid)
        assert [event[0] for event in events] == [1, 2, 3, back_at]
        assert (await rig.request(ann, ADD, {1: cid, 2: [bob]})) == {1: 0}


async def test_absent_and_foreign_conversations_look_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob, eve = await people(rig, "ann", "bob", "eve")
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "", 3: [bob]}))[1]
        for method, rest in ((Method.CONVERSATION_GET, {}), (Method.MEMBER_LIST, {}), (Method.MEMBER_LEAVE, {})):
            refusals = []
            for other in (cid, cid + 1):
                with pytest.raises(Refused) as refused:
                    await rig.request(eve, method, {1: other, **rest})
                refusals.append(str(refused.value))
            assert refusals[0] == refusals[1]
        pulls = []
        for other in (cid, cid + 1):
            with pytest.raises(Refused) as refused:
                await rig.pull(eve, other)
            pulls.append((refused.value.code, str(refused.value)))
        assert pulls[0] == pulls[1]


@pytest.mark.parametrize("actor", ["owner", "admin", "member"])
async def test_roles_bound_who_changes_whom(tmp_path: Path, actor: str) -> None:
    async with running(tmp_path) as rig:
        owner, admin, member, other, fresh = await people(rig, "owner", "admin", "member", "other", "fresh")
        cid = (await rig.request(owner, CREATE, {1: 2, 2: "", 3: [admin, member, other]}))[1]
        await rig.request(owner, Method.MEMBER_SET_ROLE, {1: cid, 2: admin, 3: 2})
        who = {"owner": owner, "admin": admin, "member": member}[actor]
        attempts = {
            "title": (Method.CONVERSATION_SET_TITLE, {1: cid, 2: "new"}),
            "add": (ADD, {1: cid, 2: [fresh]}),
            "add an admin": (ADD, {1: cid, 2: [fresh], 3: 2}),
            "remove a member": (REMOVE, {1: cid, 2: [other]}),
            "remove the owner": (REMOVE, {1: cid, 2: [owner]}),
            "remove an admin": (REMOVE, {1: cid, 2: [admin]}),
            "set a role": (Method.MEMBER_SET_ROLE, {1: cid, 2: member, 3: 2}),
        }
        allowed = set()
        for name, (method, params) in attempts.items():
            try:
                await rig.request(who, method, params)
                allowed.add(name)
            except Refused as refused:
                assert refused.code == ErrorCode.FORBIDDEN  # noqa: PT017
        assert (
            allowed
            == {
                # "add an admin" of somebody who is a member already changes nothing, for whoever may add at all
                "owner": {"title", "add", "add an admin", "remove a member", "remove an admin", "set a role"},
                "admin": {"title", "add", "remove a member"},
                "member": set[str](),
            }[actor]
        )


async def test_leaving_owner_hands_over_to_the_oldest_admin_then_member(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob, cyd = await people(rig, "ann", "bob", "cyd")
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "", 3: [bob]}))[1]
        await rig.request(ann, ADD, {1: cid, 2: [cyd], 3: 2})
        left_at = (await rig.request(ann, Method.MEMBER_LEAVE, {1: cid}))[1]
        assert await roles(rig, bob, cid) == {bob: 1, cyd: 3}
        assert left_at == 5
        await rig.request(cyd, Method.MEMBER_LEAVE, {1: cid})
        assert await roles(rig, bob, cid) == {bob: 3}
        await rig.request(bob, Method.MEMBER_LEAVE, {1: cid})


async def test_ownership_is_handed_over_and_the_former_owner_is_admin(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await people(rig, "ann", "bob")
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "", 3: [bob]}))[1]
        with pytest.raises(Refused, match="FORBIDDEN"):
            await rig.request(ann, Method.MEMBER_SET_ROLE, {1: cid, 2: ann, 3: 1})
        await rig.request(ann, Method.MEMBER_SET_ROLE, {1: cid, 2: bob, 3: 3})
        assert await roles(rig, bob, cid) == {ann: 2, bob: 3}


async def test_limits_of_members_groups_and_conversations(tmp_path: Path) -> None:
    limits = {"group_members_max": 3, "user_conversations_max": 2, "user_groups_owned_max": 1}
    async with running(tmp_path, **limits) as rig:
        ann, bob, cyd, dan = await people(rig, "ann", "bob", "cyd", "dan")
        with pytest.raises(Refused, match="LIMIT_REACHED"):
            await rig.request(ann, CREATE, {1: 2, 2: "", 3: [bob, cyd, dan]})
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "", 3: [bob, cyd]}))[1]
        with pytest.raises(Refused, match="LIMIT_REACHED"):
            await rig.request(ann, ADD, {1: cid, 2: [dan]})
        await rig.fold()
        with pytest.raises(Refused, match="LIMIT_REACHED: you own"):
            await rig.request(ann, CREATE, {1: 2, 2: ""})
        await rig.request(bob, CREATE, {1: 2, 2: ""})
        with pytest.raises(Refused, match=f"LIMIT_REACHED: user {bob} is in 2"):
            await rig.request(cyd, CREATE, {1: 2, 2: "", 3: [bob]})


async def test_titles_have_a_limit(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        (ann,) = await people(rig, "ann")
        cid = (await rig.request(ann, CREATE, {1: 2, 2: "x" * TITLE_BYTES_MAX}))[1]
        with pytest.raises(Refused, match="BAD_REQUEST"):
            await rig.request(ann, Method.CONVERSATION_SET_TITLE, {1: cid, 2: "x" * (TITLE_BYTES_MAX + 1)})


async def test_listing_pages_over_folded_and_fresh_conversations(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await people(rig, "ann", "bob")
        cids = [(await rig.request(ann, CREATE, {1: 2, 2: f"g{at}", 3: [bob]}))[1] for at in range(3)]
        await rig.fold()
        for cid in cids:
            rig.forget(cid)
        cids += [(await rig.request(bob, CREATE, {1: 2, 2: f"g{at}", 3: [ann]}))[1] for at in range(3, 5)]
        await rig.request(bob, Method.MEMBER_LEAVE, {1: cids[1]})
        found, after, more = [], 0, True
        while more:
            page = await rig.request(bob, Method.CONVERSATION_LIST, {1: after, 2: 2})
            found += page[1]
            after, more = found[-1][0], page[2]
        expected = [[cids[at], 2, f"g{at}", 2, 2, 3 if at > 2 else 1] for at in (0, 2, 3, 4)]
        assert found == expected
