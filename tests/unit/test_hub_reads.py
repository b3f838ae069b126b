"""SYNC and PULL: over tail and database, whatever is folded or evicted meanwhile."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import trio
from support.hub_rig import Refused, Rig, either_core, running

from chatd.hub import reads
from chatd.hub.frames import CallError
from chatd.hub.redactions import RECALLED
from chatd.storage.journal_codec import EVENT_EXT, EVENT_MESSAGE
from chatd.wire import sync_cursor
from chatd.wire.schema import PULL_BYTES_MAX, PULL_EVENTS_MAX, SYNC_ENTRIES_MAX, ErrorCode, Method, Op
from chatd.wire.varint import encode as varint

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")


async def group(rig: Rig, owner: int, *others: int) -> int:
    cid: int = (await rig.request(owner, Method.CONVERSATION_CREATE, {1: 2, 2: "g", 3: list(others)}))[1]
    return cid


async def all_pages(rig: Rig, user: int, cursor: bytes = b"", **options: Any) -> tuple[list[Any], bytes]:
    found, more = list[Any](), True
    while more:
        entries, cursor, more = await rig.sync(user, cursor, **options)
        found += entries
    return found, cursor


# ---------------------------------------------------------------- PULL


@pytest.mark.parametrize("folded_after", [0, 5, 12])
async def test_pull_pages_give_every_event_once(tmp_path: Path, folded_after: int) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cid = await group(rig, ann, bob)
        for number in range(1, 13):
            await rig.say(cid, ann, f"m{number}")
            if number == folded_after:
                await rig.fold()
        found, seq, rounds = [], 1, 0
        while seq:
            events, (seq, head, floor) = await rig.pull(bob, cid, seq, limit=3)
            assert (head, floor) == (14, 1)
            assert len(events) <= 3
            found += events
            rounds += 1
        assert [event[0] for event in found] == list(range(1, 15))
        assert found[-1][1] == b"m12"
        assert rounds >= 5
        assert await rig.pull(bob, cid, 14, 0) == ([(14, b"m12")], (0, 14, 1))
        assert await rig.pull(bob, cid, 15, 0) == ([], (0, 14, 1))
        assert (await rig.pull(bob, cid, 13, 99))[1] == (0, 14, 1)


async def test_page_has_200_events_or_256_kib_at_most(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        many, large = await group(rig, ann), await group(rig, ann)
        await rig.say(many, ann, *("x" for _ in range(PULL_EVENTS_MAX)))
        await rig.say(large, ann, *("x" * 30_000 for _ in range(12)))
        for folded in (False, True):
            if folded:
                await rig.fold()
            events, (next_seq, *_) = await rig.pull(ann, many, limit=PULL_EVENTS_MAX + 1)
            assert (len(events), next_seq) == (PULL_EVENTS_MAX, PULL_EVENTS_MAX + 1)
            events, (next_seq, *_) = await rig.pull(ann, large)
            assert PULL_BYTES_MAX - 30_100 < sum(len(payload) for _, payload in events) <= PULL_BYTES_MAX
            assert next_seq == len(events) + 1


async def test_page_of_sync_has_200_entries_at_most(tmp_path: Path) -> None:
    async with running(tmp_path, user_groups_owned_max=1000) as rig:
        ann = await rig.user("ann")
        for _ in range(SYNC_ENTRIES_MAX + 1):
            await group(rig, ann)
        entries, cursor, more = await rig.sync(ann, limit=0)
        assert (len(entries), more) == (SYNC_ENTRIES_MAX, True)
        entries, _, more = await rig.sync(ann, cursor)
        assert (len(entries), more) == (1, False)


async def test_page_keeps_to_the_window_of_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = await group(rig, ann)
        await rig.say(cid, ann, *("x" * 1000 for _ in range(5)))
        assert len((await rig.pull(ann, cid, window=(2, 1 << 20)))[0]) == 2
        assert len((await rig.pull(ann, cid, window=(100, 2500)))[0]) == 3
        assert await rig.pull(ann, cid, window=(0, 1 << 20)) == ([], (1, 6, 1))


async def test_event_over_the_clients_frame_is_a_stub_and_comes_by_ranges(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = await group(rig, ann)
        text = "".join(map(str, range(200)))
        await rig.say(cid, ann, text)
        for folded in (False, True):
            if folded:
                await rig.fold()
            body = varint(cid) + varint(2) + varint(0) + varint(0)
            stub, _ = await rig.call(ann, Op.PULL, body, frame_bytes_max=128)
            assert stub.flags == 0x06
            stub.varint(), stub.varint(), stub.varint(), stub.time(), stub.varint()
            assert stub.varint() == len(text)
            got, offset = b"", 0
            while offset < len(text):
                entry = varint(1) + varint(len(varint(offset) + varint(200))) + varint(offset) + varint(200)
                *chunks, end = await rig.call(
                    ann, Op.PULL, body + varint(len(entry)) + entry, flags=1, frame_bytes_max=128
                )
                for chunk in chunks:
                    assert chunk.op == Op.CHUNK
                    assert len(chunk.body) <= 128
                    assert (chunk.varint(), chunk.varint(), chunk.varint(), chunk.varint()) == (cid, 2, len(got), 490)
                    got += chunk.rest()
                assert end.op == Op.PULL_END
                offset = len(got)
            assert got.decode() == text


async def test_broken_calls_are_refused_and_name_their_conversation(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        for op, body in itertools.product((Op.PULL, Op.SYNC), (b"\x05", b"\x05\x80\x00", b"\xff" * 12)):
            (frame,) = await rig.call(ann, op, body)
            assert frame.op == Op.ERROR
            assert int.from_bytes(frame.take(2), "big") == 103
            assert frame.take(1)[0] == op


async def test_conversation_zero_is_like_any_absent_one(tmp_path: Path) -> None:
    """It cannot be loaded: asking for it once ended the hub."""
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        for cid in (0, 999):
            (frame,) = await rig.call(ann, Op.PULL, varint(cid) + varint(1) + varint(0) + varint(0))
            assert frame.op == Op.ERROR
            assert int.from_bytes(frame.take(2), "big") == ErrorCode.NOT_FOUND


# ---------------------------------------------------------------- SYNC


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("evicted", [False, True])
async def test_sync_names_what_changed_since_the_cursor(tmp_path: Path, folded: bool, evicted: bool) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        one, two = await group(rig, ann, bob), await group(rig, ann, bob)

        async def settle() -> None:
            if folded or evicted:
                await rig.fold()
            if evicted:
                rig.forget(one), rig.forget(two)

        await settle()
        entries, cursor = await all_pages(rig, bob, limit=1)
        assert [entry["cid"] for entry in entries] == [one, two]
        assert len(cursor) == sync_cursor.RESTING_BYTES
        assert await all_pages(rig, bob, cursor) == ([], cursor)
        await rig.hub.lookup(lambda: rig.hub.core.conversation(two) or 1)
        await rig.pull(bob, two)
        await rig.say(two, ann, "häy" * 40)
        await settle()
        (entry,), cursor = await all_pages(rig, bob, cursor)
        assert entry["cid"] == two
        assert (entry["head"], entry["floor"], entry["count"], entry["state"], entry["sender"]) == (3, 1, 1, 1, ann)
        assert entry["preview"].decode() == "häy" * 24
        assert (await all_pages(rig, bob, cursor))[0] == []


@pytest.mark.parametrize("folded", [False, True])
async def test_left_conversation_is_told_once_and_hides_what_follows(tmp_path: Path, folded: bool) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cid = await group(rig, ann, bob)
        await rig.say(cid, ann, "before")
        _, cursor = await all_pages(rig, bob)
        await rig.request(bob, Method.MEMBER_LEAVE, {1: cid})
        await rig.say(cid, ann, "after")
        if folded:
            await rig.fold()
        (entry,), cursor = await all_pages(rig, bob, cursor)
        assert (entry["state"], entry["head"], entry["last_kind"], entry["count"]) == (2, 4, 35, 1)
        await rig.say(cid, ann, "more")
        assert (await all_pages(rig, bob, cursor))[0] == []
        (entry,), _ = await all_pages(rig, bob)
        assert (entry["state"], entry["head"]) == (2, 4)


async def test_fold_beside_the_sync_of_who_has_just_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cid = await group(rig, ann, bob)
        await rig.say(cid, ann, "before")
        await rig.request(bob, Method.MEMBER_LEAVE, {1: cid})
        read, reads = rig.hub.loader.read, itertools.count()

        async def fold_after(function: Any) -> Any:
            answer = await read(function)
            if next(reads) == 1:
                await rig.fold()
            return answer

        monkeypatch.setattr(rig.hub.loader, "read", fold_after)
        with pytest.raises(Refused, match="BUSY"):
            await rig.sync(bob)
        (entry,), _ = await all_pages(rig, bob)
        assert (entry["state"], entry["head"], entry["count"]) == (2, 4, 1)


async def test_what_was_loaded_reaches_the_core_inside_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is staged at once, and nobody may read meanwhile."""
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = await group(rig, ann)
        await rig.fold()
        rig.forget(cid)
        turn, apply_all, inside, given = rig.hub.turn, rig.hub.loader._apply_all, [False], []

        def watched_turn(*gather: Any) -> Any:
            inside[0] = True
            done = turn(*gather)
            inside[0] = False
            return done

        def watched_apply(*answers: Any) -> None:
            given.append(inside[0])
            apply_all(*answers)

        monkeypatch.setattr(rig.hub, "turn", watched_turn)
        monkeypatch.setattr(rig.hub.loader, "_apply_all", watched_apply)
        with trio.fail_after(5):
            await rig.hub.loader.want("conversation", cid).wait()
        assert given == [True]


