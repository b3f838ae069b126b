"""Contacts, blocks, who may write first, own settings and reports."""

from pathlib import Path

import pytest
from support.hub_rig import Refused, Rig, either_core, running

from chatd.hub.flags import UserFlag
from chatd.services.own import HIDDEN_MAX, OwnFlag
from chatd.services.relations import FOR_EVER_S, Relation
from chatd.wire.schema import ErrorCode, Method

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")


async def two(rig: Rig) -> tuple[int, int]:
    return await rig.user("ann"), await rig.user("bob")


async def refused(rig: Rig, user: int, method: Method, params: dict[int, object]) -> ErrorCode:
    with pytest.raises(Refused) as found:
        await rig.request(user, method, params)
    return found.value.code


async def relations(rig: Rig, user: int) -> dict[int, Relation]:
    return {row[0]: Relation(row[1]) for row in (await rig.request(user, Method.RELATION_LIST))[1]}


async def test_contacts_are_asked_and_accepted(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        assert await rig.request(ann, Method.CONTACT_REQUEST, {1: bob, 2: "it is me"}) == {1: Relation.ASKED}
        for _ in range(2):
            (row,) = (await rig.request(bob, Method.RELATION_LIST))[1]
            assert (row[0], row[1], row[3], row[4]) == (ann, Relation.ASKED_ME, "it is me", "Ann")
            await rig.fold()
        assert await refused(rig, ann, Method.CONTACT_ANSWER, {1: bob, 2: True}) == ErrorCode.NOT_FOUND
        assert await rig.request(bob, Method.CONTACT_ANSWER, {1: ann, 2: True}) == {1: Relation.CONTACT}
        for _ in range(2):
            assert await relations(rig, ann) == {bob: Relation.CONTACT}
            assert await relations(rig, bob) == {ann: Relation.CONTACT}
            await rig.fold()
        await rig.request(ann, Method.CONTACT_REMOVE, {1: bob})
        assert await relations(rig, ann) == await relations(rig, bob) == {}


async def test_a_request_may_be_refused_and_two_requests_meet(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        await rig.request(ann, Method.CONTACT_REQUEST, {1: bob})
        assert await rig.request(bob, Method.CONTACT_ANSWER, {1: ann, 2: False}) == {1: 0}
        assert await relations(rig, ann) == {}
        await rig.request(ann, Method.CONTACT_REQUEST, {1: bob})
        assert await rig.request(bob, Method.CONTACT_REQUEST, {1: ann}) == {1: Relation.CONTACT}
        assert await relations(rig, ann) == {bob: Relation.CONTACT}
        assert await refused(rig, ann, Method.CONTACT_REQUEST, {1: ann}) == ErrorCode.BAD_REQUEST
        assert await refused(rig, ann, Method.CONTACT_REQUEST, {1: 999}) == ErrorCode.NOT_FOUND


@pytest.mark.parametrize("opened", ["before", "after by the blocker"])
async def test_who_is_blocked_is_silent_and_not_told(tmp_path: Path, opened: str) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        if opened == "before":
            cid = (await rig.request(bob, Method.DIRECT_OPEN, {1: ann}))[1]
            await rig.fold()
            rig.forget(cid)
        await rig.request(ann, Method.BLOCK, {1: bob, 2: True})
        group = (await rig.request(bob, Method.CONVERSATION_CREATE, {1: 2, 2: ""}))[1]
        assert await refused(rig, bob, Method.MEMBER_ADD, {1: group, 2: [ann]}) == ErrorCode.FORBIDDEN
        if opened != "before":
            assert await refused(rig, bob, Method.DIRECT_OPEN, {1: ann}) == ErrorCode.FORBIDDEN
            cid = (await rig.request(ann, Method.DIRECT_OPEN, {1: bob}))[1]
        assert await rig.request(bob, Method.CONTACT_REQUEST, {1: ann}) == {1: Relation.ASKED}
        for _ in range(2):
            assert await relations(rig, ann) == {bob: Relation.BLOCKED}
            assert await relations(rig, bob) == {ann: Relation.ASKED}
            await rig.pull(bob, cid)
            assert rig.core.muted_until_s(cid, bob) == FOR_EVER_S
            assert rig.core.muted_until_s(cid, ann) == 0
            await rig.fold()
            rig.forget(cid)
        await rig.request(ann, Method.BLOCK, {1: bob, 2: False})
        assert rig.core.muted_until_s(cid, bob) == 0
        await rig.request(bob, Method.MEMBER_ADD, {1: group, 2: [ann]})


async def test_who_hears_from_contacts_only_is_not_written_to_by_others(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        await rig.request(ann, Method.PROFILE_SET, {4: 1})
        group = (await rig.request(bob, Method.CONVERSATION_CREATE, {1: 2, 2: ""}))[1]
        for method, params in (
            (Method.DIRECT_OPEN, {1: ann}),
            (Method.MEMBER_ADD, {1: group, 2: [ann]}),
            (Method.CONVERSATION_CREATE, {1: 2, 2: "", 3: [ann]}),
        ):
            assert await refused(rig, bob, method, params) == ErrorCode.CONTACTS_ONLY
        cid = (await rig.request(ann, Method.DIRECT_OPEN, {1: bob}))[1]
        assert (await rig.request(bob, Method.DIRECT_OPEN, {1: ann}))[1] == cid
        await rig.request(bob, Method.CONTACT_REQUEST, {1: ann})
        await rig.request(ann, Method.CONTACT_ANSWER, {1: bob, 2: True})
        await rig.request(bob, Method.MEMBER_ADD, {1: group, 2: [ann]})


async def test_a_profile_keeps_what_is_not_given(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        await rig.request(ann, Method.PROFILE_SET, {1: "Anna", 2: "hello", 3: "ref:1", 4: 1})
        await rig.request(ann, Method.PROFILE_SET, {2: ""})
        for _ in range(2):
            shown = {1: ann, 2: "ann", 3: "Anna", 4: "", 5: "ref:1", 6: 0}
            assert await rig.request(bob, Method.PROFILE_GET, {1: ann}) == shown
            assert await rig.request(ann, Method.PROFILE_GET, {1: ann}) == shown | {7: 1}
            await rig.fold()
    async with running(tmp_path) as rig:
        assert (await rig.request(bob, Method.PROFILE_GET, {1: ann}))[3] == "Anna"
        assert await refused(rig, bob, Method.PROFILE_GET, {1: 999}) == ErrorCode.NOT_FOUND


async def test_own_settings_are_listed_by_what_changed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        cid = (await rig.request(ann, Method.DIRECT_OPEN, {1: bob}))[1]
        await rig.request(ann, Method.OWN_SET, {1: cid, 2: 77, 3: True, 5: True})
        await rig.request(ann, Method.OWN_SET, {1: cid, 4: True, 5: False})
        for _ in range(2):
            (row,) = (await rig.request(ann, Method.OWN_LIST))[1]
            assert row[:5] == [cid, 77, OwnFlag.MENTIONS_ONLY | OwnFlag.ARCHIVED, 0, []]
            assert (await rig.request(ann, Method.OWN_LIST, {3: row[5]}))[1] == []
            assert (await rig.request(bob, Method.OWN_LIST))[1] == []
            await rig.fold()
        eve = await rig.user("eve")
        assert await refused(rig, eve, Method.OWN_SET, {1: cid, 2: 1}) == ErrorCode.NOT_FOUND


async def test_what_is_deleted_for_oneself_is_gone_for_oneself_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        cid = (await rig.request(ann, Method.DIRECT_OPEN, {1: bob}))[1]
        last = await rig.say(cid, bob, *"abcdefgh")

        async def read(user: int) -> list[int]:
            return [event[0] for event in (await rig.pull(user, cid))[0]]

        await rig.request(ann, Method.OWN_HIDE, {1: cid, 3: [5, 7]})
        for _ in range(2):
            assert await read(ann) == [1, 2, 3, 4, 6, 8, 9]
            assert await read(bob) == list(range(1, last + 1))
            await rig.fold()
            rig.forget(cid)
        await rig.request(ann, Method.OWN_HIDE, {1: cid, 2: 5})
        await rig.request(ann, Method.OWN_HIDE, {1: cid, 3: [9]})
        assert await read(ann) == [6, 8]
        assert (await rig.pull(ann, cid))[1] == (0, last, 6)
        assert await refused(rig, ann, Method.OWN_HIDE, {1: cid, 2: last + 1}) == ErrorCode.BAD_REQUEST
    async with running(tmp_path) as rig:
        assert await read(ann) == [6, 8]
        (entry,) = (await rig.sync(ann))[0]
        assert (entry["head"], entry["floor"], entry["preview"]) == (last, 6, b""), "the last one is deleted"


async def test_so_many_single_events_are_deleted_for_oneself(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        cid = (await rig.request(ann, Method.DIRECT_OPEN, {1: bob}))[1]
        await rig.say(cid, bob, *["x"] * (HIDDEN_MAX + 10))
        seqs = list(range(2, HIDDEN_MAX + 3))
        for start in range(0, HIDDEN_MAX, 200):
            await rig.request(ann, Method.OWN_HIDE, {1: cid, 3: seqs[start : start + 200]})
        assert await refused(rig, ann, Method.OWN_HIDE, {1: cid, 3: seqs[-1:]}) == ErrorCode.LIMIT_REACHED
        await rig.request(ann, Method.OWN_HIDE, {1: cid, 2: seqs[-1]})
        assert (await rig.request(ann, Method.OWN_LIST))[1][0][4] == []


async def test_reports_go_to_moderators_and_leave_the_queue_when_resolved(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await two(rig)
        root, eve = await rig.user("root", UserFlag.ADMIN), await rig.user("eve")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: "", 3: [bob]}))[1]
        seq = await rig.say(cid, bob, "insult")
        one = (await rig.request(ann, Method.REPORT, {1: cid, 2: seq, 4: "rude"}))[1]
        other = (await rig.request(eve, Method.REPORT, {1: 0, 3: bob, 4: "spammer"}))[1]
        for _ in range(2):
            listed = (await rig.request(ann, Method.REPORT_LIST, {1: cid}))[1]
            assert [row[:6] for row in listed] == [[one, cid, seq, bob, ann, "rude"]]
            assert [row[0] for row in (await rig.request(root, Method.REPORT_LIST, {1: 0}))[1]] == [one, other]
            await rig.fold()
            rig.forget(cid)
        assert await refused(rig, bob, Method.REPORT_LIST, {1: cid}) == ErrorCode.FORBIDDEN
        assert await refused(rig, ann, Method.REPORT_LIST, {1: 0}) == ErrorCode.FORBIDDEN
        assert await refused(rig, eve, Method.REPORT, {1: cid, 2: seq, 4: "x"}) == ErrorCode.NOT_FOUND
        assert await refused(rig, bob, Method.REPORT_RESOLVE, {1: one}) == ErrorCode.FORBIDDEN
        assert await refused(rig, root, Method.REPORT_RESOLVE, {1: 999}) == ErrorCode.NOT_FOUND
        await rig.request(ann, Method.REPORT_RESOLVE, {1: one, 2: "warned"})
        for _ in range(2):
            assert (await rig.request(ann, Method.REPORT_LIST, {1: cid}))[1] == []
            assert [row[0] for row in (await rig.request(root, Method.REPORT_LIST, {1: 0}))[1]] == [other]
            await rig.fold()
