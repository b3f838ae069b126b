"""Retention with its floor, messages as they are now, what they said before, and search after edits and expiry."""

from typing import Any

import trio
from support.live import HISTORY, Peer, content
from support.places import Place

from chatd.wire import varint
from chatd.wire.frame import Frame
from chatd.wire.layout import decode_fields, encode_fields
from chatd.wire.schema import (
    EXTENSION_DELIVER_NOW,
    EXTENSION_PULL_BYTE_RANGE,
    EXTENSION_PULL_END_OMITTED,
    EXTENSION_PULL_FOLDED,
    EXTENSION_PULL_RANGES,
    EXTENSION_SEND_EXPIRES,
    EXTENSIONS,
    FLAG_DELIVER_TOMBSTONE,
    ErrorCode,
    Kind,
    Method,
    Op,
)

PATIENCE_S = 60.0
FOLDED = (EXTENSION_PULL_FOLDED, b"\0")


async def ended(who: Peer, cid: int) -> Frame:
    return (await who.pull_frames(cid))[1]


async def floor_of(who: Peer, cid: int, floor_seq: int) -> None:
    """Returns when the conversation has that floor."""
    with trio.fail_after(PATIENCE_S):
        while (await ended(who, cid))["floor_seq"] != floor_seq:  # noqa: ASYNC110 it is only to be had by asking
            await trio.sleep(0.2)


async def searched(who: Peer, words: str, cid: int = 0) -> dict[int, Any]:
    """The answer to SEARCH. A rate that is used up is waited for."""
    while True:
        reply = await who.request(Method.SEARCH, {1: words, 2: cid})
        if reply["code"] != ErrorCode.BUSY:
            break
        await trio.sleep(reply["retry_after_ms"] / 1000)
    assert reply["code"] == 0, reply
    return content(reply["result"])


async def found(who: Peer, words: str, cid: int = 0) -> list[tuple[int, str]]:
    """(seq, excerpt) of one page."""
    return [(hit[1], hit[5]) for hit in (await searched(who, words, cid))[1]]


async def folded(who: Peer, cid: int, *extensions: tuple[int, bytes]) -> tuple[list[Frame], Frame]:
    asked = tuple(sorted((*extensions, FOLDED)))
    await who.put(Op.PULL, cid=cid, from_seq=1, to_seq=0, limit=0, extensions=asked)
    end = await who.next(Op.PULL_END, Op.ERROR)
    history = [frame for frame in who.frames if frame.op == Op.DELIVER and frame.flags & HISTORY]
    who.frames = [frame for frame in who.frames if frame not in history]
    return history, end