async def test_pages_are_stable_while_conversations_change(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cids = [await group(rig, ann) for _ in range(6)]
        await rig.fold()
        seen, cursor, more = set(), b"", True
        for turn in itertools.count():
            entries, cursor, more = await rig.sync(ann, cursor, 2)
            seen |= {entry["cid"] for entry in entries}
            if not more:
                break
            await rig.say(cids[turn], ann, "changed")
        assert seen == set(cids)
        (late, early), _ = (await all_pages(rig, ann, cursor))[0], None
        assert {late["cid"], early["cid"]} == set(cids[:2])


async def test_page_fits_the_clients_frame(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        for _ in range(5):
            await rig.say(await group(rig, ann), ann, "x" * 96)
        entries, _ = await all_pages(rig, ann, frame_bytes_max=400)
        assert len(entries) == 5
        with pytest.raises(Refused, match="TOO_LARGE"):
            await rig.sync(ann, frame_bytes_max=100)


async def test_cursor_of_another_log_asks_for_everything(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        await group(rig, ann)
        _, cursor = await all_pages(rig, ann)
        foreign = cursor[:4] + bytes((cursor[4] ^ 1,)) + cursor[5:]
        assert len((await all_pages(rig, ann, foreign))[0]) == 1
        with pytest.raises(Refused, match="BAD_REQUEST"):
            await rig.sync(ann, cursor + b"x")


# ---------------------------------------------------------------- the others


async def test_calls_in_progress_are_bounded(tmp_path: Path) -> None:
    """Over the bound a call is BUSY at once, whoever makes it; the others are answered."""
    async with running(tmp_path, calls_in_progress_max=1) as rig:
        users = [await rig.user(name) for name in ("ann", "bob", "carl")]
        for user in users:
            await rig.sync(user)
        outcomes: list[str] = []

        async def sync(user: int) -> None:
            try:
                await rig.sync(user)
            except Refused as refused:
                outcomes.append(f"{refused.code.name}, wait {refused.retry_after_ms} ms")
            else:
                outcomes.append("answered")

        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(sync, user)
        assert sorted(outcomes) == ["BUSY, wait 500 ms", "BUSY, wait 500 ms", "answered"]
        assert rig.hub.calls.refused_count == 2


async def test_calls_are_charged_before_they_work(tmp_path: Path) -> None:
    async with running(tmp_path, pulls_per_s=1.0, pulls_burst=3) as rig:
        ann = await rig.user("ann")
        for _ in range(3):
            await rig.sync(ann)
        with pytest.raises(Refused, match="BUSY") as refused:
            await rig.sync(ann)
        assert 0 < refused.value.retry_after_ms <= 1001


# ---------------------------------------------------------------- redactions


@pytest.mark.parametrize("folded", ["nothing", "the event", "all"])
async def test_a_redacted_event_shows_nowhere_whatever_is_folded(tmp_path: Path, folded: str) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cid = await group(rig, ann, bob)
        content = b"\x03\x02\x01\x01oops"
        seq = await rig.hub.change(lambda: rig.core.stage_event(cid, ann, 1, content, EVENT_MESSAGE | EVENT_EXT))
        if folded != "nothing":
            await rig.fold()
            rig.forget(cid)
        await rig.hub.lookup(lambda: reads.intervals(rig.core, cid, ann))
        await rig.hub.change(lambda: rig.hub.redactions.stage(cid, [seq], RECALLED))
        if folded == "all":
            await rig.fold()
            rig.forget(cid)
        assert await rig.pull(bob, cid, seq) == ([(seq, b"")], (0, seq, 1))
        (entry,) = (await rig.sync(bob))[0]
        assert (entry["head"], entry["preview"]) == (seq, b"")
    async with running(tmp_path) as rig:
        assert await rig.pull(bob, cid, seq) == ([(seq, b"")], (0, seq, 1)), "nor after a restart"


async def test_a_refused_redaction_has_not_happened(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = await group(rig, ann)
        seq = await rig.say(cid, ann, "kept")

        def fail() -> None:
            rig.hub.redactions.stage(cid, [seq], RECALLED)
            raise CallError(ErrorCode.FORBIDDEN, "after all")

        with pytest.raises(CallError):
            await rig.hub.change(fail)
        assert rig.hub.redactions.of(cid) == frozenset()
        assert (await rig.pull(ann, cid, seq))[0] == [(seq, b"kept")]
