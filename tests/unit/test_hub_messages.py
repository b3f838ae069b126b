"""Judged sends on a running hub with the native core: windows and bounds, restarts and folds, what is due meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from support import hub_rig
from support.authors import Author, author, refused
from support.fakeshard import Ack, Nak
from support.hub_rig import Refused

from chatd.clock import AgeWatch
from chatd.errors import StoreFullError
from chatd.hub.events import MissingEvents
from chatd.wire.payload import encode_payload
from chatd.wire.schema import FLAG_SEND_ACK_DUP, ErrorCode, Kind, Method


@pytest.fixture(autouse=True)
def native_core() -> Iterator[None]:
    hub_rig.core_kind = "native"
    yield
    hub_rig.core_kind = "plain"


# ---------------------------------------------------------------- windows and bounds


async def test_windows_of_editing_and_recalling(tmp_path: Path) -> None:
    async with author(tmp_path, edit_window_s=0, recall_window_s=0) as ann:
        bob = await ann.rig.user("bob")
        await ann.rig.request(ann.session.user, Method.MEMBER_ADD, {1: ann.cid, 2: [bob]})
        device = (await ann.rig.rpc("device", bob, 0, "phone"))["device"]
        session, _ = await ann.shard.login(bob, device)
        other = Author(ann.rig, ann.shard, session, ann.cid, 0)
        seq = await other.say()
        await trio.sleep(1.1)  # the hub looks at its clocks once a second
        ann.rig.hub.wake()
        await trio.sleep(0.05)
        refused(await other.act(Kind.EDIT, target=seq, content=b"x"), ErrorCode.EXPIRED)
        refused(await other.act(Kind.RECALL, target=seq), ErrorCode.EXPIRED)
        assert isinstance(await ann.act(Kind.RECALL, target=seq), Ack), "a moderator may always"


def test_an_age_is_monotonic_however_the_clock_is_set() -> None:
    watch = AgeWatch()
    for second in range(10):
        watch.sample(1_000_000 + 1000 * second, 500 + 1000 * second)
    assert watch.age_ms(1_009_000, 1_010_000, 10_500) == 1000
    watch.sample(9_000_000, 10_500)  # an hour or two ahead
    assert watch.age_ms(1_009_000, 9_000_000, 10_500) == 1000
    watch.sample(2_000, 11_500)  # and far back
    assert watch.age_ms(1_009_000, 2_000, 11_500) == 2000
    assert watch.age_ms(500_000, 1_000, 11_500) == 0, "before the first look: by the wall clock, never negative"
    assert watch.age_ms(500_000, 600_000, 11_500) == 100_000


async def test_bounds_of_messages(tmp_path: Path) -> None:
    limits = {"pins_max": 1, "scheduled_max": 1, "drafts_max": 1, "expiry_max_s": 60}
    async with author(tmp_path, **limits) as ann:
        user, request = ann.session.user, ann.rig.request
        seqs = [await ann.say(), await ann.say()]
        assert isinstance(await ann.act(Kind.PIN, target=seqs[0], pinned=1), Ack)
        refused(await ann.act(Kind.PIN, target=seqs[1], pinned=1), ErrorCode.LIMIT_REACHED)
        refused(await ann.send(b"x", extensions=b"\x08\x01\x3d"), ErrorCode.BAD_REQUEST)
        assert isinstance(await ann.send(b"x", extensions=b"\x08\x01\x3c"), Ack)
        later = time.time_ns() // 1_000_000 + 60_000
        scheduled = {1: ann.cid, 2: 1, 3: b"x", 4: later}
        await request(user, Method.MESSAGE_SCHEDULE, scheduled)
        with pytest.raises(Refused, match="limit"):
            await request(user, Method.MESSAGE_SCHEDULE, scheduled)
        await request(user, Method.DRAFT_SET, {1: ann.cid, 2: b"x"})
        other = (await request(user, Method.CONVERSATION_CREATE, {1: 2, 2: "h", 3: []}))[1]
        with pytest.raises(Refused, match="limit"):
            await request(user, Method.DRAFT_SET, {1: other, 2: b"x"})


@pytest.mark.parametrize(
    ("change", "code"),
    [({4: 1}, ErrorCode.BAD_REQUEST), ({2: 17}, ErrorCode.UNSUPPORTED), ({3: b"\xff"}, ErrorCode.BAD_REQUEST),
     ({1: 99}, ErrorCode.NOT_FOUND), ({5: b"\x02\x01\x63"}, ErrorCode.NOT_FOUND), ({5: b"\x02"}, ErrorCode.BAD_REQUEST),
     ({5: b"\x05\x00"}, ErrorCode.UNSUPPORTED), ({3: bytes(8193)}, ErrorCode.TOO_LARGE)],
)  # fmt: skip
async def test_what_cannot_be_sent_cannot_be_scheduled(tmp_path: Path, change: dict[int, Any], code: ErrorCode) -> None:
    async with author(tmp_path) as ann:
        params = {1: ann.cid, 2: 1, 3: b"x", 4: time.time_ns() // 1_000_000 + 60_000}
        with pytest.raises(Refused) as refusal:
            await ann.rig.request(ann.session.user, Method.MESSAGE_SCHEDULE, params | change)
        assert refusal.value.code == code


# ---------------------------------------------------------------- over restarts and folds


@pytest.mark.parametrize("folded", [False, True])
async def test_what_became_of_messages_survives_a_restart(tmp_path: Path, folded: bool) -> None:
    async with author(tmp_path) as ann:
        seq, gone = await ann.say(b"kept"), await ann.say(b"gone")
        await ann.act(Kind.EDIT, target=seq, content=b"better")
        await ann.act(Kind.REACTION, target=seq, added=1, emoji="👍")
        await ann.act(Kind.REACTION, target=seq, added=1, emoji="x")
        await ann.act(Kind.PIN, target=gone, pinned=1)
        if folded:
            await ann.rig.fold()
        await ann.act(Kind.REACTION, target=seq, added=0, emoji="x")
        await ann.act(Kind.RECALL, target=gone)
        again = (ann.session.user, ann.session.device, ann.cid)
    for fold_now in (False, True):
        async with author(tmp_path, again) as ann:
            if fold_now:
                await ann.rig.fold()
            user = ann.session.user
            states = (await ann.rig.request(user, Method.MESSAGE_STATES, {1: ann.cid, 2: [seq, gone]}))[1]
            assert states == [[seq, gone + 1, [["👍", 1, True]], False], [gone, 0, [], False]]
            assert (await ann.rig.request(user, Method.PIN_LIST, {1: ann.cid}))[1] == []
            assert await ann.shown(gone) == b""
            refused(await ann.act(Kind.EDIT, target=gone, content=b"x"), ErrorCode.NOT_FOUND)
            refused(await ann.act(Kind.REACTION, target=seq, added=1, emoji="👍"), ErrorCode.BAD_REQUEST)


async def test_a_hub_that_dies_before_its_verdict_has_stored_nothing_and_the_retry_is_stored_once(
    tmp_path: Path,
) -> None:
    async with author(tmp_path) as ann:
        seq = await ann.say(b"kept")
        await ann.rig.fold()
        reading = trio.Event()

        async def never(missing: object) -> None:
            reading.set()
            await trio.sleep_forever()

        ann.rig.hub.load = never  # type: ignore[assignment]
        ann.rig.hub.events.folded()
        ann.rig.hub.events.find = absent  # type: ignore[method-assign]
        payload = encode_payload(Kind.REACTION, {"target": seq, "added": 1, "emoji": "x"})
        ann.shard.link.send(ann.session, 2, ann.cid, payload, kind=Kind.REACTION)
        with trio.fail_after(5):
            await reading.wait()
        again = (ann.session.user, ann.session.device, ann.cid)
    async with author(tmp_path, again) as ann:
        assert ann.cseq == 1
        first = await ann.send(payload, Kind.REACTION)
        assert isinstance(first, Ack)
        again = (ann.session.user, ann.session.device, ann.cid)
    async with author(tmp_path, again) as ann:
        ann.cseq -= 1
        assert await ann.send(payload, Kind.REACTION) == first._replace(flags=FLAG_SEND_ACK_DUP)
        assert len((await ann.rig.pull(ann.session.user, ann.cid, 1))[0]) == first.seq


def absent(cid: int, seq: int, user: int) -> None:
    raise MissingEvents([(cid, seq)])


async def test_a_judged_send_whose_batch_is_refused_has_left_nothing(tmp_path: Path) -> None:
    async with author(tmp_path) as ann:
        seq = await ann.say(b"kept")
        store, append = ann.rig.store, ann.rig.store.append
        store.append = full
        answer = await ann.act(Kind.RECALL, target=seq)
        assert isinstance(answer, Nak)
        assert (answer.code, answer.retryable) == (ErrorCode.STORE_FULL, True)
        store.append = append
        assert await ann.shown(seq) == b"kept"
        ann.cseq -= 1
        assert isinstance(await ann.act(Kind.RECALL, target=seq), Ack), "judged anew"
        assert await ann.shown(seq) == b""


def full(pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
    raise StoreFullError("no space")


# ---------------------------------------------------------------- what is due


@pytest.mark.parametrize("folded", [False, True])
async def test_what_came_due_while_there_was_no_hub_is_dealt_with_at_the_start(tmp_path: Path, folded: bool) -> None:
    async with author(tmp_path) as ann:
        seq = await ann.say(b"secret", b"\x08\x01\x01")
        soon = time.time_ns() // 1_000_000 + 900
        user = ann.session.user
        await ann.rig.request(user, Method.MESSAGE_SCHEDULE, {1: ann.cid, 2: 1, 3: b"as planned", 4: soon})
        if folded:
            await ann.rig.fold()
        again = (user, ann.session.device, ann.cid)
    await trio.sleep(1.2)
    for _ in range(2):
        async with author(tmp_path, again) as ann:
            with trio.fail_after(5):
                while await ann.shown(seq) or await ann.rig.request(user, Method.SCHEDULED_LIST) != {1: []}:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            events, _ = await ann.rig.pull(user, ann.cid, 1)
            assert [payload for _, payload in events].count(b"as planned") == 1
            await ann.rig.fold()


async def test_a_restart_between_commit_and_answer_sends_nothing_twice(tmp_path: Path) -> None:
    async with author(tmp_path) as ann:
        soon = time.time_ns() // 1_000_000 + 300
        user = ann.session.user
        await ann.rig.request(user, Method.MESSAGE_SCHEDULE, {1: ann.cid, 2: 1, 3: b"once", 4: soon})
        again = (user, ann.session.device, ann.cid)
        with trio.fail_after(5):
            while await ann.rig.request(user, Method.SCHEDULED_LIST) != {1: []}:  # noqa: ASYNC110
                await trio.sleep(0.01)
    async with author(tmp_path, again) as ann:
        events, _ = await ann.rig.pull(user, ann.cid, 1)
        assert [payload for _, payload in events].count(b"once") == 1
