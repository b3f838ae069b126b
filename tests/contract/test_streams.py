"""Contract: live streams, which become one event each, and the last values of telemetry."""

from typing import Any

import trio
from support.live import DUP, Peer
from support.places import Place

from chatd.wire.frame import Extensions, Frame
from chatd.wire.layout import decode_fields, encode_fields
from chatd.wire.schema import (
    EXTENSION_EPHEMERAL_TELEMETRY,
    EXTENSION_SEND_STREAM,
    EXTENSIONS,
    STREAM_BYTES_MAX,
    EphemeralKind,
    ErrorCode,
    Feature,
    Kind,
    Method,
    Op,
    Right,
    Role,
    Topic,
)

STREAMS = Feature.RECEIPTS | Feature.STREAMS
PATIENCE_S = 60.0
FRAMES = (Op.STREAM_SNAPSHOT, Op.STREAM_DELTA, Op.STREAM_END)
TRUNCATED = 1


async def started(who: Peer, cid: int, kind: Kind = Kind.TEXT) -> int:
    answer = await start(who, cid, kind)
    assert answer.op == Op.STREAM_START, answer
    assert (answer["cid"], answer["kind"]) == (cid, kind)
    number: int = answer["stream"]
    assert number > 0
    return number


async def start(who: Peer, cid: int, kind: int = Kind.TEXT) -> Frame:
    await who.put(Op.STREAM_START, cid=cid, stream=0, kind=int(kind))
    return await who.next(Op.STREAM_START, Op.ERROR, within_s=PATIENCE_S)


async def write(who: Peer, cid: int, stream: int, offset: int, data: bytes) -> None:
    await who.put(Op.STREAM_DELTA, cid=cid, stream=stream, offset=offset, payload=data)


async def refusal(who: Peer, stream: int) -> ErrorCode:
    frame = await who.next(Op.ERROR, within_s=PATIENCE_S)
    assert (frame["op"], frame["ref"]) == (Op.STREAM_DELTA, stream)
    assert frame["text"], "a refusal says why"
    return ErrorCode(frame["code"])


async def follow(who: Peer, cid: int, topics: Topic = Topic.STREAMS) -> Frame:
    await who.put(Op.SUBSCRIBE, cid=cid, topics=int(topics))
    return await who.next(Op.SUBSCRIBE, Op.ERROR, within_s=PATIENCE_S)


async def snapshot(who: Peer, stream: int) -> bytes:
    def fits(frame: Frame) -> bool:
        return bool(frame["stream"] == stream)

    return bytes((await who.next(Op.STREAM_SNAPSHOT, where=fits, within_s=PATIENCE_S))["payload"])


async def seen(who: Peer, stream: int, upto: int) -> bytes:
    """What deltas say up to that many bytes: they come in order and without holes."""
    content = b""
    begin = -1
    while begin < 0 or begin + len(content) < upto:
        frame = await who.next(Op.STREAM_DELTA, within_s=PATIENCE_S)
        assert frame["stream"] == stream
        begin = frame["offset"] if begin < 0 else begin
        assert frame["offset"] == begin + len(content)
        content += frame["payload"]
    return content


async def end(who: Peer, cid: int, stream: int, cseq: int = 0) -> Frame:
    """STREAM_END and its answer; cseq 0: the next one."""
    who.cseq = cseq or who.cseq + 1
    await who.put(Op.STREAM_END, cid=cid, stream=stream, cseq=cseq or who.cseq)
    return await who.answer(cseq or who.cseq, PATIENCE_S)


async def over(who: Peer, cid: int, stream: int) -> None:
    frame = await who.next(Op.STREAM_END, within_s=PATIENCE_S)
    assert (frame["cid"], frame["stream"], frame["cseq"]) == (cid, stream, 0)


async def event_of(who: Peer, cid: int, stream: int) -> tuple[Frame, dict[str, Any]]:
    """The event that the stream became, and what its extension says."""

    def fits(frame: Frame) -> bool:
        return frame["cid"] == cid and EXTENSION_SEND_STREAM in dict(frame.extensions)

    frame = await who.next(Op.DELIVER, where=fits, within_s=PATIENCE_S)
    told = decode_fields(EXTENSIONS[Op.DELIVER, EXTENSION_SEND_STREAM], dict(frame.extensions)[EXTENSION_SEND_STREAM])
    assert told["stream"] == stream
    assert told["bytes"] == len(frame["payload"])
    return frame, dict(told)


