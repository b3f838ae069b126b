"""Contract, sections 6 and 7: what comes by itself, what has to be asked for, that nothing is missing in silence."""

from itertools import chain
from typing import Any

import trio
from support.live import HISTORY, MORE, STUB, Peer
from support.places import Place

from chatd.wire import varint
from chatd.wire.frame import make
from chatd.wire.schema import (
    EXTENSION_PULL_AROUND,
    EXTENSION_PULL_FROM_TIME,
    EXTENSION_PULL_RANGES,
    ErrorCode,
    Feature,
    Kind,
    Method,
    Op,
)

POSITIONS_SETTLE_S = 2.0


# ---- 6 Delivery to a device
async def test_pushes_come_in_order_and_only_answers_to_pull_are_history(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for _ in range(5):
            await ann.say(cid)
        seq = await bob.say(cid, b"mine")
        await ann.say(cid)
        pushed = await bob.delivered(cid, seq + 1)
        assert [frame["seq"] for frame in pushed] == [*range(1, seq), seq + 1], "the answer to SEND fills the hole"
        frames, end = await bob.pull_frames(cid)
        assert all(frame.flags == HISTORY for frame in frames)
        assert [frame["seq"] for frame in frames] == list(range(1, seq + 2))
        assert (end["next_seq"], end["head_seq"], end["floor_seq"]) == (0, seq + 1, 1)
        assert not bob.take(Op.DELIVER)


async def test_a_stuck_reader_is_told_lag_and_gets_the_rest_by_pull(at: Place) -> None:
    async with at.people("ann") as (ann,), at.peer("bob", shard=1, receive_bytes=4096) as bob:
        cid = await ann.group([bob.user])
        payloads = [b"%04d" % number + bytes(3000) for number in range(60)]
        for payload in payloads:
            await ann.say(cid, payload)
        reached = lags = 0
        while reached < 62:
            frame = await bob.next(Op.DELIVER, Op.LAG)
            lags += frame.op == Op.LAG
            reached = frame["to_seq"] if frame.op == Op.LAG else frame["seq"]
        assert lags
        last = await ann.say(cid, b"live again")
        events = dict(await bob.log(cid))
        assert [events[seq] for seq in range(3, last + 1)] == [*payloads, b"live again"]


async def test_pushes_and_lags_together_name_every_event_once_and_in_order(at: Place) -> None:
    async with at.people("ann") as (ann,), at.peer("bob", shard=1, receive_bytes=4096) as bob:
        cid = await ann.group([bob.user])
        for _ in range(80):
            await ann.say(cid, bytes(3000))
        named: list[int] = []
        while named[-1:] != [82]:
            frame = await bob.next(Op.DELIVER, Op.LAG)
            first, last = (frame["from_seq"], frame["to_seq"]) if frame.op == Op.LAG else (frame["seq"], frame["seq"])
            named += range(first, last + 1)
        assert named == list(range(1, 83))


async def test_large_events_come_as_stubs_and_are_read_by_ranges(at: Place) -> None:
    payload = bytes(range(256)) * 100
    async with at.people("ann") as (ann,), at.peer("bob", shard=1, frame_bytes_max=512) as bob:
        cid = await ann.group([bob.user])
        seq = (await ann.send(cid, payload, kind=Kind.CUSTOM))["seq"]
        pushed = (await bob.delivered(cid, seq))[-1]
        (pulled,), _ = await bob.pull_frames(cid, seq)
        assert (pushed.flags, pulled.flags) == (STUB, STUB | HISTORY)
        assert pushed["payload"] == pulled["payload"] == varint.encode(len(payload))
        assert await read_range(bob, cid, seq, 0, 0) == payload
        assert await read_range(bob, cid, seq, 1000, 3000) == payload[1000:4000]
        assert await read_range(bob, cid, seq, len(payload), 1) == b""


async def read_range(who: Peer, cid: int, seq: int, offset: int, length: int) -> bytes:
    extension = (1, varint.encode(offset) + varint.encode(length))
    await who.put(Op.PULL, cid=cid, from_seq=seq, to_seq=seq, limit=1, extensions=(extension,))
    await who.next(Op.PULL_END)
    chunks = who.take(Op.CHUNK)
    assert all(chunk["total"] == 25_600 for chunk in chunks)
    assert [chunk["offset"] for chunk in chunks] == sorted(chunk["offset"] for chunk in chunks)
    return b"".join(chunk["data"] for chunk in chunks)


# ---- 7 Coming back
async def test_sync_names_what_changed_since_the_cursor(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        quiet, busy = await ann.group([bob.user]), await ann.group([bob.user])
        await ann.barrier()
        page = await bob.sync()
        assert {entry["cid"] for entry in page["entries"]} == {quiet, busy}
        assert not page.flags & MORE
        # What both have received is durable within a second, and a position names its conversation, too.
        await trio.sleep(POSITIONS_SETTLE_S)
        page = await bob.sync(page["cursor"])
        assert not (await bob.sync(page["cursor"]))["entries"]
        seq = await ann.say(busy, b"news")
        (entry,) = (await bob.sync(page["cursor"]))["entries"]
        assert (entry["cid"], entry["head_seq"], entry["last_preview"], entry["last_sender"]) == (
            busy, seq, b"news", ann.user,
        )  # fmt: skip


async def test_what_came_while_away_is_found_by_sync_and_pull(at: Place) -> None:
    async with at.peer("ann", shard=0) as ann, at.peer("bob", shard=1) as bob:
        cid = await ann.group([bob.user])
        await bob.delivered(cid, 2)
        cursor, device = (await bob.sync())["cursor"], bob.device
        await bob.stream.aclose()
        seqs = [await ann.say(cid, b"%d" % number) for number in range(10)]
        async with at.peer("bob", shard=2, device=device) as back:
            (entry,) = (await back.sync(cursor))["entries"]
            assert entry["head_seq"] == seqs[-1]
            assert [seq for seq, _ in await back.log(cid, 3)] == seqs
            after = await ann.say(cid, b"live")
            assert [frame["seq"] for frame in await back.delivered(cid, after)] == [after]


async def test_the_cursor_of_welcome_divides_sync_from_push(at: Place) -> None:
    async with at.peer("ann", shard=0) as ann, at.peer("bob", shard=1) as bob:
        cid = await ann.group([bob.user])
        cseqs = [await ann.post(cid) for _ in range(50)]
        async with at.peer("bob", shard=2) as late:
            for cseq in cseqs:
                await ann.answer(cseq)
            last = await ann.say(cid)
            pushed = [frame["seq"] for frame in await late.delivered(cid, last)]
            assert pushed == list(range(pushed[0], last + 1))
            assert await late.log(cid) == await bob.log(cid)


async def test_paging_is_stable_while_others_write(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cids = [await ann.group([bob.user]) for _ in range(12)]
        for cid in cids[:6]:
            await ann.say(cid)
        seen: dict[int, int] = {}
        page = await bob.sync(b"", limit=5)
        while page.flags & MORE:
            seen |= {entry["cid"]: entry["head_seq"] for entry in page["entries"]}
            for cid in cids[::3]:
                await ann.say(cid, b"while paging")
            page = await bob.sync(page["cursor"], limit=5)
        seen |= {entry["cid"]: entry["head_seq"] for entry in page["entries"]}
        assert set(seen) == set(cids)
        later = {entry["cid"]: entry["head_seq"] for entry in (await bob.sync(page["cursor"]))["entries"]}
        heads = {cid: (await bob.pull_frames(cid, 1))[1]["head_seq"] for cid in cids}
        assert {cid: later.get(cid, seen[cid]) for cid in cids} == heads


async def test_a_range_is_pulled_in_pieces_without_a_hole(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for _ in range(20):
            await ann.say(cid)
        events, end = await bob.pull(cid, 3, 0, 7)
        assert ([seq for seq, _ in events], end["next_seq"]) == (list(range(3, 10)), 10)
        events, end = await bob.pull(cid, 10, 12, 7)
        assert ([seq for seq, _ in events], end["next_seq"], end["head_seq"]) == ([10, 11, 12], 0, 22)
        assert await bob.pull(cid, 23) == ([], make(Op.PULL_END, cid=cid, next_seq=0, head_seq=22, floor_seq=1))


async def test_unread_counts_messages_only_and_own_ones_are_read(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for _ in range(3):
            await ann.say(cid)
        await ann.call(Method.CONVERSATION_SET_TITLE, {1: cid, 2: "renamed"})
        assert await unread(bob, cid) == 3
        assert await unread(ann, cid) == 0
        await bob.put(Op.READ, cid=cid, seq=4)
        with trio.fail_after(2):
            while await unread(bob, cid) != 1:  # noqa: ASYNC110 the count is only to be had by asking
                await trio.sleep(0.02)
        await bob.say(cid)
        assert await unread(bob, cid) == 0
        assert await unread(ann, cid) == 1


async def unread(who: Peer, cid: int) -> int:
    entry = await who.synced(cid)
    assert entry is not None
    return int(entry["message_count"] - entry["read_count"])


async def test_third_read_at_a_time_is_busy(at: Place) -> None:
    async with at.peer("ann") as ann:
        for _ in range(40):
            await ann.put(Op.SYNC, cursor=b"", limit=0)
        answers = [await ann.next(Op.SYNC_PAGE, Op.ERROR) for _ in range(40)]
        assert {frame["code"] for frame in answers if frame.op == Op.ERROR} <= {ErrorCode.BUSY}
        assert any(frame.op == Op.SYNC_PAGE for frame in answers)


async def test_lite_devices_get_lite_ops_only(at: Place) -> None:
    async with (
        at.people("ann") as (ann,),
        at.peer("bob", shard=1, features=Feature.LITE, frame_bytes_max=128, window=4) as bob,
    ):
        cid = await ann.group([bob.user])
        assert len(bob.welcome["cursor"]) <= 16
        seq = await ann.say(cid, b"x" * 200)
        frames = await bob.delivered(cid, seq)
        assert frames[-1].flags == STUB


# ---- 6 PULL around an event and from a time on
async def page_of(who: Peer, cid: int, from_seq: int, limit: int, *extensions: tuple[int, bytes]) -> list[int]:
    await who.put(Op.PULL, cid=cid, from_seq=from_seq, to_seq=0, limit=limit, extensions=extensions)
    end = await who.next(Op.PULL_END, Op.ERROR)
    assert end.op == Op.PULL_END, end
    return [frame["seq"] for frame in who.take(Op.DELIVER) if frame.flags & HISTORY]


def around(before: int) -> tuple[int, bytes]:
    return (EXTENSION_PULL_AROUND, varint.encode(before))


def from_time(time_ms: int) -> tuple[int, bytes]:
    return (EXTENSION_PULL_FROM_TIME, time_ms.to_bytes(5, "big"))


async def test_a_page_begins_around_an_event_or_at_a_time(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group()
        for _ in range(3):
            await ann.say(cid, b"unseen")
        joined = (await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]}))[1]
        await ann.say(cid, b"seen")
        left = (await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [bob.user]}))[1]
        await ann.say(cid, b"unseen")
        back = (await ann.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]}))[1]
        for number in range(6):
            if number == 3:
                await trio.sleep(2.5)  # the first half is in the database, the second in the tail
            await ann.say(cid, b"seen")
        frames, end = await bob.pull_frames(cid)
        times = {frame["seq"]: frame["time"] for frame in frames}
        may = list(times)
        assert may == [*range(joined, left + 1), *range(back, back + 7)]
        assert end["head_seq"] == back + 6
        for seq in (0, 1, *may, left + 1, end["head_seq"] + 1, 1 << 40):
            for before in (1, 2, 5, 100):
                index = sum(known < seq for known in may)
                expected = may[max(0, index - before) :][: before + 3]
                assert await page_of(bob, cid, seq, before + 3, around(before)) == expected, (seq, before)
        for moment in {time + step for time in times.values() for step in (-1, 0, 1)} | {0, (1 << 40) - 1}:
            index = sum(time < moment for time in times.values())
            assert await page_of(bob, cid, 0, 4, from_time(moment)) == may[index : index + 4]
            assert await page_of(bob, cid, 7, 4, around(2), from_time(moment)) == may[max(0, index - 2) :][:4]


