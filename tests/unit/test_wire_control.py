"""MessagePack payloads: maps with integer keys, within bounds, or a protocol error."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.wire import LocalProtocolError, PeerProtocolError
from chatd.wire.control import EMPTY, pack, unpack

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=10)


@given(st.dictionaries(st.integers(0, 300), VALUES, max_size=6))
def test_a_map_survives_the_round_trip(values: dict[int, object]) -> None:
    assert unpack(pack(values)) == values


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_map_or_a_protocol_error(data: bytes) -> None:
    with suppress(PeerProtocolError):
        assert type(unpack(data)) is dict


@pytest.mark.parametrize(
    "raw",
    ["", "01", "90", "8101", "81a161 01", "8081", "81 ff 01", "81 01 dd00100000", "81 01 c7010500", "91" * 2000 + "80"],
)
def test_what_is_not_one_map_with_integer_keys_is_refused(raw: str) -> None:
    with pytest.raises(PeerProtocolError):
        unpack(bytes.fromhex(raw))


def test_only_integer_keys_are_packed() -> None:
    assert pack({}) == EMPTY
    assert pack({2: "b", 1: "a"}) == bytes.fromhex("8201a16102a162")
    for wrong in ({"1": 1}, {-1: 1}, {True: 1}):
        with pytest.raises(LocalProtocolError):
            pack(wrong)  # type: ignore[arg-type]
