"""Contract, sections 8 and 9, and what ends a session: several devices, receipts, typing, takeover, revocation."""

from contextlib import AbstractAsyncContextManager

import pytest
import trio
from support.live import HISTORY, Closed, Peer, peer
from support.places import Place

from chatd.wire.frame import Frame
from chatd.wire.schema import Close, Credential, EphemeralKind, ErrorCode, Method, Op, Topic

RECEIPT_WITHIN_S = 2.0
REVOKED_WITHIN_S = 5.0


# ---- 8 Several devices
async def test_the_senders_other_devices_get_it_and_the_sending_one_does_not(at: Place) -> None:
    async with at.people("ann", "ann") as (phone, laptop):
        cid = await phone.group()
        seq = await phone.say(cid, b"from the phone")
        assert (await laptop.delivered(cid, seq))[-1]["sender"] == phone.user
        await phone.barrier()
        assert seq not in [frame["seq"] for frame in phone.take(Op.DELIVER)]


async def test_a_newer_connection_takes_over_and_the_older_one_can_do_nothing_more(at: Place) -> None:
    async with at.people("ann", "bob") as (old, bob):
        cid = await old.group([bob.user])
        await bob.put(Op.SUBSCRIBE, cid=cid, topics=2)
        await bob.next(Op.SUBSCRIBE)
        seq = await bob.say(cid)
        async with at.peer("ann", shard=1, device=old.device) as new:
            try:
                await old.post(cid, b"too late")
                await old.put(Op.READ, cid=cid, seq=seq)
                assert await old.end() == Close.TAKEN_OVER
                while True:
                    await old.read()
            except (Closed, trio.BrokenResourceError):
                pass
            assert not old.take(Op.SEND_ACK)
            assert [payload for _, payload in await new.log(cid)][-1] != b"too late"
            assert (await new.send(cid, b"mine"))["seq"] == seq + 1


async def test_the_read_position_is_the_highest_of_all_devices(at: Place) -> None:
    async with at.people("ann", "bob", "bob") as (ann, phone, laptop):
        cid = await ann.group([phone.user])
        for _ in range(5):
            last = await ann.say(cid)
        await phone.put(Op.READ, cid=cid, seq=last - 1)
        await laptop.put(Op.READ, cid=cid, seq=last - 3)
        with trio.fail_after(RECEIPT_WITHIN_S):
            while True:
                entry = await laptop.synced(cid)
                assert entry is not None
                if entry["read_seq"] == last - 1:
                    break
                await trio.sleep(0.02)
        await laptop.put(Op.READ, cid=cid, seq=last - 2)
        await trio.sleep(0.2)
        entry = await phone.synced(cid)
        assert entry is not None
        assert entry["read_seq"] == last - 1


# ---- 9 Receipts
async def subscribed(who: Peer, cid: int, topics: Topic) -> None:
    await who.put(Op.SUBSCRIBE, cid=cid, topics=int(topics))
    assert (await who.next(Op.SUBSCRIBE))["topics"] == topics


async def test_the_sender_sees_receipts_soon_and_they_only_rise(at: Place) -> None:
    async with at.people("ann", "bob", "bob") as (ann, phone, laptop):
        cid = await ann.group([phone.user])
        await subscribed(ann, cid, Topic.RECEIPTS)
        last, seen = 0, [(0, 0)]

        def fits(frame: Frame) -> bool:
            return bool(frame["cid"] == cid)

        for reader in (phone, laptop, phone):
            last = await ann.say(cid)
            await reader.delivered(cid, last)
            await reader.put(Op.READ, cid=cid, seq=last)
            with trio.fail_after(RECEIPT_WITHIN_S):
                while seen[-1] != (last, last):
                    entries = (await ann.next(Op.RECEIPT, where=fits))["entries"]
                    seen += [(e["delivered_seq"], e["read_seq"]) for e in entries if e["user"] == phone.user]
        assert seen == sorted(seen)
        assert all(read <= delivered <= last for delivered, read in seen)


