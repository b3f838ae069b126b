"""PROXY protocol version 2, in front of TLS. (On plain listeners the engine reads it natively.)

Only balancers in listen.proxy_networks are listened to: anybody else could name any address. The header is read with
exact lengths, so no byte of the TLS handshake behind it is touched. Source: haproxy.org, proxy-protocol.txt, 2.2.
"""

import ipaddress
from functools import lru_cache

import trio

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD_BYTES = 16
# Addresses and TLVs; balancers send well under this.
BODY_BYTES_MAX = 512
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21
ADDRESS_BYTES = {TCP4: 4, TCP6: 16}


class ProxyHeaderError(Exception):
    """No valid header where one is required."""


class Networks:
    """Whether an address is in one of some networks, remembered."""

    def __init__(self, networks: list[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self.covers = lru_cache(maxsize=1024)(self._covers)

    def _covers(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        return any(parsed in network for network in self._networks)


def trusted(networks: list[str]) -> Networks:
    return Networks(networks)


async def read_proxy_header(sock: trio.socket.SocketType) -> str:
    """The client's address, "" when the balancer speaks for itself (LOCAL). ProxyHeaderError when it is malformed."""
    head = await _exactly(sock, HEAD_BYTES)
    if not head.startswith(SIGNATURE):
        raise ProxyHeaderError("no signature")
    command, family = head[12], head[13]
    length = int.from_bytes(head[14:16], "big")
    if length > BODY_BYTES_MAX:
        raise ProxyHeaderError("too long")
    body = await _exactly(sock, length)
    if command == LOCAL:
        return ""
    size = ADDRESS_BYTES.get(family)
    if command != PROXY or size is None or length < 2 * size + 4:
        raise ProxyHeaderError("unknown command or family")
    return str(ipaddress.ip_address(body[:size]))


async def _exactly(sock: trio.socket.SocketType, count: int) -> bytes:
    data = b""
    while len(data) < count:
        received = await sock.recv(count - len(data))
        if not received:
            raise ProxyHeaderError("closed")
        data += received
    return data
