"""Sentences of the delivery contract that the hub alone has to keep: native core, SQLite store, real rings."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.fakeshard import Ack, Frames, Nak, Session
from support.hub_rig import NativeDoor, Rig, either_core, running
from support.hub_sessions import Shard

from chatd.errors import StoreFullError
from chatd.storage.sqlite.reader import SqliteReader
from chatd.wire.schema import ErrorCode, Method

__all__ = ["either_core"]
pytestmark = [
    pytest.mark.usefixtures("either_core"),
    pytest.mark.parametrize("either_core", ["native"], indirect=True),
]


class People:
    """ann and bob, logged in, in one group."""

    def __init__(self, rig: Rig, shard: Shard, ann: Session, bob: Session, cid: int) -> None:
        self.rig, self.shard, self.ann, self.bob, self.cid = rig, shard, ann, bob, cid


@asynccontextmanager
async def meeting(path: Path, **settings: Any) -> AsyncIterator[People]:
    async with running(path, **settings) as rig:
        shard = Shard(rig)
        users = [(await rig.rpc("provision", name, ""))["user"] for name in ("ann", "bob")]
        devices = [(await rig.rpc("device", user, 0, ""))["device"] for user in users]
        if not rig.hub.rows.unfolded("conversation") and not rig.hub.rows._ids["conversation"]:
            await rig.request(users[0], Method.CONVERSATION_CREATE, {1: 2, 2: "g", 3: users[1:]})
        sessions = [(await shard.login(user, device))[0] for user, device in zip(users, devices, strict=True)]
        yield People(rig, shard, *sessions, 1)


async def test_acked_event_is_pulled_and_pushed_in_order(tmp_path: Path) -> None:
    async with meeting(tmp_path) as at:
        for cseq in range(1, 21):
            ack = await at.shard.send(at.ann, cseq, at.cid, b"%d" % cseq)
            assert isinstance(ack, Ack)
            assert (ack.seq, ack.flags) == (2 + cseq, 0)
            if cseq == 10:
                await at.rig.fold()
        pushed = await at.shard.delivered(at.bob, 20)
        assert [(event.seq, event.payload) for event in pushed] == [(2 + n, b"%d" % n) for n in range(1, 21)]
        assert at.shard.silent(at.ann)
        pulled, end = await at.rig.pull(at.bob.user, at.cid, 3)
        assert [payload for _, payload in pulled] == [b"%d" % n for n in range(1, 21)]
        assert end == (0, 22, 1)


async def test_known_device_comes_back_without_a_read_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What RESUME asks of the hub is this registration and nothing else; the shard opens the ticket by itself."""
    async with meeting(tmp_path) as at:
        await at.shard.send(at.ann, 1, at.cid)
        await at.rig.fold()
        reads = []
        view = SqliteReader.view
        monkeypatch.setattr(SqliteReader, "view", lambda reader: reads.append(reader) or view(reader))
        session = at.ann
        for _ in range(20):
            at.shard.link.closed(session)
            session, answer = await at.shard.login(session.user, session.device)
            assert (answer.error, answer.cseq_stored) == (0, 1)
        assert not reads
        await at.rig.pull(at.bob.user, at.cid, 1)
        assert reads


async def test_retry_gets_the_original_answer_for_ever(tmp_path: Path) -> None:
    async with meeting(tmp_path) as at:
        first = await at.shard.send(at.ann, 1, at.cid, b"first")
        for cseq in range(2, 302):
            at.shard.link.send(at.ann, cseq, at.cid, b"x")
        await at.shard.send(at.ann, 302, at.cid, b"last")
        assert isinstance(first, Ack)
        device, user = at.ann.device, at.ann.user
        with trio.move_on_after(0.05) as scope:
            await at.shard.send(at.ann, 1, at.cid, b"first")
        assert scope.cancelled_caught, "an old cseq waits until the fold has passed the question"
        await at.rig.fold()
        assert await at.shard.send(at.ann, 1, at.cid, b"first") == first._replace(flags=2)
        nak = await at.shard.send(at.ann, 1, at.cid, b"other")
        assert isinstance(nak, Nak)
        assert nak.code == ErrorCode.CSEQ_REUSE
    async with running(tmp_path) as rig:
        shard = Shard(rig)
        session, registered = await shard.login(user, device)
        assert registered.cseq_stored == 302
        assert await shard.send(session, 1, 1, b"first") == first._replace(flags=2)
        fresh = await shard.send(session, 303, 1, b"new")
        assert isinstance(fresh, Ack)
        assert fresh.seq == 305


async def test_restart_loses_nothing_acked_and_stores_nothing_twice(tmp_path: Path) -> None:
    stored = 0
    cseq = 0
    for boot in range(4):
        async with running(tmp_path) as rig:
            shard = Shard(rig)
            if not boot:
                user = await rig.user("ann")
                device = (await rig.rpc("device", user, 0, ""))["device"]
                cid = (await rig.request(user, Method.CONVERSATION_CREATE, {1: 2, 2: "g"}))[1]
                stored = 1
            session, registered = await shard.login(user, device)
            assert registered.cseq_stored == cseq
            for _ in range(5):
                cseq += 1
                ack = await shard.send(session, cseq, cid, b"%d" % cseq)
                stored += 1
                assert isinstance(ack, Ack)
                assert ack.seq == stored
                if boot == 1:
                    await rig.fold()
            again = await shard.send(session, cseq, cid, b"%d" % cseq)
            assert isinstance(again, Ack)
            assert (again.seq, again.flags) == (stored, 2)
            pulled, end = await rig.pull(user, cid)
            assert [seq for seq, _ in pulled] == list(range(1, stored + 1))
            assert end[1] == stored


