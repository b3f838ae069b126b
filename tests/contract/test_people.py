"""People in the contract: removal, ban, deletion, links that have ended, mutes, slow mode, blocks and own settings."""

import time
from typing import Any

import pytest
from support.live import HISTORY, Peer
from support.places import Place

from chatd.wire.schema import ConversationKind, ErrorCode, MemberState, Method, NoticeTopic, Op, Right, Role

HISTORY_ALL = 1 << 32


async def refused(who: Peer, method: Method, params: dict[int, Any]) -> int:
    """The code of the REPLY; 0: it was done."""
    return int((await who.request(method, params))["code"])


@pytest.mark.parametrize("how", ["kick", "ban", "delete"])
async def test_nothing_after_a_removal_reaches_the_removed_on_any_device(at: Place, how: str) -> None:
    """Although those who join later read everything, and the removed has a good link."""
    async with at.people("ann", "bob", "carl") as (ann, bob, carl), at.peer("bob", shard=2) as second:
        cid = await ann.group([bob.user, carl.user])
        await ann.call(Method.CONVERSATION_SET_RULES, {1: cid, 3: HISTORY_ALL})
        token = (await ann.call(Method.INVITE_CREATE, {1: cid}))[1]
        under_way = [await carl.post(cid, b"%d" % number) for number in range(30)]
        method, params = {
            "kick": (Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]}),
            "ban": (Method.MEMBER_BAN, {1: cid, 2: bob.user, 3: 0}),
            "delete": (Method.CONVERSATION_DELETE, {1: cid}),
        }[how]
        removed_at = (await ann.call(method, params))[1]
        for cseq in under_way:
            await carl.answer(cseq)
        if how != "delete":
            await ann.delivered(cid, await carl.say(cid, b"secret"))
        for device in (bob, second):
            await device.barrier()
            pushed = [frame["seq"] for frame in device.take(Op.DELIVER) if not frame.flags & HISTORY]
            assert pushed == list(range(1, removed_at + 1))
            assert [seq for seq, _ in await device.log(cid)] == pushed
            assert await device.log(cid, removed_at + 1) == []
            entry = await device.synced(cid)
            assert entry is not None
            assert (entry["state"], entry["head_seq"]) == (MemberState.LEFT, removed_at)
            assert b"secret" not in bytes(entry["last_preview"])
            assert (await device.send(cid))["code"] == ErrorCode.NOT_FOUND
            for asked in (Method.CONVERSATION_RULES, Method.MEMBER_LIST, Method.INVITE_LIST, Method.RESTRICTION_LIST):
                assert await refused(device, asked, {1: cid}) == ErrorCode.NOT_FOUND
        expected = {"kick": 0, "ban": ErrorCode.BANNED, "delete": ErrorCode.NOT_FOUND}[how]
        assert await refused(bob, Method.INVITE_JOIN, {1: token}) == expected


@pytest.mark.parametrize("how", ["expired", "revoked", "used up"])
async def test_a_link_that_has_ended_lets_nobody_in_and_shows_nothing(at: Place, how: str) -> None:
    async with at.people("ann", "bob", "eve") as (ann, bob, eve):
        cid = await ann.group(title="hidden")
        expires_s = int(time.time()) + 2 if how == "expired" else 0
        token, ident = (await ann.call(Method.INVITE_CREATE, {1: cid, 2: expires_s, 3: int(how == "used up")})).values()
        if how == "revoked":
            await ann.call(Method.INVITE_REVOKE, {1: cid, 2: ident})
        else:
            await bob.call(Method.INVITE_JOIN, {1: token})
        while time.time() < expires_s:
            await eve.barrier()
        code = {"expired": ErrorCode.EXPIRED, "revoked": ErrorCode.NOT_FOUND, "used up": ErrorCode.LIMIT_REACHED}[how]
        for method in (Method.INVITE_JOIN, Method.INVITE_LOOK):
            reply = await eve.request(method, {1: token})
            assert reply["code"] == code
            assert b"hidden" not in bytes(reply["result"])
        assert (await eve.send(cid))["code"] == ErrorCode.NOT_FOUND
        assert await eve.synced(cid) is None


