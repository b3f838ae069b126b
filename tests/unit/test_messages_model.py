"""Edit and recall against a model: who may, until when, what the log shows afterwards, for everybody, over folds and
restarts, and when the clock is moved by hours. What was taken back is in no PULL, no state, no search.
"""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from support.authors import Author
from support.fakeshard import Ack
from support.hub_rig import Rig, running, using
from support.hub_sessions import Shard
from support.postgres import Postgres

from chatd.clock import AgeWatch, Clock
from chatd.wire.payload import encode_payload
from chatd.wire.schema import ErrorCode, Kind, Method

EDIT_WINDOW_S, RECALL_WINDOW_S = 86_400, 120
JUMPS_S = (50, 90, 40_000)
"""No sum of a few comes within seconds of a window: a busy machine may take that long."""
PEOPLE = ("owner", "bob", "carl")
LATE = "late"
"""A member who joins in the middle and reads from there."""


@dataclass
class Event:
    author: int
    kind: int
    payload: bytes
    at_s: float
    gone: bool = False
    edits: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


class Play:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.log: dict[int, Event] = {}
        self.ahead_s = 0.0
        self.cid = self.late = self.late_from = 0
        self.users: list[int] = []
        self.devices: dict[int, int] = {}
        self.cseqs: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.authors: dict[int, Author] = {}
        self.clock = Clock(lambda: time.time_ns() + self._ahead_ns(), lambda: time.monotonic_ns() + self._ahead_ns())

    def _ahead_ns(self) -> int:
        return int(self.ahead_s * 1e9)

    # ---- a life of the server
    async def begin(self, rig: Rig) -> None:
        self.users = [await rig.user(name) for name in PEOPLE]
        self.late = await rig.user(LATE)
        created = {1: 2, 2: "g", 3: self.users[1:]}
        self.cid = (await rig.request(self.users[0], Method.CONVERSATION_CREATE, created))[1]
        for user in self.users:
            self.devices[user] = (await rig.rpc("device", user, 0, "phone"))["device"]
        events, _ = await rig.pull(self.users[0], self.cid)
        self.log = {seq: Event(self.users[0], Kind.MEMBERS_ADDED, payload, 0) for seq, payload in events}

    async def enter(self, rig: Rig) -> None:
        shard = Shard(rig)
        for user, device in self.devices.items():
            session, registered = await shard.login(user, device)
            self.authors[user] = Author(rig, shard, session, self.cid, registered.cseq_stored)

    # ---- steps
    def now_s(self) -> float:
        return time.monotonic() + self.ahead_s

    def target(self) -> int:
        """Mostly a message; sometimes another event, or what is not there."""
        said = [seq for seq, event in self.log.items() if event.kind == Kind.TEXT]
        if said and self.rng.random() < 0.8:
            return self.rng.choice(said[-6:])
        return self.rng.randint(1, len(self.log) + 1)

    async def say(self, rig: Rig) -> None:
        user = self.rng.choice(self.users)
        text = f"word{len(self.log) + 1}"
        seq = await self.authors[user].say(text.encode())
        self.log[seq] = Event(user, Kind.TEXT, text.encode(), self.now_s(), words=[text])
        self.read[user] = seq

    def verdict(self, user: int, kind: Kind, target: int) -> ErrorCode | None:
        event = self.log.get(target)
        if event is None:
            return ErrorCode.NOT_FOUND
        if event.kind != Kind.TEXT:
            return ErrorCode.BAD_REQUEST
        if event.gone:
            return ErrorCode.NOT_FOUND
        if kind == Kind.RECALL and user == self.users[0]:
            return None
        if user != event.author:
            return ErrorCode.FORBIDDEN
        window_s = EDIT_WINDOW_S if kind == Kind.EDIT else RECALL_WINDOW_S
        return ErrorCode.EXPIRED if self.now_s() - event.at_s > window_s else None

    async def act(self, kind: Kind) -> None:
        target = self.target()
        event = self.log.get(target)
        user = event.author if event is not None and self.rng.random() < 0.7 else self.rng.choice(self.users)
        user = user if user in self.authors else self.users[0]
        fields = {"target": target} | ({"content": f"better{len(self.log)}".encode()} if kind == Kind.EDIT else {})
        expected = self.verdict(user, kind, target)
        answer = await self.authors[user].act(kind, **fields)
        if expected is not None:
            assert not isinstance(answer, Ack), (kind, target, expected)
            assert answer.code == expected, (kind, target)
            return
        assert isinstance(answer, Ack), (kind, target, answer)
        self.log[answer.seq] = Event(user, kind, encode_payload(kind, fields), self.now_s())
        assert event is not None
        if kind == Kind.EDIT:
            event.edits.append(answer.seq)
            event.words.append(fields["content"].decode())
            return
        for seq in (target, *event.edits):
            self.log[seq].gone = True

    async def edit(self, rig: Rig) -> None:
        await self.act(Kind.EDIT)

    async def recall(self, rig: Rig) -> None:
        await self.act(Kind.RECALL)

    async def wait(self, rig: Rig) -> None:
        """The hub sees the clocks once a second: it sees that of the newest message before they go on."""
        for step_s in (AgeWatch.INTERVAL_MS / 1000 + 0.1, self.rng.choice(JUMPS_S)):
            self.ahead_s += step_s
            await self.looked(rig)

    async def looked(self, rig: Rig) -> None:
        with trio.fail_after(60):
            while rig.hub.ages._looks[-1][1] < self.clock.monotonic_ms() - 500:
                rig.hub.wake()
                await trio.sleep(0.002)

    async def fold(self, rig: Rig) -> None:
        await rig.fold()

    async def join_late(self, rig: Rig) -> None:
        self.late_from = (await rig.request(self.users[0], Method.MEMBER_ADD, {1: self.cid, 2: [self.late]}))[1]
        ((_, payload),), _ = await rig.pull(self.late, self.cid)
        self.log[self.late_from] = Event(self.users[0], Kind.MEMBERS_ADDED, payload, 0)

    # ---- what everybody sees
    async def check(self, rig: Rig) -> None:
        shown = [(seq, b"" if event.gone else event.payload) for seq, event in sorted(self.log.items())]
        assert (await rig.pull(self.users[1], self.cid))[0] == shown
        if self.late_from:
            assert (await rig.pull(self.late, self.cid))[0] == [row for row in shown if row[0] >= self.late_from]

    async def hits(self, rig: Rig, reader: int, word: str) -> list[int]:
        return [hit[1] for hit in (await rig.request(reader, Method.SEARCH, {1: word}))[1]]

    async def check_all(self, rig: Rig) -> None:
        await self.check(rig)
        said = {seq: event for seq, event in self.log.items() if event.kind == Kind.TEXT}
        states = await rig.request(self.users[1], Method.MESSAGE_STATES, {1: self.cid, 2: sorted(said)[-100:]})
        assert states[1] == [
            [seq, event.edits[-1] if event.edits and not event.gone else 0, [], False]
            for seq, event in sorted(said.items())[-100:]
        ]
        for reader, first in ((self.users[2], 1), (self.late, self.late_from or len(self.log) + 1)):
            for seq, event in self.rng.sample(sorted(said.items()), min(8, len(said))):
                found = [seq] if seq >= first and not event.gone else []
                assert await self.hits(rig, reader, event.words[-1]) == found
                if event.edits:
                    assert await self.hits(rig, reader, event.words[0]) == []
        members = (await rig.request(self.users[0], Method.MEMBER_LIST, {1: self.cid}))[1]
        read = {row[0]: row[4] for row in members if row[0] in self.users}
        joined = {row[0]: row[2] for row in members}
        assert {user: max(seq, self.read.get(user, 0)) for user, seq in read.items()} == read
        assert all(seq <= max(self.read.get(user, 0), joined[user]) for user, seq in read.items()), (
            "who writes has read"
        )


STEPS = {"say": 6, "edit": 5, "recall": 3, "wait": 2, "fold": 1}


async def played(seed: int, path: Path, steps: int) -> None:
    play = Play(seed)
    windows = {"edit_window_s": EDIT_WINDOW_S, "recall_window_s": RECALL_WINDOW_S}
    for life in range(3):
        async with running(path, play.clock, **windows) as rig:
            if life == 0:
                await play.begin(rig)
            await play.enter(rig)
            if life == 1:
                await play.join_late(rig)
            for _ in range(steps):
                await getattr(play, play.rng.choices(list(STEPS), list(STEPS.values()))[0])(rig)
                await play.check(rig)
            await play.check_all(rig)


@pytest.mark.parametrize("seed", range(3))
async def test_edits_and_recalls_are_as_the_model_says(seed: int, tmp_path: Path) -> None:
    with using("native"):
        await played(seed, tmp_path, 18)


@pytest.mark.parametrize("seed", [5])
async def test_edits_and_recalls_are_the_same_on_postgresql(seed: int, tmp_path: Path, postgres: Postgres) -> None:
    with using("native", postgres):
        await played(seed, tmp_path, 12)
