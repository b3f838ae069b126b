"""Invariant: whatever is given as token, ticket or PROXY header is refused by its own error or is genuine."""

import ipaddress

import trio

from chatd.gateways.proxy import SIGNATURE, ProxyHeaderError, read_proxy_header
from chatd.shard.ticket import Ticket, TicketRing
from chatd.shard.tokens import Claims, InvalidTokenError, TokenVerifier, issue

KEY = "k" * 48
ISSUER = {"issuer": "chatd", "audience": "chatd", "algorithm": "HS256", "keys": {"1": KEY}, "types": ["JWT"],
          "create_users": True}  # fmt: skip
VERIFIER = TokenVerifier([ISSUER], 900, 60)
RING = TicketRing([(2, b"a" * 32), (1, b"b" * 32)])
TICKET = RING.seal(Ticket(7, 9, 0, 3, 2_000_000_000, 0))
TOKEN = issue(KEY, "1", "chatd", "alice", 300).encode()
HEADER = SIGNATURE + b"\x21\x11\x00\x0c" + bytes(range(12))
SEEDS = [TOKEN, TICKET, HEADER, SIGNATURE + b"\x21\x21\x00\x24" + bytes(36), SIGNATURE + b"\x20\x00\x00\x00"]


class Given:
    """A socket that has received exactly this."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def recv(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return taken


def one(data: bytes) -> None:
    try:
        claims = VERIFIER.verify(data)
        assert isinstance(claims, Claims)
        # base64 without padding has spare bits, so one token has several spellings; what counts is what it says.
        assert claims.subject == "alice"
    except InvalidTokenError:
        pass
    opened = RING.open(data, 1_900_000_000)
    assert not isinstance(opened, Ticket) or data == TICKET
    given = Given(data)
    try:
        address = trio.run(read_proxy_header, given)
    except ProxyHeaderError:
        return
    assert data.startswith(SIGNATURE)
    assert address == "" or ipaddress.ip_address(address)
