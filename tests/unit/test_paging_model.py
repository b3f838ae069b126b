"""Pages of everything against a model: whatever their size, whatever lies in the tail or in the database, whatever is
written between two of them, together they are what the model says, nothing twice and nothing left out.
"""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.hub_rig import Frame, Rig, raise_error, running, using
from support.postgres import Postgres

from chatd.wire.schema import (
    EXTENSION_PULL_AROUND,
    EXTENSION_PULL_FROM_TIME,
    EXTENSION_PULL_RANGES,
    FLAG_EXT,
    TIME_EPOCH_MS,
    Kind,
    Method,
    Op,
)
from chatd.wire.varint import encode as varint

CONVERSATIONS, MEMBERS = 14, 30
WORDS = ("apfel", "birne", "樱桃")

Event = tuple[int, int, bytes]
"""seq, time, payload"""


def events_of(frames: list[Frame]) -> list[Event]:
    found = []
    for frame in frames:
        assert frame.op == Op.DELIVER
        frame.varint()
        seq = frame.varint()
        frame.varint()
        time_ms = frame.time()
        frame.varint()
        found.append((seq, time_ms, frame.rest()))
    return found


class World:
    """reader: who asks. log: everything; spans: what the reader may read of it."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.rng = random.Random(seed)
        self.owner = self.reader = 0
        self.cids: list[int] = []
        self.crowd: list[int] = []
        self.log: dict[int, list[tuple[int, str]]] = {}
        self.spans: dict[int, list[list[int]]] = {}

    # ---- what there is
    async def fill(self) -> None:
        self.owner, self.reader = await self.rig.user("owner"), await self.rig.user("reader")
        for number in range(CONVERSATIONS):
            made = await self.rig.request(self.owner, Method.CONVERSATION_CREATE, {1: 2, 2: f"group {number}"})
            self.cids.append(made[1])
            self.log[made[1]], self.spans[made[1]] = [], []
            await self.come_or_go(made[1])
        self.crowd = [await self.rig.user(f"member{number}") for number in range(MEMBERS)]
        for _ in range(60):
            await self.change()

    async def change(self) -> None:
        cid, step = self.rng.choice(self.cids), self.rng.random()
        if step < 0.75:
            text = " ".join(self.rng.sample(WORDS, self.rng.randint(1, 2)))
            seq = await self.rig.say(cid, self.owner, text)
            self.log[cid].append((seq, text))
        elif step < 0.9:
            await self.come_or_go(cid)
        else:
            await self.rig.fold()

    async def come_or_go(self, cid: int) -> None:
        spans = self.spans[cid]
        gone = not spans or spans[-1][1] != 0
        method = Method.MEMBER_ADD if gone else Method.MEMBER_REMOVE
        seq = (await self.rig.request(self.owner, method, {1: cid, 2: [self.reader]}))[1]
        if gone:
            spans.append([seq, 0])
        else:
            spans[-1][1] = seq

    async def head(self, cid: int) -> int:
        return int((await self.rig.request(self.owner, Method.CONVERSATION_GET, {1: cid}))[4])

    async def readable(self, cid: int) -> list[int]:
        head = await self.head(cid)
        return [seq for join, leave in self.spans[cid] for seq in range(join, (leave or head) + 1)]

    def present(self) -> list[int]:
        return [cid for cid in self.cids if self.spans[cid][-1][1] == 0]

    # ---- pages
    async def pull(self, cid: int, from_seq: int, limit: int, extensions: bytes = b"", **more: Any) -> Any:
        """Events, and PULL_END's next_seq."""
        body = varint(cid) + varint(from_seq) + varint(more.pop("to_seq", 0)) + varint(limit)
        if extensions:
            body += varint(len(extensions)) + extensions
        *found, end = await self.rig.call(self.reader, Op.PULL, body, FLAG_EXT if extensions else 0, **more)
        raise_error(end)
        assert end.op == Op.PULL_END
        assert end.varint() == cid
        return events_of(found), end.varint()

    async def listed(
        self, method: Method, params: dict[int, Any], key: Callable[[list[Any]], Any], after: int = 0
    ) -> list[Any]:
        """All rows of a method with `after` (the parameter of that number) and `limit` behind it."""
        rows: list[Any] = []
        last: Any = 0
        while True:
            size = self.rng.randint(1, 7)
            page = await self.rig.request(self.reader, method, {**params, after: last, after + 1: size})
            assert len(page[1]) <= size
            assert page[1] or not page[2], "an empty page in the middle would be asked for again for ever"
            rows += page[1]
            if not page[2]:
                return rows
            last = key(rows[-1])
            if self.rng.random() < 0.3:
                await self.rig.fold()