# ---- retention
async def test_a_floor_is_stated_everywhere_and_nothing_below_it_is_given(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob), at.peer("bob", shard=2) as second:
        cid = await ann.group([bob.user])
        word = f"mirabelle{at.suffix}"
        seqs = [await ann.say(cid, f"{word} {number}".encode()) for number in range(10)]
        assert (await ann.act(cid, Kind.PIN, target=seqs[0], pinned=1)).op == Op.SEND_ACK
        refusal = await bob.request(Method.RETENTION_SET, {1: cid, 3: 4})
        assert refusal["code"] == ErrorCode.FORBIDDEN
        head = (await ann.call(Method.RETENTION_SET, {1: cid, 3: 4}))[1]
        assert (await bob.delivered(cid, head))[-1]["kind"] == Kind.RETENTION_CHANGED
        floor = head - 3
        await floor_of(bob, cid, floor)
        for _ in range(2):
            for who in (ann, bob, second):
                events, end = await who.pull(cid, 1)
                assert [seq for seq, _ in events] == list(range(floor, head + 1))
                assert (end["head_seq"], end["floor_seq"]) == (head, floor)
                entry = await who.synced(cid)
                assert entry is not None
                assert (entry["head_seq"], entry["floor_seq"]) == (head, floor)
                assert [seq for seq, _ in await found(who, word, cid)] == [seq for seq in seqs[::-1] if seq >= floor]
                assert (await searched(who, word, cid))[4] == floor
                assert await who.call(Method.PIN_LIST, {1: cid}) == {1: []}
            ranges = varint.encode(1) + varint.encode(cid) + b"\1\0"
            await bob.put(Op.PULL, cid=0, from_seq=0, to_seq=0, limit=0, extensions=((EXTENSION_PULL_RANGES, ranges),))
            end = await bob.next(Op.PULL_END, where=lambda frame: frame["cid"] == cid)
            assert end["floor_seq"] == floor
            await bob.next(Op.PULL_END)
            bob.take(Op.DELIVER)
            await bob.put(
                Op.PULL, cid=cid, from_seq=seqs[0], to_seq=seqs[0], limit=1,
                extensions=((EXTENSION_PULL_BYTE_RANGE, b"\0\0"),),
            )  # fmt: skip
            assert (await bob.next(Op.ERROR))["code"] == ErrorCode.NOT_FOUND
            nak = await ann.act(cid, Kind.REACTION, target=seqs[0], added=1, emoji="x")
            assert (nak.op, nak["code"]) == (Op.SEND_NAK, ErrorCode.NOT_FOUND)
            assert (await bob.request(Method.RECEIPT_GET, {1: cid, 2: seqs[0]}))["code"] == ErrorCode.NOT_FOUND
            await trio.sleep(2.5)  # until the folder and the indexer have been there
        assert (await ann.call(Method.RETENTION_SET, {1: cid, 3: 0}))[1] == head + 1
        await trio.sleep(2.5)
        assert (await ended(bob, cid))["floor_seq"] == floor, "it never goes back"
        assert await bob.call(Method.RETENTION_GET, {1: cid}) == {1: 0, 2: 0, 3: 0, 4: 0, 5: floor}


# ---- messages as they are now
async def test_messages_come_as_they_are_now_and_what_is_left_out_is_named(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        edited, gone, plain = [await ann.say(cid, text) for text in (b"frist", b"secret", b"plain")]
        await ann.act(cid, Kind.EDIT, target=edited, content=b"second")
        edit = await ann.act(cid, Kind.EDIT, target=edited, content=b"first")
        await bob.act(cid, Kind.REACTION, target=edited, added=1, emoji="👍")
        await ann.act(cid, Kind.REACTION, target=edited, added=1, emoji="👍")
        await ann.act(cid, Kind.RECALL, target=gone)
        await ann.act(cid, Kind.PIN, target=plain, pinned=1)
        last = await bob.say(cid, b"end")
        for _ in range(2):
            frames, end = await folded(bob, cid)
            by_seq = {frame["seq"]: frame for frame in frames}
            assert list(by_seq) == [*range(1, plain + 1), last]
            named = end.extension(EXTENSION_PULL_END_OMITTED)
            assert named is not None
            assert [tuple(row.values()) for row in named["ranges"]] == [(plain + 1, 6)]
            now = by_seq[edited].extension(EXTENSION_DELIVER_NOW)
            assert by_seq[edited]["payload"] == b"first"
            assert now == {
                "flags": 0, "edit_seq": edit["seq"], "edited": edit["time"], "others": 0,
                "reactions": ({"emoji": "👍", "count": 2, "mine": 1},),
            }  # fmt: skip
            assert (by_seq[gone].flags & FLAG_DELIVER_TOMBSTONE, by_seq[gone]["payload"]) == (
                FLAG_DELIVER_TOMBSTONE,
                b"",
            )
            pinned = by_seq[plain].extension(EXTENSION_DELIVER_NOW)
            assert pinned is not None
            assert (pinned["flags"], by_seq[plain]["payload"]) == (1, b"plain")
            assert not by_seq[last].extensions, "as it was sent"
            raw, _ = await bob.pull_frames(cid)
            assert [frame["seq"] for frame in raw] == list(range(1, last + 1)), "the log is as it was"
            await trio.sleep(1.5)
        for extension in ((EXTENSION_PULL_BYTE_RANGE, b"\0\0"), (EXTENSION_PULL_RANGES, b"\1\1\1\0")):
            assert (await folded(bob, cid, extension))[1]["code"] == ErrorCode.BAD_REQUEST


async def test_who_was_removed_sees_messages_as_they_were_then(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        seq = await ann.say(cid, b"before")
        await ann.act(cid, Kind.EDIT, target=seq, content=b"between")
        await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]})
        await ann.act(cid, Kind.EDIT, target=seq, content=b"after")
        await ann.act(cid, Kind.REACTION, target=seq, added=1, emoji="x")
        for _ in range(2):
            for who, payload, reactions in ((bob, b"between", 0), (ann, b"after", 1)):
                frames, _ = await folded(who, cid)
                (frame,) = [frame for frame in frames if frame["seq"] == seq]
                now = frame.extension(EXTENSION_DELIVER_NOW)
                assert now is not None
                assert (frame["payload"], len(now["reactions"])) == (payload, reactions)
            assert await found(bob, "between", cid) == [(seq, "between")]
            assert await found(bob, "after", cid) == []
            await trio.sleep(2.5)


