"""Service desks: a case waits, an agent has it, it is closed; who may read it follows from that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.live import Peer, peer
from support.places import Place

from chatd.wire.payload import decode_payload
from chatd.wire.schema import CaseState, ErrorCode, Kind, MemberState, Method, Op


@asynccontextmanager
async def desk(at: Place) -> AsyncIterator[tuple[str, int, Peer, Peer, Peer]]:
    """Its name, the group, two agents and a customer."""
    async with at.people("ada", "ben", "cus") as (ada, ben, customer), peer(at.server, "admin") as boss:
        group, name = await ada.group([ben.user], title="support"), at.name("help")
        await boss.call(Method.DESK_SET, {1: name, 2: group})
        yield name, group, ada, ben, customer


async def code(who: Peer, method: Method, params: dict[int, Any]) -> int:
    return int((await who.request(method, params))["code"])


async def told(who: Peer, cid: int, kind: Kind = Kind.CASE_CHANGED) -> dict[str, Any]:
    """The next event of that kind there."""
    event = await who.next(Op.DELIVER, where=lambda frame: (frame["cid"], frame["kind"]) == (cid, kind))
    return dict(decode_payload(kind, event["payload"]) or {})


async def queue(agent: Peer, group: int, state: CaseState) -> list[tuple[int, int]]:
    """(cid, agent) of the cases in that state."""
    return [(row[0], row[4]) for row in (await agent.call(Method.CASE_LIST, {1: group, 2: int(state)}))[1]]


async def test_a_case_waits_until_an_agent_takes_it(at: Place) -> None:
    async with desk(at) as (name, group, ada, ben, customer):
        assert name in [row[0] for row in (await customer.call(Method.DESK_LIST, {2: 50}))[1]]
        cid = (await customer.call(Method.CASE_OPEN, {1: name, 2: "broken"}))[1]
        assert await customer.call(Method.CASE_OPEN, {1: name, 2: "again"}) == {1: cid, 2: 0}
        waits = {"case": cid, "state": CaseState.OPEN, "agent": 0, "customer": customer.user}
        assert await told(ada, group) == await told(ben, group) == waits
        await customer.say(cid, b"it smokes")
        assert await queue(ada, group, CaseState.OPEN) == [(cid, 0)]
        assert (await ada.pull(cid))[1]["code"] == ErrorCode.NOT_FOUND
        taken = (await ada.call(Method.CASE_ASSIGN, {1: cid, 2: ada.user, 3: 0}))[1]
        has = {**waits, "state": CaseState.ASSIGNED, "agent": ada.user}
        assert await told(ben, group) == has
        assert (await customer.delivered(cid, taken))[-1]["kind"] == Kind.CASE_CHANGED
        assert b"it smokes" in [payload for _, payload in await ada.log(cid)], "read from the beginning"
        assert await code(ben, Method.CASE_ASSIGN, {1: cid, 2: ben.user, 3: 0}) == ErrorCode.FORBIDDEN
        seq = await ada.say(cid, b"pull the plug")
        assert (await customer.delivered(cid, seq))[-1]["payload"] == b"pull the plug"
        assert await queue(ben, group, CaseState.ASSIGNED) == [(cid, ada.user)]
        assert await queue(ben, group, CaseState.OPEN) == []


async def test_a_case_is_handed_over_and_nothing_later_reaches_who_had_it(at: Place) -> None:
    async with desk(at) as (name, group, ada, ben, customer):
        cid = (await customer.call(Method.CASE_OPEN, {1: name}))[1]
        await ada.call(Method.CASE_ASSIGN, {1: cid, 2: ada.user})
        over = (await ada.call(Method.CASE_ASSIGN, {1: cid, 2: ben.user}))[1]
        await ben.delivered(cid, await customer.say(cid, b"secret"))
        await ada.barrier()
        assert max(frame["seq"] for frame in ada.take(Op.DELIVER) if frame["cid"] == cid) == over
        assert (await ada.log(cid))[-1][0] == over
        entry = await ada.synced(cid)
        assert entry is not None
        assert (entry["state"], entry["head_seq"]) == (MemberState.LEFT, over)
        assert await code(ada, Method.CASE_ASSIGN, {1: cid, 2: customer.user}) == ErrorCode.FORBIDDEN
        assert (await ada.call(Method.CASE_ASSIGN, {1: cid, 2: 0}))[1]
        assert await queue(ada, group, CaseState.OPEN) == [(cid, 0)]


async def test_a_closed_case_is_read_rated_and_opened_again(at: Place) -> None:
    async with desk(at) as (name, group, ada, _, customer):
        cid = (await customer.call(Method.CASE_OPEN, {1: name}))[1]
        await ada.call(Method.CASE_ASSIGN, {1: cid, 2: ada.user})
        assert await code(customer, Method.CASE_RATE, {1: cid, 2: 5}) == ErrorCode.FORBIDDEN
        closed = (await ada.call(Method.CASE_CLOSE, {1: cid, 2: True}))[1]
        assert (await customer.send(cid))["code"] == ErrorCode.FORBIDDEN
        assert (await ada.send(cid))["code"] == ErrorCode.NOT_FOUND, "the agent has left"
        assert [seq for seq, _ in await customer.log(cid)][-1] == closed
        await customer.call(Method.CASE_RATE, {1: cid, 2: 4})
        assert await told(ada, group, Kind.CASE_RATED) == {"case": cid, "stars": 4}
        assert await code(ada, Method.CASE_RATE, {1: cid, 2: 5}) == ErrorCode.FORBIDDEN
        assert (await customer.call(Method.CASE_OPEN, {1: name, 2: "still broken"}))[1] == cid
        assert (await customer.send(cid, b"again")).op == Op.SEND_ACK
        (row,) = [row for row in (await ada.call(Method.CASE_LIST, {1: group}))[1] if row[0] == cid]
        assert (row[3], row[4], row[6], row[7]) == (CaseState.OPEN, 0, 4, "still broken")


async def test_a_case_is_nobody_elses(at: Place) -> None:
    async with desk(at) as (name, group, ada, _, customer), at.peer("eve") as eve:
        cid = (await customer.call(Method.CASE_OPEN, {1: name}))[1]
        for who in (eve, customer):
            assert await code(who, Method.CASE_LIST, {1: group}) == ErrorCode.NOT_FOUND
            assert await code(who, Method.CASE_ASSIGN, {1: cid, 2: who.user}) == ErrorCode.NOT_FOUND
        assert await code(eve, Method.CASE_CLOSE, {1: cid, 2: True}) == ErrorCode.NOT_FOUND
        assert await code(eve, Method.CASE_OPEN, {1: name, 3: customer.user}) == ErrorCode.FORBIDDEN
        assert await code(eve, Method.CASE_OPEN, {1: at.name("nowhere")}) == ErrorCode.NOT_FOUND
        assert await code(eve, Method.DESK_SET, {1: name, 2: 0}) == ErrorCode.FORBIDDEN
        for method in (Method.MEMBER_LEAVE, Method.INVITE_CREATE, Method.CONVERSATION_DELETE):
            assert await code(customer, method, {1: cid}) in {ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND}
        given = (await ada.call(Method.CASE_OPEN, {1: name, 2: "a recall", 3: eve.user}))[1]
        assert given != cid
        assert await eve.synced(given) is not None
