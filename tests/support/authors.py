"""A device that sends judged events to a running native hub, and what it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from chatd.wire import varint
from chatd.wire.payload import encode_payload
from chatd.wire.schema import ErrorCode, Kind, Method
from support.fakeshard import Ack, Nak, Session
from support.hub_rig import Rig, running
from support.hub_sessions import Shard


class Author:
    """One device of one user of a group."""

    def __init__(self, rig: Rig, shard: Shard, session: Session, cid: int, cseq: int) -> None:
        self.rig, self.shard, self.session, self.cid, self.cseq = rig, shard, session, cid, cseq

    async def send(self, payload: bytes, kind: Kind = Kind.TEXT, extensions: bytes = b"") -> Ack | Nak:
        self.cseq += 1
        block = varint.encode(len(extensions)) + extensions if extensions else b""
        link = self.shard.link
        token = link.send(self.session, self.cseq, self.cid, block + payload, kind=kind, flags=int(bool(block)))
        return await self.shard.answer(token)

    async def act(self, kind: Kind, **fields: Any) -> Ack | Nak:
        return await self.send(encode_payload(kind, fields), kind)

    async def say(self, payload: bytes = b"hi", extensions: bytes = b"") -> int:
        answer = await self.send(payload, extensions=extensions)
        assert isinstance(answer, Ack), answer
        return answer.seq

    async def shown(self, seq: int) -> bytes:
        ((_, payload),), _ = await self.rig.pull(self.session.user, self.cid, seq, seq)
        return bytes(payload)

    async def with_another(self, name: str) -> "Author":
        """A device of a new member."""
        user = await self.rig.user(name)
        await self.rig.request(self.session.user, Method.MEMBER_ADD, {1: self.cid, 2: [user]})
        device = (await self.rig.rpc("device", user, 0, "phone"))["device"]
        session, _ = await self.shard.login(user, device)
        return Author(self.rig, self.shard, session, self.cid, 0)


@asynccontextmanager
async def author(path: Path, again: tuple[int, int, int] | None = None, **settings: Any) -> AsyncIterator[Author]:
    """again: user, device and cid of an earlier run."""
    async with running(path, **settings) as rig:
        if again is None:
            user = await rig.user("ann")
            cid = (await rig.request(user, Method.CONVERSATION_CREATE, {1: 2, 2: "g", 3: []}))[1]
            device = (await rig.rpc("device", user, 0, "phone"))["device"]
        else:
            user, device, cid = again
        shard = Shard(rig)
        session, registered = await shard.login(user, device)
        yield Author(rig, shard, session, cid, registered.cseq_stored)


def refused(answer: Ack | Nak, code: ErrorCode) -> None:
    assert isinstance(answer, Nak), answer
    assert (answer.code, bool(answer.text)) == (code, True)