# ---- what they said before
async def test_versions_are_for_the_author_and_for_moderators(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl):
        cid = await ann.group([bob.user, carl.user])
        seq = await bob.say(cid, b"one")
        edits = [await bob.act(cid, Kind.EDIT, target=seq, content=text) for text in (b"two", b"three")]
        for _ in range(2):
            for who in (ann, bob):
                answer = await who.call(Method.EVENT_VERSIONS, {1: cid, 2: seq})
                assert [(row[0], row[2]) for row in answer[1]] == [
                    (seq, b"one"), *((edit["seq"], text) for edit, text in zip(edits, (b"two", b"three"), strict=True)),
                ]  # fmt: skip
                later = await who.call(Method.EVENT_VERSIONS, {1: cid, 2: seq, 3: edits[0]["seq"]})
                assert [row[2] for row in later[1]] == [b"three"]
            assert (await carl.request(Method.EVENT_VERSIONS, {1: cid, 2: seq}))["code"] == ErrorCode.FORBIDDEN
            await trio.sleep(1.5)
        assert (await ann.request(Method.EVENT_VERSIONS, {1: cid, 2: 1}))["code"] == ErrorCode.NOT_FOUND, "no message"
        await bob.act(cid, Kind.RECALL, target=seq)
        for who in (ann, bob):
            refusal = await who.request(Method.EVENT_VERSIONS, {1: cid, 2: seq})
            assert refusal["code"] == ErrorCode.NOT_FOUND, "a recall takes it from everybody"


# ---- search
async def test_an_edited_message_is_found_by_its_new_words_only(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        old, new = f"quitte{at.suffix}", f"feige{at.suffix}"
        for rest_s in (0.0, 3.0):
            seq = await ann.say(cid, f"{old} 一".encode())
            await trio.sleep(rest_s)  # then folded and indexed before it is edited
            assert await found(bob, old, cid) == [(seq, f"{old} 一")]
            await ann.act(cid, Kind.EDIT, target=seq, content=f"{new} 二".encode())
            for _ in range(2):
                assert await found(bob, old, cid) == []
                assert await found(bob, new, cid) == [(seq, f"{new} 二")]
                await trio.sleep(3)
            await ann.act(cid, Kind.RECALL, target=seq)
            assert await found(bob, new, cid) == []


async def test_an_expired_message_is_not_found_from_that_moment(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        word = f"kumquat{at.suffix}"
        block = encode_fields(EXTENSIONS[Op.SEND, EXTENSION_SEND_EXPIRES].fields, {"seconds": 5})
        ack = await ann.send(cid, word.encode(), extensions=((EXTENSION_SEND_EXPIRES, block),))
        assert decode_fields(EXTENSIONS[Op.SEND, EXTENSION_SEND_EXPIRES], block) == {"seconds": 5}
        while True:
            hits = await found(bob, word, cid)
            answer = await bob.send(cid, b"what time is it?")
            if answer["time"] >= ack["time"] + 5000:
                break
            assert hits == [(ack["seq"], word)]
            await trio.sleep(0.4)
        assert await found(bob, word, cid) == []
        await trio.sleep(3)
        assert await found(bob, word, cid) == []