def ends(stream: int, written: int) -> Extensions:
    layout = EXTENSIONS[Op.SEND, EXTENSION_SEND_STREAM]
    return ((EXTENSION_SEND_STREAM, encode_fields(layout.fields, {"stream": stream, "flags": 0, "bytes": written})),)


async def test_a_stream_is_seen_while_it_is_written_and_becomes_one_event(at: Place) -> None:
    async with at.people("ann", "bob", "bob", features=STREAMS) as (ann, bob, late), at.peer("eve", shard=1) as eve:
        cid = await ann.group([bob.user, eve.user])
        assert (await follow(bob, cid))["topics"] == Topic.STREAMS
        assert (await follow(eve, cid, Topic.EPHEMERAL | Topic.STREAMS))["topics"] == Topic.EPHEMERAL
        stream = await started(ann, cid, Kind.MARKDOWN)
        assert await snapshot(bob, stream) == b""
        await write(ann, cid, stream, 0, b"Once ")
        await write(ann, cid, stream, 5, "upon a tüme".encode()[:9])
        assert await seen(bob, stream, 14) == "Once upon a t\xfc".encode()[:14]
        await follow(late, cid)
        assert await snapshot(late, stream) == "Once upon a t\xfc".encode()[:14], "late joiners get what there is"
        await write(ann, cid, stream, 14, "upon a tüme".encode()[9:])
        assert await seen(bob, stream, 17) == await seen(late, stream, 17)
        done = await end(ann, cid, stream)
        assert done.op == Op.SEND_ACK, done
        whole = "Once upon a tüme".encode()
        for who in (bob, late, eve):
            event, told = await event_of(who, cid, stream)
            assert (event["seq"], event["sender"], event["kind"]) == (done["seq"], ann.user, Kind.MARKDOWN)
            assert (event["payload"], told["flags"]) == (whole, 0)
        await over(bob, cid, stream)
        again = await end(ann, cid, stream, done["cseq"])
        assert again.flags & DUP
        assert again["seq"] == done["seq"]
        await write(ann, cid, stream, 17, b"more")
        assert await refusal(ann, stream) == ErrorCode.NOT_FOUND
        await eve.barrier()
        assert eve.take(*FRAMES) == [], "who has not asked for streams gets the event only"
        assert ann.take(*FRAMES) == [], "who writes does not hear it again"
        assert [payload for _, payload in await bob.log(cid)][-1] == whole


async def test_a_stream_goes_on_after_a_reconnect_and_its_end_counts_once(at: Place) -> None:
    async with at.people("bob", features=STREAMS) as (bob,):
        async with at.peer("ann", shard=1, features=STREAMS) as ann:
            cid = await ann.group([bob.user])
            await follow(bob, cid)
            stream, device = await started(ann, cid), ann.device
            await write(ann, cid, stream, 0, b"before ")
            await seen(bob, stream, 7)
        async with at.peer("ann", shard=2, features=STREAMS, device=device) as ann:
            await write(ann, cid, stream, 0, b"before and ")
            assert await seen(bob, stream, 11) == b"and ", "what is there already is skipped"
            lacking = await ann.send(cid, b"", extensions=ends(stream, 16))
            assert (lacking.op, lacking["code"]) == (Op.SEND_NAK, ErrorCode.BUSY), "five bytes have not come"
            await write(ann, cid, stream, 11, b"after")
            done = await ann.send(cid, b"", lacking["cseq"], extensions=ends(stream, 16))
            assert done.op == Op.SEND_ACK, done
        async with at.peer("ann", shard=3, features=STREAMS, device=device) as ann:
            again = await ann.send(cid, b"", done["cseq"], extensions=ends(stream, 16))
            assert again.flags & DUP
        event, _ = await event_of(bob, cid, stream)
        assert (event["payload"], event["seq"]) == (b"before and after", done["seq"])
        assert [payload for _, payload in await bob.log(cid)].count(b"before and after") == 1


