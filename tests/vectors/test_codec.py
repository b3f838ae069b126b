"""The vectors against the reference codec: every valid frame, there and back; and what vectors must be like."""

from contextlib import suppress
from typing import Any

import pytest
from support import vectors

from chatd.wire import Framer, WireError, encode
from chatd.wire.schema import HEADER_BYTES, OPS, Close, ErrorCode, Op


@pytest.mark.parametrize("vector", vectors.load("valid"), ids=vectors.named)
def test_a_valid_frame_decodes_to_its_fields_and_back(vector: dict[str, Any]) -> None:
    data = vectors.expand(vector["bytes"])
    expected = vectors.frame_of(vector)
    assert Framer().feed(data) == [expected]
    assert encode(expected) == data


@pytest.mark.parametrize("vector", vectors.load("valid"), ids=vectors.named)
def test_no_valid_frame_can_be_cut_short(vector: dict[str, Any]) -> None:
    """A shorter body is another frame or a broken one, never the same: the length is part of the meaning."""
    data = vectors.expand(vector["bytes"])
    if len(data) == HEADER_BYTES or len(data) > 1000:
        return
    shorter = (len(data) - HEADER_BYTES - 1).to_bytes(2, "big") + data[2:-1]
    with suppress(WireError):
        assert Framer().feed(shorter) != [vectors.frame_of(vector)]


def test_vectors_are_complete_and_well_named() -> None:
    valid, forbidden = vectors.load("valid"), vectors.load("forbidden")
    assert {vector["op"] for vector in valid} == {op.name for op in Op}
    assert {op.name for op in Op if not OPS[op].empty} <= {vector["name"].split()[0] for vector in forbidden}
    for listed in (valid, forbidden):
        names = [(vector["name"], vector.get("clause")) for vector in listed]
        assert len(set(names)) == len(names)
    for vector in forbidden:
        assert f"`{vector['clause']}`" in vectors.readme(), vector["clause"]
        assert vector.get("close", "BAD_FRAME") in Close.__members__
        assert vector.get("error", "UNSUPPORTED") in ErrorCode.__members__
    assert all("found" in vector for vector in vectors.read("regression"))
