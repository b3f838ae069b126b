"""Messages after they were sent: replies, forwards, mentions, edits, recalls, reactions, pins, expiry."""

import time
from typing import Any

import pytest
import trio
from support.live import DUP, Peer
from support.places import Place

from chatd.client import Folded
from chatd.wire import varint
from chatd.wire.frame import Frame
from chatd.wire.layout import decode_fields, encode_fields
from chatd.wire.payload import encode_payload
from chatd.wire.schema import (
    EXTENSION_SEND_EXPIRES,
    EXTENSION_SEND_FORWARDED,
    EXTENSION_SEND_MENTIONS,
    EXTENSION_SEND_REPLY_TO,
    EXTENSION_SEND_STREAM,
    EXTENSIONS,
    FLAG_DELIVER_TOMBSTONE,
    ErrorCode,
    Kind,
    Method,
    NoticeTopic,
    Op,
    Role,
)

FOLDED_S = 0.4
"""Long enough for a fold."""


def extension(tag: int, **fields: Any) -> tuple[int, bytes]:
    return tag, encode_fields(EXTENSIONS[Op.SEND, tag].fields, fields)


def reply_to(seq: int) -> tuple[int, bytes]:
    return extension(EXTENSION_SEND_REPLY_TO, seq=seq)


def mention(*users: int, everyone: bool = False) -> tuple[int, bytes]:
    return extension(EXTENSION_SEND_MENTIONS, flags=int(everyone), users=[{"user": user} for user in sorted(users)])


def forwarded(cid: int, seq: int) -> tuple[int, bytes]:
    return extension(EXTENSION_SEND_FORWARDED, cid=cid, seq=seq, sender=0, time=0)


def expires(seconds: int) -> tuple[int, bytes]:
    return extension(EXTENSION_SEND_EXPIRES, seconds=seconds)


async def stored(who: Peer, cid: int, seq: int) -> Frame:
    """The event as PULL gives it."""
    (frame,), _ = await who.pull_frames(cid, seq, seq)
    return frame


async def preview(who: Peer, cid: int) -> bytes:
    entry = await who.synced(cid)
    assert entry is not None
    return bytes(entry["last_preview"])


def refused(answer: Frame, code: ErrorCode) -> None:
    assert (answer.op, answer.fields.get("code")) == (Op.SEND_NAK, code), answer
    assert answer["text"], "a refusal says why"


# ---- extensions
async def test_extensions_come_with_the_event_wherever_it_comes_from(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        first = await ann.say(cid, b"well?")
        ack = await bob.send(cid, b"well", extensions=(reply_to(first), (126, b"mine")))
        pushed = (await ann.delivered(cid, ack["seq"]))[-1]
        assert (pushed["payload"], pushed.extensions) == (b"well", (reply_to(first), (126, b"mine")))
        assert (await stored(ann, cid, ack["seq"])).extensions == pushed.extensions
        await trio.sleep(FOLDED_S)
        assert (await stored(bob, cid, ack["seq"])).extensions == pushed.extensions
        assert await preview(ann, cid) == b"well"
        again = await bob.send(cid, b"well", ack["cseq"], extensions=(reply_to(first), (126, b"mine")))
        assert again.flags & DUP


async def test_a_reply_is_to_something_that_can_be_read(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group()
        old = await ann.say(cid)
        await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]})
        for seq in (old, 99):
            nak = await bob.send(cid, extensions=(reply_to(seq),))
            assert (nak.op, nak["code"]) == (Op.SEND_NAK, ErrorCode.NOT_FOUND)


