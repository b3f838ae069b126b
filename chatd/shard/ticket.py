# Resume tickets: a session that comes back without a credential and without a database.
# Facts: after a restart every client comes back at once; a JWT costs 33-124 us to verify, a password 19 ms; keyed
# BLAKE2b costs 1 us. Consequence: WELCOME hands out a ticket that any shard verifies by itself. Decision: fixed layout,
# MAC of 128 bits, ten minutes, reusable. Price: a stolen ticket works until it expires, hence two checks that the hub
# makes at registration, in memory: the token epoch (revoked users) and the device (revoked devices).
"""Resume tickets: sealing and opening them."""

import hmac
import struct
from hashlib import blake2b
from typing import NamedTuple

from chatd.wire.schema import ErrorCode

VERSION = 1
MAC_BYTES = 16
# version, key id, user, device, token epoch, session epoch, expiry of the ticket, expiry of the token it was issued for
# (Unix seconds, 0: none; without it a token could be prolonged for ever by resuming). Big-endian like the wire.
LAYOUT = struct.Struct(">BBQQQQII")
TICKET_BYTES = LAYOUT.size + MAC_BYTES
# Domain separation: the key may one day authenticate other things, too.
PERSON = b"chatd ticket v1"


class Ticket(NamedTuple):
    """What a ticket says, verified."""

    user: int
    device: int
    token_epoch: int
    session_epoch: int
    expires_s: int
    token_expires_s: int


class TicketRing:
    """Keys that make and verify tickets: the first seals, all of them open."""

    def __init__(self, keys: list[tuple[int, bytes]], clock_skew_s: int = 0) -> None:
        """keys: (id 1..255, at least 32 bytes), newest first. clock_skew_s: how late a token is still good."""
        self._clock_skew_s = clock_skew_s
        self._keyed = {number: blake2b(key=key[:64], digest_size=MAC_BYTES, person=PERSON) for number, key in keys}
        self._sealing = keys[0][0]

    def seal(self, ticket: Ticket) -> bytes:
        body = LAYOUT.pack(VERSION, self._sealing, *ticket)
        mac = self._keyed[self._sealing].copy()
        mac.update(body)
        return body + mac.digest()

    def open(self, ticket: bytes, now_s: float) -> Ticket | ErrorCode:
        """The ticket, or why not: AUTH_FAILED (not ours), TOKEN_EXPIRED."""
        if len(ticket) != TICKET_BYTES:
            return ErrorCode.AUTH_FAILED
        version, number, *fields = LAYOUT.unpack_from(ticket)
        keyed = self._keyed.get(number)
        if version != VERSION or keyed is None:
            return ErrorCode.AUTH_FAILED
        mac = keyed.copy()
        mac.update(ticket[: LAYOUT.size])
        if not hmac.compare_digest(mac.digest(), ticket[LAYOUT.size :]):
            return ErrorCode.AUTH_FAILED
        opened = Ticket(*fields)
        token_until_s = opened.token_expires_s + self._clock_skew_s
        # A ticket stands for the token it was issued for, and ends with it: resuming must not prolong that.
        if opened.expires_s <= now_s or (opened.token_expires_s and token_until_s <= now_s):
            return ErrorCode.TOKEN_EXPIRED
        return opened
