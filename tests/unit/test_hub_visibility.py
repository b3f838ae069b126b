"""Who may read, find and be pushed what, against a model: whatever is done, in any order, with folds and restarts
between."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hub_rig import NativeDoor, Refused, Rig, running, using
from support.postgres import Postgres

from chatd.services.joining import HISTORY_ALL
from chatd.wire.schema import ErrorCode, Method

PEOPLE = 3
Step = tuple[Any, ...]


@dataclass
class Person:
    readable: set[int] = field(default_factory=set)
    pushed: list[int] = field(default_factory=list)
    present: bool = False
    banned: bool = False
    left_at: int = 0
    hidden: set[int] = field(default_factory=set)
    was_member: bool = False


@dataclass
class Model:
    """What each of PEOPLE may read; the owner is always there."""

    head: int = 1
    history: int = 0
    archived: bool = False
    deleted: bool = False
    said: set[int] = field(default_factory=set)
    people: list[Person] = field(default_factory=lambda: [Person() for _ in range(PEOPLE)])

    def event(self) -> int:
        self.head += 1
        for person in self.people:
            if person.present:
                person.readable.add(self.head)
                person.pushed.append(self.head)
        return self.head

    def join(self, who: int) -> None:
        person, seq = self.people[who], self.event()
        first = 1 if self.history >= HISTORY_ALL else seq - self.history
        person.readable |= set(range(max(person.left_at + 1, first, 1), seq + 1))
        person.pushed.append(seq)
        person.present = person.was_member = True

    def remove(self, who: int) -> None:
        self.people[who].left_at = self.event()
        self.people[who].present = False

    def delete(self) -> None:
        seq = self.event()
        for person in self.people:
            if person.present:
                person.left_at, person.present = seq, False
        self.deleted = True


class Play:
    """Does a step on the server and on the model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.cid = self.owner = 0
        self.users: list[int] = []
        self.token = b""

    async def begin(self, rig: Rig) -> None:
        self.owner = await rig.user("owner")
        self.users = [await rig.user(f"user{number}") for number in range(PEOPLE)]
        self.cid = (await rig.request(self.owner, Method.CONVERSATION_CREATE, {1: 2, 2: ""}))[1]
        self.token = (await rig.request(self.owner, Method.INVITE_CREATE, {1: self.cid}))[1]

    async def ask(self, rig: Rig, user: int, method: Method, params: dict[int, Any]) -> ErrorCode | None:
        try:
            await rig.request(user, method, params)
        except Refused as refused:
            return refused.code
        return None

    async def managed(self, rig: Rig, method: Method, params: dict[int, Any]) -> bool:
        """The owner asks; True: it was done. Nobody owns a deleted conversation."""
        code = await self.ask(rig, self.owner, method, {1: self.cid, **params})
        assert code == (ErrorCode.NOT_FOUND if self.model.deleted else None)
        return code is None

    async def say(self, rig: Rig) -> None:
        if not self.model.deleted and not self.model.archived:
            await rig.say(self.cid, self.owner, "x")
            self.model.said.add(self.model.event())

    async def history(self, rig: Rig, count: int) -> None:
        if await self.managed(rig, Method.CONVERSATION_SET_RULES, {3: count}):
            self.model.history = count
            self.model.event()

    async def archive(self, rig: Rig, archived: bool) -> None:
        before = self.model.archived
        if await self.managed(rig, Method.CONVERSATION_ARCHIVE, {2: archived}) and archived != before:
            self.model.archived = archived
            self.model.event()

    async def delete(self, rig: Rig) -> None:
        if await self.managed(rig, Method.CONVERSATION_DELETE, {}):
            self.model.delete()

    async def come(self, rig: Rig, who: int, by_link: bool) -> None:
        person, user = self.model.people[who], self.users[who]
        if by_link:
            code = await self.ask(rig, user, Method.INVITE_JOIN, {1: self.token})
        else:
            code = await self.ask(rig, self.owner, Method.MEMBER_ADD, {1: self.cid, 2: [user]})
        if self.model.deleted:
            assert code == ErrorCode.NOT_FOUND
            return
        assert code == (ErrorCode.BANNED if person.banned else None)
        if not person.present and not person.banned:
            self.model.join(who)

    async def go(self, rig: Rig, who: int, how: str) -> None:
        person, user = self.model.people[who], self.users[who]
        if how == "leave":
            code = await self.ask(rig, user, Method.MEMBER_LEAVE, {1: self.cid})
            assert code == (None if person.present else ErrorCode.NOT_FOUND)
        elif how == "kick":
            await self.managed(rig, Method.MEMBER_REMOVE, {2: [user]})
        elif await self.managed(rig, Method.MEMBER_BAN, {2: user, 3: 0}):
            person.banned = True
        if person.present:
            self.model.remove(who)

    async def come_back(self, rig: Rig, who: int, history: int) -> None:
        """After a while outside, to a conversation that shows so much of it."""
        await self.go(rig, who, "leave")
        await self.say(rig)
        await self.history(rig, history)
        await self.come(rig, who, by_link=True)

    async def pardon(self, rig: Rig, who: int) -> None:
        if await self.managed(rig, Method.BAN_LIFT, {2: self.users[who]}) and self.model.people[who].banned:
            self.model.people[who].banned = False
            self.model.event()

    async def hide(self, rig: Rig, who: int, seq: int, all_before: bool) -> None:
        person = self.model.people[who]
        params = {1: self.cid, 2: seq} if all_before else {1: self.cid, 3: [seq]}
        code = await self.ask(rig, self.users[who], Method.OWN_HIDE, params)
        if not person.was_member:
            assert code == ErrorCode.NOT_FOUND
        elif seq > max(person.readable):
            assert code == ErrorCode.BAD_REQUEST
        else:
            person.hidden |= set(range(1, seq + 1)) if all_before else {seq}

    async def fold(self, rig: Rig) -> None:
        await rig.fold()
        rig.forget(self.cid)

    async def check(self, rig: Rig) -> None:
        """Every way to an event, for everybody."""
        self.check_pushed(rig)
        for user, person in zip(self.users, self.model.people, strict=True):
            if not person.was_member:
                with pytest.raises(Refused, match="NOT_FOUND"):
                    await rig.pull(user, self.cid)
                continue
            events, end = await rig.pull(user, self.cid)
            assert [event[0] for event in events] == sorted(person.readable - person.hidden)
            assert end[1] == max(person.readable)
            (entry,) = (await rig.sync(user))[0]
            assert (entry["state"], entry["head"]) == (1 if person.present else 2, max(person.readable))

    def check_pushed(self, rig: Rig) -> None:
        if isinstance(rig.door, NativeDoor):
            pushed = rig.door.pushed(self.cid)
            for user, person in zip(self.users, self.model.people, strict=True):
                assert pushed.get(user, []) == person.pushed
        for person in self.model.people:
            person.pushed.clear()

    async def search(self, rig: Rig) -> None:
        for user, person in zip(self.users, self.model.people, strict=True):
            hits = (await rig.request(user, Method.SEARCH, {1: "x"}))[1]
            expected = (person.readable & self.model.said) - person.hidden
            assert [hit[:2] for hit in hits] == [[self.cid, seq] for seq in sorted(expected, reverse=True)]


