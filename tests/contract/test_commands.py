"""Commands to devices: who may send them, who answers them, and what becomes of those that nobody answers."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from support.live import Peer, peer
from support.places import Place

from chatd.wire.frame import Frame
from chatd.wire.payload import decode_payload
from chatd.wire.schema import CommandState, ErrorCode, Feature, Kind, Method, Op, Role

SOON_S = 60.0


def administrator(at: Place) -> AbstractAsyncContextManager[Peer]:
    return peer(at.server, "admin")


async def conversation_of(who: Peer, device: int) -> int:
    return int((await who.call(Method.DEVICE_OPEN, {1: device}))[1])


async def tell(who: Peer, cid: int, device: int = 0, expires_s: int = 0) -> Frame:
    return await who.act(cid, Kind.COMMAND, name="on", device=device, expires_s=expires_s, arguments=b"\x01")


async def answer(who: Peer, cid: int, command: int, state: CommandState, content: bytes = b"") -> Frame:
    return await who.act(cid, Kind.COMMAND_RESULT, command=command, state=int(state), content=content)


async def waiting(who: Peer, cid: int) -> list[Any]:
    return list((await who.call(Method.COMMAND_LIST, {1: cid}))[1])


def refused(frame: Frame, code: ErrorCode) -> None:
    assert (frame.op, frame.fields.get("code")) == (Op.SEND_NAK, code), frame
    assert frame["text"], "a refusal says why"


async def test_a_command_reaches_the_device_and_has_one_final_result(at: Place) -> None:
    async with at.people("ann", "ann") as (panel, lamp):
        cid = await conversation_of(panel, lamp.device)
        assert await conversation_of(lamp, lamp.device) == cid
        seq = (await tell(panel, cid, lamp.device))["seq"]
        pushed = (await lamp.delivered(cid, seq))[-1]
        fields = decode_payload(Kind.COMMAND, pushed["payload"])
        assert fields == {"name": "on", "device": lamp.device, "expires_s": 0, "arguments": b"\x01"}
        assert await waiting(lamp, cid) == [[seq, panel.user, False, 0]]
        refused(await answer(panel, cid, seq, CommandState.DONE), ErrorCode.FORBIDDEN)
        assert (await answer(lamp, cid, seq, CommandState.ACCEPTED)).op == Op.SEND_ACK
        refused(await answer(lamp, cid, seq, CommandState.ACCEPTED), ErrorCode.BAD_REQUEST)
        assert await waiting(panel, cid) == [[seq, panel.user, True, 0]]
        refused(await answer(lamp, cid, seq, CommandState.EXPIRED), ErrorCode.BAD_REQUEST)
        done = await answer(lamp, cid, seq, CommandState.DONE, b"lit")
        result = (await panel.delivered(cid, done["seq"]))[-1]
        assert decode_payload(Kind.COMMAND_RESULT, result["payload"]) == {
            "command": seq, "state": CommandState.DONE, "content": b"lit",
        }  # fmt: skip
        assert await waiting(panel, cid) == []
        refused(await answer(lamp, cid, seq, CommandState.FAILED), ErrorCode.EXPIRED)
        refused(await answer(lamp, cid, seq + 100, CommandState.DONE), ErrorCode.NOT_FOUND)


async def test_a_device_that_was_away_tells_waiting_from_done(at: Place) -> None:
    async with at.people("ann", "ann") as (panel, lamp):
        cid = await conversation_of(panel, lamp.device)
        done = (await tell(panel, cid))["seq"]
        await answer(lamp, cid, done, CommandState.DONE)
        device, cursor = lamp.device, (await lamp.sync())["cursor"]
        await lamp.stream.aclose()
        missed = [(await tell(panel, cid))["seq"] for _ in range(3)]
        async with at.peer("ann", shard=1, device=device) as back:
            (entry,) = (await back.sync(cursor))["entries"]
            assert (entry["cid"], entry["head_seq"]) == (cid, missed[-1])
            assert [row[0] for row in await waiting(back, cid)] == missed
            assert [seq for seq, _ in await back.log(cid)][-3:] == missed
            for seq in missed:
                assert (await answer(back, cid, seq, CommandState.FAILED)).op == Op.SEND_ACK
        assert await waiting(panel, cid) == []


async def test_a_small_device_is_commanded_too(at: Place) -> None:
    """Of the lite profile: it asks for nothing, gets the command and answers it."""
    async with at.people("ann") as (panel,), at.peer("ann", shard=1, features=Feature.LITE) as lamp:
        cid = await conversation_of(panel, lamp.device)
        seq = (await tell(panel, cid))["seq"]
        assert (await lamp.delivered(cid, seq))[-1]["kind"] == Kind.COMMAND
        done = await answer(lamp, cid, seq, CommandState.DONE)
        assert (await panel.delivered(cid, done["seq"]))[-1]["kind"] == Kind.COMMAND_RESULT


async def test_who_may_command_a_device(at: Place) -> None:
    async with at.people("ann", "ann", "bob", "eve") as (panel, lamp, bob, eve), administrator(at) as boss:
        cid = await conversation_of(panel, lamp.device)
        for stranger in (bob, eve):
            assert (await stranger.request(Method.DEVICE_OPEN, {1: lamp.device}))["code"] == ErrorCode.NOT_FOUND
            assert (await tell(stranger, cid))["code"] == ErrorCode.NOT_FOUND
        await panel.call(Method.MEMBER_ADD, {1: cid, 2: [bob.user]})
        refused(await tell(bob, cid), ErrorCode.FORBIDDEN)
        await panel.call(Method.MEMBER_SET_ROLE, {1: cid, 2: bob.user, 3: int(Role.MODERATOR)})
        seq = (await tell(bob, cid))["seq"]
        refused(await answer(bob, cid, seq, CommandState.DONE), ErrorCode.FORBIDDEN)
        await lamp.delivered(cid, seq)
        assert await conversation_of(boss, lamp.device) == cid
        joined = (await lamp.delivered(cid, seq + 1))[-1]
        assert (joined["kind"], joined["sender"]) == (Kind.MEMBER_JOINED, boss.user)
        assert (await tell(boss, cid)).op == Op.SEND_ACK
        group = await panel.group()
        refused(await tell(panel, group), ErrorCode.BAD_REQUEST)
        refused(await answer(lamp, group, 1, CommandState.DONE), ErrorCode.FORBIDDEN)


async def test_the_server_answers_what_nobody_answered_in_time(at: Place) -> None:
    async with at.people("ann", "ann") as (panel, lamp):
        cid = await conversation_of(panel, lamp.device)
        seq = (await tell(panel, cid, expires_s=1))["seq"]
        await answer(lamp, cid, seq, CommandState.ACCEPTED)
        with trio.fail_after(SOON_S):
            while await waiting(panel, cid):  # noqa: ASYNC110 a device without push looks so
                await trio.sleep(0.05)
        result = await lamp.next(
            Op.DELIVER, where=lambda frame: frame["cid"] == cid and frame["sender"] == 0, within_s=SOON_S
        )
        assert decode_payload(Kind.COMMAND_RESULT, result["payload"]) == {
            "command": seq, "state": CommandState.EXPIRED, "content": b"",
        }  # fmt: skip
        refused(await answer(lamp, cid, seq, CommandState.DONE), ErrorCode.EXPIRED)
