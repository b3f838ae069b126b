"""Retention on a running hub: floors by days and by number, over restarts, folds and crashes; nothing comes back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from support import hub_rig
from support.authors import Author, author
from support.fakeshard import Nak
from support.hub_rig import Refused

from chatd.hub.retention import DAY_MS
from chatd.storage import trim
from chatd.wire.schema import ErrorCode, Kind, Method


@pytest.fixture(autouse=True)
def native_core() -> Iterator[None]:
    hub_rig.core_kind = "native"
    yield
    hub_rig.core_kind = "plain"


class Later:
    """The hub's clock, some days later."""

    def __init__(self, clock: Any, days: float) -> None:
        self._clock, self._days = clock, days

    def wall_ms(self) -> int:
        return int(self._clock.wall_ms() + self._days * DAY_MS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


async def swept(who: Author) -> int:
    """The floor after everything was folded and looked at."""
    await who.rig.fold()
    await who.rig.hub.retention.sweep()
    return await floor_of(who)


async def floor_of(who: Author) -> int:
    found = await who.rig.request(who.session.user, Method.RETENTION_GET, {1: who.cid})
    floor: int = found[5]
    return floor


async def readable(who: Author) -> list[int]:
    """Seqs that PULL gives, and that its floor is the one of the conversation, as is that of SYNC."""
    found, (next_seq, _, floor) = await who.rig.pull(who.session.user, who.cid)
    entries, _, _ = await who.rig.sync(who.session.user)
    assert (next_seq, floor) == (0, await floor_of(who))
    assert [entry["floor"] for entry in entries if entry["cid"] == who.cid] == [floor]
    return [seq for seq, _ in found]


async def keep(who: Author, days: int | None = None, events: int | None = None) -> int:
    """The seq of the event that says so."""
    params = {1: who.cid, 2: days, 3: events}
    seq: int = (await who.rig.request(who.session.user, Method.RETENTION_SET, params))[1]
    return seq


async def trimmed(who: Author) -> None:
    while await trio.to_thread.run_sync(who.rig.folder.trim):
        pass


async def test_a_conversation_keeps_so_many(tmp_path: Path) -> None:
    async with author(tmp_path) as ann:
        for number in range(12):
            await ann.say(b"%d" % number)
        assert await swept(ann) == 1, "nobody has said anything"
        head = await keep(ann, events=5)
        assert await swept(ann) == head - 4
        assert await readable(ann) == list(range(head - 4, head + 1))
        await ann.say()
        assert await swept(ann) == head - 3
        await keep(ann, events=80)
        assert await swept(ann) == head - 3, "what is gone does not come back"
        await trimmed(ann)
        assert await readable(ann) == list(range(head - 3, head + 3))


async def test_days_are_counted_by_the_clock_and_the_less_decides(tmp_path: Path) -> None:
    async with author(tmp_path, retention_days=30) as ann:
        last = [await ann.say() for _ in range(4)][-1]
        hub = ann.rig.hub
        assert await swept(ann) == 1
        hub.clock = Later(hub.clock, 29)  # type: ignore[assignment]
        assert await swept(ann) == 1
        changed = await keep(ann, days=7)
        assert changed == last + 1
        assert await swept(ann) == changed, "what was said 29 days ago is gone, what was said now stays"
        hub.clock = Later(hub.clock, 40)  # type: ignore[assignment]
        await keep(ann, days=0)
        assert await swept(ann) == changed + 1, "the server's limit holds beside it"
        hub.clock = Later(hub.clock, 40)  # type: ignore[assignment]
        assert await swept(ann) == changed + 2
        assert await readable(ann) == []
        assert await ann.say() == changed + 2
        assert await readable(ann) == [changed + 2]


@pytest.mark.parametrize("when", ["committed", "folded", "erased"])
async def test_a_floor_survives_a_kill_and_never_goes_back(tmp_path: Path, when: str) -> None:
    async with author(tmp_path) as ann:
        seqs = [await ann.say(b"%d" % number) for number in range(20)]
        head = await keep(ann, events=4)
        floor = await swept(ann)
        assert floor == head - 3
        if when != "committed":
            await ann.rig.fold()
        if when == "erased":
            await trimmed(ann)
        again = (ann.session.user, ann.session.device, ann.cid)
    for _ in range(2):
        async with author(tmp_path, again) as ann:
            assert await floor_of(ann) == floor
            assert await readable(ann) == list(range(floor, head + 1))
            with pytest.raises(Refused, match="NOT_FOUND"):
                await ann.rig.request(ann.session.user, Method.EVENT_VERSIONS, {1: ann.cid, 2: seqs[0]})
            assert await swept(ann) == floor
            await trimmed(ann)


async def test_what_is_below_the_floor_is_gone_for_everything_that_points_at_it(tmp_path: Path) -> None:
    async with author(tmp_path, pins_max=1) as ann:
        old = await ann.say(b"pflaume old")
        for kind, fields in (
            (Kind.PIN, {"pinned": 1}),
            (Kind.REACTION, {"added": 1, "emoji": "x"}),
            (Kind.EDIT, {"content": b"pflaume older"}),
        ):
            assert not isinstance(await ann.act(kind, target=old, **fields), Nak)
        for _ in range(8):
            await ann.say()
        new = await ann.say(b"pflaume new")
        await keep(ann, events=3)
        await swept(ann)
        user, request = ann.session.user, ann.rig.request
        for _ in range(2):
            for kind, fields in (
                (Kind.PIN, {"pinned": 1}),
                (Kind.REACTION, {"added": 1, "emoji": "y"}),
                (Kind.EDIT, {"content": b"x"}),
                (Kind.RECALL, {}),
            ):
                answer = await ann.act(kind, target=old, **fields)
                assert isinstance(answer, Nak)
                assert answer.code == ErrorCode.NOT_FOUND
            assert await request(user, Method.PIN_LIST, {1: ann.cid}) == {1: []}
            assert await request(user, Method.MESSAGE_STATES, {1: ann.cid, 2: [old]}) == {1: []}
            found = await request(user, Method.SEARCH, {1: "pflaume"})
            assert [hit[1] for hit in found[1]] == [new]
            for method, params in (
                (Method.RECEIPT_GET, {2: old}),
                (Method.EVENT_VERSIONS, {2: old}),
                (Method.REPORT, {2: old, 3: 0, 4: "bad"}),
            ):
                with pytest.raises(Refused, match="NOT_FOUND"):
                    await request(user, method, {1: ann.cid, **params})
            await ann.rig.fold()
            await trimmed(ann)
        assert not isinstance(await ann.act(Kind.PIN, target=new, pinned=1), Nak), "a pin that is gone takes no place"


async def test_unread_counts_what_is_there(tmp_path: Path) -> None:
    async with author(tmp_path) as ann:
        bob = await ann.with_another("bob")
        for _ in range(10):
            await ann.say()
        await keep(ann, events=4)
        await swept(ann)
        entries, _, _ = await ann.rig.sync(bob.session.user)
        (entry,) = [entry for entry in entries if entry["cid"] == ann.cid]
        assert entry["count"] - entry["read_count"] == 3, "three messages and the event that says so"


async def test_a_repeated_send_is_known_while_its_row_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with author(tmp_path) as ann:
        for number in range(200):
            await ann.say(b"%d" % number)
        await keep(ann, events=2)
        await swept(ann)
        await ann.rig.fold()
        await trimmed(ann)
        cseq, ann.cseq = ann.cseq, 0
        first = await ann.send(b"0")
        assert not isinstance(first, Nak), "an empty row knows it"
        assert first.seq == 2
        monkeypatch.setattr(trim, "SENDS_KNOWN_MS", -1000)
        await keep(ann, events=3)
        await ann.rig.fold()
        await trimmed(ann)
        await ann.rig.fold()
        ann.cseq = 1
        answer = await ann.send(b"1")
        assert isinstance(answer, Nak), "the row is gone, and the send is not stored again"
        assert answer.code == ErrorCode.CSEQ_REUSE
        ann.cseq = cseq


async def test_who_may_say_so(tmp_path: Path) -> None:
    async with author(tmp_path) as ann:
        bob = await ann.with_another("bob")
        with pytest.raises(Refused, match="FORBIDDEN"):
            await keep(bob, events=1)
        for params in ({2: -1}, {2: 40_000}, {3: "x"}):
            with pytest.raises(Refused, match="BAD_REQUEST"):
                await ann.rig.request(ann.session.user, Method.RETENTION_SET, {1: ann.cid, **params})
        assert await ann.rig.request(bob.session.user, Method.RETENTION_GET, {1: ann.cid}) == {
            1: 0,
            2: 0,
            3: 0,
            4: 0,
            5: 1,
        }
