"""Invariant: a journal batch of arbitrary bytes is decoded or refused, alike by the engine and by its reference."""

from collections.abc import Callable
from typing import Any

from chatd.engine.native import decode_batch
from chatd.storage import journal_codec as codec

RECORDS = [
    codec.encode_event((1, 2, 3, 4, 5, 6, 7, 8, -9, b"body", 1)),
    codec.encode_skip(5, 7),
    codec.encode_member(1, 2, 3, 4, 1),
    codec.encode_position(1, 2, 3, 4, 5),
    codec.encode_redact(1, 2, 1),
    codec.encode_row(b"\x93\xa4user\x01\x80"),
]
# The first byte is the count that the batch's row claims.
SEEDS = [bytes([len(RECORDS)]) + b"".join(RECORDS)] + [b"\x01" + record for record in RECORDS]


def one(data: bytes) -> None:
    count, blob = (data[0] if data else 0), data[1:]
    assert outcome(decode_batch, count, blob) == outcome(codec.decode_batch, count, blob)


def outcome(decode: Callable[..., Any], count: int, blob: bytes) -> Any:
    try:
        return tuple(decode(1, count, blob))
    except ValueError:
        return "refused"
