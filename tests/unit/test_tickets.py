"""Resume tickets: what is sealed comes back, what is touched does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.shard.ticket import TICKET_BYTES, Ticket, TicketRing
from chatd.wire.schema import TICKET_BYTES_MAX, ErrorCode

OLD, NEW = (1, bytes(range(32))), (2, bytes(range(32, 64)))
TICKET = Ticket(user=7, device=9, token_epoch=3, session_epoch=1 << 33, expires_s=1000, token_expires_s=0)

ids = st.integers(0, (1 << 63) - 1)
seconds = st.integers(1, (1 << 32) - 1)


def test_ticket_fits_the_wire() -> None:
    assert TICKET_BYTES <= TICKET_BYTES_MAX


@given(st.builds(Ticket, ids, ids, ids, ids, seconds, seconds))
def test_sealed_tickets_open(ticket: Ticket) -> None:
    ring = TicketRing([NEW, OLD])
    assert ring.open(ring.seal(ticket), min(ticket.expires_s, ticket.token_expires_s) - 1) == ticket


def test_a_ticket_ends_with_its_token_and_a_minute_of_skew() -> None:
    ring = TicketRing([NEW], clock_skew_s=60)
    ticket = TICKET._replace(token_expires_s=500)
    assert ring.open(ring.seal(ticket), 559.9) == ticket
    assert ring.open(ring.seal(ticket), 560.0) == ErrorCode.TOKEN_EXPIRED


def test_expiry_is_judged_by_the_clock_given() -> None:
    ring = TicketRing([NEW])
    assert ring.open(ring.seal(TICKET), 999.9) == TICKET
    assert ring.open(ring.seal(TICKET), 1000.0) == ErrorCode.TOKEN_EXPIRED


@pytest.mark.parametrize("position", range(TICKET_BYTES))
def test_every_flipped_bit_is_noticed(position: int) -> None:
    ring = TicketRing([NEW, OLD])
    sealed = bytearray(ring.seal(TICKET))
    for bit in range(8):
        sealed[position] ^= 1 << bit
        assert ring.open(bytes(sealed), 0) == ErrorCode.AUTH_FAILED
        sealed[position] ^= 1 << bit


@pytest.mark.parametrize("length", [0, 1, TICKET_BYTES - 1, TICKET_BYTES + 1, 64])
def test_other_lengths_are_refused(length: int) -> None:
    assert TicketRing([NEW]).open(bytes(length), 0) == ErrorCode.AUTH_FAILED


def test_an_older_key_still_opens_and_a_forgotten_one_does_not() -> None:
    sealed = TicketRing([OLD]).seal(TICKET)
    assert TicketRing([NEW, OLD]).open(sealed, 0) == TICKET
    assert TicketRing([NEW]).open(sealed, 0) == ErrorCode.AUTH_FAILED


def test_same_id_with_another_key_is_refused() -> None:
    assert TicketRing([(1, NEW[1])]).open(TicketRing([OLD]).seal(TICKET), 0) == ErrorCode.AUTH_FAILED