async def test_who_is_removed_sees_nothing_more_and_writes_nothing_more(at: Place) -> None:
    async with at.people("ann", "bob", "carl", "eve", features=STREAMS) as (ann, bob, carl, eve):
        cid = await ann.group([bob.user, carl.user])
        for who in (bob, carl):
            await follow(who, cid)
        stream = await started(ann, cid)
        await write(ann, cid, stream, 0, b"for members")
        for who in (bob, carl):
            await seen(who, stream, 11)
        await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]})
        await bob.next(Op.UNSUBSCRIBE, within_s=PATIENCE_S)
        bob.take(*FRAMES)
        await write(ann, cid, stream, 11, b" only")
        assert await seen(carl, stream, 16) == b" only"
        for stranger in (bob, eve):
            assert (await follow(stranger, cid))["code"] == ErrorCode.NOT_FOUND
        theirs = await started(carl, cid)
        await write(carl, cid, theirs, 0, b"mine")
        await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [carl.user]})
        await write(carl, cid, theirs, 4, b" too")
        assert await refusal(carl, theirs) == ErrorCode.NOT_FOUND
        nak = await end(carl, cid, theirs)
        assert (nak.op, nak["code"]) == (Op.SEND_NAK, ErrorCode.NOT_FOUND)
        assert (await end(ann, cid, stream)).op == Op.SEND_ACK
        for stranger in (bob, eve):
            await stranger.barrier()
            assert stranger.take(*FRAMES) == []


async def test_what_cannot_be_is_refused_by_name(at: Place) -> None:
    async with at.people("ann", "bob", features=STREAMS) as (ann, bob), at.peer("ann", shard=1) as plain:
        cid = await ann.group([bob.user])
        assert (await start(plain, cid))["code"] == ErrorCode.UNSUPPORTED, "the feature was not agreed on"
        assert (await start(ann, cid, Kind.EDIT))["code"] == ErrorCode.UNSUPPORTED
        assert (await start(ann, 1 << 40))["code"] == ErrorCode.NOT_FOUND
        stream = await started(ann, cid)
        await write(ann, cid, stream, 0, b"abc")
        for offset, data in ((4, b"d"), (1, b"x"), (3, b"\xff")):
            await write(ann, cid, stream, offset, data)
            assert await refusal(ann, stream) == ErrorCode.BAD_REQUEST, (offset, data)
        await write(ann, cid, stream, 3, bytes(16_385))
        frame = await ann.next(Op.ERROR, within_s=PATIENCE_S)
        assert frame["code"] == ErrorCode.TOO_LARGE
        await write(bob, cid, stream, 3, b"d")
        assert await refusal(bob, stream) == ErrorCode.NOT_FOUND, "it is not bob's"
        nak = await end(bob, cid, stream)
        assert nak["code"] == ErrorCode.NOT_FOUND
        for _ in range(3):
            await started(ann, cid)
        assert (await start(ann, cid))["code"] == ErrorCode.LIMIT_REACHED
        nak = await ann.send(cid, b"payload", extensions=ends(stream, 3))
        assert nak["code"] == ErrorCode.BAD_REQUEST, "the content is the stream's"
        await write(ann, cid, stream, 3, "ü".encode()[:1])
        nak = await end(ann, cid, stream)
        assert nak["code"] == ErrorCode.BAD_REQUEST, "within a character"
        await write(ann, cid, stream, 4, "ü".encode()[1:])
        for offset in range(5, 65):
            await write(ann, cid, stream, offset, b".")
        assert await refusal(ann, stream) in (ErrorCode.RATE_LIMITED, ErrorCode.BAD_REQUEST)
        assert (await end(ann, cid, stream)).op == Op.SEND_ACK, "the stream goes on after a refusal"


async def test_a_stream_that_is_too_long_ends_as_truncated(at: Place) -> None:
    async with at.people("ann", "bob", features=STREAMS) as (ann, bob):
        cid = await ann.group([bob.user])
        stream = await started(ann, cid)
        for offset in range(0, STREAM_BYTES_MAX - 1, 15_000):
            await write(ann, cid, stream, offset, b"x" * 15_000)
        await write(ann, cid, stream, STREAM_BYTES_MAX, b"one more")
        assert await refusal(ann, stream) == ErrorCode.TOO_LARGE
        for who in (ann, bob):
            event, told = await event_of(who, cid, stream)
            assert event["payload"] == b"x" * STREAM_BYTES_MAX
            assert told["flags"] == TRUNCATED


