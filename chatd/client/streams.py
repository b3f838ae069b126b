"""What an application iterates over. Plain iterators, no generators: leaving a loop early needs no clean-up, and a
cancelled step loses nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Self

import anyio.lowlevel

from chatd.client.errors import ClosedError
from chatd.client.model import Event, Signal, Update
from chatd.client.session import ClientSession
from chatd.wire.schema import Close

# An application that is never kept waiting would keep the connection waiting: the next PULL, ACKs, heartbeats.
UPDATES_IN_A_ROW_MAX = 32

Wait = Callable[[], Awaitable[None]]


class Updates:
    """Client.events. wait: returns when something changed; taken: called when an update has left the queue."""

    def __init__(self, session: ClientSession, auto: bool, wait: Wait, taken: Callable[[int, int], None]) -> None:
        self._session = session
        self._auto = auto
        self._wait = wait
        self._taken = taken
        self._last: Update | None = None
        self._in_a_row = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        inbox = self._session.inbox
        self._in_a_row += 1
        if self._in_a_row > UPDATES_IN_A_ROW_MAX:
            self._in_a_row = 0
            await anyio.lowlevel.checkpoint()
        if self._last is not None:
            inbox.confirm(self._last)
            self._last = None
        while (ready := inbox.take()) is None:
            if self._session.closed:
                raise self._session.error or ClosedError(Close.NORMAL)
            await self._wait()
        self._taken(ready.size_bytes, ready.generation)
        update = ready.update
        if self._auto or not isinstance(update, Event):
            self._last = update
            return update
        return replace(update, confirm=lambda: inbox.confirm(update))


class Signals:
    """Client.signals: ends when the session is closed."""

    def __init__(self, session: ClientSession, wait: Wait) -> None:
        self._session = session
        self._wait = wait

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Signal:
        while not self._session.signals:
            if self._session.closed:
                raise StopAsyncIteration
            await self._wait()
        return self._session.signals.popleft()