async def test_reading_beyond_what_was_delivered_or_exists_is_no_receipt(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        await subscribed(ann, cid, Topic.RECEIPTS)
        last = await ann.say(cid)
        await bob.put(Op.READ, cid=cid, seq=last + 1000)
        await bob.put(Op.READ, cid=cid, seq=last)
        with trio.move_on_after(1.5):
            while True:
                for entry in (await ann.next(Op.RECEIPT))["entries"]:
                    assert entry["read_seq"] <= entry["delivered_seq"] <= last
                    if entry["user"] == bob.user and entry["read_seq"] == last:
                        return
        raise AssertionError("no receipt")


async def test_delivered_says_what_the_device_acknowledged(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        await subscribed(ann, cid, Topic.RECEIPTS)
        bob.acknowledges = False
        last = await ann.say(cid)
        await bob.delivered(cid, last)
        await ann.barrier()
        assert not any(entry["user"] == bob.user and entry["delivered_seq"] >= last
                       for frame in ann.take(Op.RECEIPT) for entry in frame["entries"])  # fmt: skip
        await bob.put(Op.ACK, count=bob.received)
        receipt = await ann.next(
            Op.RECEIPT,
            where=lambda frame: any(e["user"] == bob.user and e["delivered_seq"] == last for e in frame["entries"]),
            within_s=RECEIPT_WITHIN_S,
        )
        assert all(entry["read_seq"] < last for entry in receipt["entries"] if entry["user"] == bob.user)


# ---- ephemeral
async def test_typing_goes_to_subscribers_only(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl):
        cid = await ann.group([bob.user, carl.user])
        await subscribed(ann, cid, Topic.EPHEMERAL)
        await subscribed(bob, cid, Topic.EPHEMERAL)
        await trio.sleep(0.1)  # other shards hear of a subscription a moment later
        await ann.put(Op.EPHEMERAL, cid=cid, sender=0, kind=int(EphemeralKind.TYPING), payload=b"\x01")
        typing = await bob.next(Op.EPHEMERAL)
        assert (typing["cid"], typing["sender"], typing["payload"]) == (cid, ann.user, b"\x01")
        head = await ann.say(cid)
        await carl.delivered(cid, head)
        assert not carl.take(Op.EPHEMERAL)
        assert not ann.take(Op.EPHEMERAL)
        assert [seq for seq, _ in await ann.log(cid)] == [1, 2, 3], "ephemeral frames are no events"


# ---- the end of a session
async def test_a_revoked_device_is_out_and_stays_out(at: Place) -> None:
    async with at.people("ann", "ann") as (phone, thief):
        await phone.call(Method.DEVICE_REVOKE, {1: thief.device})
        assert await thief.end(REVOKED_WITHIN_S) == Close.REVOKED
        back = await Peer.connect(at.server, at.name("ann"))
        async with back.stream:
            await back.hello()
            assert (await back.resume(thief.welcome["ticket"], 0, b""))["code"] == ErrorCode.REVOKED
            proof = at.server.token(at.name("ann")).encode()
            assert (await back.auth(Credential.JWT, proof, device=thief.device)).op == Op.ERROR
        await phone.barrier()


async def test_a_revoked_user_is_out_on_all_devices(at: Place) -> None:
    async with at.people("ann", "ann") as (phone, laptop), administrator(at) as boss:
        await boss.call(Method.ADMIN_USER_REVOKE, {1: phone.user})
        for device in (phone, laptop):
            assert await device.end(REVOKED_WITHIN_S) == Close.REVOKED
        back = await Peer.connect(at.server, at.name("ann"))
        async with back.stream:
            await back.hello()
            assert (await back.resume(phone.welcome["ticket"], 0, b""))["code"] == ErrorCode.REVOKED


async def test_a_revoked_api_key_ends_its_sessions(at: Place) -> None:
    async with at.peer("robot") as robot, administrator(at) as boss:
        key, number = (await boss.call(Method.ADMIN_API_KEY_CREATE, {1: robot.user, 2: "k", 3: False})).values()
        session = await Peer.connect(at.server)
        async with session.stream:
            await session.hello()
            assert (await session.auth(Credential.API_KEY, key.encode()))["user"] == robot.user
            await boss.call(Method.ADMIN_API_KEY_REVOKE, {1: number})
            assert await session.end(REVOKED_WITHIN_S) == Close.REVOKED
        again = await Peer.connect(at.server)
        async with again.stream:
            await again.hello()
            assert (await again.auth(Credential.API_KEY, key.encode()))["code"] in {
                ErrorCode.AUTH_FAILED, ErrorCode.REVOKED,
            }  # fmt: skip
        assert await robot.end() == Close.REVOKED, "nobody knows who else had the key: all sessions of its user end"


def administrator(at: Place) -> AbstractAsyncContextManager[Peer]:
    return peer(at.server, "admin")


@pytest.mark.parametrize(("epoch_offset", "cursor_bytes", "continuity"), [(0, 24, 1), (1, 24, 0), (0, 5, 0), (0, 0, 0)])
async def test_a_ticket_resumes_without_credential_and_says_whether_positions_hold(
    at: Place, epoch_offset: int, cursor_bytes: int, continuity: int
) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        await bob.delivered(cid, 2)
        cursor, welcome = (await bob.sync())["cursor"], bob.welcome
        await bob.stream.aclose()
        seq = await ann.say(cid, b"missed")
        back = await Peer.connect(at.server)
        async with back.stream:
            await back.hello()
            known = cursor[:cursor_bytes]
            resumed = await back.resume(welcome["ticket"], welcome["log_epoch"] + epoch_offset, known)
            assert (resumed.op, resumed["continuity"]) == (Op.RESUMED, continuity)
            assert (back.user, back.device) == (welcome["user"], welcome["device"])
            if continuity:
                (entry,) = (await back.sync(cursor))["entries"]
                assert (entry["cid"], entry["head_seq"]) == (cid, seq)
            assert await back.log(cid, seq) == [(seq, b"missed")]


async def test_guests_are_users_who_can_be_written_to(at: Place) -> None:
    guest = await Peer.connect(at.server)
    async with guest.stream, at.peer("ann") as ann:
        await guest.hello()
        assert (await guest.auth(Credential.GUEST, identity="Passer-by")).op == Op.WELCOME
        cid = (await ann.call(Method.DIRECT_OPEN, {1: guest.user}))[1]
        seq = await ann.say(cid, b"hello")
        assert (await guest.delivered(cid, seq))[-1]["payload"] == b"hello"
        assert (await guest.send(cid, b"hi")).op == Op.SEND_ACK
        assert all(not frame.flags & HISTORY for frame in guest.take(Op.DELIVER))
