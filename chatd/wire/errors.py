"""What the wire layer raises: the peer's mistakes with the place where they stand."""

from chatd.errors import LocalProtocolError, PeerProtocolError

__all__ = ["LocalProtocolError", "PeerProtocolError", "WireError"]


class WireError(PeerProtocolError):
    """Bytes that break a clause of protocol/README.md, section "Clauses".

    clause: its name, such as "varint.canonical". offset: byte of the body (or of what was given to decode) where it is
    broken. reason: the close reason.
    """

    def __init__(self, clause: str, offset: int, message: str, reason: str = "BAD_FRAME") -> None:
        super().__init__(reason, f"{clause} at byte {offset}: {message}")
        self.clause = clause
        self.offset = offset
        self.detail = message