def extension(tag: int, content: bytes) -> bytes:
    return varint(tag) + varint(len(content)) + content


async def check_pull(world: World) -> None:
    for cid in world.cids:
        seq, got = 1, []
        while seq:
            limit, window = world.rng.randint(1, 5), (world.rng.randint(1, 6), 1 << 20)
            events, seq = await world.pull(cid, seq, limit, window=window)
            assert len(events) <= min(limit, window[0])
            got += [event[0] for event in events]
            if seq and world.rng.random() < 0.3:
                await world.change()
        assert got == await world.readable(cid)


async def check_around_and_time(world: World) -> None:
    for cid in world.cids:
        everything = (await world.pull(cid, 1, 0))[0]
        seqs = [event[0] for event in everything]
        for _ in range(3):
            seq, before, limit = world.rng.randint(1, seqs[-1] + 2), world.rng.randint(1, 6), world.rng.randint(1, 6)
            begin = max(0, sum(one < seq for one in seqs) - before)
            got, _ = await world.pull(cid, seq, limit, extension(EXTENSION_PULL_AROUND, varint(before)))
            assert got == everything[begin : begin + limit]
            time_ms = world.rng.choice(everything)[1] + world.rng.randint(-1, 1)
            first = sum(event[1] < time_ms for event in everything)
            at = extension(EXTENSION_PULL_FROM_TIME, (time_ms - TIME_EPOCH_MS).to_bytes(5, "big"))
            assert (await world.pull(cid, 0, limit, at))[0] == everything[first : first + limit]
            begin = max(0, first - before)
            both = extension(EXTENSION_PULL_AROUND, varint(before)) + at
            assert (await world.pull(cid, 0, limit, both))[0] == everything[begin : begin + limit]


async def check_ranges(world: World) -> None:
    wanted = {cid: [world.rng.randint(1, 5), world.rng.choice([0, 0, 8])] for cid in world.cids}
    expected = {}
    for cid, (first, last) in wanted.items():
        expected[cid] = [seq for seq in await world.readable(cid) if first <= seq <= (last or seq)]
    got: dict[int, list[int]] = {cid: [] for cid in wanted}
    left = [(cid, *span) for cid, span in wanted.items()]
    for _ in range(500):
        if not left:
            break
        block = varint(len(left)) + b"".join(varint(number) for row in left for number in row)
        body = varint(0) * 3 + varint(world.rng.randint(1, 9))
        ranges = extension(EXTENSION_PULL_RANGES, block)
        frames = await world.rig.call(world.reader, Op.PULL, body + varint(len(ranges)) + ranges, FLAG_EXT)
        again = []
        for frame in frames[:-1]:
            cid = frame.varint()
            if frame.op == Op.DELIVER:
                got[cid].append(frame.varint())
            elif next_seq := frame.varint():
                again.append((cid, next_seq, wanted[cid][1]))
        assert frames[-1].varint() == 0
        number = frames[-1].varint()
        left = again + (left[number - 1 :] if number else [])
        await world.rig.fold()
    assert got == expected


async def check_sync(world: World) -> None:
    """Pages of one moment, each conversation once; then what has changed since, and nothing else."""
    cursor = b""
    changed = set(world.cids)
    for _ in range(3):
        await world.rig.settled()
        heads = {cid: max(await world.readable(cid)) for cid in world.cids}
        seen: dict[int, dict[str, Any]] = {}
        more, written = True, set[int]()
        while more:
            entries, cursor, more = await world.rig.sync(world.reader, cursor, world.rng.randint(1, 4))
            for entry in entries:
                assert entry["cid"] not in seen
                seen[entry["cid"]] = entry
            if more:
                before = {cid: await world.head(cid) for cid in world.cids}
                was_there = set(world.present())
                await world.change()
                written |= {
                    cid
                    for cid in world.cids
                    if await world.head(cid) != before[cid] and cid in was_there | set(world.present())
                }
        assert changed - written <= set(seen) <= changed | written
        assert all(heads[cid] <= entry["head"] for cid, entry in seen.items())
        for cid in set(seen) - written:
            assert seen[cid]["head"] == heads[cid]
            assert seen[cid]["state"] == (1 if cid in world.present() else 2)
        changed = written


