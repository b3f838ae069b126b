"""Commands to devices, and slow mode, on a running hub with the native core: bounds, restarts and folds."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from support import hub_rig
from support.authors import Author, author, refused
from support.fakeshard import Ack, Nak

from chatd.hub.core_settings import HubCoreSettings
from chatd.wire.payload import decode_payload
from chatd.wire.schema import CommandState, ErrorCode, Kind, Method


@pytest.fixture(autouse=True)
def native_core() -> Iterator[None]:
    hub_rig.core_kind = "native"
    yield
    hub_rig.core_kind = "plain"


async def panel_of(ann: Author) -> Author:
    """Another device of the same user, in the conversation of the first one."""
    user, device = ann.session.user, ann.session.device
    cid = (await ann.rig.request(user, Method.DEVICE_OPEN, {1: device}))[1]
    other = (await ann.rig.rpc("device", user, 0, "panel"))["device"]
    session, _ = await ann.shard.login(user, other)
    return Author(ann.rig, ann.shard, session, cid, 0)


async def tell(panel: Author, name: str = "on", device: int = 0, expires_s: int = 0) -> Ack | Nak:
    return await panel.act(Kind.COMMAND, name=name, device=device, expires_s=expires_s, arguments=b"")


async def waiting(who: Author) -> list[Any]:
    listed: list[Any] = (await who.rig.request(who.session.user, Method.COMMAND_LIST, {1: who.cid}))[1]
    return listed


@pytest.mark.parametrize("folded", [False, True])
async def test_a_deadline_holds_over_a_restart(tmp_path: Path, folded: bool) -> None:
    async with author(tmp_path) as lamp:
        panel = await panel_of(lamp)
        ack = await tell(panel, expires_s=1)
        assert isinstance(ack, Ack), ack
        kept = await tell(panel)
        assert isinstance(kept, Ack), kept
        if folded:
            await lamp.rig.fold()
        user, device, cid = panel.session.user, panel.session.device, panel.cid
    await trio.sleep(1.1)
    async with author(tmp_path, (user, device, cid)) as again:
        with trio.fail_after(60):
            while len(await waiting(again)) != 1:  # noqa: ASYNC110 the row is only to be had by asking
                await trio.sleep(0.02)
        assert [row[0] for row in await waiting(again)] == [kept.seq], "without a deadline it waits on"
        result = decode_payload(Kind.COMMAND_RESULT, await again.shown(kept.seq + 1))
        assert result == {"command": ack.seq, "state": CommandState.EXPIRED, "content": b""}


async def test_commands_are_bounded(tmp_path: Path) -> None:
    async with author(tmp_path, commands_max=2, expiry_max_s=60) as lamp:
        panel = await panel_of(lamp)
        refused(await tell(panel, expires_s=61), ErrorCode.BAD_REQUEST)
        refused(await tell(panel, name="no spaces"), ErrorCode.BAD_REQUEST)
        refused(await tell(panel, device=panel.session.device), ErrorCode.BAD_REQUEST)
        assert isinstance(await tell(panel, device=lamp.session.device), Ack)
        assert isinstance(await tell(panel), Ack)
        refused(await tell(panel), ErrorCode.LIMIT_REACHED)
        assert len(await waiting(panel)) == 2


async def test_a_revoked_device_is_told_nothing(tmp_path: Path) -> None:
    async with author(tmp_path) as lamp:
        panel = await panel_of(lamp)
        await panel.rig.request(panel.session.user, Method.DEVICE_REVOKE, {1: lamp.session.device})
        refused(await tell(panel), ErrorCode.NOT_FOUND)


async def slow_bob(ann: Author) -> Author:
    """A member of the author's group in slow mode, who has just said something that is folded now."""
    bob = await ann.rig.user("bob")
    await ann.rig.request(ann.session.user, Method.MEMBER_ADD, {1: ann.cid, 2: [bob]})
    await ann.rig.request(ann.session.user, Method.CONVERSATION_SET_RULES, {1: ann.cid, 2: 3600})
    device = (await ann.rig.rpc("device", bob, 0, "phone"))["device"]
    session, _ = await ann.shard.login(bob, device)
    author_bob = Author(ann.rig, ann.shard, session, ann.cid, 0)
    await author_bob.say()
    await ann.rig.fold()
    return author_bob


async def held(bob: Author) -> None:
    answer = await bob.send(b"so soon")
    assert isinstance(answer, Nak), answer
    assert answer.code == ErrorCode.RATE_LIMITED


async def test_slow_mode_holds_over_a_restart(tmp_path: Path) -> None:
    async with author(tmp_path) as ann:
        bob = await slow_bob(ann)
    async with author(tmp_path, (bob.session.user, bob.session.device, bob.cid)) as again:
        await held(again)


async def test_slow_mode_holds_in_a_conversation_that_is_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail has let go of the message, and the core of the conversation."""
    monkeypatch.setattr(hub_rig, "HubCoreSettings", partial(HubCoreSettings, conversations_max=1))
    async with author(tmp_path) as ann:
        bob = await slow_bob(ann)
        evictions = ann.rig.core.counters()["evictions"]
        with trio.fail_after(60):
            while ann.rig.core.counters()["evictions"] == evictions:  # its positions have to be stored first
                await trio.sleep(0.6)
                await ann.rig.fold()
                await ann.rig.request(ann.session.user, Method.CONVERSATION_CREATE, {1: 2, 2: "another", 3: []})
        await held(bob)