async def test_nothing_after_a_removal_reaches_the_removed(tmp_path: Path) -> None:
    async with meeting(tmp_path) as at:
        tokens = [at.shard.link.send(at.ann, cseq, at.cid, b"x") for cseq in range(1, 11)]
        removed_at = (await at.rig.request(at.ann.user, Method.MEMBER_REMOVE, {1: at.cid, 2: [at.bob.user]}))[1]
        for token in tokens:
            await at.shard.answer(token)
        for cseq in range(11, 21):
            await at.shard.send(at.ann, cseq, at.cid, b"secret")
        seqs = [event.seq for event in await at.shard.delivered(at.bob, removed_at - 2)]
        assert seqs == list(range(3, removed_at + 1)), "the removal itself is the last"
        assert at.shard.silent(at.bob)
        nak = await at.shard.send(at.bob, 1, at.cid)
        assert isinstance(nak, Nak)
        foreign = await at.shard.send(at.bob, 1, 999)
        assert isinstance(foreign, Nak)
        assert nak.code == foreign.code == ErrorCode.NOT_FOUND
        (entry,), *_ = await at.rig.sync(at.bob.user)
        assert (entry["state"], entry["head"]) == (2, removed_at)


async def test_full_disk_naks_and_goes_on_by_itself(tmp_path: Path) -> None:
    async with meeting(tmp_path) as at:
        append, full = at.rig.store.append, True

        def sometimes(*arguments: Any, **options: Any) -> None:
            if full:
                raise StoreFullError("the disk is full")
            append(*arguments, **options)

        at.rig.store.append = sometimes
        nak = await at.shard.send(at.ann, 1, at.cid)
        assert isinstance(nak, Nak)
        assert (nak.code, nak.retryable) == (ErrorCode.STORE_FULL, True)
        assert nak.retry_after_ms > 0
        later = await at.shard.send(at.ann, 2, at.cid)
        assert isinstance(later, Nak)
        assert later.code == ErrorCode.OUT_OF_ORDER
        full = False
        ack = await at.shard.send(at.ann, 1, at.cid)
        assert isinstance(ack, Ack)
        assert (ack.seq, ack.flags) == (3, 0)
        assert [event.seq for event in await at.shard.delivered(at.bob, 1)] == [3]


async def test_skipped_cseq_stays_skipped_over_a_restart(tmp_path: Path) -> None:
    async with meeting(tmp_path) as at:
        skipped = await at.shard.skip(at.ann, 1)
        assert isinstance(skipped, Ack)
        assert skipped.flags == 4
        user, device, cid = at.ann.user, at.ann.device, at.cid
        await at.rig.fold()
    async with running(tmp_path) as rig:
        session, registered = await Shard(rig).login(user, device)
        assert registered.cseq_stored == 1
        nak = await Shard(rig).send(session, 1, cid)
        assert not (isinstance(nak, Ack) and nak.seq)


async def test_revoked_user_and_device_cannot_register(tmp_path: Path) -> None:
    async with meeting(tmp_path) as at:
        await at.rig.request(at.bob.user, Method.DEVICE_REVOKE, {1: at.bob.device})
        await at.shard.wait(lambda record: getattr(record, "reason", 0) == 17 and record.handle == at.bob.handle)
        _, registered = await at.shard.login(at.bob.user, at.bob.device)
        assert registered.error == ErrorCode.REVOKED
        await at.rig.fold()
        _, registered = await at.shard.login(at.bob.user, at.bob.device)
        assert registered.error == ErrorCode.REVOKED


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not holds():  # noqa: ASYNC110 - nothing announces it
            await trio.sleep(0.001)


async def test_what_a_dead_shard_asked_never_reaches_its_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handles begin anew in the new process: the same one is somebody else's connection there."""
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        slow = trio.Event()
        answer_now = rig.hub.calls._answer

        async def answer_slowly(call: Any) -> bytes:
            await slow.wait()
            return await answer_now(call)

        device = await rig._device(bob)
        monkeypatch.setattr(rig.hub.calls, "_answer", answer_slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.sync, ann)
            await until(lambda: rig.hub.calls.in_progress == 1)
            nursery.cancel_scope.cancel()
        (handle,) = rig.door._sessions.values()
        rig.core.unlink(0)
        rig.hub._link_epochs[0] = 2
        rig.door = NativeDoor(rig.core)
        rig.door._number = handle - 1
        rig.hub.wake()
        assert await rig.door._session(bob, device) == handle
        slow.set()
        await until(lambda: rig.hub.calls.in_progress == 0)
        rig.door.inbox += rig.door.shard.read()
        assert not [record for record in rig.door.inbox if isinstance(record, Frames)]
