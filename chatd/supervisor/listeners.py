"""Listening sockets: one per shard and address, all held by the supervisor.

SO_REUSEPORT gives every shard an accept queue of its own, so accepting needs no lock and the kernel spreads connections
by hash. The supervisor keeps all of them open: what waits in the queue of a dead shard is served by its replacement.
From systemd (LISTEN_FDS) there may be fewer sockets than shards; then shards share them, and accept races are harmless.
"""

import errno
import os
import socket
import time
from typing import NamedTuple

from chatd.config import Settings
from chatd.config.address import Address
from chatd.errors import ConfigError

LISTEN_FDS_START = 3
# After a supervisor was killed its workers end within milliseconds, but not before the next supervisor may start.
TAKEN_RETRIES, TAKEN_PAUSE_S = 10, 0.1
# `FileDescriptorName=` of the socket unit; anything else is plain TCP.
TLS_NAME = "tls"


class Listener(NamedTuple):
    """One address and its sockets: shard i accepts from sockets[i % len]."""

    kind: str
    host: str
    port: int
    sockets: tuple[socket.socket, ...]

    def descriptor(self, shard: int) -> int:
        return self.sockets[shard % len(self.sockets)].fileno()


def open_listeners(settings: Settings, shards: int) -> list[Listener]:
    """What systemd passed, or else what [listen] names. ConfigError says which address and why."""
    inherited = _inherited()
    if inherited:
        return inherited
    wanted = [("tcp", address) for address in settings.listen.tcp] + [
        ("tls", address) for address in settings.listen.tls
    ]
    if not wanted:
        raise ConfigError("listen.tcp and listen.tls are both empty: nobody could connect")
    listeners: list[Listener] = []
    try:
        for kind, address in wanted:
            listeners.append(_bind(kind, address, shards, settings.listen.backlog))
    except ConfigError:
        close_listeners(listeners)
        raise
    return listeners


def close_listeners(listeners: list[Listener]) -> None:
    for listener in listeners:
        for sock in listener.sockets:
            sock.close()


def probe(address: Address) -> str | None:
    """Why this address cannot be bound now, or None. For `chatd serve --check`."""
    try:
        _open(address, exclusive=True).close()
    except OSError as error:
        return _explain(address, error)
    return None


def _bind(kind: str, address: Address, shards: int, backlog: int) -> Listener:
    sockets: list[socket.socket] = []
    try:
        # With SO_REUSEPORT a second chatd of the same user would silently get half of the connections.
        _open_patiently(address).close()
        for _ in range(shards):
            sock = _open(address, exclusive=False)
            sockets.append(sock)
            # Port 0: the first socket chose it, the others follow.
            address = Address(address.host, sock.getsockname()[1])
            sock.listen(backlog)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ConfigError(_explain(address, error)) from None
    return Listener(kind, address.host, address.port, tuple(sockets))


def _open_patiently(address: Address) -> socket.socket:
    for _ in range(TAKEN_RETRIES):
        try:
            return _open(address, exclusive=True)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            time.sleep(TAKEN_PAUSE_S)
    return _open(address, exclusive=True)


def _open(address: Address, *, exclusive: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not exclusive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(address: Address, error: OSError) -> str:
    return f"cannot listen on {address}: {error.strerror or error}. {_advice(error)}"


def _advice(error: OSError) -> str:
    return {
        errno.EADDRINUSE: "Another program (another chatd?) uses this port: `ss -ltnp` shows it.",
        errno.EACCES: "Ports below 1024 need CAP_NET_BIND_SERVICE, or a socket unit of systemd.",
        errno.EADDRNOTAVAIL: "This machine does not have that address.",
    }.get(error.errno or 0, "Check listen.tcp and listen.tls.")


def _inherited() -> list[Listener]:
    """Sockets of systemd's socket unit, grouped by name and address; see sd_listen_fds(3)."""
    count = int(os.environ.pop("LISTEN_FDS", "0") or 0)
    owner = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count or owner != str(os.getpid()):
        return []
    groups: dict[tuple[str, str, int], list[socket.socket]] = {}
    for offset in range(count):
        sock = socket.socket(fileno=LISTEN_FDS_START + offset)
        sock.set_inheritable(False)
        sock.setblocking(False)
        host, port = sock.getsockname()[:2]
        name = names[offset] if offset < len(names) else ""
        groups.setdefault((TLS_NAME if name == TLS_NAME else "tcp", host, port), []).append(sock)
    return [Listener(kind, host, port, tuple(sockets)) for (kind, host, port), sockets in groups.items()]