async def test_a_page_around_something_foreign_is_not_found(at: Place) -> None:
    async with at.people("ann", "eve") as (ann, eve):
        cid = await ann.group()
        for extension in (around(3), from_time(5)):
            await eve.put(Op.PULL, cid=cid, from_seq=1, to_seq=0, limit=1, extensions=(extension,))
            assert (await eve.next(Op.ERROR))["code"] == ErrorCode.NOT_FOUND


# ---- 6 PULL of many conversations at once
async def pull_many(who: Peer, ranges: list[tuple[int, int, int]], limit: int = 0) -> tuple[list[Any], int]:
    """What came, in order: (cid, seq) of events, (cid, "end", next_seq), (cid, "error", code); and next_seq of all."""
    block = varint.encode(len(ranges)) + b"".join(map(varint.encode, chain.from_iterable(ranges)))
    extension = (EXTENSION_PULL_RANGES, block)
    await who.put(Op.PULL, cid=0, from_seq=0, to_seq=0, limit=limit, extensions=(extension,))
    came: list[Any] = []
    while True:
        frame = await who.next(Op.DELIVER, Op.PULL_END, Op.ERROR, where=lambda f: f.op != Op.DELIVER or f.flags & 2 > 0)
        if frame.op == Op.DELIVER:
            came.append((frame["cid"], frame["seq"]))
        elif frame.op == Op.ERROR:
            came.append((frame["ref"], "error", frame["code"]))
        elif frame["cid"]:
            came.append((frame["cid"], "end", frame["next_seq"]))
        else:
            return came, int(frame["next_seq"])


