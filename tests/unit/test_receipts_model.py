"""Receipts against a model: positions are maxima, so order, repetition and grouping of what devices report change
nothing, they only rise, and who has received and read a message follows from them, the same for every device.
"""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakehub import FakeHub, of_type
from support.fakeshard import OP_RECEIPT, FakeShard, Frames, Receipts, varints
from support.hub_rig import Refused, Rig, running, using
from support.postgres import Postgres

from chatd._native import HubCore
from chatd.wire.schema import ErrorCode, Method

CID, HEAD = 7, 10
RECEIPTS = 4
PATIENCE_S = 60

Report = tuple[int, int, int]
"""user, delivered_seq, read_seq"""

REPORTS = st.lists(
    st.tuples(st.sampled_from([2, 3]), st.integers(0, HEAD + 3), st.integers(0, HEAD + 3)), min_size=1, max_size=10
)


class Told(NamedTuple):
    """final: user → (delivered, read). seen: what a follower was shown, own: what the reader's other device was."""

    final: dict[int, tuple[int, int]]
    again: dict[int, tuple[int, int]]
    seen: list[Report]
    own: list[Report]


def merged(reports: list[Report]) -> dict[int, tuple[int, int]]:
    found = {2: (0, 0), 3: (0, 0)}
    for user, delivered, read in reports:
        before = found[user]
        found[user] = (max(before[0], min(max(delivered, read), HEAD)), max(before[1], min(read, HEAD)))
    return found


def positions(core: Any) -> dict[int, tuple[int, int]]:
    return {user: core.intervals(CID, user)[-1][4:6] for user in (2, 3)}