async def test_who_may_not_write_cannot_stream(at: Place) -> None:
    async with at.people("ann", "bob", features=STREAMS) as (ann, bob):
        cid = await ann.group([bob.user])
        stream = await started(bob, cid)
        await ann.call(Method.MEMBER_MUTE, {1: cid, 2: bob.user, 3: 4_000_000_000})
        await write(bob, cid, stream, 0, b"hush")
        assert await refusal(bob, stream) == ErrorCode.MUTED
        assert (await end(bob, cid, stream))["code"] == ErrorCode.MUTED
        assert (await start(bob, cid))["code"] == ErrorCode.MUTED
        await ann.call(Method.MEMBER_MUTE, {1: cid, 2: bob.user, 3: 0})
        await ann.call(Method.CONVERSATION_SET_RULES, {1: cid, 2: 60, 3: None, 4: None})
        assert (await start(bob, cid))["code"] == ErrorCode.FORBIDDEN, "slow mode is for streams, too"
        assert (await start(ann, cid)).op == Op.STREAM_START, "its owner is exempt"


# ---- telemetry
async def tell(who: Peer, cid: int, value: bytes, key: int = 0, keep: bool = True) -> None:
    told = encode_fields(
        EXTENSIONS[Op.EPHEMERAL, EXTENSION_EPHEMERAL_TELEMETRY].fields, {"key": key, "flags": int(keep)}
    )
    extensions = ((EXTENSION_EPHEMERAL_TELEMETRY, told),)
    kind = int(EphemeralKind.TELEMETRY)
    await who.put(Op.EPHEMERAL, cid=cid, sender=0, kind=kind, payload=value, extensions=extensions)


async def last(who: Peer, cid: int, user: int = 0, limit: int = 50) -> list[list[Any]]:
    """All pages: user, key, value, time_ms, age_ms."""
    found: list[list[Any]] = []
    while True:
        after = {3: found[-1][0], 4: found[-1][1]} if found else {}
        result = await who.call(Method.TELEMETRY_LAST, {1: cid, 2: user, **after, 5: limit})
        found += result[1]
        if not result[2]:
            return found


async def kept(who: Peer, cid: int, count: int) -> list[list[Any]]:
    with trio.fail_after(PATIENCE_S):
        while len(found := await last(who, cid)) < count:  # noqa: ASYNC110 only to be had by asking
            await trio.sleep(0.1)
        return found


async def test_the_last_values_are_there_for_those_who_join(at: Place) -> None:
    async with at.people("ann", "bob", "carl", "eve") as (ann, bob, carl, eve):
        cid = await ann.group([bob.user])
        for who in (ann, bob):
            await follow(who, cid, Topic.EPHEMERAL)
        await tell(ann, cid, b"not kept", 3, keep=False)
        for value in (b"20", b"21"):
            await tell(ann, cid, value, 7)
        await tell(ann, cid, b"open", 8)
        heard = [(await bob.next(Op.EPHEMERAL, within_s=PATIENCE_S))["payload"] for _ in range(4)]
        assert heard == [b"not kept", b"20", b"21", b"open"]
        await tell(bob, cid, b"home")
        await kept(ann, cid, 3)
        await ann.call(Method.MEMBER_ADD, {1: cid, 2: [carl.user]})
        found = await last(carl, cid)
        assert [row[:3] for row in found] == sorted(
            [[ann.user, 7, b"21"], [ann.user, 8, b"open"], [bob.user, 0, b"home"]]
        )
        assert all(time_ms > 0 and age_ms >= 0 for *_, time_ms, age_ms in found)
        assert [row[:4] for row in await last(carl, cid, limit=1)] == [row[:4] for row in found], "in pages, too"
        assert [row[1] for row in await last(carl, cid, user=ann.user)] == [7, 8]
        refused = await eve.request(Method.TELEMETRY_LAST, {1: cid})
        assert refused["code"] == ErrorCode.NOT_FOUND


async def test_nothing_is_kept_of_those_who_may_not_write(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        await ann.call(
            Method.CONVERSATION_SET_RULES, {1: cid, 2: None, 3: None, 4: {int(Role.MEMBER): int(Right.WRITE)}}
        )
        await follow(bob, cid, Topic.EPHEMERAL)
        await tell(bob, cid, b"me")
        refused = await bob.next(Op.ERROR, within_s=PATIENCE_S)
        assert (refused["op"], refused["code"]) == (Op.EPHEMERAL, ErrorCode.FORBIDDEN)
        assert await last(ann, cid) == []
