"""The checked reader: it cannot pass the end, and a varint has exactly one encoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd import _native

BOUNDARIES = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21, 2**28 - 1, 2**28, 2**56 - 1, 2**56, 2**63 - 1]


@pytest.mark.parametrize("value", BOUNDARIES)
def test_varint_boundaries_round_trip_at_their_smallest_size(value: int) -> None:
    encoded = _native.varint_encode(value)
    assert len(encoded) == max(1, (value.bit_length() + 6) // 7)
    assert _native.varint_decode(encoded) == (value, len(encoded))


@given(st.integers(0, 2**63 - 1), st.binary(max_size=4))
def test_varint_round_trips_and_leaves_what_follows(value: int, rest: bytes) -> None:
    encoded = _native.varint_encode(value)
    assert _native.varint_decode(encoded + rest) == (value, len(encoded))


@pytest.mark.parametrize("value", BOUNDARIES)
def test_cut_varint_is_refused(value: int) -> None:
    assert _native.varint_decode(_native.varint_encode(value)[:-1]) is None


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x00", b"\x80\x80\x00", b"\x80" * 8 + b"\x00"])
def test_overlong_varint_is_refused(data: bytes) -> None:
    assert _native.varint_decode(data) is None


def test_varint_of_ten_bytes_is_refused() -> None:
    assert _native.varint_decode(b"\xff" * 9 + b"\x01") is None


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_value_of_2_to_63_and_more_has_no_encoding(value: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        _native.varint_encode(value)


@given(st.binary(max_size=12))
def test_whatever_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    decoded = _native.varint_decode(data)
    if decoded is not None:
        value, size = decoded
        assert _native.varint_encode(value) == data[:size]


def test_fixed_widths_are_big_endian() -> None:
    data = bytes([0xFE]) + b"\xff\x01" + b"\x80\x00\x00\x01" + b"\xff\x00\x00\x00\x00\x00\x00\x02"
    assert _native.cursor_read(data, "bhiq") == ([0xFE, 0xFF01, 0x80000001, 0xFF00000000000002], 0)


def test_reads_after_a_failed_one_fail_too() -> None:
    assert _native.cursor_read(b"\x01\x02\x03", "ib") is None


def test_length_beyond_the_end_is_refused() -> None:
    assert _native.cursor_read(b"\x05abcd", "s") is None
    assert _native.cursor_read(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7fabcd", "s") is None
    assert _native.cursor_read(b"\x04abcd!", "s") == ([b"abcd"], 1)


@given(st.binary(max_size=40), st.text("bhiqvs", max_size=12))
def test_no_plan_reads_past_the_end(data: bytes, plan: str) -> None:
    result = _native.cursor_read(data, plan)
    assert result is None or 0 <= result[1] <= len(data)


def test_crc32c_matches_rfc_3720() -> None:
    for portable in (False, True):
        assert _native.crc32c(b"123456789", portable=portable) == 0xE3069283
        assert _native.crc32c(bytes(32), portable=portable) == 0x8A9136AA
        assert _native.crc32c(b"\xff" * 32, portable=portable) == 0x62A8AB43


@given(st.binary(max_size=300))
def test_crc32c_is_the_same_with_and_without_hardware(data: bytes) -> None:
    assert _native.crc32c(data) == _native.crc32c(data, portable=True)


def test_a_plan_with_an_unknown_letter_is_an_error_of_the_test() -> None:
    with pytest.raises(ValueError, match="no such read: 'x'"):
        _native.cursor_read(b"abc", "bx")


WRITTEN = [("b", 0xFE), ("h", 0xFF01), ("i", 0x80000001), ("q", 2**64 - 2), ("v", 300), ("s", b"text"), ("s", b"")]


def test_what_is_written_reads_back() -> None:
    data = _native.cursor_write(64, WRITTEN)
    assert data is not None
    assert _native.cursor_read(data, "bhiqvss") == ([value for _, value in WRITTEN], 0)


def test_a_write_that_does_not_fit_fails_and_so_does_everything_behind_it() -> None:
    """At every length: the first write that passes the end, whichever it is, and the ones after it."""
    whole = _native.cursor_write(64, WRITTEN)
    assert whole is not None
    assert _native.cursor_write(len(whole), WRITTEN) == whole
    for room in range(len(whole)):
        assert _native.cursor_write(room, WRITTEN) is None
    assert _native.cursor_write(64, [("v", 2**63), ("b", 1)]) is None
