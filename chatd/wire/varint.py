"""Unsigned LEB128 below 2^63, canonical: seven bits a byte, lowest first, the top bit says that another byte follows.

Source: protocol/README.md, section Numbers.
"""

from typing import Final

from chatd.wire.errors import LocalProtocolError, WireError

# Nine groups of seven bits hold every value below 2^63 and no larger one, so the length bounds the value.
VARINT_BYTES_MAX: Final = 9
VARINT_LIMIT: Final = 1 << 63
_ONE_BYTE: Final = [bytes((value,)) for value in range(0x80)]


def encode(value: int) -> bytes:
    """1 to 9 bytes. LocalProtocolError unless 0 <= value < 2^63."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value < VARINT_LIMIT:
        raise LocalProtocolError("INTERNAL", f"varint {value} is not below 2^63")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def size(value: int) -> int:
    """How many bytes `encode` makes of value."""
    return max(1, (value.bit_length() + 6) // 7)


def decode(data: bytes | memoryview, offset: int = 0, end: int | None = None) -> tuple[int, int]:
    """Value and the offset behind it. WireError when it is cut off at `end`, too long, or not the shortest form."""
    end = len(data) if end is None else end
    if offset < end and data[offset] < 0x80:
        return data[offset], offset + 1
    value = 0
    for index in range(VARINT_BYTES_MAX):
        at = offset + index
        if at >= end:
            raise WireError("frame.short", at, "the body ends inside a varint")
        byte = data[at]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise WireError("varint.canonical", at, "a varint with a last byte of zero has a shorter form")
            return value, at + 1
    raise WireError("varint.range", offset + VARINT_BYTES_MAX - 1, "a varint has at most 9 bytes")