who = st.integers(0, PEOPLE - 1)
STEPS = st.lists(
    st.one_of(
        st.just(("say",)),
        st.tuples(st.just("history"), st.sampled_from([0, 1, 3, HISTORY_ALL])),
        st.tuples(st.just("come"), who, st.booleans()),
        st.tuples(st.just("come"), who, st.booleans()),
        st.tuples(st.just("go"), who, st.sampled_from(["leave", "kick", "ban"])),
        st.tuples(st.just("come_back"), who, st.sampled_from([0, 1, HISTORY_ALL])),
        st.tuples(st.just("come_back"), who, st.sampled_from([3, HISTORY_ALL])),
        st.tuples(st.just("archive"), st.booleans()),
        st.sampled_from([("search",), ("search",), ("search",), ("delete",)]),
        st.tuples(st.just("pardon"), who),
        st.tuples(st.just("hide"), who, st.integers(1, 12), st.booleans()),
        st.just(("fold",)),
        st.just(("restart",)),
    ),
    min_size=3,
    max_size=16,
)


def lives(steps: list[Step]) -> Iterator[list[Step]]:
    """The steps of each life of the server."""
    life: list[Step] = []
    for step in steps:
        if step == ("restart",):
            yield life
            life = []
        else:
            life.append(step)
    yield life


async def played(steps: list[Step]) -> None:
    play = Play(Model())
    with tempfile.TemporaryDirectory() as directory:
        for number, life in enumerate(lives(steps)):
            async with running(Path(directory)) as rig:
                if number == 0:
                    await play.begin(rig)
                await play.check(rig)
                for name, *arguments in life:
                    await getattr(play, name)(rig, *arguments)
                    await play.check(rig)
                await play.search(rig)


@pytest.mark.parametrize("core", ["plain", "native"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_everybody_reads_what_the_model_says(core: str, steps: list[Step]) -> None:
    with using(core):
        trio.run(played, steps)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_everybody_reads_the_same_on_postgresql(postgres: Postgres, steps: list[Step]) -> None:
    with using("native", postgres):
        trio.run(played, steps)
