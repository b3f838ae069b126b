"""Invariant: whatever is given as token or ticket is refused by its own error or is genuine."""

from chatd.shard.ticket import Ticket, TicketRing
from chatd.shard.tokens import Claims, InvalidTokenError, TokenVerifier, issue

KEY = "k" * 48
ISSUER = {"issuer": "chatd", "audience": "chatd", "algorithm": "HS256", "keys": {"1": KEY}, "types": ["JWT"],
          "create_users": True}  # fmt: skip
VERIFIER = TokenVerifier([ISSUER], 900, 60)
RING = TicketRing([(2, b"a" * 32), (1, b"b" * 32)])
TICKET = RING.seal(Ticket(7, 9, 0, 3, 2_000_000_000, 0))
TOKEN = issue(KEY, "1", "chatd", "alice", 300).encode()
SEEDS = [TOKEN, TICKET]


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
