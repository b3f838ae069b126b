"""Cancel an operation at its k-th checkpoint, whichever loop runs it.

A coroutine gives control away exactly where it yields to its loop. So the operation is stepped by hand: before the k-th
yield goes to the loop its scope is cancelled, and the loop delivers the cancellation there.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import anyio

Value = TypeVar("Value")


class Stepped(Generic[Value]):
    """Awaits `inner`; calls `at` before its k-th yield (from 1). yields: how many there were."""

    def __init__(self, inner: Awaitable[Value], k: int, at: Callable[[], None]) -> None:
        self._steps = inner.__await__()
        self._k = k
        self._at = at
        self.yields = 0

    def __await__(self) -> Generator[Any, Any, Value]:
        step: Callable[[], Any] = self._steps.__next__
        while True:
            try:
                request = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self.yields += 1
            if self.yields == self._k:
                self._at()
            try:
                answer = yield request
            except BaseException as error:  # noqa: BLE001  what the loop throws goes where it belongs
                step = lambda error=error: self._steps.throw(error)  # noqa: E731
            else:
                step = lambda answer=answer: self._steps.send(answer)  # noqa: E731


async def cancelled_at(k: int, operation: Callable[[], Awaitable[Value]]) -> tuple[bool, Value | None]:
    """Run it with a cancellation at its k-th checkpoint: (it was reached, its result if it had one all the same)."""
    result = None
    with anyio.CancelScope() as scope:
        stepped = Stepped(operation(), k, scope.cancel)
        result = await stepped
    return stepped.yields >= k, result
