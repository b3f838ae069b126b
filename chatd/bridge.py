"""asyncio libraries beside trio: one uvloop loop in a thread of its own, called from trio tasks and from threads.

Calls are coarse, one transaction or pipeline each: a call costs a wake-up of each loop, and calls of one moment share
them. Cancelling a call waits until the other side has ended it, so nothing of it runs on unseen. Errors arrive with
their type. Processes that talk to no such library never import this.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import outcome
import trio
import uvloop

from chatd.errors import InternalError

CALLS_MAX = 10_000
END_TIMEOUT_S = 2.0

Result = TypeVar("Result")
Function = Callable[..., Coroutine[Any, Any, Result]]


class _Call:
    """function(*args) on its way; `deliver` is called on the other loop with what became of it."""

    __slots__ = ("args", "begun", "cancelled", "deliver", "function", "task", "timeout_s")

    def __init__(
        self,
        function: Function[Any],
        args: tuple[Any, ...],
        timeout_s: float | None,
        deliver: Callable[[outcome.Outcome[Any]], None],
    ) -> None:
        self.function, self.args, self.timeout_s, self.deliver = function, args, timeout_s, deliver
        self.task: asyncio.Task[None] | None = None
        self.begun = self.cancelled = False

    async def run(self) -> None:
        result: outcome.Outcome[Any]
        self.begun = True
        try:
            if self.cancelled:
                raise asyncio.CancelledError
            async with asyncio.timeout(self.timeout_s):
                result = outcome.Value(await self.function(*self.args))
        except BaseException as error:  # noqa: BLE001 whoever called is told
            result = outcome.Error(error)
        self.deliver(result)

    def cancel(self) -> None:
        """A task that is cancelled before its first step never takes it, and nobody would be told."""
        self.cancelled = True
        if self.task is not None and self.begun:
            self.task.cancel()


class Bridge:
    """Owns the thread and its loop. `call` is for tasks of one trio run, `wait` for any other thread."""

    def __init__(self, name: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._calls: deque[_Call] = deque(maxlen=CALLS_MAX)
        self._called = False
        self._running: dict[asyncio.Task[None], _Call] = {}
        self._answers: deque[tuple[trio.lowlevel.Task, outcome.Outcome[Any]]] = deque(maxlen=CALLS_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Function[Result], *args: Any, timeout_s: float | None = None) -> Result:
        """The result of `await function(*args)` on the other loop. TimeoutError after timeout_s."""
        await trio.lowlevel.checkpoint_if_cancelled()
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        raise_cancel: list[Callable[[], Any]] = []

        def deliver(result: outcome.Outcome[Any]) -> None:
            if raise_cancel and isinstance(result, outcome.Error) and isinstance(result.error, asyncio.CancelledError):
                result = outcome.capture(raise_cancel[0])
            self._answers.append((task, result))
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._reschedule, idempotent=True)

        call = _Call(function, args, timeout_s, deliver)
        self._submit(call)

        def abort(how: Callable[[], Any]) -> trio.lowlevel.Abort:
            raise_cancel.append(how)
            self._loop.call_soon_threadsafe(call.cancel)
            return trio.lowlevel.Abort.FAILED

        result: Result = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def wait(self, function: Function[Result], *args: Any, timeout_s: float | None = None) -> Result:
        """The same for a thread, which blocks meanwhile."""
        future: Future[outcome.Outcome[Any]] = Future()
        self._submit(_Call(function, args, timeout_s, future.set_result))
        result: Result = future.result().unwrap()
        return result

    def close(self) -> None:
        """End what still runs there and the thread; END_TIMEOUT_S at most."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(END_TIMEOUT_S)

    # ------------------------------------------------------------ in trio

    def _reschedule(self) -> None:
        while self._answers:
            task, result = self._answers.popleft()
            trio.lowlevel.reschedule(task, result)

    # ------------------------------------------------------------ from everywhere

    def _submit(self, call: _Call) -> None:
        if self._closed or len(self._calls) >= CALLS_MAX:
            raise InternalError(f"{self._thread.name}: " + ("it is closed" if self._closed else "too many calls wait"))
        self._calls.append(call)
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._begin_all)

    # ------------------------------------------------------------ in asyncio

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _begin_all(self) -> None:
        # First: what is appended while this runs wakes again, needlessly at worst.
        self._called = False
        while self._calls:
            call = self._calls.popleft()
            task = call.task = self._loop.create_task(call.run())
            self._running[task] = call
            task.add_done_callback(self._running.pop)

    def _stop(self) -> None:
        self._begin_all()
        for call in self._running.values():
            call.cancel()
        end = self._loop.create_task(self._ended())
        end.add_done_callback(lambda _: self._loop.stop())

    async def _ended(self) -> None:
        if self._running:
            await asyncio.wait(list(self._running), timeout=END_TIMEOUT_S / 2)
