"""Contract, section 9 and beyond: who is there, who has read, and closing a session of one's own device."""

import trio
from support.live import Peer, content
from support.places import Place

from chatd.wire.frame import Frame
from chatd.wire.schema import Audience, Close, ErrorCode, Feature, Method, NoticeTopic, Op, PresenceState

TOLD_WITHIN_S = 15.0
OFFLINE, ONLINE, AWAY, INVISIBLE = PresenceState


async def follow(who: Peer, *users: int) -> list[list[int]]:
    """[user, state, last_seen_ms] of each."""
    answer = await who.call(Method.PRESENCE_FOLLOW, {1: list(users)})
    assert answer[2] > 60_000
    assert answer[3] == []
    listed: list[list[int]] = answer[1]
    return listed


async def told(who: Peer, user: int, state: PresenceState) -> int:
    """Waits until the notice of that state comes; returns last_seen_ms."""

    def fits(frame: Frame) -> bool:
        return frame["topic"] == NoticeTopic.PRESENCE and content(frame["content"])[1] == user

    while True:
        frame = await who.next(Op.NOTICE, fits, within_s=TOLD_WITHIN_S)
        notice = content(frame["content"])
        if notice[2] == state:
            seen_ms: int = notice[3]
            return seen_ms


async def test_who_follows_hears_of_coming_and_going(at: Place) -> None:
    async with at.people("ann") as (ann,):
        async with at.peer("bob", shard=1) as bob:
            user = bob.user
            assert await follow(ann, user) == [[user, ONLINE, 0]]
        seen_ms = await told(ann, user, OFFLINE)
        assert seen_ms > 0
        assert await follow(ann, user) == [[user, OFFLINE, seen_ms]]
        async with at.peer("bob", shard=2):
            await told(ann, user, ONLINE)


async def test_two_devices_are_one_presence(at: Place) -> None:
    async with at.people("ann", "bob", "bob") as (ann, phone, laptop):
        await follow(ann, phone.user)
        await phone.call(Method.PRESENCE_SET, {1: int(AWAY)})
        assert await follow(ann, phone.user) == [[phone.user, ONLINE, 0]], "the laptop is there"
        await laptop.call(Method.PRESENCE_SET, {1: int(AWAY)})
        await told(ann, phone.user, AWAY)
        await phone.call(Method.PRESENCE_SET, {1: int(INVISIBLE)})
        await laptop.call(Method.PRESENCE_SET, {1: int(INVISIBLE)})
        await told(ann, phone.user, OFFLINE)
        await laptop.call(Method.PRESENCE_SET, {1: int(ONLINE)})
        await told(ann, phone.user, ONLINE)


