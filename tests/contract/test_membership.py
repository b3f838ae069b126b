"""Contract, section 10, and what outsiders can learn: nothing."""

import pytest
import trio
from support.live import HISTORY, Peer
from support.places import Place

from chatd.wire.schema import ErrorCode, Kind, MemberState, Method, Op


@pytest.mark.parametrize("leaves", [False, True])
async def test_the_removal_is_the_last_thing_a_removed_member_gets(at: Place, leaves: bool) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl), at.peer("bob", shard=2) as second:
        cid = await ann.group([bob.user, carl.user])
        under_way = [await carl.post(cid, b"%d" % number) for number in range(30)]
        if leaves:
            removed_at = (await bob.call(Method.MEMBER_LEAVE, {1: cid}))[1]
        else:
            removed_at = (await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]}))[1]
        for cseq in under_way:
            await carl.answer(cseq)
        for _ in range(10):
            last = await carl.say(cid, b"secret")
        assert last > removed_at
        await ann.delivered(cid, last)
        for device in (bob, second):
            await device.barrier()
            pushed = [frame["seq"] for frame in device.take(Op.DELIVER) if not frame.flags & HISTORY]
            assert pushed == list(range(1, removed_at + 1))
            log = await device.log(cid)
            assert [seq for seq, _ in log] == list(range(1, removed_at + 1))
            assert await device.log(cid, removed_at + 1) == []
            entry = await device.synced(cid)
            assert entry is not None
            assert (entry["state"], entry["head_seq"]) == (MemberState.LEFT, removed_at)
            assert b"secret" not in bytes(entry["last_preview"])
            nak = await device.send(cid)
            assert (nak.op, nak["code"]) == (Op.SEND_NAK, ErrorCode.NOT_FOUND)


async def test_joining_again_opens_a_new_interval(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        await ann.say(cid, b"before")
        removed_at = (await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]}))[1]
        hidden = [await ann.say(cid, b"hidden") for _ in range(3)]
        joined_at = (await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]}))[1]
        after = await ann.say(cid, b"after")
        visible = [*range(1, removed_at + 1), *range(joined_at, after + 1)]
        log = await bob.log(cid)
        assert not {seq for seq, _ in log} & set(hidden)
        assert [seq for seq, _ in log if seq >= joined_at] == visible[removed_at:]
        pushed = [frame["seq"] for frame in await bob.delivered(cid, after)]
        assert pushed == visible
        assert (await bob.send(cid))["seq"] == after + 1


async def test_a_new_member_does_not_see_what_was_before(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group()
        await ann.say(cid, b"before bob")
        joined_at = (await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]}))[1]
        assert (await bob.delivered(cid, joined_at))[0]["kind"] == Kind.MEMBERS_ADDED
        events, end = await bob.pull(cid, 1)
        assert [seq for seq, _ in events] == [joined_at]
        assert end["floor_seq"] == joined_at
        entry = await bob.synced(cid)
        assert entry is not None
        assert entry["floor_seq"] == joined_at


async def test_absent_and_foreign_conversations_look_the_same(at: Place) -> None:
    async with at.people("ann", "eve") as (ann, eve):
        foreign = await ann.group()
        await ann.say(foreign, b"private")
        for cid in (foreign, foreign + 1_000_000):
            assert (await eve.send(cid))["code"] == ErrorCode.NOT_FOUND
        assert await all_refusals(eve, foreign) == await all_refusals(eve, foreign + 1_000_000)


async def all_refusals(who: Peer, cid: int) -> list[tuple[object, ...]]:
    return [
        await refused(who, Op.PULL, cid, from_seq=0, to_seq=0, limit=0),
        await refused(who, Op.SUBSCRIBE, cid, topics=1),
        await refused(who, Op.EPHEMERAL, cid, sender=0, kind=3, payload=b"x"),
        *[await refused_call(who, method, cid, *others) for method, *others in ON_CONVERSATIONS],
    ]


ON_CONVERSATIONS = [
    (Method.CONVERSATION_GET,),
    (Method.CONVERSATION_SET_TITLE, "mine"),
    (Method.MEMBER_LIST, 0, 10),
    (Method.MEMBER_ADD, [1]),
    (Method.MEMBER_REMOVE, [1]),
    (Method.MEMBER_LEAVE,),
    (Method.MEMBER_SET_ROLE, 1, 1),
]


async def refused(who: Peer, op: Op, cid: int, **fields: object) -> tuple[object, ...]:
    await who.put(op, cid=cid, **fields)
    error = await who.next(Op.ERROR)
    assert error["ref"] == cid
    return error["code"], error["op"], error.flags, error["retry_after_ms"], error["text"]


async def refused_call(who: Peer, method: Method, cid: int, *others: object) -> tuple[object, ...]:
    reply = await who.request(method, {1: cid} | dict(enumerate(others, 2)))
    assert (reply.op, reply["code"]) == (Op.REPLY, ErrorCode.NOT_FOUND), method
    return reply.flags, reply["retry_after_ms"], reply["result"]


async def test_a_subscription_ends_with_the_membership(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for each in (ann, bob):
            await each.put(Op.SUBSCRIBE, cid=cid, topics=1)
            assert (await each.next(Op.SUBSCRIBE))["topics"] == 1
        await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]})
        assert (await bob.next(Op.UNSUBSCRIBE))["cid"] == cid
        await ann.put(Op.EPHEMERAL, cid=cid, sender=0, kind=3, payload=b"not for bob")
        await trio.sleep(0.1)
        await bob.barrier()
        assert not bob.take(Op.EPHEMERAL)
