"""Invariant: engine and TLS gateway read the same PROXY header from any bytes, however they arrive, or neither does.

The first byte says after how many others the rest comes later.
"""

import ipaddress
import socket
from dataclasses import replace
from typing import Any, cast

from support import frames
from support.ring_hub import RingHub

from chatd._native import Engine
from chatd.engine.settings import EngineSettings
from chatd.gateways.proxy import SIGNATURE, ProxyHeaderError, read_proxy_header

TABLES = {"connections_max": 16, "ledger_entries": 64, "gate_entries": 64}
SETTINGS = replace(EngineSettings(manual_clock=1, random_seed=7, **TABLES).lifted(), defer_accept_s=0)
LOGIN = frames.hello() + frames.auth()
INET, INET6 = b"\x21\x11\x00\x0c" + bytes(range(12)), b"\x21\x21\x00\x24" + bytes(range(36))
SEEDS = [
    b"\x00" + SIGNATURE + INET,
    b"\x0e" + SIGNATURE + INET6,
    b"\x14" + SIGNATURE + b"\x21\x11\x00\x10" + bytes(range(12)) + b"\x04\x00\x01x",
    b"\xff" + SIGNATURE + b"\x20\x00\x00\x00",
]


class Given:
    """A socket that has received exactly this."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def recv(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def header(self) -> str | None:
        """The gateway's reading; it never has to wait, so it needs no loop. None: refused."""
        try:
            read_proxy_header(cast("Any", self)).send(None)
        except StopIteration as done:
            return cast("str", done.value)
        except ProxyHeaderError:
            return None
        raise AssertionError("the gateway waits for a socket that has everything")


def one(data: bytes) -> None:
    cut, given = (data[0] if data else 0), Given(data[1:])
    expected = given.header()
    header = data[1:].removesuffix(given.data) if expected is not None else data[1:]
    named = engines_address(header + (b"" if expected is None else LOGIN), cut)
    if expected is None:
        assert named is None
    else:
        # LOCAL: the gateway says "", the engine the address of the socket, which a unix socket has not.
        assert named is not None
        assert ipaddress.ip_address(named or "::") == ipaddress.ip_address(expected or "::"), (named, expected)


def engines_address(data: bytes, cut: int) -> str | None:
    """The address under which somebody who sends this asks for login; None: does not come so far."""
    engine, hub = Engine(SETTINGS), RingHub()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")
        listener.listen()
        try:
            engine.set_time(10**12)
            engine.link_hub(1, hub.to_shard, hub.to_hub)
            engine.listen(listener.fileno(), proxy=True)
            client.connect(listener.getsockname())
            named = None
            for piece in (data[:cut], data[cut:]):
                try:
                    client.sendall(piece)
                except (BrokenPipeError, ConnectionResetError):
                    break
                for _ in range(2):
                    named = next((str(upcall[8]) for upcall in engine.poll(500) if upcall[0] == "auth"), named)
            left = engine.counters()
            assert named is None or left["closed_proxy_failed"] == 0
            client.close()
            for _ in range(2):
                engine.poll(500)
            assert engine.counters()["connections"] == 0
        finally:
            engine.dispose()
    return named
