"""The fake server of fake_server.py behind a real loopback socket, for the shell of the client on trio and asyncio."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute, SocketStream

from support.fake_server import FakeLink, FakeServer


@dataclass
class FakeNetwork:
    server: FakeServer
    port: int = 0
    streams: list[tuple[FakeLink, SocketStream]] = field(default_factory=list)
    refusing: bool = False  # new connections are closed at once
    _changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def wake(self) -> None:
        """The test changed the server: let the links write."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(10):
            while not condition():
                await self._changed.wait()

    async def break_connections(self) -> None:
        for link, stream in self.streams:
            link.close()
            await anyio.aclose_forcefully(stream)
        self.streams.clear()

    async def serve(self, stream: SocketStream) -> None:
        if self.refusing:
            await anyio.aclose_forcefully(stream)
            return
        link = self.server.connect()
        self.streams.append((link, stream))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, link, stream)
                while True:
                    link.feed(await stream.receive())
                    self.wake()
        except* (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, StopFakeLink):
            pass
        finally:
            link.close()
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
                await anyio.lowlevel.checkpoint()

    async def _write(self, link: FakeLink, stream: SocketStream) -> None:
        while True:
            changed = self._changed
            if link.out:
                out = bytes(link.out)
                link.out.clear()
                await stream.send(out)
            elif link.closing:
                raise StopFakeLink
            else:
                await changed.wait()


class StopFakeLink(Exception):
    """The link is over."""


@asynccontextmanager
async def fake_network(server: FakeServer) -> AsyncIterator[FakeNetwork]:
    network = FakeNetwork(server)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    network.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, network.serve)
        yield network
        tasks.cancel_scope.cancel()