async def test_many_conversations_come_as_if_each_were_asked_for_alone(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cids = [await ann.group([bob.user]) for _ in range(4)]
        foreign = await ann.group()
        for cid in cids[:3]:
            for _ in range(4):
                await ann.say(cid)
        await trio.sleep(2.5)
        for cid in cids[1:]:
            await ann.say(cid)
        heads = {cid: (await bob.pull(cid))[1]["head_seq"] for cid in cids}
        ranges = [(cids[0], 3, 0), (foreign, 1, 0), (cids[1], 0, 0), (cids[2], 2, 5), (cids[3], 99, 0)]
        first, second, third, last = cids
        expected = [
            *[(first, seq) for seq in range(3, heads[first] + 1)], (first, "end", 0),
            (foreign, "error", ErrorCode.NOT_FOUND),
            *[(second, seq) for seq in range(1, heads[second] + 1)], (second, "end", 0),
            *[(third, seq) for seq in range(2, 6)], (third, "end", 0),
            (last, "end", 0),
        ]  # fmt: skip
        assert await pull_many(bob, ranges) == (expected, 0)
        came, following = await pull_many(bob, ranges, limit=heads[first] - 2 + 3)
        assert came == [*expected[: expected.index((second, 3)) + 1], (second, "end", 4)]
        assert following == 4, "the second one was looked at, the third of bob's was not"
        assert await pull_many(bob, ranges, limit=heads[first] - 2) == (expected[: heads[first] - 1], 2)


async def test_ranges_that_are_none_are_refused(at: Place) -> None:
    async with at.people("ann") as (ann,):
        cid = await ann.group()
        for around_cid, ranges in ((cid, [(cid, 1, 0)]), (0, [(0, 1, 0)]), (0, [(cid, 1, 0)] * 201)):
            block = varint.encode(len(ranges)) + b"".join(map(varint.encode, chain.from_iterable(ranges)))
            extension = (EXTENSION_PULL_RANGES, block)
            await ann.put(Op.PULL, cid=around_cid, from_seq=0, to_seq=0, limit=0, extensions=(extension,))
            assert (await ann.next(Op.ERROR))["code"] == ErrorCode.BAD_REQUEST