async def test_a_forward_names_who_said_it_and_hides_where(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl):
        origin, cid = await ann.group([bob.user]), await bob.group([carl.user])
        said = await ann.send(origin, b"remember")
        ack = await bob.send(cid, b"remember", extensions=(forwarded(origin, said["seq"]),))
        pushed = (await carl.delivered(cid, ack["seq"]))[-1]
        fields = decode_fields(EXTENSIONS[Op.DELIVER, EXTENSION_SEND_FORWARDED], dict(pushed.extensions)[4])
        assert fields == {"cid": 0, "seq": 0, "sender": ann.user, "time": said["time"]}
        inside = await bob.send(origin, b"remember", extensions=(forwarded(origin, said["seq"]),))
        again = (await ann.delivered(origin, inside["seq"]))[-1]
        assert dict(again.extensions)[4].startswith(varint.encode(origin) + varint.encode(said["seq"]))
        refused(await bob.send(cid, b"invented", extensions=(forwarded(origin, said["seq"]),)), ErrorCode.BAD_REQUEST)
        refused(await carl.send(cid, b"remember", extensions=(forwarded(origin, 3),)), ErrorCode.NOT_FOUND)
        refused(await bob.send(cid, extensions=((EXTENSION_SEND_STREAM, b"\x01"),)), ErrorCode.BAD_REQUEST)


async def test_mentions_are_counted_until_they_are_read_on_any_device(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl), at.peer("bob", shard=2) as second:
        cid = await ann.group([bob.user, carl.user])
        first = (await ann.send(cid, b"@bob", extensions=(mention(bob.user),)))["seq"]
        await ann.send(cid, b"@all", extensions=(mention(everyone=True),))
        assert await mentions(bob, cid) == await mentions(second, cid) == (2, first)
        assert await mentions(carl, cid) == (1, first + 1)
        assert await mentions(ann, cid) == (0, 0)
        await trio.sleep(FOLDED_S)
        recalled = await ann.act(cid, Kind.RECALL, target=first)
        assert recalled.op == Op.SEND_ACK
        assert await mentions(bob, cid) == (1, first + 1)
        await second.put(Op.READ, cid=cid, seq=first + 1)
        with trio.fail_after(3):
            while await mentions(bob, cid) != (0, 0):  # noqa: ASYNC110 the count is only to be had by asking
                await trio.sleep(0.2)
        refused(await carl.send(cid, extensions=(mention(everyone=True),)), ErrorCode.FORBIDDEN)
        refused(await carl.send(cid, extensions=(mention(99_999_999),)), ErrorCode.NOT_FOUND)


async def mentions(who: Peer, cid: int) -> tuple[int, int]:
    found = (await who.call(Method.MENTIONS_UNREAD, {1: [cid]}))[1]
    return (found[0][1], found[0][2]) if found else (0, 0)


