# TLS: a trio task per connection, feeding the same sessions through the engine's second door.
# Facts: Python's ssl costs 1.4 ms per full handshake and 25 KB per idle connection. Consequence: this listener is for
# thousands of connections; more belong behind a balancer that ends TLS and speaks PROXY v2 (docs). Decision: few
# handshakes at a time, the rest waits in a bounded queue with a deadline, and what does not fit is reset unread.
# Price: a task and its buffers per connection, which plain TCP does not have.
"""The TLS listener of a shard."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, Protocol

import trio

from chatd import logs
from chatd.engine.interface import Engine
from chatd.gateways.proxy import ProxyHeaderError, read_proxy_header, trusted
from chatd.wire.schema import ALPN, Close

RECEIVE_BYTES = 16_384
TAKE_BYTES = 16_384
ACCEPT_PAUSE_S = 0.1
CLOSE_TIMEOUT_S = 1.0
# SO_LINGER with zero seconds: close sends RST.
LINGER_RESET = struct.pack("ii", 1, 0)


class Gate(Protocol):
    """The limits of addresses."""

    def enter(self, address: str) -> bool: ...
    def leave(self, address: str) -> None: ...


class Host(Protocol):
    """What the gateway needs of its shard."""

    engine: Engine
    handlers: dict[str, Callable[..., None]]
    on_reload: list[Callable[[dict[str, Any]], None]]
    on_drain: list[Callable[[], None]]
    on_accepting: list[Callable[[bool], None]]

    @property
    def addresses(self) -> Gate: ...

    def wake(self) -> None: ...


class Connection:
    """One TLS connection: its stream, and the two signals the engine gives about it."""

    __slots__ = ("ended", "readable", "resumed", "stream")

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.readable = trio.Event()
        self.resumed = trio.Event()
        self.ended = False


class TlsGateway:
    """Accepts, shakes hands and pumps bytes. One per shard; serve() once per listening socket."""

    def __init__(self, host: Host, settings: dict[str, Any]) -> None:
        self._host, self._engine = host, host.engine
        self._tls = settings["tls"]
        self._proxy_networks = trusted(settings["proxy_networks"])
        self._connections: dict[int, Connection] = {}
        self._handshakes = trio.CapacityLimiter(self._tls["handshakes_max"])
        self._waiting = 0
        self._accepting = trio.CancelScope()
        self._limited = logs.Limited()
        self._context = make_context(self._tls)
        self._open = trio.Event()
        self._open.set()
        self._closed_too = host.handlers["closed"]
        host.handlers.update(readable=self._on_readable, resumed=self._on_resumed, closed=self._on_closed)
        host.on_reload.append(self._reload)
        host.on_drain.append(self._accepting.cancel)
        host.on_accepting.append(self._switch)

    async def serve(self, listening: socket.socket) -> None:
        """Accept until the drain, then until the last connection has ended."""
        listener = trio.socket.from_stdlib_socket(listening)
        async with trio.open_nursery() as nursery:
            with self._accepting:
                while True:
                    await self._open.wait()
                    try:
                        sock, peer = await listener.accept()
                    except OSError:
                        # Out of descriptors: those who wait stay in the queue of the kernel.
                        await trio.sleep(ACCEPT_PAUSE_S)
                        continue
                    if self._waiting > self._tls["handshake_queue_max"]:
                        reset(sock)
                        continue
                    self._waiting += 1
                    nursery.start_soon(self._connected, sock, peer[0])

    def _switch(self, accepting: bool) -> None:
        """Short of memory: those who come wait in the queue of the kernel."""
        if accepting:
            self._open.set()
        else:
            self._open = trio.Event()

    def _reload(self, message: dict[str, Any]) -> None:
        """New connections use the new certificate, live ones keep theirs."""
        try:
            self._context = make_context(message["tls"])
        except (OSError, ssl.SSLError) as error:
            logs.get().error("certificate not reloaded; the old one stays", error=str(error))

    # -- one connection ----------------------------------------------------------------------------------------------

    async def _connected(self, sock: trio.socket.SocketType, address: str) -> None:
        with sock:
            try:
                shaken = await self._shake_hands(sock, address)
            finally:
                self._waiting -= 1
            if shaken is None:
                return
            stream, address = shaken
            try:
                handle = self._engine.open(address)
            except MemoryError:
                # connections_max of the shard: one more must not end those that are there.
                self._host.addresses.leave(address)
                reset(sock)
                return
            connection = self._connections[handle] = Connection(stream)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, handle, connection, nursery.cancel_scope)
                    await self._receive(handle, connection)
            finally:
                del self._connections[handle]
                self._host.addresses.leave(address)

    async def _shake_hands(
        self, sock: trio.socket.SocketType, address: str
    ) -> tuple[trio.SSLStream[trio.SocketStream], str] | None:
        entered = kept = False
        with trio.move_on_after(self._tls["handshake_timeout_ms"] / 1000):
            try:
                if self._proxy_networks.covers(address):
                    address = await read_proxy_header(sock) or address
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # Before the handshake, which is what costs.
                if not self._host.addresses.enter(address):
                    reset(sock)
                    return None
                entered = True
                async with self._handshakes:
                    stream = trio.SSLStream(trio.SocketStream(sock), self._context, server_side=True)
                    await stream.do_handshake()
                kept = True
                return stream, address
            except ProxyHeaderError:
                self._failed(address, Close.PROXY_FAILED)
                return None
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
                self._failed(address, Close.TLS_FAILED)
                return None
            finally:
                if entered and not kept:
                    self._host.addresses.leave(address)
        self._failed(address, Close.TLS_FAILED)
        return None

    def _failed(self, address: str, reason: Close) -> None:
        left_out = self._limited.allow(address, reason.name)
        if left_out is not None:
            logs.get().info("connection closed", reason=reason.name, address=address, like_it_since=left_out)

    async def _receive(self, handle: int, connection: Connection) -> None:
        """Until the peer or the engine ends it; the sender's end cancels this one."""
        reason = Close.PEER_CLOSED
        try:
            while data := await connection.stream.receive_some(RECEIVE_BYTES):
                while data:
                    connection.resumed = trio.Event()
                    taken = self._engine.feed(handle, bytes(data))
                    self._host.wake()
                    data = data[taken:]
                    if data:
                        await connection.resumed.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = Close.PEER_RESET
        if not connection.ended:
            self._engine.end(handle, reason)
            self._host.wake()
        connection.ended = True
        connection.readable.set()

    async def _send(self, handle: int, connection: Connection, scope: trio.CancelScope) -> None:
        """What the engine queued, until it says that the connection has ended and nothing is left."""
        try:
            while True:
                connection.readable = trio.Event()
                while data := self._engine.take(handle, TAKE_BYTES):
                    await connection.stream.send_all(data)
                    self._host.wake()
                if connection.ended:
                    break
                await connection.readable.wait()
            with trio.move_on_after(CLOSE_TIMEOUT_S), contextlib.suppress(trio.BrokenResourceError):
                await connection.stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if not connection.ended:
                self._engine.end(handle, Close.PEER_RESET)
                self._host.wake()
                connection.ended = True
        scope.cancel()

    # -- upcalls -----------------------------------------------------------------------------------------------------

    def _on_readable(self, handle: int) -> None:
        if (connection := self._connections.get(handle)) is not None:
            connection.readable.set()

    def _on_resumed(self, handle: int) -> None:
        if (connection := self._connections.get(handle)) is not None:
            connection.resumed.set()

    def _on_closed(self, handle: int, *session: int) -> None:
        self._closed_too(handle, *session)
        if (connection := self._connections.get(handle)) is not None:
            connection.ended = True
            connection.readable.set()
            connection.resumed.set()


def make_context(tls: dict[str, Any]) -> ssl.SSLContext:
    """TLS 1.3, 1.2 with ECDHE and AEAD as fallback; no compression, no renegotiation. OSError or SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols([ALPN])
    context.load_cert_chain(tls["certificate"], tls["key"])
    return context


def reset(sock: trio.socket.SocketType) -> None:
    """Close with RST: no bytes, no state left in the kernel."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()
