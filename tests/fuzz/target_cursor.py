"""Invariant: whatever the bytes and the order of reads, the cursor stays inside; a varint that decodes is canonical."""

from chatd import _native

SEEDS = [
    b"v\x00\x05",
    b"svb\x00\x03abc\xff\x7f\x01",
    b"qihbv\x00" + bytes(range(16)),
    b"vvv\x00" + b"\xff" * 8 + b"\x7f",
]


def one(data: bytes) -> None:
    plan, _, rest = data.partition(b"\x00")
    result = _native.cursor_read(rest, "".join("bhiqvs"[letter % 6] for letter in plan))
    assert result is None or 0 <= result[1] <= len(rest)
    decoded = _native.varint_decode(rest)
    if decoded is not None:
        assert _native.varint_encode(decoded[0]) == rest[: decoded[1]]
