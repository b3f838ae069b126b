"""SIGHUP: what the new configuration says of roles holds at once, in conversations that are going on."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.live import Peer, peer
from support.processes import kill9, workers

from chatd.testing import ChatdServer
from chatd.wire.schema import ErrorCode, Method, Op

WITHIN_S = 60.0
HERALD = 8


def configured(path: Path, denies: str = "[]", inherits: str = "member") -> None:
    path.write_text(f'[[hub.roles]]\ncode = {HERALD}\nname = "herald"\ninherits = "{inherits}"\ndenies = {denies}\n')


async def answers(who: Peer, cid: int, code: int) -> None:
    """Until a SEND is answered with that code, 0: stored."""
    with trio.fail_after(WITHIN_S):
        while True:
            answer = await who.send(cid)
            if (0 if answer.op == Op.SEND_ACK else answer["code"]) == code:
                return
            await trio.sleep(0.05)


async def logged(server: ChatdServer, words: str) -> None:
    with trio.fail_after(WITHIN_S):
        while words not in server.log.read_text():  # noqa: ASYNC110 a file tells nobody
            await trio.sleep(0.05)


@asynccontextmanager
async def herald(server: ChatdServer) -> AsyncIterator[tuple[Peer, int]]:
    """A member with the operator's role in a group, connected all the time."""
    async with peer(server, "ann") as ann, peer(server, "bob") as bob:
        cid = await ann.group([bob.user])
        await ann.call(Method.MEMBER_SET_ROLE, {1: cid, 2: bob.user, 3: HERALD})
        yield bob, cid


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "processes"])
async def test_a_role_changes_in_a_live_conversation(tmp_path: Path, inline: bool) -> None:
    path = tmp_path / "chatd.toml"
    configured(path)
    options = ["--config", str(path)] if inline else ["--config", str(path), "--shards", "2"]
    with ChatdServer.start(tmp_path, *options, inline=inline) as server:
        async with herald(server) as (bob, cid):
            await answers(bob, cid, 0)
            configured(path, denies='["write"]')
            os.kill(server.pid, signal.SIGHUP)
            await answers(bob, cid, ErrorCode.FORBIDDEN)
            configured(path, inherits="nobody")
            os.kill(server.pid, signal.SIGHUP)
            await logged(server, "reload refused; the old settings stay")
            await logged(server, "role herald: it inherits from nobody")
            await answers(bob, cid, ErrorCode.FORBIDDEN)
        if not inline:
            # A hub that starts later has the roles of the last good reload.
            kill9(workers(server.pid)["hub"])
            async with peer(server, "bob") as again:
                await answers(again, cid, ErrorCode.FORBIDDEN)
                configured(path)
                os.kill(server.pid, signal.SIGHUP)
                await answers(again, cid, 0)
