"""Calls to the hub's Python side and answers to its questions. docs/internals/rpc.md lists the methods."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import trio

from chatd.engine.interface import Engine
from chatd.wire.schema import ErrorCode

# Calls with this bit are the hub's questions to a shard.
HUB_CALL = 1 << 63
CALLS_MAX = 4096
TIMEOUT_S = 2.0
RING_FULL_PAUSE_S = 0.005


class HubRefusalError(Exception):
    """The hub's answer was an error, or none came in time."""

    def __init__(self, code: ErrorCode, text: str, retry_after_ms: int = 0) -> None:
        super().__init__(text)
        self.code, self.text, self.retry_after_ms = code, text, retry_after_ms


@dataclass(slots=True)
class Waiting:
    """A call without an answer. news: the answer is there, or another hub, which has to be asked again."""

    news: trio.Event
    answer: list[Any] = field(default_factory=list)


class HubCalls:
    """Numbers calls and waits for their answers; at most CALLS_MAX at a time, each at most TIMEOUT_S."""

    def __init__(self, engine: Engine, wake: Callable[[], None]) -> None:
        self._engine, self._wake = engine, wake
        self._waiting: dict[int, Waiting] = {}
        self._count = 0
        # name → answer(*arguments): what the hub may ask a shard.
        self.questions: dict[str, Callable[..., Any]] = {}

    async def call(self, method: str, *arguments: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """The hub's result. Raises HubRefusalError."""
        if len(self._waiting) >= CALLS_MAX:
            raise HubRefusalError(ErrorCode.AUTH_BUSY, "too many logins at once; try again later", 1000)
        self._count += 1
        call = self._count
        waiting = self._waiting[call] = Waiting(trio.Event())
        payload, answer = msgpack.packb([method, list(arguments)]), waiting.answer
        try:
            with trio.move_on_after(timeout_s):
                while not answer:
                    if not self._engine.rpc(call, payload):
                        await trio.sleep(RING_FULL_PAUSE_S)
                        continue
                    self._wake()
                    waiting.news = trio.Event()
                    await waiting.news.wait()
        finally:
            del self._waiting[call]
        if not answer:
            raise HubRefusalError(ErrorCode.UNAVAILABLE, "a part of the server is restarting; try again", 1000)
        if answer[0]:
            retry_after_ms = answer[2] if len(answer) > 2 else 0
            raise HubRefusalError(ErrorCode(answer[0]), str(answer[1]), retry_after_ms)
        return answer[1]

    def on_link(self) -> None:
        """A new hub: whatever the old one has not answered went down with it and is asked again."""
        for waiting in self._waiting.values():
            waiting.news.set()

    def on_rpc(self, call: int, payload: bytes) -> None:
        """An answer to one of our calls, or a question. An answer that nobody waits for came too late."""
        if call & HUB_CALL:
            self._answer(call, payload)
            return
        waiting = self._waiting.get(call)
        if waiting is not None:
            waiting.answer.extend(msgpack.unpackb(payload, strict_map_key=False))
            waiting.news.set()

    def _answer(self, call: int, payload: bytes) -> None:
        name, arguments = msgpack.unpackb(payload, strict_map_key=False)
        question = self.questions.get(name)
        if question is None:
            answer: list[Any] = [int(ErrorCode.UNSUPPORTED), f"a shard cannot answer {name}", 0]
        else:
            answer = [0, question(*arguments)]
        self._engine.rpc(call, msgpack.packb(answer))