# ---- edits
async def test_an_edit_is_an_event_and_the_original_stays(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seq = await ann.say(cid, b"helo")
        edit = await ann.act(cid, Kind.EDIT, target=seq, content=b"hello")
        pushed = (await bob.delivered(cid, edit["seq"]))[-1]
        assert (pushed["kind"], pushed["payload"]) == (Kind.EDIT, varint.encode(seq) + b"hello")
        assert (await stored(bob, cid, seq))["payload"] == b"helo"
        states = (await bob.call(Method.MESSAGE_STATES, {1: cid, 2: [seq]}))[1]
        assert states == [[seq, edit["seq"], [], False]]
        refused(await bob.act(cid, Kind.EDIT, target=seq, content=b"mine"), ErrorCode.FORBIDDEN)
        refused(await ann.act(cid, Kind.EDIT, target=seq, content=b"\xff"), ErrorCode.BAD_REQUEST)
        refused(await ann.act(cid, Kind.EDIT, target=seq, content=bytes(8193)), ErrorCode.TOO_LARGE)
        refused(await ann.act(cid, Kind.EDIT, target=edit["seq"], content=b"x"), ErrorCode.BAD_REQUEST)
        refused(await ann.act(cid, Kind.EDIT, target=99, content=b"x"), ErrorCode.NOT_FOUND)
        entry = await bob.synced(cid)
        assert entry is not None
        assert entry["message_count"] - entry["read_count"] == 1, "an edit is no new message"


# ---- recalls
async def test_a_recalled_message_is_gone_from_every_read_with_its_edits(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seq = await ann.say(cid, b"secret")
        edit = (await ann.act(cid, Kind.EDIT, target=seq, content=b"secret 2"))["seq"]
        recall = await ann.act(cid, Kind.RECALL, target=seq)
        pushed = (await bob.delivered(cid, recall["seq"]))[-1]
        assert (pushed["kind"], pushed["payload"]) == (Kind.RECALL, varint.encode(seq))
        for _ in range(2):
            for gone in (seq, edit):
                frame = await stored(bob, cid, gone)
                assert frame.flags & FLAG_DELIVER_TOMBSTONE
                assert frame["payload"] == b""
            await trio.sleep(FOLDED_S)
        assert [number for number, _ in await bob.log(cid)] == list(range(1, recall["seq"] + 1)), "no seq is missing"
        refused(await ann.act(cid, Kind.RECALL, target=seq), ErrorCode.NOT_FOUND)
        refused(await ann.act(cid, Kind.EDIT, target=seq, content=b"x"), ErrorCode.NOT_FOUND)
        refused(await bob.send(cid, b"secret", extensions=(forwarded(cid, seq),)), ErrorCode.NOT_FOUND)


async def test_a_folded_message_is_gone_from_the_ack_on(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seq = await ann.say(cid, b"secret")
        await trio.sleep(FOLDED_S)
        await ann.act(cid, Kind.RECALL, target=seq)
        assert (await stored(bob, cid, seq)).flags & FLAG_DELIVER_TOMBSTONE
        for _ in range(3):
            assert (await stored(bob, cid, seq))["payload"] == b""
            await trio.sleep(FOLDED_S / 2)


async def test_others_recall_nothing_but_moderators_do(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl):
        cid = await ann.group([bob.user, carl.user])
        mine, his = await ann.say(cid), await bob.say(cid, b"rude")
        refused(await carl.act(cid, Kind.RECALL, target=his), ErrorCode.FORBIDDEN)
        refused(await bob.act(cid, Kind.RECALL, target=mine), ErrorCode.FORBIDDEN)
        await ann.call(Method.MEMBER_SET_ROLE, {1: cid, 2: carl.user, 3: int(Role.ADMIN)})
        assert (await carl.act(cid, Kind.RECALL, target=his)).op == Op.SEND_ACK
        assert (await stored(ann, cid, his))["payload"] == b""


# ---- reactions and pins
async def test_reactions_are_counted_and_taken_back(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seq = await ann.say(cid)
        for who in (ann, bob):
            assert (await who.act(cid, Kind.REACTION, target=seq, added=1, emoji="👍")).op == Op.SEND_ACK
        await bob.act(cid, Kind.REACTION, target=seq, added=1, emoji="❤️")
        assert await reactions(bob, cid, seq) == [["❤️", 1, True], ["👍", 2, True]]
        refused(await bob.act(cid, Kind.REACTION, target=seq, added=1, emoji="👍"), ErrorCode.BAD_REQUEST)
        await trio.sleep(FOLDED_S)
        await ann.act(cid, Kind.REACTION, target=seq, added=0, emoji="👍")
        assert await reactions(ann, cid, seq) == [["❤️", 1, False], ["👍", 1, False]]
        refused(await ann.act(cid, Kind.REACTION, target=seq, added=0, emoji="👍"), ErrorCode.NOT_FOUND)
        refused(await ann.act(cid, Kind.REACTION, target=seq, added=1, emoji=" "), ErrorCode.BAD_REQUEST)


async def test_reactions_of_one_user_are_bounded(at: Place) -> None:
    async with at.peer("ann") as ann:
        cid = await ann.group()
        seq = await ann.say(cid)
        for number in range(8):
            assert (await ann.act(cid, Kind.REACTION, target=seq, added=1, emoji=f"{number}")).op == Op.SEND_ACK
        refused(await ann.act(cid, Kind.REACTION, target=seq, added=1, emoji="x"), ErrorCode.LIMIT_REACHED)


async def reactions(who: Peer, cid: int, seq: int) -> list[Any]:
    ((_, _, found, _),) = (await who.call(Method.MESSAGE_STATES, {1: cid, 2: [seq]}))[1]
    return list(found)


async def test_pins_are_for_admins_and_listed(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        one, two = await ann.say(cid, b"1"), await bob.say(cid, b"2")
        refused(await bob.act(cid, Kind.PIN, target=one, pinned=1), ErrorCode.FORBIDDEN)
        seqs = [(await ann.act(cid, Kind.PIN, target=seq, pinned=1))["seq"] for seq in (one, two)]
        assert (await bob.call(Method.PIN_LIST, {1: cid}))[1] == [[two, ann.user, seqs[1]], [one, ann.user, seqs[0]]]
        refused(await ann.act(cid, Kind.PIN, target=one, pinned=1), ErrorCode.BAD_REQUEST)
        await trio.sleep(FOLDED_S)
        await ann.act(cid, Kind.PIN, target=two, pinned=0)
        await ann.act(cid, Kind.RECALL, target=one)
        assert (await bob.call(Method.PIN_LIST, {1: cid}))[1] == []
        direct = (await ann.call(Method.DIRECT_OPEN, {1: bob.user}))[1]
        seq = await ann.say(direct)
        assert (await bob.act(direct, Kind.PIN, target=seq, pinned=1)).op == Op.SEND_ACK


# ---- time
async def test_a_message_expires_by_itself_and_leaves_its_place(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        ack = await ann.send(cid, b"soon gone", extensions=(expires(1),))
        assert (await bob.delivered(cid, ack["seq"]))[-1].extensions == (expires(1),)
        with trio.fail_after(10):
            while not (await stored(bob, cid, ack["seq"])).flags & FLAG_DELIVER_TOMBSTONE:  # noqa: ASYNC110
                await trio.sleep(0.3)  # well below the rate of PULLs
        frame = await stored(bob, cid, ack["seq"])
        assert (frame["payload"], frame.extensions) == (b"", ())
        assert await preview(bob, cid) == b""
        refused(await ann.send(cid, extensions=(expires(0),)), ErrorCode.BAD_REQUEST)


async def test_a_scheduled_message_is_sent_once_when_it_is_due(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seq = await ann.say(cid)
        soon, later = [wall_ms() + ms for ms in (700, 3_600_000)]
        params = {1: cid, 2: int(Kind.TEXT), 3: b"good morning", 4: soon}
        block = b"\x02\x01" + varint.encode(seq)
        number = (await ann.call(Method.MESSAGE_SCHEDULE, params | {5: block}))[1]
        other = (await ann.call(Method.MESSAGE_SCHEDULE, params | {4: later}))[1]
        listed = (await ann.call(Method.SCHEDULED_LIST))[1]
        assert listed == [[number, cid, soon, 1, b"good morning"], [other, cid, later, 1, b"good morning"]]
        pushed = (await bob.delivered(cid, seq + 1))[-1]
        assert (pushed["payload"], pushed["sender"], pushed.extensions) == (b"good morning", ann.user, (reply_to(seq),))
        assert (await ann.delivered(cid, seq + 1))[-1]["payload"] == b"good morning", "its author gets it, too"
        await ann.call(Method.SCHEDULED_CANCEL, {1: other})
        assert (await ann.call(Method.SCHEDULED_LIST))[1] == []
        reply = await ann.request(Method.SCHEDULED_CANCEL, {1: number})
        assert reply["code"] == ErrorCode.NOT_FOUND
        assert len(await bob.log(cid)) == seq + 1


async def test_a_scheduled_message_that_is_not_allowed_any_more_is_reported(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        params = {1: cid, 2: int(Kind.TEXT), 3: b"late", 4: wall_ms() + 600}
        number = (await bob.call(Method.MESSAGE_SCHEDULE, params))[1]
        await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]})
        told = await bob.next(Op.NOTICE, where=lambda frame: frame["topic"] == NoticeTopic.SCHEDULE_FAILED)
        assert told.op == Op.NOTICE
        assert (await bob.call(Method.SCHEDULED_LIST))[1] == []
        assert b"late" not in [payload for _, payload in await ann.log(cid)]
        assert number


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_drafts_reach_the_other_devices_now_and_later(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob), at.peer("ann", shard=1) as second:
        cid = await ann.group([bob.user])
        await ann.call(Method.DRAFT_SET, {1: cid, 2: b"dear b"})
        told = await second.next(Op.NOTICE, where=lambda frame: frame["topic"] == NoticeTopic.DRAFT)
        assert told.op == Op.NOTICE
        async with at.peer("ann", shard=2) as late:
            ((there, draft, _),) = (await late.call(Method.DRAFT_LIST))[1]
            assert (there, draft) == (cid, b"dear b")
        await trio.sleep(FOLDED_S)
        await second.call(Method.DRAFT_SET, {1: cid})
        assert (await ann.call(Method.DRAFT_LIST))[1] == []
        assert (await bob.call(Method.DRAFT_LIST))[1] == []
        await bob.barrier()
        assert not bob.take(Op.NOTICE), "a draft is nobody else's business"


# ---- kinds
MEDIA = {"media": "m/1", "mime": "image/png", "size_bytes": 9, "width": 3, "height": 3, "preview": b"", "caption": "c"}


@pytest.mark.parametrize(
    ("kind", "fields", "wrong"),
    [
        (Kind.STICKER, {"pack": "cats", "name": "wave", "emoji": "👋"}, {"name": "", "emoji": ""}),
        (Kind.IMAGE, MEDIA, {"mime": "text/html"}),
        (Kind.VOICE, {"media": "m", "mime": "audio/ogg", "size_bytes": 9, "duration_ms": 5, "waveform": b""},
         {"duration_ms": 0}),
        (Kind.VIDEO, MEDIA | {"mime": "video/mp4", "duration_ms": 7}, {"width": 0}),
        (Kind.FILE, {"media": "m", "mime": "text/plain", "size_bytes": 1, "name": "a.txt", "caption": ""},
         {"name": "a\nb"}),
        (Kind.LOCATION,
         {"latitude": 1_420_000_000, "longitude": 1_930_000_000, "accuracy_m": 5, "name": "", "address": ""},
         {"latitude": 1_800_000_001}),
        (Kind.CONTACT, {"user": 0, "name": "Zoë", "phone": "+49 30 1", "email": ""}, {"email": "nowhere"}),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)  # fmt: skip
async def test_bodies_are_validated(at: Place, kind: Kind, fields: dict[str, Any], wrong: dict[str, Any]) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        ack = await ann.act(cid, kind, **fields)
        assert ack.op == Op.SEND_ACK, ack
        assert (await bob.delivered(cid, ack["seq"]))[-1]["payload"] == encode_payload(kind, fields)
        refused(await ann.act(cid, kind, **fields | wrong), ErrorCode.BAD_REQUEST)
        refused(await ann.send(cid, b"\xff\xff", kind=kind), ErrorCode.BAD_REQUEST)
        entry = await bob.synced(cid)
        assert entry is not None
        assert entry["message_count"] == 1


async def test_typed_messages_need_their_plugin(at: Place) -> None:
    async with at.peer("ann") as ann:
        cid = await ann.group()
        refused(await ann.act(cid, Kind.TYPED, name="nobody.knows", content=b"x"), ErrorCode.UNSUPPORTED)


# ---- order and repeats of judged sends
async def test_judged_and_plain_sends_of_a_device_keep_their_order(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        target = await ann.say(cid)
        await trio.sleep(FOLDED_S)  # the target is read from the database: plain sends would overtake
        cseqs = []
        for number in range(12):
            if number % 3:
                cseqs.append(await ann.post(cid, b"%d" % number))
            else:
                fields = {"target": target, "content": b"%d" % number}
                cseqs.append(await ann.post(cid, encode_payload(Kind.EDIT, fields), kind=Kind.EDIT))
        seqs = [(await ann.answer(cseq))["seq"] for cseq in cseqs]
        assert seqs == list(range(target + 1, target + 13))
        pushed = await bob.delivered(cid, seqs[-1])
        assert [frame["payload"][-1:] for frame in pushed[-12:]] == [b"%d" % (number % 10) for number in range(12)]


async def test_a_judged_send_that_is_repeated_is_stored_once(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        target = await ann.say(cid)
        payload = encode_payload(Kind.REACTION, {"target": target, "added": 1, "emoji": "👍"})
        ack = await ann.send(cid, payload, kind=Kind.REACTION)
        for _ in range(3):
            again = await ann.send(cid, payload, ack["cseq"], kind=Kind.REACTION)
            assert (again.op, again["seq"], again.flags & DUP) == (Op.SEND_ACK, ack["seq"], DUP)
        async with at.peer("ann", shard=1, device=ann.device) as back:
            again = await back.send(cid, payload, ack["cseq"], kind=Kind.REACTION)
            assert (again["seq"], again.flags & DUP) == (ack["seq"], DUP)
        assert len(await bob.log(cid)) == ack["seq"]
        assert await reactions(bob, cid, target) == [["👍", 1, False]]


async def test_a_refused_judgement_holds_up_nothing(at: Place) -> None:
    async with at.peer("ann") as ann:
        cid = await ann.group()
        bad = await ann.post(cid, encode_payload(Kind.RECALL, {"target": 99}), kind=Kind.RECALL)
        good = await ann.post(cid, b"after")
        refused(await ann.answer(bad), ErrorCode.NOT_FOUND)
        assert (await ann.answer(good))["seq"] == 2


async def test_messages_as_they_are_now_follow_from_the_log(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        kept, gone = await ann.say(cid, b"first"), await ann.say(cid, b"second")
        await ann.act(cid, Kind.EDIT, target=kept, content=b"better")
        await bob.act(cid, Kind.REACTION, target=kept, added=1, emoji="x")
        await ann.act(cid, Kind.EDIT, target=gone, content=b"worse")
        await ann.act(cid, Kind.RECALL, target=gone)
        async with at.server.client(at.name("bob")) as client:
            folded = Folded()
            async for event in client.log(cid):
                folded.add(event)
        shown = {message.event.seq: message for message in folded.messages()}
        assert (shown[kept].text, shown[kept].edited, shown[kept].reactions) == ("better", True, {"x": {bob.user}})
        assert (shown[gone].payload, shown[gone].recalled, shown[gone].edited) == (b"", True, False)


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.MARKDOWN])
async def test_texts_reach_the_others_now_and_later_as_they_were_sent(at: Place, kind: Kind) -> None:
    texts = ["", "hello", "**bold** and _not_", "午饭？ Zoë 👋\n\ttab"]
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seqs = [(await ann.send(cid, text.encode(), kind=kind))["seq"] for text in texts]
        pushed = (await bob.delivered(cid, seqs[-1]))[-len(texts) :]
        pulled, _ = await bob.pull_frames(cid, seqs[0])
        for frames in (pushed, pulled):
            assert [(frame["kind"], frame["payload"].decode()) for frame in frames] == [(kind, text) for text in texts]
        assert (await ann.send(cid, b"\xff", kind=kind))["code"] == ErrorCode.BAD_REQUEST
