"""SEARCH: found at once, only by those who may read it, page by page, whatever lies in tail, database or index."""

from typing import Any

import msgpack
import pytest
import trio
from support.live import Peer
from support.places import Place

from chatd.wire import varint
from chatd.wire.schema import ErrorCode, Kind, Method, Op

INDEXED_WITHIN_S = 15.0


async def search(who: Peer, words: str, **filters: Any) -> list[list[Any]]:
    """All hits, newest first, and every answer complete."""
    found: list[list[Any]] = []
    params = {1: words, **{KEYS[name]: value for name, value in filters.items()}}
    while True:
        reply = await who.request(Method.SEARCH, params)
        assert reply.op == Op.REPLY
        if reply["code"] == ErrorCode.BUSY:
            await trio.sleep(reply["retry_after_ms"] / 1000)
            continue
        result = await answered(reply)
        found += result[1]
        assert result[3], "complete"
        if not result[2]:
            return found
        params[8] = result[2]


KEYS = {"cid": 2, "sender": 3, "kinds": 4, "since_ms": 5, "until_ms": 6, "limit": 7}


async def answered(reply: Any) -> dict[int, Any]:
    assert reply["code"] == 0, reply
    return dict(msgpack.unpackb(reply["result"], strict_map_key=False))


def places(hits: list[list[Any]]) -> list[tuple[int, int]]:
    return [(hit[0], hit[1]) for hit in hits]


async def both(who: Peer, words: str, expected: list[tuple[int, int]], **filters: Any) -> None:
    """Now, and when the folder and the indexer have been there."""
    assert places(await search(who, words, **filters)) == expected
    await trio.sleep(3)
    assert places(await search(who, words, **filters)) == expected


async def test_members_find_a_message_at_once_and_nobody_else_does(at: Place) -> None:
    async with at.people("ann", "bob", "eve") as (ann, bob, eve), at.peer("bob", shard=2) as second:
        cid = await ann.group([bob.user])
        seq = await ann.say(cid, "明天在Café见面".encode())
        for who in (ann, bob, second):
            for words in ("天", "明天", "明天在", "CAFE", "见面 café"):
                (hit,) = await search(who, words)
                assert hit[:3] == [cid, seq, ann.user]
        ((_, _, _, _, kind, excerpt, marks),) = await search(bob, "cafe 见面")
        assert (kind, excerpt) == (Kind.TEXT, "明天在Café见面")
        assert [excerpt.encode()[start : start + length].decode() for start, length in marks] == ["Café见面"]
        await both(bob, "明天", [(cid, seq)])
        assert await search(eve, "明天") == []
        assert (await eve.request(Method.SEARCH, {1: "明天", 2: cid}))["code"] == ErrorCode.NOT_FOUND
        assert (await eve.request(Method.SEARCH, {1: "明天", 2: 1 << 40}))["code"] == ErrorCode.NOT_FOUND


async def test_filters_and_pages(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        first, second = await ann.group([bob.user]), await ann.group([bob.user])
        sent = []
        for number in range(12):
            cid, who = (first, second)[number % 2], (ann, bob)[number % 3 == 0]
            kind = Kind.MARKDOWN if number % 4 == 0 else Kind.TEXT
            ack = await who.send(cid, f"apfel {number} 的".encode(), kind=kind)
            sent.append((ack["time"], cid, int(ack["seq"]), who.user, int(kind)))
        await ann.send(first, b"apfel", kind=Kind.CUSTOM)
        newest_first = sorted(sent, reverse=True)
        for _ in range(2):
            everything = await search(bob, "apfel 的")
            assert places(everything) == [(cid, seq) for _, cid, seq, *_ in newest_first]
            for limit in (1, 5, 12):
                assert await search(bob, "的", limit=limit) == await search(bob, "的")
            assert [hit[2] for hit in await search(ann, "apfel", sender=bob.user)] == [bob.user] * 4
            assert {hit[0] for hit in await search(ann, "apfel", cid=second)} == {second}
            assert [hit[4] for hit in await search(ann, "apfel", kinds=[int(Kind.MARKDOWN)])] == [Kind.MARKDOWN] * 3
            times = [hit[3] for hit in everything]
            within = await search(ann, "apfel", since_ms=times[8], until_ms=times[3])
            assert [hit[3] for hit in within] == [time for time in times if times[8] <= time <= times[3]]
            await trio.sleep(3)


async def test_who_is_removed_finds_what_he_could_read_and_nothing_later(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group()
        await ann.say(cid, b"birne before")
        joined = (await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]}))[1]
        seen = await ann.say(cid, b"birne within")
        await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]})
        await ann.say(cid, b"birne after")
        assert joined < seen
        assert places(await search(bob, "birne")) == [(cid, seen)]
        await both(bob, "birne", [(cid, seen)])
        await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]})
        again = await ann.say(cid, b"birne again")
        await both(bob, "birne", [(cid, again), (cid, seen)])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {1: ""},
        {1: "。！"},
        {1: "x" * 300},
        {1: "x", 8: b"\xff"},
        {1: "x", 7: -1},
        {1: "x", 5: 9, 6: 3},
        {1: "x", 4: ["a"]},
    ],
)
async def test_bad_questions_are_named(at: Place, params: dict[int, Any]) -> None:
    async with at.people("ann") as (ann,):
        reply = await ann.request(Method.SEARCH, params)
        assert reply["code"] == ErrorCode.BAD_REQUEST


async def test_questions_have_a_rate(at: Place) -> None:
    async with at.people("ann") as (ann,):
        codes = [(await ann.request(Method.SEARCH, {1: "x"}))["code"] for _ in range(30)]
        assert set(codes) == {0, ErrorCode.BUSY}


async def test_what_was_recalled_is_gone_at_once(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for rest_s in (0, 3):
            seq = await ann.say(cid, "kirsche 樱桃".encode())
            await trio.sleep(rest_s)
            assert places(await search(bob, "kirsche 樱")) == [(cid, seq)]
            assert (await ann.send(cid, varint.encode(seq), kind=Kind.RECALL)).op == Op.SEND_ACK
            await both(bob, "樱桃", [])


async def test_what_one_has_deleted_for_oneself_is_not_found(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        word = f"vanishing{at.suffix}"
        first, second = [await ann.say(cid, f"{word} {number}".encode()) for number in (1, 2)]
        await bob.call(Method.OWN_HIDE, {1: cid, 2: 0, 3: [second]})
        await both(bob, word, [(cid, first)])
        await both(ann, word, [(cid, second), (cid, first)])
        await bob.call(Method.OWN_HIDE, {1: cid, 2: second, 3: []})
        assert places(await search(bob, word)) == []