def told(groups: list[list[Report]]) -> Told:
    """The reports, each group in one turn of the hub; then another hub that knows the journal alone."""
    hub = FakeHub(HubCore)
    for user in (1, 2, 3):
        hub.person(user, 10 * user + 1, 10 * user + 2)
    hub.conversation(CID, 1, 2, 3)
    shard = FakeShard(hub.core)
    writer = hub.login(shard, 11, 1, 11, features=RECEIPTS)
    for device in (21, 22, 31):
        hub.login(shard, device, device // 10, device, features=RECEIPTS)
    shard.subscribe(writer, CID)
    for cseq in range(1, HEAD + 1):
        shard.send(writer, cseq, CID)
    hub.run()
    shard.read()
    records = []
    for group in groups:
        for user, delivered, read in group:
            shard.position(user, CID, delivered, read)
        hub.run()
        hub.tick_ms += 200
        records += shard.read()
    hub.tick_ms += 5000
    hub.run()
    records += shard.read()
    after = FakeHub(HubCore)
    after.conversations, after.rules = hub.conversations, hub.rules
    for batch in hub.journal:
        after.core.replay(*batch)
    after.answer(("need_conversation", CID))
    seen = [entry for record in of_type(records, Receipts) for entry in record.entries if entry[0] != 1]
    own = [
        tuple(varints(body, 5)[0][2:])
        for record in of_type(records, Frames)
        for op, _, body in record.frames
        if op == OP_RECEIPT and record.handle == 22
    ]
    found = Told(positions(hub.core), positions(after.core), seen, own)
    hub.core.close()
    after.core.close()
    return found


@settings(max_examples=60)
@given(reports=REPORTS, data=st.data())
def test_reports_merge_in_any_order_repeated_and_grouped(reports: list[Report], data: st.DataObject) -> None:
    once = told([reports])
    assert once.final == once.again == merged(reports)
    shuffled = data.draw(st.permutations(reports + data.draw(st.lists(st.sampled_from(reports), max_size=5))))
    cut = data.draw(st.integers(0, len(shuffled)))
    for groups in ([[report] for report in shuffled], [shuffled[:cut], shuffled[cut:]]):
        assert told(groups)[:2] == once[:2]


@settings(max_examples=60)
@given(reports=REPORTS)
def test_what_is_shown_only_rises_and_ends_where_the_positions_are(reports: list[Report]) -> None:
    found = told([[report] for report in reports])
    for shown in (found.seen, found.own):
        for user in {entry[0] for entry in shown}:
            steps = [entry[1:] for entry in shown if entry[0] == user]
            assert all(read <= delivered <= HEAD for delivered, read in steps)
            assert all(x <= y for before, after in pairwise(steps) for x, y in zip(before, after, strict=True))
    last = {user: (delivered, read) for user, delivered, read in found.seen}
    assert last == {user: position for user, position in found.final.items() if position != (0, 0)}
    read = found.final[2][1]
    assert [entry[2] for entry in found.own[-1:]] == ([read] if read else [])


# ---------------------------------------------------------------- what methods make of them


class Play:
    """A group in which people talk, read, come and go. The model: a position and the current interval of each."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cid = 0
        self.head = 1
        self.users: list[int] = []
        self.second: dict[int, int] = {}
        self.messages: list[int] = []
        self.joined: set[int] = set()
        self.spans: dict[int, list[list[int]]] = {}
        self.position: dict[int, tuple[int, int]] = {}

    async def begin(self, rig: Rig) -> None:
        self.users = [await rig.user(f"user{number}") for number in range(4)]
        self.cid = (await rig.request(self.users[0], Method.CONVERSATION_CREATE, {1: 2, 2: ""}))[1]
        self.joined.add(self.users[0])
        self.spans = {user: [] for user in self.users} | {self.users[0]: [[1, 0]]}
        self.position = dict.fromkeys(self.users, (0, 0))
        for user in self.users:
            self.second[user] = (await rig.rpc("device", user, 0, "tablet"))["device"]

    def raise_to(self, user: int, delivered: int, read: int) -> None:
        before = self.position[user]
        self.position[user] = (max(before[0], delivered, read), max(before[1], read))

    async def say(self, rig: Rig) -> None:
        user = self.rng.choice(sorted(self.joined))
        self.head = await rig.say(self.cid, user, "x")
        self.messages.append(self.head)
        self.raise_to(user, self.head, self.head)

    async def come_or_go(self, rig: Rig) -> None:
        user = self.rng.choice(self.users[1:])
        method = Method.MEMBER_REMOVE if user in self.joined else Method.MEMBER_ADD
        self.head = (await rig.request(self.users[0], method, {1: self.cid, 2: [user]}))[1]
        if method == Method.MEMBER_REMOVE:
            self.joined.remove(user)
            self.spans[user][-1][1] = self.head
        else:
            self.joined.add(user)
            self.spans[user].append([self.head, 0])
            self.raise_to(user, self.head, self.head)

    async def report(self, rig: Rig) -> None:
        user = self.rng.choice(sorted(self.joined))
        delivered, read = self.rng.randint(0, self.head), self.rng.randint(0, self.head)
        rig.door.shard.position(user, self.cid, delivered, read)
        self.raise_to(user, delivered, read)

    async def check(self, rig: Rig) -> None:
        """A read position whose count lies in the database takes a moment."""
        with trio.fail_after(PATIENCE_S):
            while await self.listed(rig) != {user: self.position[user] for user in self.joined}:  # noqa: ASYNC110
                await trio.sleep(0.01)
        for viewer in self.joined:
            for seq in range(1, self.head + 1):
                await self.check_receipts(rig, viewer, seq)
            await self.check_unread(rig, viewer)

    async def listed(self, rig: Rig) -> dict[int, tuple[int, int]]:
        rows = (await rig.request(self.users[0], Method.MEMBER_LIST, {1: self.cid}))[1]
        return {row[0]: (row[3], row[4]) for row in rows}

    def may_read(self, user: int, seq: int) -> bool:
        return any(join <= seq and (leave == 0 or seq <= leave) for join, leave in self.spans[user])

    async def check_receipts(self, rig: Rig, viewer: int, seq: int) -> None:
        if not self.may_read(viewer, seq):
            with pytest.raises(Refused) as refusal:
                await rig.request(viewer, Method.RECEIPT_GET, {1: self.cid, 2: seq})
            assert refusal.value.code == ErrorCode.NOT_FOUND
            return
        found = await rig.request(viewer, Method.RECEIPT_GET, {1: self.cid, 2: seq})
        others = {user: self.position[user] for user in self.joined if user != viewer and self.may_read(user, seq)}
        assert found == {
            1: len(others),
            2: sum(delivered >= seq for delivered, _ in others.values()),
            3: sum(read >= seq for _, read in others.values()),
            4: [[user, others[user][0] >= seq, others[user][1] >= seq] for user in sorted(others)],
        }

    async def check_unread(self, rig: Rig, viewer: int) -> None:
        read = self.position[viewer][1]
        for device in (0, self.second[viewer]):
            (entry,) = (await rig.sync(viewer, device=device))[0]
            assert entry["read_seq"] == read
            assert entry["count"] - entry["read_count"] == sum(seq > read for seq in self.messages)


async def played(seed: int, path: Path) -> None:
    play = Play(seed)
    for life in range(2):
        async with running(path) as rig:
            if life == 0:
                await play.begin(rig)
            for _ in range(12):
                step = play.rng.choices([play.say, play.report, play.come_or_go], [4, 5, 2])[0]
                await step(rig)
                if play.rng.random() < 0.15:
                    await rig.fold()
            await play.check(rig)
            await rig.settled()
            await play.check(rig)


@pytest.mark.parametrize("seed", range(4))
async def test_who_has_read_a_message_follows_from_the_positions(seed: int, tmp_path: Path) -> None:
    with using("native"):
        await played(seed, tmp_path)


@pytest.mark.parametrize("seed", [6])
async def test_who_has_read_a_message_is_the_same_on_postgresql(seed: int, tmp_path: Path, postgres: Postgres) -> None:
    with using("native", postgres):
        await played(seed, tmp_path)
