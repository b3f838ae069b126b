"""The PROXY header in front of TLS. (The engine's reading of it: test_engine_sockets; both on any bytes: fuzz.)"""

import socket
import struct
from typing import Any

import pytest
import trio

from chatd.gateways.proxy import SIGNATURE, ProxyHeaderError, read_proxy_header, trusted

INET = socket.inet_aton("203.0.113.9") + bytes(4) + struct.pack(">HH", 1234, 443)
INET6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9") + bytes(16) + struct.pack(">HH", 1234, 443)
EXTRAS = b"\x04\x00\x01x"


def header(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


async def read(data: bytes, at_once: int) -> tuple[str, bytes]:
    """The address, and what is left for TLS."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs, trio.fail_after(5):
        address: str | None = None
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                for at in range(0, len(data), at_once):
                    await theirs.send(data[at : at + at_once])
                    await trio.testing.wait_all_tasks_blocked()
                theirs.shutdown(trio.socket.SHUT_WR)

            nursery.start_soon(write)
            address = await read_proxy_header(ours)
        return address, await ours.recv(100)


@pytest.mark.parametrize("at_once", [1, 13, 1000])
@pytest.mark.parametrize(
    ("data", "address"),
    [
        (header(0x21, 0x11, INET), "203.0.113.9"),
        (header(0x21, 0x11, INET + EXTRAS), "203.0.113.9"),
        (header(0x21, 0x21, INET6), "2001:db8::9"),
        (header(0x20, 0x00, b""), ""),
        (header(0x20, 0x11, INET), ""),
    ],
)
async def test_a_header_names_the_client_and_leaves_the_rest(data: bytes, address: str, at_once: int) -> None:
    assert await read(data + b"hello", at_once) == (address, b"hello")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01" + bytes(100), "no signature"),
        (SIGNATURE[:7], "closed"),
        (header(0x21, 0x11, INET)[:-1], "closed"),
        (SIGNATURE + b"\x21\x11\xff\xff" + bytes(600), "too long"),
        (header(0x22, 0x11, INET), "unknown"),
        (header(0x21, 0x31, bytes(216)), "unknown"),
        (header(0x21, 0x11, INET[:-1]), "unknown"),
        (header(0x21, 0x21, INET), "unknown"),
    ],
)
async def test_anything_else_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ProxyHeaderError, match=reason), flatten_subgroups=True):
        await read(data, 1000)


def test_only_balancers_are_believed() -> None:
    networks: Any = trusted(["10.0.0.0/8", "fd00::/8"])
    assert [networks.covers(address) for address in ("10.1.2.3", "fd00::1%eth0", "192.0.2.1", "::1")] == [
        True,
        True,
        False,
        False,
    ]
