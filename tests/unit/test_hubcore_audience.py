"""Pushes in a large conversation: those who are there get what their intervals hold, whatever happens between."""

import random

import pytest
from support.fakehub import FakeHub, of_type
from support.fakeshard import Committed, FakeShard, Session

from chatd._native import HubCore

CID, CROWD = 7, 1500
PEOPLE = (1, 2, 700, 1499, 1500, 1501, 1502, 90_000)
"""Who comes and goes; the last three are no members at first."""


class Play:
    def __init__(self) -> None:
        self.hub = FakeHub(HubCore)
        for user in PEOPLE:
            self.hub.person(user, user + 100_000)
        self.hub.conversation(CID, *range(1, CROWD + 1), kind=3)
        self.hub.answer(("need_conversation", CID))
        self.shard = FakeShard(self.hub.core)
        self.head = 0
        self.handles = 0
        self.intervals = {user: [[1, 0]] if user <= CROWD else [] for user in PEOPLE}
        self.online: dict[int, Session] = {}

    def come_or_go(self, user: int) -> None:
        if user in self.online:
            self.shard.closed(self.online.pop(user))
            self.hub.run()
            return
        self.handles += 1
        self.online[user] = self.hub.login(self.shard, self.handles, user, user + 100_000)

    def all_go(self) -> None:
        """Their shard dies."""
        self.online.clear()
        self.shard = FakeShard(self.hub.core, epoch=self.handles + 2)
        self.hub.run()

    def load_again(self) -> None:
        """What a reader brings is what the core knows."""
        self.hub.core.put_conversation(CID, 3, 0, 0, 0, 0, 0, self.hub.core.members(CID))

    def event(self) -> None:
        self.head = self.hub.core.stage_event(CID, 0, 1, b"x", 1)

    def join_or_leave(self, user: int) -> None:
        held = self.intervals[user]
        if held and held[-1][1] == 0:
            held[-1][1] = self.head + 1
        else:
            held.append([self.head + 1, 0])
        self.hub.core.stage_member(CID, user, 1, *held[-1])
        self.event()

    def batch(self, users: list[int], refused: bool) -> None:
        """Events with changes of membership between them, stored or refused as one."""
        head, before = self.head, {user: [held[:] for held in found] for user, found in self.intervals.items()}
        self.event()
        for user in users:
            self.join_or_leave(user)
            self.event()
        if refused:
            self.hub.core.reject(501, 100)
            self.head, self.intervals = head, before
            return
        self.hub.commit()
        pushed = {record.seq: record.handles for record in of_type(self.shard.read(), Committed)}
        for seq in range(head + 1, self.head + 1):
            assert sorted(pushed.pop(seq, ())) == sorted(
                session.handle
                for user, session in self.online.items()
                if any(join <= seq and (leave == 0 or seq <= leave) for join, leave in self.intervals[user])
            ), seq
        assert not pushed


@pytest.mark.parametrize("seed", range(8))
def test_pushes_reach_exactly_the_members_of_that_moment_who_are_there(seed: int) -> None:
    rng, play = random.Random(seed), Play()
    for _ in range(150):
        step = rng.random()
        if step < 0.4:
            play.come_or_go(rng.choice(PEOPLE))
        elif step < 0.42:
            play.all_go()
        elif step < 0.45:
            play.load_again()
        else:
            play.batch(rng.choices(PEOPLE, k=rng.randrange(3)), refused=rng.random() < 0.2)
    play.hub.core.close()


def test_more_large_conversations_than_there_are_lists_for() -> None:
    hub = FakeHub(HubCore)
    hub.person(5, 50)
    cids = range(1, 71)
    for cid in cids:
        hub.conversation(cid, *range(1, 1101))
        hub.answer(("need_conversation", cid))
    shard = FakeShard(hub.core)
    hub.login(shard, 9, 5, 50)
    for _ in range(2):
        for cid in cids:
            hub.core.stage_event(cid, 0, 1, b"x", 1)
        hub.commit()
        pushed = of_type(shard.read(), Committed)
        assert [(record.cid, record.handles) for record in pushed] == [(cid, (9,)) for cid in cids]