async def test_nobody_may_see_who_says_so(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        await follow(ann, bob.user)
        assert (await bob.call(Method.PRESENCE_AUDIENCE, {}))[1] == Audience.EVERYONE
        await bob.call(Method.PRESENCE_AUDIENCE, {1: int(Audience.NOBODY)})
        assert await told(ann, bob.user, OFFLINE) == 0
        assert await follow(ann, bob.user) == [[bob.user, OFFLINE, 0]]
        assert await follow(bob, bob.user) == [[bob.user, ONLINE, 0]], "oneself one always sees"
        await bob.call(Method.PRESENCE_AUDIENCE, {1: int(Audience.EVERYONE)})
        assert await follow(ann, bob.user) == [[bob.user, ONLINE, 0]]


async def test_contacts_see_what_others_do_not_and_who_is_blocked_sees_nothing(at: Place) -> None:
    async with at.people("ann", "bob", "eve") as (ann, bob, eve):
        await ann.call(Method.CONTACT_REQUEST, {1: bob.user})
        await bob.call(Method.CONTACT_ANSWER, {1: ann.user, 2: True})
        for who in (ann, eve):
            await follow(who, bob.user)
        await bob.call(Method.PRESENCE_AUDIENCE, {1: int(Audience.CONTACTS)})
        await told(eve, bob.user, OFFLINE)
        assert await follow(eve, bob.user) == [[bob.user, OFFLINE, 0]]
        assert await follow(ann, bob.user) == [[bob.user, ONLINE, 0]]
        await bob.call(Method.PRESENCE_SET, {1: int(AWAY)})
        await told(ann, bob.user, AWAY)
        await bob.call(Method.BLOCK, {1: ann.user, 2: True})
        await told(ann, bob.user, OFFLINE)
        assert await follow(ann, bob.user) == [[bob.user, OFFLINE, 0]]


async def test_who_left_invisibly_was_not_seen(at: Place) -> None:
    async with at.people("ann") as (ann,):
        async with at.peer("bob", shard=1) as bob:
            user = bob.user
            await bob.call(Method.PRESENCE_SET, {1: int(INVISIBLE)})
            assert await follow(ann, user) == [[user, OFFLINE, 0]]
        await trio.sleep(1.5)
        assert await follow(ann, user) == [[user, OFFLINE, 0]]


async def test_who_has_unfollowed_hears_nothing_more(at: Place) -> None:
    async with at.people("ann", "bob", "eve") as (ann, bob, eve):
        for who in (ann, eve):
            await follow(who, bob.user)
        await ann.call(Method.PRESENCE_UNFOLLOW, {1: [bob.user]})
        await bob.call(Method.PRESENCE_SET, {1: int(AWAY)})
        await told(eve, bob.user, AWAY)
        await ann.barrier()
        assert ann.take(Op.NOTICE) == []


async def test_too_many_are_refused_and_strangers_do_not_exist(at: Place) -> None:
    async with at.people("ann") as (ann,):
        refused = await ann.request(Method.PRESENCE_FOLLOW, {1: list(range(1, 202))})
        assert refused["code"] == ErrorCode.BAD_REQUEST
        refused = await ann.request(Method.PRESENCE_FOLLOW, {1: [1 << 40]})
        assert refused["code"] == ErrorCode.NOT_FOUND
        refused = await ann.request(Method.PRESENCE_SET, {1: 0})
        assert refused["code"] == ErrorCode.BAD_REQUEST


async def test_a_lite_session_is_seen_and_gets_no_notices(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        async with at.peer("eve", shard=1, features=Feature.LITE) as small:
            assert await follow(ann, small.user) == [[small.user, ONLINE, 0]]
            await follow(ann, bob.user)
        await told(ann, small.user, OFFLINE)


# ---- who has read
async def test_an_event_tells_who_received_and_read_it(at: Place) -> None:
    async with at.people("ann", "bob", "eve", "fay") as (ann, bob, eve, fay):
        cid = await ann.group([bob.user, eve.user])
        seq = await ann.say(cid)
        await bob.delivered(cid, seq)
        await bob.put(Op.READ, cid=cid, seq=seq)
        await ann.call(Method.MEMBER_ADD, {1: cid, 2: [fay.user]})
        with trio.fail_after(TOLD_WITHIN_S):
            while True:
                answer = await ann.call(Method.RECEIPT_GET, {1: cid, 2: seq})
                if answer[3]:
                    break
                await trio.sleep(0.05)
        assert (answer[1], answer[3]) == (2, 1), "fay came later and could not read it"
        assert [bob.user, True, True] in answer[4]
        assert [entry[0] for entry in answer[4]] == sorted((bob.user, eve.user))
        refused = await fay.request(Method.RECEIPT_GET, {1: cid, 2: seq})
        assert refused["code"] == ErrorCode.NOT_FOUND


# ---- one's own devices
async def test_a_device_is_kicked_and_may_come_again(at: Place) -> None:
    async with at.people("ann", "ann", "bob") as (phone, laptop, bob):
        refused = await bob.request(Method.DEVICE_KICK, {1: laptop.device})
        assert refused["code"] == ErrorCode.NOT_FOUND
        assert (await phone.call(Method.DEVICE_KICK, {1: laptop.device}))[1] is True
        assert await laptop.end() == Close.KICKED
        async with at.peer("ann", shard=1, device=laptop.device) as again:
            assert again.device == laptop.device
