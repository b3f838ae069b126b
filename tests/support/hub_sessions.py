"""Sessions of a fake shard on a running native hub: login, SEND, and what comes back, awaited."""

from collections.abc import Callable
from typing import Any

import trio

from support import fakeshard
from support.fakeshard import Ack, Answer, Committed, Deliver, FakeShard, Nak, Registered, Session, decode_deliver
from support.hub_rig import NativeDoor, Rig


class Shard:
    """What the hub says is kept until somebody waits for it."""

    def __init__(self, rig: Rig) -> None:
        assert isinstance(rig.door, NativeDoor)
        self._door = rig.door
        self.link: FakeShard = rig.door.shard
        self._handle = 1000

    async def login(self, user: int, device: int, **options: Any) -> tuple[Session, Registered]:
        self._handle += 1
        handle = self._handle
        self.link.login(handle, user, device, **options)
        answer: Registered = await self._door._wait(
            lambda record: isinstance(record, Registered) and record.handle == handle
        )
        return Session(handle, user, device, answer.session_epoch), answer

    async def send(self, session: Session, cseq: int, cid: int, payload: bytes = b"hello") -> Ack | Nak:
        return await self.answer(self.link.send(session, cseq, cid, payload))

    async def skip(self, session: Session, cseq: int) -> Ack | Nak:
        return await self.answer(self.link.skip(session, cseq))

    async def answer(self, token: int) -> Ack | Nak:
        answer = await self._door._wait(lambda record: isinstance(record, Answer) and record.token == token)
        return fakeshard.decode_answer(answer)

    async def wait(self, wanted: Callable[[Any], bool]) -> Any:
        return await self._door._wait(wanted)

    async def delivered(self, session: Session, count: int) -> list[Deliver]:
        """The next `count` events for this session, in order."""
        found: list[Deliver] = []
        with trio.fail_after(5):
            while len(found) < count:
                record = await self.wait(
                    lambda record: isinstance(record, Committed) and session.handle in record.handles
                )
                ((op, flags, body),) = fakeshard.split_frames(record.frame)
                found.append(decode_deliver(op, flags, body))
        return found

    def silent(self, session: Session) -> bool:
        """Nothing waits for this session."""
        self._door.inbox += self.link.read()
        return not any(
            isinstance(record, Committed) and session.handle in record.handles for record in self._door.inbox
        )
