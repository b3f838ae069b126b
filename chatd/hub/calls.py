# Calls: frames that need the hub's Python side: SYNC, PULL, REQUEST and STREAM_START. The core hands each over as one
# upcall; each gets exactly one answer flagged done, because the shard counts it as outstanding until then. Work happens
# in a task per call; their number is bounded, and so is the rate per connection, charged before any work. A frame that
# gets no answer (a delta of a stream, a value that is kept) is taken at once.
"""From the upcall of a SYNC, PULL or REQUEST to the frames of its answer."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from chatd.hub import folding, frames, ranges, reads, sync
from chatd.hub.frames import CallError
from chatd.wire.schema import HEADER_BYTES, ErrorCode, Op

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

BUCKETS_MAX = 50_000
ANSWER_RETRY_S = 0.02
ANSWER_TIMEOUT_S = 10.0


class Call(NamedTuple):
    """One call as the core gives it. The window and frame_bytes_max bound the answer."""

    shard: int
    handle: int
    user: int
    device: int
    op: int
    flags: int
    window_frames: int
    window_bytes: int
    frame_bytes_max: int
    features: int
    body: bytes


RequestHandler = Callable[[Call, int, dict[int, Any]], Awaitable[dict[int, Any]]]
"""call, method, params → result. Raises CallError."""


class Calls:
    """Bounds, rates and answers. One per hub."""

    def __init__(
        self, hub: "Hub", request: RequestHandler, at_once: Mapping[int, Callable[[Call], None]] | None = None
    ) -> None:
        """at_once: by op, who takes frames that get no answer."""
        self._hub = hub
        self._request = request
        self._at_once = dict(at_once or {})
        self._nursery: trio.Nursery | None = None
        self._buckets: OrderedDict[tuple[str, int], tuple[float, float]] = OrderedDict()
        self.in_progress = 0
        self.refused_count = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def on_call(self, *fields: Any) -> None:
        call = Call(*fields)
        if call.op in self._at_once:
            self._at_once[call.op](call)
            return
        try:
            self._charge(call)
        except CallError as refusal:
            self.refused_count += 1
            self._hub.core.frames(call.shard, call.handle, self._refusal(call, refusal), True)
            return
        assert self._nursery is not None
        self.in_progress += 1
        self._nursery.start_soon(self._serve, call, self._hub.reaches(call.shard))

    def _charge(self, call: Call) -> None:
        settings = self._hub.settings
        if self.in_progress >= settings.calls_in_progress_max:
            raise CallError(ErrorCode.BUSY, "too many calls in progress; try again later", 500)
        if call.op in (Op.SYNC, Op.PULL):
            self.charge("read", call.device, settings.pulls_per_s, settings.pulls_burst)
        else:
            self.charge("request", call.device, settings.requests_per_s, settings.requests_burst)

    def charge(self, what: str, whose: int, rate_per_s: float, burst: int) -> None:
        """Take one from the bucket of a device or user. CallError BUSY when it is empty; a rate of 0 is no limit."""
        if not rate_per_s:
            return
        now = self._hub.clock.monotonic_s()
        tokens, since = self._buckets.pop((what, whose), (float(burst), now))
        tokens = min(burst, tokens + (now - since) * rate_per_s)
        paid = tokens >= 1
        self._buckets[what, whose] = (tokens - 1 if paid else tokens, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if not paid:
            wait_ms = int((1 - tokens) / rate_per_s * 1000) + 1
            raise CallError(ErrorCode.BUSY, f"too many calls ({what}) at once; slow down", wait_ms)

    async def _serve(self, call: Call, reaches: Callable[[], bool]) -> None:
        settled = self._hub.committer.settled
        try:
            await settled()
            answer = await self._answer(call)
        except CallError as refusal:
            answer = self._refusal(call, refusal)
        except Exception:
            log.exception("a call failed (op %#x, user %d); it gets INTERNAL", call.op, call.user)
            text = "the server failed while answering this; it has been logged"
            answer = self._refusal(call, CallError(ErrorCode.INTERNAL, text, 1000))
        finally:
            self.in_progress -= 1
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            while True:
                await settled()
                if not reaches() or self._hub.core.frames(call.shard, call.handle, answer, True):
                    return
                await trio.sleep(ANSWER_RETRY_S)

    async def _answer(self, call: Call) -> bytes:
        match call.op:
            case Op.SYNC:
                return await sync.answer(self._hub, call)
            case Op.PULL:
                pull = frames.decode_pull(call.body, call.flags)
                if pull.folded is not None:
                    return await folding.answer(self._hub, call, pull)
                if pull.ranges:
                    return await ranges.answer(self._hub, call, pull)
                return await reads.answer(self._hub, call, pull)
            case Op.STREAM_START:
                return await self._hub.streams.start(call)
            case Op.REQUEST:
                request = frames.decode_request(call.body)
                answer = frames.reply(request.id, await self._request(call, request.method, request.params))
                if len(answer) - HEADER_BYTES > call.frame_bytes_max:
                    text = f"the answer is over your {call.frame_bytes_max} bytes per frame; ask for a smaller page"
                    raise CallError(ErrorCode.TOO_LARGE, text)
                return answer
        raise CallError(ErrorCode.UNSUPPORTED, f"op {call.op:#x} is not one that is answered here")

    def _refusal(self, call: Call, refusal: CallError) -> bytes:
        try:
            if call.op == Op.REQUEST:
                return frames.reply_error(frames.first_varint(call.body), refusal)
            ref = 0 if call.op == Op.SYNC else frames.first_varint(call.body)
        except CallError:
            ref = 0
        return frames.error(call.op, ref, refusal)
