"""Messages as they are now: what the server folds, what a client folds of the raw log, and a model are equal."""

import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support import hub_rig
from support.authors import Author, author
from support.fakeshard import Ack

from chatd.client import Event, Folded
from chatd.hub import folding
from chatd.services.joining import HISTORY_ALL
from chatd.wire.frame import Frame, decode
from chatd.wire.schema import (
    EXTENSION_DELIVER_NOW,
    EXTENSION_PULL_END_OMITTED,
    FLAG_DELIVER_STUB,
    FLAG_DELIVER_TOMBSTONE,
    FLAG_EXT,
    Kind,
    Method,
    Op,
)
from chatd.wire.time40 import to_unix_ms
from chatd.wire.varint import encode as varint

EMOJI = ("👍", "x", "❤")
FOLDED = b"\x03\x09\x01\x00"
"""The extension block that asks for it."""
WHAT = ("say", "say", "edit", "recall", "react", "react", "react", "pin", "fold")


@pytest.fixture(autouse=True)
def native_core() -> Iterator[None]:
    hub_rig.core_kind = "native"
    yield
    hub_rig.core_kind = "plain"


async def pull(
    who: Author, folded: bool, from_seq: int = 1, limit: int = 0, **options: Any
) -> tuple[list[Event], Frame]:
    """One page as a client sees it, and its PULL_END."""
    body = b"".join(map(varint, (who.cid, from_seq, 0, limit))) + (FOLDED if folded else b"")
    answer = await who.rig.call(who.session.user, Op.PULL, body, FLAG_EXT if folded else 0, **options)
    *events, end = [decode(frame.op, frame.flags, frame.body) for frame in answer]
    return [event_of(frame) for frame in events], end


def event_of(frame: Frame) -> Event:
    return Event(
        frame["cid"],
        frame["seq"],
        frame["sender"],
        to_unix_ms(frame["time"]),
        frame["kind"],
        b"" if frame.flags & FLAG_DELIVER_STUB else frame["payload"],
        stub=bool(frame.flags & FLAG_DELIVER_STUB),
        extensions=dict(frame.extensions),
        tombstone=bool(frame.flags & FLAG_DELIVER_TOMBSTONE),
    )


async def everything(who: Author, limit: int, **options: Any) -> list[Event]:
    """All folded pages. Every seq is delivered, or named as left out, exactly once and in order."""
    found: list[Event] = []
    seqs: list[int] = []
    from_seq = 1
    while from_seq:
        events, end = await pull(who, True, from_seq, limit, **options)
        named = end.extension(EXTENSION_PULL_END_OMITTED) or {"ranges": ()}
        omitted = [seq for row in named["ranges"] for seq in range(row["from_seq"], row["from_seq"] + row["count"])]
        found += events
        seqs += sorted([*omitted, *(event.seq for event in events)])
        from_seq = end["next_seq"]
    assert seqs == list(range(1, end["head_seq"] + 1))
    return found


Model = dict[int, dict[str, Any]]


class History:
    """What people do, and what becomes of their messages by it."""

    def __init__(self, ann: Author, bob: Author, seed: int) -> None:
        self.people, self.rng, self.said = (ann, bob), random.Random(seed), Model()

    async def do(self, what: str) -> None:
        rng, who = self.rng, self.rng.choice(self.people)
        user = who.session.user
        alive = [seq for seq, message in self.said.items() if not message["recalled"]]
        if what == "say" or not alive:
            text = rng.choice(("hello", "", "你好", "z" * 300)).encode()
            seq = await who.say(text)
            self.said[seq] = {"by": who, "text": text, "edited": 0, "recalled": False, "pinned": False, "reactions": {}}
            return
        target = rng.choice(alive)
        message = self.said[target]
        match what:
            case "edit":
                text = f"edit {rng.random()}".encode()
                message.update(text=text, edited=await done(message["by"], Kind.EDIT, target=target, content=text))
            case "recall":
                await done(message["by"], Kind.RECALL, target=target)
                message.update(text=b"", edited=0, recalled=True, pinned=False, reactions={})
            case "react":
                users = message["reactions"].setdefault(emoji := rng.choice(EMOJI), set())
                await done(who, Kind.REACTION, target=target, added=int(user not in users), emoji=emoji)
                users ^= {user}
                message["reactions"] = {key: value for key, value in message["reactions"].items() if value}
            case "pin":
                message["pinned"] = not message["pinned"]
                await done(self.people[0], Kind.PIN, target=target, pinned=int(message["pinned"]))
            case "fold":
                await who.rig.fold()


async def done(who: Author, kind: Kind, **fields: Any) -> int:
    answer = await who.act(kind, **fields)
    assert isinstance(answer, Ack), answer
    return answer.seq


