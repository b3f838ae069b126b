"""The protocol's time: milliseconds since 2025-01-01T00:00:00Z in five bytes, big-endian, good until 2059."""

from typing import Final

from chatd.wire.errors import LocalProtocolError
from chatd.wire.schema import TIME_EPOCH_MS

TIME40_BYTES: Final = 5
TIME40_LIMIT: Final = 1 << 40


def from_unix_ms(unix_ms: int) -> int:
    """The value of a time40 field for a Unix time. LocalProtocolError outside of 2025..2059."""
    value = unix_ms - TIME_EPOCH_MS
    if not 0 <= value < TIME40_LIMIT:
        raise LocalProtocolError("INTERNAL", f"{unix_ms} ms is outside of what time40 can say")
    return value


def to_unix_ms(value: int) -> int:
    """Unix time in milliseconds of a time40 field. 0, which SEND_ACK carries after SKIP, is the epoch itself."""
    return value + TIME_EPOCH_MS
