"""The client for scripts without an event loop: the same calls, blocking.

    with BlockingClient("127.0.0.1:7350", Credential.jwt(token)) as client:
        client.send(cid, "hello")
        for event in client.events(timeout_s=5):
            ...

A background thread runs the real client on anyio's asyncio backend; every call crosses to it and waits.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel
from anyio.from_thread import BlockingPortal, start_blocking_portal

from chatd.client.client import Client
from chatd.client.errors import ClientError
from chatd.client.history import Hit
from chatd.client.model import Overview, Sent, Signal, Update
from chatd.wire.schema import Kind

Item = TypeVar("Item")


class BlockingClient:
    """Takes the arguments of Client. Every awaitable method of Client is here as a plain one, found by name."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._make = partial(Client, *args, **options)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._client = stack.enter_context(self._portal.wrap_async_context_manager(self._portal.call(self._make)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        self._portal = self._client = None

    def send(self, cid: int, payload: str | bytes, kind: Kind = Kind.TEXT) -> Sent:
        """Client.send: returns when the event is durable."""
        portal, client = self._open()
        return portal.call(client.send, cid, payload, kind)

    def events(self, timeout_s: float | None = None) -> Iterator[Update]:
        """Client.events; ends when nothing came for timeout_s. Taking the next event confirms the one before."""
        portal, client = self._open()
        return stepping(portal, portal.call(client.events), timeout_s)

    def signals(self, timeout_s: float | None = None) -> Iterator[Signal]:
        """Client.signals; ends when nothing came for timeout_s."""
        portal, client = self._open()
        return stepping(portal, portal.call(client.signals), timeout_s)

    def search(self, words: str, **filters: Any) -> Iterator[Hit]:
        """Client.search."""
        portal, client = self._open()
        return stepping(portal, client.search(words, **filters), None)

    @contextmanager
    def stream(self, cid: int, kind: Kind = Kind.TEXT) -> Iterator[Callable[[str | bytes], None]]:
        """Client.stream; what it gives is `write`."""
        portal, client = self._open()
        with portal.wrap_async_context_manager(client.stream(cid, kind)) as writer:
            yield lambda data: portal.call(writer.write, data)

    @property
    def user(self) -> int:
        return self._open()[1].user

    @property
    def device(self) -> int:
        return self._open()[1].device

    def conversations(self) -> list[Overview]:
        portal, client = self._open()

        async def listed() -> list[Overview]:
            await client.synced()
            return client.conversations()

        return portal.call(listed)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(Client, name, None)
        if name.startswith("_") or not callable(method):
            raise AttributeError(f"BlockingClient has no {name}")

        def call(*args: Any, **options: Any) -> Any:
            portal, client = self._open()
            return portal.call(partial(awaited, getattr(client, name), *args, **options))

        return call

    def _open(self) -> tuple[BlockingPortal, Client]:
        if self._portal is None or self._client is None:
            raise ClientError("the client is not open: use `with`")
        return self._portal, self._client


def stepping(portal: BlockingPortal, source: AsyncIterator[Item], timeout_s: float | None) -> Iterator[Item]:
    async def step() -> Item | None:
        with anyio.move_on_after(timeout_s):
            return await anext(source, None)
        return None

    while (item := portal.call(step)) is not None:
        yield item


async def awaited(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call on the client's thread; plain methods of Client touch its loop, so they run here too."""
    result = method(*args, **options)
    if isinstance(result, Coroutine):
        result = await result
    await anyio.lowlevel.checkpoint()
    return result