async def compared(readers: Sequence[Author], history: History, limit: int) -> None:
    raw, end = await pull(readers[0], False)
    assert not end["next_seq"]
    client = Folded()
    for event in raw:
        client.add(event)
    for who in readers:
        user = who.session.user
        shown = {event.seq: event for event in await everything(who, limit)}
        assert not any(event.kind in folding.CHANGES for event in shown.values())
        assert {seq for seq, event in shown.items() if event.kind == Kind.TEXT} == history.said.keys()
        for message in client.messages():
            event, model = shown[message.event.seq], history.said[message.event.seq]
            by_server = {row.emoji: (row.count, row.mine) for row in event.now.reactions}
            by_client, by_model = (
                {emoji: (len(users), user in users) for emoji, users in reactions.items()}
                for reactions in (message.reactions, model["reactions"])
            )
            assert event.payload == message.payload == model["text"]
            assert event.now.edit_seq == message.edit_seq == model["edited"]
            assert event.tombstone == message.recalled == model["recalled"]
            assert event.now.pinned == message.pinned == model["pinned"]
            assert by_server == by_client == by_model
            assert bool(event.now.edited_ms) == bool(model["edited"])


@asynccontextmanager
async def two(path: Path) -> AsyncIterator[tuple[Author, Author]]:
    """Who comes later reads everything."""
    async with author(path) as ann:
        await ann.rig.request(ann.session.user, Method.CONVERSATION_SET_RULES, {1: ann.cid, 3: HISTORY_ALL})
        yield ann, await ann.with_another("bob")


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(WHAT), min_size=5, max_size=40), st.integers(0, 1 << 30), st.sampled_from((1, 3, 0)))
def test_server_client_and_model_fold_alike(steps: list[str], seed: int, limit: int) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with two(Path(directory)) as people:
                history = History(*people, seed)
                for step in steps:
                    await history.do(step)
                await compared(people, history, limit)

    trio.run(main)


async def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    async with two(tmp_path) as people:
        history = History(*people, 3)
        for number in range(60):
            await history.do(WHAT[number % len(WHAT)])
        ann = people[0]
        again = (ann.session.user, ann.session.device, ann.cid)
    for fold in (False, True):
        async with author(tmp_path, again) as ann:
            if fold:
                await ann.rig.fold()
            await compared([ann], history, 7)


async def test_pages_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes, few rows, few ranges: more pages, the same messages."""
    async with two(tmp_path) as people:
        history, ann = History(*people, 4), people[0]
        for number in range(150):
            await history.do(WHAT[number % len(WHAT)])
        await ann.rig.fold()
        whole = [(event.seq, event.payload, event.now) for event in await everything(ann, 0)]
        for name, value in (("PULL_BYTES_MAX", 700), ("ROWS_READ_MAX", 25), ("RANGES_MAX", 2)):
            monkeypatch.setattr(folding, name, value)
            assert [(event.seq, event.payload, event.now) for event in await everything(ann, 0)] == whole, name
            monkeypatch.undo()
        small = await everything(ann, 0, frame_bytes_max=128)
        assert [event.seq for event in small] == [seq for seq, *_ in whole]
        assert {len(payload) > 90 for (_, payload, _), event in zip(whole, small, strict=True) if event.stub} == {True}


async def test_the_most_frequent_reactions_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "REACTIONS_SHOWN_MAX", 3)
    async with two(tmp_path) as (ann, bob):
        seq = await ann.say(b"look")
        for number in range(5):
            await done(ann, Kind.REACTION, target=seq, added=1, emoji=chr(0x1F600 + number))
        await done(bob, Kind.REACTION, target=seq, added=1, emoji=chr(0x1F604))
        ((event,), _) = await pull(bob, True, seq, 1)
        first, *others = event.now.reactions
        assert (first.emoji, first.count, first.mine) == (chr(0x1F604), 2, True)
        assert [(row.count, row.mine) for row in others] == [(1, False)] * 2
        assert event.now.other_reactions == 2


async def test_the_mark_of_an_edit_comes_whatever_else_hangs_on_a_message(tmp_path: Path) -> None:
    """An extension of the sender's that fills the block, which nobody here knows, gives way."""
    async with two(tmp_path) as (ann, _):
        seq = await ann.say(b"old", b"\x7e" + varint(1020) + bytes(1020))
        edit = await done(ann, Kind.EDIT, target=seq, content=b"new")
        await done(ann, Kind.REACTION, target=seq, added=1, emoji="x")
        ((event,), _) = await pull(ann, True, seq, 1)
        assert (event.payload, event.now.edit_seq, event.now.other_reactions) == (b"new", edit, 1)
        assert list(event.extensions) == [EXTENSION_DELIVER_NOW]