async def check_conversations(world: World) -> None:
    rows = await world.listed(Method.CONVERSATION_LIST, {}, lambda row: row[0], after=1)
    assert [row[0] for row in rows] == world.present()
    assert [row[3] for row in rows] == [await world.head(cid) for cid in world.present()]


async def check_members(world: World) -> None:
    cid = world.present()[0] if world.present() else world.cids[0]
    if cid not in world.present():
        await world.come_or_go(cid)
    await world.rig.request(world.owner, Method.MEMBER_ADD, {1: cid, 2: world.crowd})
    there = {world.owner, world.reader, *world.crowd}
    for _ in range(3):
        for user in world.rng.sample(world.crowd, 4):
            method = Method.MEMBER_REMOVE if user in there else Method.MEMBER_ADD
            await world.rig.request(world.owner, method, {1: cid, 2: [user]})
            there ^= {user}
        rows = await world.listed(Method.MEMBER_LIST, {1: cid}, lambda row: row[0], after=2)
        assert [row[0] for row in rows] == sorted(there)


async def check_search(world: World) -> None:
    for word in WORDS:
        expected = {
            (cid, seq)
            for cid, said in world.log.items()
            for seq, text in said
            if word in text and any(join <= seq and (leave == 0 or seq <= leave) for join, leave in world.spans[cid])
        }
        hits: list[list[Any]] = []
        cursor = b""
        while True:
            size = world.rng.randint(1, 6)
            page = await world.rig.request(world.reader, Method.SEARCH, {1: word, 7: size, 8: cursor})
            assert len(page[1]) <= size
            hits += page[1]
            cursor = page[2]
            if not cursor:
                break
            if world.rng.random() < 0.2:
                await world.rig.fold()
        places = [(hit[0], hit[1]) for hit in hits]
        assert len(places) == len(set(places))
        assert set(places) == expected
        assert [hit[3] for hit in hits] == sorted((hit[3] for hit in hits), reverse=True), "newest first"
        assert all(hit[4] == Kind.TEXT for hit in hits)


CHECKS: dict[str, Callable[[World], Awaitable[None]]] = {
    "PULL": check_pull,
    "AROUND and FROM_TIME": check_around_and_time,
    "RANGES": check_ranges,
    "SYNC": check_sync,
    "CONVERSATION_LIST": check_conversations,
    "MEMBER_LIST": check_members,
    "SEARCH": check_search,
}


async def played(seed: int, path: Path) -> None:
    """Every check, in some order, on one world; in its second life it is read from disk."""
    async with running(path) as rig:
        world = World(rig, seed)
        await world.fill()
        for name in world.rng.sample(list(CHECKS), len(CHECKS)):
            await CHECKS[name](world)
            await world.change()
    async with running(path) as rig:
        world.rig = rig
        for check in CHECKS.values():
            await check(world)


@pytest.mark.parametrize("seed", range(2))
async def test_pages_together_are_what_the_model_says(seed: int, tmp_path: Path) -> None:
    with using("native"):
        await played(seed, tmp_path)


async def test_pages_are_the_same_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    with using("native", postgres):
        await played(4, tmp_path)


async def test_a_list_goes_on_behind_many_conversations_that_were_left(tmp_path: Path) -> None:
    with using("native"):
        async with running(tmp_path) as rig:
            world = World(rig, 0)
            world.owner = world.reader = await rig.user("ann")
            cids = [(await rig.request(world.owner, Method.CONVERSATION_CREATE, {1: 2, 2: "g"}))[1] for _ in range(9)]
            for cid in cids[:-1]:
                await rig.request(world.owner, Method.MEMBER_LEAVE, {1: cid})
            for _ in range(2):
                page = await rig.request(world.owner, Method.CONVERSATION_LIST, {1: 0, 2: 1})
                assert ([row[0] for row in page[1]], page[2]) == (cids[-1:], False)
                await rig.fold()
