"""Links, public names, requests to join, and what those read who come later."""

import time
from pathlib import Path

import pytest
from support.hub_rig import Refused, Rig, either_core, running

from chatd.hub.flags import UserFlag
from chatd.services.invitations import INVITATIONS_MAX
from chatd.services.joining import HISTORY_ALL
from chatd.wire.schema import ErrorCode, Method, Role

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")

NEVER = bytes(16)


async def owned(rig: Rig) -> tuple[int, int]:
    """A group and its owner."""
    owner = await rig.user("owner")
    return (await rig.request(owner, Method.CONVERSATION_CREATE, {1: 2, 2: "party"}))[1], owner


async def refused(rig: Rig, user: int, method: Method, params: dict[int, object]) -> ErrorCode:
    with pytest.raises(Refused) as found:
        await rig.request(user, method, params)
    return found.value.code


async def readable(rig: Rig, user: int, cid: int) -> list[int]:
    return [event[0] for event in (await rig.pull(user, cid))[0]]


async def test_a_link_lets_in_and_the_log_says_by_whom(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        ann = await rig.user("ann")
        token, ident = (await rig.request(owner, Method.INVITE_CREATE, {1: cid})).values()
        assert len(token) == 16
        assert await rig.request(ann, Method.INVITE_LOOK, {1: token}) == {1: 2, 2: "party", 3: "", 4: 1, 5: False}
        seq = (await rig.request(ann, Method.INVITE_JOIN, {1: token}))[2]
        assert (await rig.pull(ann, cid))[0] == [(seq, bytes((ann, owner)))]
        assert await rig.request(ann, Method.INVITE_JOIN, {1: token}) == {1: cid, 2: 0}
        (listed,) = (await rig.request(owner, Method.INVITE_LIST, {1: cid}))[1]
        assert listed[:7] == [ident, token, owner, 0, 0, 1, False]


@pytest.mark.parametrize("folded", [False, True])
async def test_a_link_ends_by_time_by_number_and_by_hand(tmp_path: Path, folded: bool) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        ann, bob = await rig.user("ann"), await rig.user("bob")
        once, ident = (await rig.request(owner, Method.INVITE_CREATE, {1: cid, 3: 1})).values()
        late = (await rig.request(owner, Method.INVITE_CREATE, {1: cid, 2: int(time.time()) + 600}))[1]
        row = rig.hub.rows.find("invitation", late, unique=True)
        expired = row._replace(expires_s=int(time.time()) - 1)
        await rig.hub.change(lambda: rig.hub.rows.stage("invitation", expired))
        await rig.request(ann, Method.INVITE_JOIN, {1: once})
        if folded:
            await rig.fold()
        assert await refused(rig, bob, Method.INVITE_JOIN, {1: once}) == ErrorCode.LIMIT_REACHED
        assert await refused(rig, bob, Method.INVITE_JOIN, {1: late}) == ErrorCode.EXPIRED
        await rig.request(owner, Method.INVITE_REVOKE, {1: cid, 2: ident})
        assert await refused(rig, bob, Method.INVITE_JOIN, {1: once}) == ErrorCode.NOT_FOUND
        assert await refused(rig, bob, Method.INVITE_JOIN, {1: NEVER}) == ErrorCode.NOT_FOUND
        assert await refused(rig, owner, Method.INVITE_REVOKE, {1: cid, 2: ident + 100}) == ErrorCode.NOT_FOUND
        assert [entry[1] for entry in (await rig.request(owner, Method.INVITE_LIST, {1: cid}))[1]] == [late]
        assert await readable(rig, ann, cid)


async def test_links_hold_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        first = (await rig.request(owner, Method.INVITE_CREATE, {1: cid}))[2]
        await rig.fold()
        token, second = (await rig.request(owner, Method.INVITE_CREATE, {1: cid})).values()
        assert second == first + 1
        await rig.user("ann")
    async with running(tmp_path) as rig:
        ann = (await rig.hub.lookup(lambda: rig.hub.rows.find("user", "ann", unique=True))).id
        assert (await rig.request(ann, Method.INVITE_JOIN, {1: token}))[1] == cid
        assert (await rig.request(owner, Method.INVITE_CREATE, {1: cid}))[2] == second + 1


async def test_a_conversation_has_so_many_links(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        for number in range(INVITATIONS_MAX):
            await rig.request(owner, Method.INVITE_CREATE, {1: cid})
            if number == INVITATIONS_MAX // 2:
                await rig.fold()
        assert await refused(rig, owner, Method.INVITE_CREATE, {1: cid}) == ErrorCode.LIMIT_REACHED


@pytest.mark.parametrize("way", ["added", "link", "public", "accepted"])
@pytest.mark.parametrize(("history", "before"), [(0, 0), (2, 2), (100, 5), (HISTORY_ALL, 5)])
async def test_who_joins_later_reads_as_much_as_the_rules_say(
    tmp_path: Path, way: str, history: int, before: int
) -> None:
    """Five events are there before the one of the join: CREATED, RULES_CHANGED and three messages."""
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        ann = await rig.user("ann")
        token = (await rig.request(owner, Method.INVITE_CREATE, {1: cid, 4: way == "accepted"}))[1]
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 3: history})
        joined_at = 1 + await rig.say(cid, owner, "a", "b", "c")
        if way == "added":
            await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann]})
        elif way == "public":
            joined_at = 1 + (await rig.request(owner, Method.PUBLIC_NAME_SET, {1: cid, 2: "here"}))[1]
            await rig.request(ann, Method.PUBLIC_JOIN, {1: "here"})
            before += before > 2
        else:
            await rig.request(ann, Method.INVITE_JOIN, {1: token})
            if way == "accepted":
                await rig.request(owner, Method.JOIN_REQUEST_ANSWER, {1: cid, 2: ann, 3: True})
        await rig.say(cid, owner, "after")
        for _ in range(2):
            assert await readable(rig, ann, cid) == list(range(joined_at - before, joined_at + 2))
            (entry,) = [entry for entry in (await rig.sync(ann))[0] if entry["cid"] == cid]
            assert entry["floor"] == joined_at - before
            assert entry["count"] - entry["read_count"] == 1, "what was there before is not unread"
            await rig.fold()
            rig.forget(cid)


