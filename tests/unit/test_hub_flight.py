"""A batch in flight: the loop turns, but nobody sees or does anything that builds on what may not be stored."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support import hub_rig
from support.hub_rig import Aborted, Refused, Rig, running

from chatd.errors import StoreFailedError, StoreFullError, StoreLostError
from chatd.wire.schema import Method

GROUP = {1: 2, 2: "g"}


class Tower:
    """The rig's store, far away: every batch waits for `land`, or for an error instead of it."""

    def __init__(self, rig: Rig) -> None:
        self._append = rig.store.append
        self.began = trio.Event()
        self.let, self.results = trio.open_memory_channel[Exception | None](100)
        self.urgent: list[bool] = []
        rig.store.begin_append = self.begin  # type: ignore[method-assign, assignment]

    def begin(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> Any:
        self.urgent.append(urgent)
        self.began.set()
        return self._fly(pos, count, blob)

    async def _fly(self, pos: int, count: int, blob: bytes) -> None:
        error = await self.results.receive()
        if error is not None:
            raise error
        self._append(pos, count, blob)

    def land(self, error: Exception | None = None, count: int = 1) -> None:
        for _ in range(count):
            self.let.send_nowait(error)


@pytest.fixture(autouse=True)
def native_core(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    hub_rig.core_kind = "native"
    with caplog.at_level(logging.CRITICAL):
        yield
    hub_rig.core_kind = "plain"


@asynccontextmanager
async def saying(rig: Rig, cid: int, user: int, text: str) -> AsyncIterator[Tower]:
    """Inside, the batch with that message is in flight. It has to land before the end."""
    tower = Tower(rig)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.say, cid, user, text)
        await tower.began.wait()
        yield tower


async def test_a_read_waits_until_the_batch_has_landed(tmp_path: Path) -> None:
    """Reads that began before come back from their thread while it is in flight."""
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, GROUP))[1]
        await rig.fold()
        await rig.pull(ann, cid)  # what it needs beside the events is in memory from now on
        in_thread, go_on, waiting = rig.hub.loader._in_thread, trio.Event(), 0

        async def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal waiting
            answer = await in_thread(*arguments, **options)
            waiting += 1
            await go_on.wait()
            return answer

        rig.hub.loader._in_thread = slow
        answers: list[Any] = []

        async def read() -> None:
            answers.append((await rig.pull(ann, cid))[0])

        async with trio.open_nursery() as readers:
            for _ in range(20):
                readers.start_soon(read)
            while waiting < 20:  # noqa: ASYNC110 they count in tasks of the rig
                await trio.sleep(0.001)
            async with saying(rig, cid, ann, "hi") as tower:
                go_on.set()
                await trio.sleep(0.05)
                assert answers == [], "somebody read while it was not known whether the message is stored"
                tower.land()
        assert [[text for _, text in events][1:] for events in answers] == [[b"hi"]] * 20


async def test_a_refused_flight_never_happened(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, GROUP))[1]
        tower = Tower(rig)
        tower.land(StoreFullError("no room"))
        with pytest.raises(Exception, match="no room"):
            await rig.say(cid, ann, "never")
        assert (await rig.pull(ann, cid))[1] == (0, 1, 1)
        tower.land()
        assert await rig.say(cid, ann, "later") == 2


async def test_urgent_turns_of_the_same_moment_fly_behind(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, GROUP))[1]

        async def change(text: bytes, urgent: bool) -> None:
            await rig.hub.change(lambda: rig.core.stage_event(cid, ann, 1, text, True), urgent=urgent)

        async with saying(rig, cid, ann, "first") as tower, trio.open_nursery() as nursery:
            nursery.start_soon(change, b"third", True)
            nursery.start_soon(change, b"second", False)
            await trio.sleep(0.05)
            assert tower.urgent == [False]
            tower.land(count=3)
        assert tower.urgent == [False, False, True]
        tower.land()
        assert [text for _, text in (await rig.pull(ann, cid))[0]][1:] == [b"first", b"second", b"third"]


async def test_a_lost_database_ends_the_hub_and_answers_nothing(tmp_path: Path) -> None:
    answered = False
    with pytest.RaisesGroup(pytest.RaisesExc(StoreLostError, match="gone"), flatten_subgroups=True):
        async with running(tmp_path) as rig:
            ann = await rig.user("ann")
            cid = (await rig.request(ann, Method.CONVERSATION_CREATE, GROUP))[1]
            async with saying(rig, cid, ann, "perhaps") as tower, trio.open_nursery() as readers:

                async def look() -> None:
                    nonlocal answered
                    await rig.hub.lookup(lambda: rig.core.conversation(cid))
                    answered = True

                for _ in range(20):
                    readers.start_soon(look)
                await trio.sleep(0.02)
                tower.land(StoreLostError("the server is gone"))
                await trio.sleep(1)
    assert not answered
    async with running(tmp_path) as rig:
        assert (await rig.pull(ann, cid))[1] == (0, 1, 1)


async def test_a_failed_store_ends_the_process_at_once(tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(Aborted, match="store failed"), flatten_subgroups=True):
        async with running(tmp_path) as rig:
            Tower(rig).land(StoreFailedError("I/O error"))
            with trio.move_on_after(1):
                await rig.user("ann")


async def test_who_waited_runs_before_the_next_batch_is_in_flight(tmp_path: Path) -> None:
    """Else a busy hub would starve its readers."""
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, GROUP))[1]
        hub_rig.move_away(rig.store)  # type: ignore[arg-type]
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def talk() -> None:
                    while True:
                        await rig.say(cid, ann, "again")

                for _ in range(5):
                    nursery.start_soon(talk)
                for _ in range(10):
                    await rig.pull(ann, cid)
                nursery.cancel_scope.cancel()


async def test_refusals_reach_the_caller_of_a_method(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        Tower(rig).land(StoreFullError("no room"))
        with pytest.raises(Refused, match="STORE_FULL"):
            await rig.request(ann, Method.CONVERSATION_CREATE, GROUP)
