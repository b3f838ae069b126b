# RPC: MessagePack between the Python sides of shards and hub, over the same rings as everything else. Payload of a
# call: [method, [arguments]]; of an answer: [0, result] or [error code, text, retry_after_ms]. A shard numbers its
# own calls; numbers with the top bit are the hub's, and a record with such a number is a shard's answer. 0 wants
# none. docs/internals/rpc.md lists the methods.
"""Calls from shards, and the few that the hub makes itself."""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgpack
import trio

from chatd.hub.frames import CallError
from chatd.wire.schema import ErrorCode

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

HUB_CALL = 1 << 63
ASKS_MAX = 256
ANSWER_RETRY_S = 0.02
ANSWER_TIMEOUT_S = 5.0

RpcMethod = Callable[..., Awaitable[Any]]
"""await method(hub, shard, *arguments) → result. Raises CallError. Arguments come from a shard: a trusted process."""


class Rpc:
    """Answers shards, one task per call, and asks them."""

    def __init__(self, hub: "Hub", methods: dict[str, RpcMethod]) -> None:
        self._hub = hub
        self._methods = methods
        self._nursery: trio.Nursery | None = None
        self._asked: dict[int, tuple[int, trio.Event, list[Any]]] = {}
        self._asked_count = 0
        self.in_progress = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    # ------------------------------------------------------------ from shards

    def on_rpc(self, shard: int, call: int, payload: bytes) -> None:
        if call & HUB_CALL:
            self._answered(shard, call, payload)
            return
        if self.in_progress >= self._hub.settings.calls_in_progress_max:
            self._put(shard, call, [int(ErrorCode.BUSY), "too many calls of shards in progress; try again later", 500])
            return
        assert self._nursery is not None
        self.in_progress += 1
        self._nursery.start_soon(self._serve, shard, call, payload, self._hub.reaches(shard))

    async def _serve(self, shard: int, call: int, payload: bytes, reaches: Callable[[], bool]) -> None:
        settled = self._hub.committer.settled
        try:
            await settled()
            name, arguments = msgpack.unpackb(payload, strict_map_key=False)
            method = self._methods.get(name)
            if method is None:
                raise CallError(ErrorCode.UNSUPPORTED, f"the hub has no RPC method {name!r}; shard and hub differ")
            answer = [0, await method(self._hub, shard, *arguments)]
        except CallError as refusal:
            answer = [int(refusal.code), refusal.text, refusal.retry_after_ms]
        except Exception:
            log.exception("an RPC of shard %d failed; it gets INTERNAL", shard)
            answer = [int(ErrorCode.INTERNAL), "the hub failed; it has been logged", 1000]
        finally:
            self.in_progress -= 1
        if not call:
            return
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            while True:
                await settled()
                if not reaches() or self._put(shard, call, answer):
                    return
                await trio.sleep(ANSWER_RETRY_S)

    def _put(self, shard: int, call: int, answer: list[Any]) -> bool:
        return self._hub.core.rpc(shard, call, msgpack.packb(answer))

    # ------------------------------------------------------------ to shards

    async def ask(self, shard: int, method: str, *arguments: Any, timeout_s: float = 2.0) -> Any:
        """Call a method of a shard. CallError UNAVAILABLE when it does not answer in time."""
        if len(self._asked) >= ASKS_MAX:
            raise CallError(ErrorCode.BUSY, "too many questions to shards are open; try again later", 500)
        self._asked_count += 1
        call = HUB_CALL | self._asked_count
        answered, answer = trio.Event(), list[Any]()
        self._asked[call] = (shard, answered, answer)
        try:
            if self._hub.core.rpc(shard, call, msgpack.packb([method, list(arguments)])):
                with trio.move_on_after(timeout_s):
                    await answered.wait()
                    await self._hub.committer.settled()
        finally:
            del self._asked[call]
        if not answer:
            raise CallError(ErrorCode.UNAVAILABLE, f"shard {shard} did not answer {method}; try again later", 500)
        code, result = answer[0], answer[1]
        if code:
            raise CallError(ErrorCode(code), str(result), answer[2] if len(answer) > 2 else 0)
        return result

    async def ask_all(self, method: str, *arguments: Any, but: int = -1) -> dict[int, Any]:
        """Call a method of every shard (but that one) at the same time. Those that did not answer are left out."""
        answers: dict[int, Any] = {}

        async def ask(shard: int) -> None:
            try:
                answers[shard] = await self.ask(shard, method, *arguments)
            except CallError as refusal:
                log.warning("shard %d: %s", shard, refusal.text)

        async with trio.open_nursery() as nursery:
            for shard in set(self._hub.shards) - {but}:
                nursery.start_soon(ask, shard)
        return answers

    def _answered(self, shard: int, call: int, payload: bytes) -> None:
        asked = self._asked.get(call)
        if asked is None or asked[0] != shard:
            return
        asked[2].extend(msgpack.unpackb(payload, strict_map_key=False))
        asked[1].set()