async def test_history_for_all_shows_who_comes_back_what_was_missed_and_nothing_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        ann = await rig.user("ann")
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 3: HISTORY_ALL})
        await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann]})
        await rig.request(ann, Method.MEMBER_LEAVE, {1: cid})
        await rig.say(cid, owner, "missed")
        assert (await readable(rig, ann, cid))[-1] == 4
        await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann]})
        for _ in range(2):
            assert await readable(rig, ann, cid) == [1, 2, 3, 4, 5, 6]
            await rig.fold()
            rig.forget(cid)


async def test_public_names_are_found_by_their_beginning(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        for number, name in enumerate(("News", "newspaper", "other", "new_")):
            cid = (await rig.request(ann, Method.CONVERSATION_CREATE, {1: 3, 2: name.upper()}))[1]
            await rig.request(ann, Method.PUBLIC_NAME_SET, {1: cid, 2: name})
            if number == 1:
                await rig.fold()

        async def found(**page: object) -> list[str]:
            result = await rig.request(ann, Method.PUBLIC_FIND, {1: "NEW", 2: page.get("after", ""), 3: 2})
            return [entry[0] for entry in result[1]] + ["…"] * result[2]

        for _ in range(2):
            assert await found() == ["new_", "news", "…"]
            assert await found(after="news") == ["newspaper"]
            await rig.fold()
        everything = (await rig.request(ann, Method.PUBLIC_FIND))[1]
        assert [entry[3] for entry in everything] == ["NEW_", "NEWS", "NEWSPAPER", "OTHER"]
        assert everything[0][5] == 1
        with pytest.raises(Refused, match="is taken"):
            await rig.request(ann, Method.PUBLIC_NAME_SET, {1: cid, 2: "NEWS"})
        await rig.request(ann, Method.PUBLIC_NAME_SET, {1: cid, 2: ""})
        assert (await found())[:2] == ["news", "newspaper"]
        assert await found(after="newspaper") == []


async def test_who_asks_is_accepted_or_refused_by_those_who_may(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        ann, bob, eve = await rig.user("ann"), await rig.user("bob"), await rig.user("eve")
        await rig.request(owner, Method.PUBLIC_NAME_SET, {1: cid, 2: "club", 3: True})
        for who in (ann, bob):
            assert await rig.request(who, Method.PUBLIC_JOIN, {1: "club", 2: "let me in"}) == {1: 0, 2: 0}
        assert await rig.request(ann, Method.PUBLIC_JOIN, {1: "club"}) == {1: 0, 2: 0}
        for _ in range(2):
            listed = (await rig.request(owner, Method.JOIN_REQUEST_LIST, {1: cid}))[1]
            assert [entry[:3] for entry in listed] == [[ann, "Ann", "let me in"], [bob, "Bob", "let me in"]]
            assert await refused(rig, ann, Method.CONVERSATION_GET, {1: cid}) == ErrorCode.NOT_FOUND
            await rig.fold()
        assert await refused(rig, eve, Method.JOIN_REQUEST_LIST, {1: cid}) == ErrorCode.NOT_FOUND
        assert (await rig.request(owner, Method.JOIN_REQUEST_ANSWER, {1: cid, 2: ann, 3: True}))[1] > 0
        assert (await rig.request(owner, Method.JOIN_REQUEST_ANSWER, {1: cid, 2: bob, 3: False})) == {1: 0}
        for who in (bob, eve):
            params = {1: cid, 2: who, 3: True}
            assert await refused(rig, owner, Method.JOIN_REQUEST_ANSWER, params) == ErrorCode.NOT_FOUND
        assert await refused(rig, ann, Method.JOIN_REQUEST_LIST, {1: cid}) == ErrorCode.FORBIDDEN
        assert (await rig.request(owner, Method.JOIN_REQUEST_LIST, {1: cid}))[1] == []


async def test_a_guest_joins_as_one_and_becomes_a_member_by_the_upgrade(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        guest = await rig.user("", UserFlag.GUEST)
        token = (await rig.request(owner, Method.INVITE_CREATE, {1: cid}))[1]
        joined_at = (await rig.request(guest, Method.INVITE_JOIN, {1: token}))[2]
        assert (await rig.request(guest, Method.CONVERSATION_GET, {1: cid}))[6] == Role.GUEST
        await rig.fold()
        rig.forget(cid)
        params = {1: "gina", 3: "long enough"}
        await rig.request(guest, Method.ACCOUNT_UPGRADE, params)
        for _ in range(2):
            assert (await rig.request(guest, Method.CONVERSATION_GET, {1: cid}))[6] == Role.MEMBER
            assert await readable(rig, guest, cid) == [joined_at, joined_at + 1]
            assert (await rig.request(owner, Method.USER_RESOLVE, {1: ["gina"]}))[1][0][0] == guest
            await rig.fold()
        assert await refused(rig, guest, Method.ACCOUNT_UPGRADE, params) == ErrorCode.FORBIDDEN
        await rig.request(guest, Method.CONVERSATION_CREATE, {1: 2, 2: "my own"})


async def test_receipts_count_those_who_can_read_the_event(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        cid, owner = await owned(rig)
        ann, bob, cyd = [await rig.user(name) for name in ("ann", "bob", "cyd")]
        await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann]})
        old = await rig.say(cid, owner, "old")
        await rig.request(ann, Method.MEMBER_LEAVE, {1: cid})
        new = await rig.say(cid, owner, "new")
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 3: 3})
        await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [bob]})
        await rig.request(owner, Method.CONVERSATION_SET_RULES, {1: cid, 3: 0})
        await rig.request(owner, Method.MEMBER_ADD, {1: cid, 2: [ann, cyd]})

        async def readers(seq: int) -> list[int]:
            answer = await rig.request(owner, Method.RECEIPT_GET, {1: cid, 2: seq})
            assert answer[1] == len(answer[4])
            return [entry[0] for entry in answer[4]]

        for user in (ann, bob, cyd):
            known = set(await readable(rig, user, cid))
            assert (user in await readers(old), user in await readers(new)) == (old in known, new in known), user
        assert await readers(old) == [ann], "who was there then and has come back"
        assert await readers(new) == [bob], "who came later and was shown the last three"
        assert (await rig.request(ann, Method.RECEIPT_GET, {1: cid, 2: old}))[1] == 1
        assert await refused(rig, ann, Method.RECEIPT_GET, {1: cid, 2: new}) == ErrorCode.NOT_FOUND
