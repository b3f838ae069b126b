"""Postings and docs as bytes, little-endian as the machines that chatd runs on.

A posting is the set of docs of a block that have a term, by their place in the block: ascending 16-bit numbers while
that is shorter than a bit per doc, then BITMAP_BYTES of bits. Sets are compared as integers with a bit per doc: an AND
of two takes 0.3 us, however frequent the terms are.
A doc is DOC_WORDS 64-bit numbers, so that a column of a block is a slice of an array.
"""

from array import array
from collections.abc import Iterable

from chatd.storage.search.interface import BLOCK_DOCS, Doc

BITMAP_BYTES = BLOCK_DOCS // 8
DOC_WORDS = 4
CID, SEQ, TIME_KIND, SENDER = range(DOC_WORDS)
DOC_BYTES = 8 * DOC_WORDS
KIND_BITS = 16
_KIND_MASK = (1 << KIND_BITS) - 1
_BITS = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]


def extend_posting(posting: bytes, places: Iterable[int]) -> bytes:
    """A posting with places added, ascending and higher than those it has. b"" is the empty one."""
    if len(posting) == BITMAP_BYTES:
        return _bitmap(places, posting)
    numbers = array("H", posting)
    numbers.extend(places)
    return numbers.tobytes() if len(numbers) * numbers.itemsize < BITMAP_BYTES else _bitmap(numbers)


def posting_set(posting: bytes) -> int:
    """As an integer with bit n for place n."""
    return int.from_bytes(posting if len(posting) == BITMAP_BYTES else _bitmap(array("H", posting)), "little")


def places(chosen: int) -> list[int]:
    """Of a set, ascending."""
    octets = enumerate(chosen.to_bytes(BITMAP_BYTES, "little"))
    return [(at << 3) + bit for at, octet in octets if octet for bit in _BITS[octet]]


def encode_docs(docs: Iterable[Doc]) -> bytes:
    words = array("Q")
    for ts_ms, cid, seq, sender, kind in docs:
        words.extend((cid, seq, ts_ms << KIND_BITS | min(kind, _KIND_MASK), sender))
    return words.tobytes()


def doc_at(words: "array[int]", index: int) -> Doc:
    cid, seq, time_kind, sender = words[index * DOC_WORDS : (index + 1) * DOC_WORDS]
    return Doc(time_kind >> KIND_BITS, cid, seq, sender, time_kind & _KIND_MASK)


def _bitmap(places: Iterable[int], onto: bytes = bytes(BITMAP_BYTES)) -> bytes:
    bits = bytearray(onto)
    for place in places:
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)
