"""`why`: the hops of one event, and what has aged out is said."""

from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from support.hub_rig import Rig, running
from support.plain_core import PlainCore

from chatd.hub.flags import UserFlag
from chatd.services import role, users
from chatd.storage.sqlite.store import SqliteStore
from chatd.wire.schema import Method


async def answer_as_shard(rig: Rig, hops: list[Any], complete: bool) -> None:
    while True:
        for entry in list(rig.core.sent):
            if entry[0] == "rpc" and entry[2] >> 63:
                rig.core.sent.remove(entry)
                assert msgpack.unpackb(entry[3])[0] == "ledger"
                rig.core.push("rpc", entry[1], entry[2], msgpack.packb([0, [hops, complete]]))
        await trio.sleep(0.001)


@pytest.mark.parametrize("folded", [False, True])
async def test_hops_of_hub_and_shards_are_merged_by_time(tmp_path: Path, folded: bool) -> None:
    async with running(tmp_path) as rig, trio.open_nursery() as nursery:
        root, bob = await rig.user("root", UserFlag.ADMIN), await rig.user("bob")
        cid = (await rig.request(root, Method.CONVERSATION_CREATE, {1: 2, 2: "", 3: [bob]}))[1]
        seq = await rig.say(cid, root, "hello")
        if folded:
            await rig.fold()
        rig.core.ledger = lambda cid, seq, user=0: [(50, "committed", "")]  # type: ignore[method-assign]
        nursery.start_soon(answer_as_shard, rig, [[70, "acked", ""], [60, "written", "handle 5"]], True)
        answer = await rig.request(root, Method.ADMIN_WHY, {1: cid, 2: seq, 3: bob})
        hops = [hop[1] for hop in answer[1]]
        assert hops == ["for this user", "committed", "written", "acked", "stored"]
        assert answer[2] is False
        stranger = await rig.user("eve")
        answer = await rig.request(root, Method.ADMIN_WHY, {1: cid, 2: seq, 3: stranger})
        assert "not for this user" in [hop[1] for hop in answer[1]]
        answer = await rig.request(root, Method.ADMIN_WHY, {1: cid, 2: seq + 1, 3: bob})
        assert [hop[1] for hop in answer[1]] == ["not stored"]
        nursery.cancel_scope.cancel()


async def test_forgotten_hops_are_called_aged_out(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        root = await rig.user("root", UserFlag.ADMIN)
        cid = (await rig.request(root, Method.CONVERSATION_CREATE, {1: 2, 2: ""}))[1]
        rig.hub.shards.clear()
        rig.hub.shards.add(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_as_shard, rig, [], False)
            answer = await rig.request(root, Method.ADMIN_WHY, {1: cid, 2: 1, 3: root})
            nursery.cancel_scope.cancel()
        assert answer[2] is True
        assert "aged out" in [hop[1] for hop in answer[1]]


async def test_command_changes_a_directory_without_a_server(tmp_path: Path) -> None:
    for name in ("first", "second"):
        store = SqliteStore.open(tmp_path)
        core = PlainCore()
        async with role.offline(core, store) as hub:  # type: ignore[arg-type]
            row = await hub.change(lambda: users.stage_user(hub.rows, name, "", None, UserFlag.ADMIN, 1))  # noqa: B023
            assert await hub.lookup(lambda: hub.rows.find("user", "first", unique=True))
            assert await hub.lookup(lambda: hub.rows.find("user", "third", unique=True)) is None
            assert row.id == ("first", "second").index(name) + 1
        core.close()
        store.close()