async def test_a_mute_holds_from_its_event_on(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        under_way = [await bob.post(cid, b"%d" % number) for number in range(30)]
        until_s = int(time.time()) + 600
        muted_at = (await ann.call(Method.MEMBER_MUTE, {1: cid, 2: bob.user, 3: until_s}))[1]
        answers = [await bob.answer(cseq) for cseq in under_way]
        assert all(answer["seq"] < muted_at for answer in answers if answer.op == Op.SEND_ACK)
        assert {answer["code"] for answer in answers if answer.op == Op.SEND_NAK} <= {ErrorCode.MUTED}
        assert (await bob.send(cid))["code"] == ErrorCode.MUTED
        await ann.call(Method.MEMBER_MUTE, {1: cid, 2: bob.user, 3: 0})
        assert (await bob.send(cid)).op == Op.SEND_ACK


async def test_slow_mode_names_the_time_to_wait(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        await ann.call(Method.CONVERSATION_SET_RULES, {1: cid, 2: 60})
        assert (await bob.send(cid)).op == Op.SEND_ACK
        nak = await bob.send(cid)
        assert nak["code"] == ErrorCode.RATE_LIMITED
        assert 0 < nak["retry_after_ms"] <= 61_000
        assert [(await ann.send(cid)).op for _ in range(2)] == [Op.SEND_ACK] * 2


async def test_in_a_channel_readers_read(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl):
        params = {1: int(ConversationKind.CHANNEL), 2: "news", 3: [bob.user, carl.user]}
        cid = (await ann.call(Method.CONVERSATION_CREATE, params))[1]
        assert (await bob.send(cid))["code"] == ErrorCode.FORBIDDEN
        await ann.call(Method.MEMBER_SET_ROLE, {1: cid, 2: bob.user, 3: int(Role.MODERATOR)})
        last = (await bob.send(cid, b"headline"))["seq"]
        assert (await carl.delivered(cid, last))[-1]["payload"] == b"headline"
        assert not Right((await carl.call(Method.CONVERSATION_RULES, {1: cid}))[8]) & Right.WRITE


async def test_who_blocks_hears_nothing_directly_and_the_other_side_cannot_tell_why(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = (await bob.call(Method.DIRECT_OPEN, {1: ann.user}))[1]
        await bob.say(cid, b"hello")
        await ann.call(Method.BLOCK, {1: bob.user, 2: True})
        assert (await bob.send(cid))["code"] == ErrorCode.FORBIDDEN
        assert (await ann.send(cid)).op == Op.SEND_ACK
        await bob.barrier()
        assert not bob.take(Op.NOTICE)
        await ann.call(Method.BLOCK, {1: bob.user, 2: False})
        assert (await bob.send(cid)).op == Op.SEND_ACK


async def test_own_settings_reach_the_other_device_of_the_user_and_nobody_else(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob), at.peer("ann", shard=2) as second:
        cid = await ann.group([bob.user])
        seq = await bob.say(cid, b"embarrassing")
        await ann.call(Method.OWN_SET, {1: cid, 3: True})
        await ann.call(Method.OWN_HIDE, {1: cid, 3: [seq]})
        told = [await second.next(Op.NOTICE) for _ in range(2)]
        assert {frame["topic"] for frame in told} == {NoticeTopic.OWN_SETTING}
        (row,) = (await second.call(Method.OWN_LIST))[1]
        assert (row[0], row[2], row[4]) == (cid, 1, [seq])
        for device in (ann, second):
            assert seq not in [found for found, _ in await device.log(cid)]
        assert seq in [found for found, _ in await bob.log(cid)]
        for device in (ann, bob):
            await device.barrier()
            assert not device.take(Op.NOTICE)
