"""How bytes travel: TCP or TLS by anyio, happy eyeballs included."""

import socket
import ssl

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from chatd.client.errors import ClientError
from chatd.wire import schema

DEFAULT_PORT = 7350
# Without these a half-open path is noticed only by our own PING; with them the kernel says so too (Linux names).
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def parse_server(server: str) -> tuple[str, int]:
    """ "host", "host:port" or "[v6]:port"; the port is 7350 when left out. ClientError says what is wrong."""
    host, port = server, str(DEFAULT_PORT)
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ClientError(f"{server!r} is not a server: write host:port, like 127.0.0.1:{DEFAULT_PORT}")
    return host, int(port)


async def connect(host: str, port: int, tls: ssl.SSLContext | None, server_name: str | None) -> ByteStream:
    """A connected stream. OSError (which ssl.SSLError is) when it cannot be made."""
    stream = await anyio.connect_tcp(host, port)
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  (anyio's attributes, no SQL)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if tls is None:
        return stream
    try:
        return await TLSStream.wrap(stream, hostname=server_name or host, ssl_context=tls, standard_compatible=False)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise


def tls_context(cafile: str | None = None) -> ssl.SSLContext:
    """The context for Client(tls=...): system trust, or the certificates in cafile; TLS 1.2 at least."""
    context = ssl.create_default_context(cafile=cafile)
    context.set_alpn_protocols([schema.ALPN])
    return context
