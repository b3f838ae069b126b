"""What becomes durable, and what happens when the store refuses."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from support.hub_rig import Aborted, Refused, Rig, either_core, running

from chatd.errors import StoreFailedError, StoreFullError
from chatd.hub.loading import NOBODY_EPOCH
from chatd.wire.schema import Credential, ErrorCode, Method

__all__ = ["either_core"]


class Faults:
    """Stands in front of a store's append: raises what it is told to, else passes on."""

    def __init__(self, rig: Rig) -> None:
        self._append = rig.store.append
        self.error: Exception | None = None
        self.urgent: list[bool] = []
        rig.store.append = self  # type: ignore[method-assign, assignment]

    def __call__(self, pos: int, count: int, blob: bytes, *, urgent: bool = False) -> None:
        self.urgent.append(urgent)
        if self.error is not None and not (urgent and isinstance(self.error, StoreFullError)):
            raise self.error
        self._append(pos, count, blob, urgent=urgent)


@pytest.fixture(autouse=True)
def no_log_noise(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.CRITICAL):
        yield


async def test_full_store_refuses_and_recovers_without_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        faults = Faults(rig)
        faults.error = StoreFullError("the disk is full; free some space")
        create = {1: 2, 2: "g", 3: [bob]}
        for _ in range(2):
            with pytest.raises(Refused, match="STORE_FULL") as refused:
                await rig.request(ann, Method.CONVERSATION_CREATE, create)
            assert refused.value.retry_after_ms > 0
        assert rig.core.refused == [ErrorCode.STORE_FULL] * 2
        assert (await rig.sync(ann))[0] == []
        faults.error = None
        await rig.request(ann, Method.CONVERSATION_CREATE, create)
        assert len((await rig.sync(bob))[0]) == 1


async def test_full_store_still_takes_rights_away(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: "g", 3: [bob]}))[1]
        faults = Faults(rig)
        faults.error = StoreFullError("the disk is full")
        with pytest.raises(Refused, match="STORE_FULL"):
            await rig.request(ann, Method.CONVERSATION_SET_TITLE, {1: cid, 2: "new"})
        assert (await rig.request(ann, Method.MEMBER_REMOVE, {1: cid, 2: [bob]})) == {1: 3}
        assert faults.urgent == [False, True]
        assert (await rig.request(ann, Method.CONVERSATION_GET, {1: cid}))[3] == "g"


async def test_failed_store_ends_the_process_at_once(tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(Aborted, match="store failed"), flatten_subgroups=True):
        async with running(tmp_path) as rig:
            Faults(rig).error = StoreFailedError("fsync: I/O error")
            with trio.move_on_after(1):
                await rig.user("ann")


async def test_read_only_hub_reads_and_refuses_to_write(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
    async with running(tmp_path, read_only=True) as rig:
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: ""})
        assert (await rig.sync(ann))[0] == []


async def test_method_that_fails_after_staging_costs_its_batch_only(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")

        def broken() -> None:
            rig.hub.rows.stage("user", rig.hub.rows.find("user", ann)._replace(display_name="lost"))
            raise KeyError("bug")

        with pytest.raises(Exception, match="server failed"):
            await rig.hub.change(broken)
        assert rig.core.refused == [ErrorCode.INTERNAL]
        assert (await rig.request(ann, Method.USER_GET, {1: [ann]})) == {1: [[ann, "ann", "Ann"]]}


async def test_nobody_reads_what_is_not_committed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: "g"}))[1]
        Faults(rig).error = StoreFullError("full")
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(Exception, match="full"):
                    await rig.say(cid, ann, "never")

            nursery.start_soon(fail)
            for _ in range(5):
                assert (await rig.pull(ann, cid))[1] == (0, 1, 1)


# ---------------------------------------------------------------- restart


@pytest.mark.usefixtures("either_core")
@pytest.mark.parametrize("folded", ["nothing", "half", "everything"])
async def test_restarted_hub_knows_everything_committed(tmp_path: Path, folded: str) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cid = (await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: "g", 3: [bob]}))[1]
        await rig.say(cid, ann, "one")
        if folded != "nothing":
            await rig.fold()
        await rig.request(ann, Method.CONVERSATION_SET_TITLE, {0: b"k", 1: cid, 2: "better"})
        cyd = await rig.user("cyd")
        await rig.request(ann, Method.MEMBER_ADD, {1: cid, 2: [cyd]})
        if folded == "everything":
            await rig.fold()
        before = [(await rig.sync(user))[0] for user in (ann, bob, cyd)]
    async with running(tmp_path) as rig:
        after = [(await rig.sync(user))[0] for user in (ann, bob, cyd)]
        assert after == before
        assert (await rig.request(cyd, Method.CONVERSATION_GET, {1: cid})) == {
            1: cid, 2: 2, 3: "better", 4: 5, 5: 3, 6: 1, 7: 5,
        }  # fmt: skip
        assert (await rig.request(ann, Method.CONVERSATION_SET_TITLE, {0: b"k", 1: cid, 2: "other"})) == {1: 4}
        assert [event[0] for event in (await rig.pull(bob, cid))[0]] == [1, 2, 3, 4, 5]
        assert (await rig.rpc("credential", Credential.JWT, "cyd"))["user"] == cyd
        assert await rig.user("dan") == cyd + 1
        await rig.fold()
        assert [event[0] for event in (await rig.pull(cyd, cid))[0]] == [5]


# ---------------------------------------------------------------- loading for the core


async def answered(rig: Rig, count: int) -> list[tuple[Any, ...]]:
    with trio.fail_after(5):
        while len(rig.core.answers) < count:  # noqa: ASYNC110 - the plain core tells nobody
            await trio.sleep(0.001)
    answers, rig.core.answers = rig.core.answers, []
    return answers


async def test_core_gets_what_it_needs_from_overlay_and_database(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        device = (await rig.rpc("device", ann, 0, "phone"))["device"]
        assert rig.core.answers.pop() == ("put_device", device, ann, 0, 0), "before its login asks"
        for _ in range(2):
            rig.core.push("need_user", ann)
            rig.core.push("need_user", 99)
            rig.core.push("need_device", device)
            rig.core.push("need_device", 98)
            rig.core.push("need_conversation", 97)
            rig.core.push("need_read_count", 97, ann, 5)
            assert sorted(await answered(rig, 6)) == [
                ("no_conversation", 97),
                ("no_device", 98),
                ("put_device", device, ann, 0, 0),
                ("put_user", ann, 0, 0),
                ("put_user", 99, NOBODY_EPOCH, 0),
                ("read_count", 97, ann, 5, 0),
            ]
            await rig.fold()


async def test_old_cseq_is_unknown_only_when_the_fold_has_passed_the_question(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        rig.core.push("need_idempotency", 5, 1)
        rig.core.push("need_user", ann)
        assert await answered(rig, 1) == [("put_user", ann, 0, 0)]
        for _ in range(3):
            rig.core.push("need_user", ann)
            assert await answered(rig, 1) == [("put_user", ann, 0, 0)]
        await rig.fold()
        assert await answered(rig, 1) == [("idempotency", 5, 1, False, 0, 0, 0, 0)]
