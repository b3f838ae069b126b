"""Service desks and conversations of devices on a running hub: folds, restarts, and what a desk's end means."""

from pathlib import Path
from typing import Any

import pytest
from support.hub_rig import Refused, Rig, either_core, running

from chatd.hub.flags import UserFlag
from chatd.wire.schema import CaseState, ErrorCode, Method, Role

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")


async def refused(rig: Rig, user: int, method: Method, params: dict[int, Any]) -> ErrorCode:
    with pytest.raises(Refused) as found:
        await rig.request(user, method, params)
    return found.value.code


async def desk(rig: Rig) -> tuple[int, int, int, int]:
    """The administrator, the group, an agent and a customer."""
    boss = await rig.user("boss", UserFlag.ADMIN)
    agent, customer = await rig.user("ada"), await rig.user("cus")
    group = (await rig.request(agent, Method.CONVERSATION_CREATE, {1: 2, 2: "support", 3: []}))[1]
    await rig.request(boss, Method.DESK_SET, {1: "help", 2: group})
    return boss, group, agent, customer


async def cases(rig: Rig, agent: int, group: int, state: int = 0) -> list[list[Any]]:
    listed: list[list[Any]] = (await rig.request(agent, Method.CASE_LIST, {1: group, 2: state}))[1]
    return listed


@pytest.mark.parametrize("folded", [False, True])
async def test_a_case_is_what_it_was_after_fold_and_restart(tmp_path: Path, folded: bool) -> None:
    async with running(tmp_path) as rig:
        _, group, agent, customer = await desk(rig)
        assert (await rig.request(customer, Method.DESK_LIST))[1] == [["help", group, "support"]]
        cid = (await rig.request(customer, Method.CASE_OPEN, {1: "help", 2: "broken"}))[1]
        if folded:
            await rig.fold()
        await rig.request(agent, Method.CASE_ASSIGN, {1: cid, 2: agent, 3: 0})
        if folded:
            await rig.fold()
    async with running(tmp_path) as rig:
        ((*case, since_ms, stars, subject),) = await cases(rig, agent, group, CaseState.ASSIGNED)
        assert (case, stars, subject) == ([cid, customer, "Cus", CaseState.ASSIGNED, agent], 0, "broken")
        assert since_ms > 0
        assert await cases(rig, agent, group, CaseState.OPEN) == []
        assert await rig.request(customer, Method.CASE_OPEN, {1: "help"}) == {1: cid, 2: 0}
        closed = (await rig.request(agent, Method.CASE_CLOSE, {1: cid, 2: True}))[1]
        assert (await rig.pull(agent, cid))[1][1] == closed, "the agent has read the end, and nothing later"
        again = (await rig.request(customer, Method.CASE_OPEN, {1: "help"}))[2]
        assert (await rig.pull(agent, cid))[1][1] == closed < again
        taken = (await rig.request(agent, Method.CASE_ASSIGN, {1: cid, 2: agent}))[1]
        seqs = [seq for seq, _ in (await rig.pull(agent, cid))[0]]
        assert seqs == list(range(1, taken + 1)), "who takes it again reads all of it, once"


async def test_a_desk_is_a_group_and_ends_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        boss, group, agent, customer = await desk(rig)
        other = (await rig.request(agent, Method.CONVERSATION_CREATE, {1: 2, 2: "other", 3: []}))[1]
        channel = (await rig.request(agent, Method.CONVERSATION_CREATE, {1: 3, 2: "news"}))[1]
        assert await refused(rig, boss, Method.DESK_SET, {1: "help", 2: other}) == ErrorCode.BAD_REQUEST
        assert await refused(rig, boss, Method.DESK_SET, {1: "news", 2: channel}) == ErrorCode.NOT_FOUND
        assert await refused(rig, agent, Method.DESK_SET, {1: "mine", 2: other}) == ErrorCode.FORBIDDEN
        await rig.request(boss, Method.DESK_SET, {1: "second", 2: other})
        await rig.request(boss, Method.DESK_SET, {1: "second", 2: 0})
        assert await refused(rig, customer, Method.CASE_OPEN, {1: "second"}) == ErrorCode.NOT_FOUND
        await rig.request(agent, Method.CONVERSATION_DELETE, {1: group})
        assert await refused(rig, customer, Method.CASE_OPEN, {1: "help"}) == ErrorCode.NOT_FOUND
        assert (await rig.request(customer, Method.DESK_LIST))[1] == []


async def test_a_case_counts_as_one_conversation_while_an_agent_has_it(tmp_path: Path) -> None:
    async with running(tmp_path, user_conversations_max=2) as rig:
        _, _, agent, customer = await desk(rig)
        second = await rig.user("second")
        first_cid, second_cid = [
            (await rig.request(user, Method.CASE_OPEN, {1: "help"}))[1] for user in (customer, second)
        ]
        await rig.request(agent, Method.CASE_ASSIGN, {1: first_cid, 2: agent})
        params = {1: second_cid, 2: agent}
        assert await refused(rig, agent, Method.CASE_ASSIGN, params) == ErrorCode.LIMIT_REACHED
        await rig.request(agent, Method.CASE_CLOSE, {1: first_cid, 2: True})
        await rig.fold()
        await rig.request(agent, Method.CASE_ASSIGN, params)


@pytest.mark.parametrize("folded", [False, True])
async def test_a_device_has_one_conversation_and_its_user_is_no_owner(tmp_path: Path, folded: bool) -> None:
    async with running(tmp_path) as rig:
        ann, boss = await rig.user("ann"), await rig.user("boss", UserFlag.ADMIN)
        device = (await rig.rpc("device", ann, 0, "lamp"))["device"]
        cid = (await rig.request(ann, Method.DEVICE_OPEN, {1: device}))[1]
        if folded:
            await rig.fold()
    async with running(tmp_path) as rig:
        for user in (ann, boss, ann, boss):
            assert (await rig.request(user, Method.DEVICE_OPEN, {1: device}))[1] == cid
        found = await rig.request(ann, Method.CONVERSATION_GET, {1: cid})
        assert (found[2], found[3], found[6]) == (5, "lamp", Role.ADMIN)
        assert {row[0]: row[1] for row in (await rig.request(ann, Method.MEMBER_LIST, {1: cid}))[1]} == {
            ann: Role.ADMIN, boss: Role.ADMIN,
        }  # fmt: skip
        assert await refused(rig, ann, Method.CONVERSATION_DELETE, {1: cid}) == ErrorCode.FORBIDDEN
        params = {1: cid, 2: boss, 3: int(Role.OWNER)}
        assert await refused(rig, ann, Method.MEMBER_SET_ROLE, params) == ErrorCode.FORBIDDEN
        await rig.request(ann, Method.MEMBER_LEAVE, {1: cid})
        assert (await rig.request(ann, Method.DEVICE_OPEN, {1: device}))[1] == cid
        assert (await rig.request(ann, Method.CONVERSATION_GET, {1: cid}))[6] == Role.ADMIN
        assert await refused(rig, await rig.user("eve"), Method.DEVICE_OPEN, {1: device}) == ErrorCode.NOT_FOUND
