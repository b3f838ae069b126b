"""A proxy in front of PostgreSQL that loses answers: what the server did is done, and nobody is told.

It forwards every byte until `cut`; from then on the next bytes of a client still reach the server, and when the server
has answered them the connection ends instead.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

import trio

STARTUP_WORDS = b"application_name\0"


class AnswerCutter:
    """port: where clients connect. cuts: how many answers were lost."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
        self.cuts = 0
        self._armed: dict[str, trio.Event] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, server_port: int) -> AsyncIterator[Self]:
        proxy = cls(server_port)
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, proxy._serve, 0, host="127.0.0.1"))
            proxy.port = listener.socket.getsockname()[1]
            yield proxy
            nursery.cancel_scope.cancel()

    async def cut(self, application: str) -> None:
        """Lose the next answer to a connection of that name; returns when it is lost."""
        event = self._armed[application] = trio.Event()
        await event.wait()

    async def _serve(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                server = await trio.open_tcp_stream("127.0.0.1", self._server_port)
            except OSError:  # it does not run: nor do we
                return
            await self._forward(client, server)

    async def _forward(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async with server:
            names: list[str] = []
            asked = [False]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forward_requests, client, server, names, asked, nursery.cancel_scope)
                nursery.start_soon(self._forward_answers, server, client, names, asked, nursery.cancel_scope)

    async def _forward_requests(
        self, client: trio.SocketStream, server: trio.SocketStream, names: list[str], asked: list[bool],
        scope: trio.CancelScope,
    ) -> None:  # fmt: skip
        try:
            async for data in client:
                _, found, rest = data.partition(STARTUP_WORDS)
                if found and not names:
                    names.append(rest.partition(b"\0")[0].decode())
                # What is sent while armed is answered for the last time by nobody.
                asked[0] = bool(names) and names[0] in self._armed
                await server.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    async def _forward_answers(
        self, server: trio.SocketStream, client: trio.SocketStream, names: list[str], asked: list[bool],
        scope: trio.CancelScope,
    ) -> None:  # fmt: skip
        try:
            async for data in server:
                if asked[0] and names[0] in self._armed:
                    self.cuts += 1
                    self._armed.pop(names[0]).set()
                    break
                await client.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()
