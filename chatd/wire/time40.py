"""The protocol's time: milliseconds since 2025-01-01T00:00:00Z in five bytes, big-endian, good until 2059."""

from typing import Final

from chatd.wire.schema import TIME_EPOCH_MS

TIME40_BYTES: Final = 5
TIME40_LIMIT: Final = 1 << 40


def from_unix_ms(unix_ms: int) -> int:
    """The value of a time40 field for a Unix time; the nearest one outside of 2025..2059.

    Time is for people to read. A board that starts without a battery believes in 1970, and must be able to serve.
    """
    return min(max(0, unix_ms - TIME_EPOCH_MS), TIME40_LIMIT - 1)


def encode(unix_ms: int) -> bytes:
    """The five bytes on the wire."""
    return from_unix_ms(unix_ms).to_bytes(TIME40_BYTES, "big")


def to_unix_ms(value: int) -> int:
    """Unix time in milliseconds of a time40 field. 0, which SEND_ACK carries after SKIP, is the epoch itself."""
    return value + TIME_EPOCH_MS
