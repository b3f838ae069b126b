"""The native readers of journal batches and their references agree on every input, the broken ones too."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd import _native
from chatd.storage import journal_codec as codec
from chatd.storage.portion import Portion

NUMBER = st.integers(0, 2**63 - 1)
SMALL = st.integers(0, 2**32 - 1)
IDS = st.integers(0, 3) | st.integers(0, 2**63 - 1)
PAYLOAD = st.binary(max_size=40)
RECORD = st.one_of(
    st.builds(
        lambda cid, seq, device, cseq, digest, kind, body, flags: codec.encode_event(
            (cid, seq, cid ^ seq, cseq, device, cseq, kind, seq, digest, body, flags)
        ),
        *(NUMBER, NUMBER, NUMBER, NUMBER, st.integers(-(2**63), 2**63 - 1), SMALL, PAYLOAD, st.integers(0, 255)),
    ),
    st.builds(codec.encode_skip, NUMBER, NUMBER),
    st.builds(codec.encode_member, NUMBER, NUMBER, NUMBER, NUMBER, SMALL),
    st.builds(codec.encode_position, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
    st.builds(codec.encode_row, PAYLOAD),
    st.builds(codec.encode_redact, NUMBER, NUMBER, SMALL),
)


def outcome(decode: Callable[..., Any], pos: int, count: int, blob: bytes) -> Any:
    try:
        return tuple(decode(pos, count, blob))
    except ValueError:
        return "refused"


def gathered(make: Callable[[], Any], batches: list[tuple[int, int, bytes]]) -> Any:
    portion = make()
    try:
        for batch in batches:
            portion.add(*batch)
    except ValueError:
        return "refused"
    tables = (
        portion.events(),
        portion.event_runs(7),
        portion.send_runs(),
        portion.heads(),
        sorted(portion.senders()),
        portion.highest_cseqs(),
    )
    return [list(table) for table in tables], portion.members, portion.positions, portion.rows, portion.redactions


@given(pos=st.integers(1, 2**62), records=st.lists(RECORD, max_size=12))
def test_whole_batches_decode_alike(pos: int, records: list[bytes]) -> None:
    blob = b"".join(records)
    expected = outcome(codec.decode_batch, pos, len(records), blob)
    assert expected != "refused"
    assert outcome(_native.decode_batch, pos, len(records), blob) == expected


@given(
    records=st.lists(RECORD, min_size=1, max_size=5),
    count=st.integers(0, 6),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
)
def test_broken_batches_are_refused_alike(
    records: list[bytes], count: int, cut: int, flips: list[tuple[int, int]]
) -> None:
    broken = bytearray(b"".join(records))
    for offset, value in flips:
        broken[offset % len(broken)] = value
    blob = bytes(broken[: max(0, len(broken) - cut)] if cut < 100 else broken)
    assert outcome(_native.decode_batch, 7, count, blob) == outcome(codec.decode_batch, 7, count, blob)
    assert gathered(_native.Portion, [(7, count, blob)]) == gathered(Portion, [(7, count, blob)])


@given(st.lists(st.lists(st.tuples(IDS, IDS, IDS, PAYLOAD), max_size=30), max_size=4))
def test_portions_of_several_batches_sort_alike(batches: list[list[tuple[int, int, int, bytes]]]) -> None:
    """Few ids and large ones: equal keys keep their order, and every digit of an id counts."""
    pos, blobs = 1, []
    for batch in batches:
        events = [
            codec.encode_event((cid, seq, seq, 1, device, seq, 1, seq, -1, body, 1))
            if body
            else codec.encode_skip(device, seq)
            for cid, device, seq, body in batch
        ]
        blobs.append((pos, len(events), b"".join(events)))
        pos += len(events)
    assert gathered(_native.Portion, blobs) == gathered(Portion, blobs)


def test_a_portion_that_was_read_takes_no_more() -> None:
    portion = _native.Portion()
    portion.add(1, 1, codec.encode_skip(1, 1))
    assert list(portion.send_runs()) == [(1, 1, 1, "[[0,0]]")]
    with pytest.raises(ValueError, match="has been read"):
        portion.add(2, 1, codec.encode_skip(1, 2))


@pytest.mark.parametrize("length", range(1, 96))
def test_a_batch_cut_anywhere_is_refused(length: int) -> None:
    blob = codec.encode_event((1, 1, 1, 1, 1, 1, 1, 1, 1, b"0123456789abcdef", 1))
    assert len(blob) == 96
    assert outcome(_native.decode_batch, 1, 1, blob[:length]) == "refused"
    assert outcome(codec.decode_batch, 1, 1, blob[:length]) == "refused"


def damaged(record: bytes, *changes: tuple[int, int]) -> bytes:
    """The record with other bytes at these places. Head: u32 bytes, u8 type, u8 flags, u16 padding at its end."""
    blob = bytearray(record)
    for at, value in changes:
        blob[at] = value
    return bytes(blob)


EVENT = codec.encode_event((1, 1, 1, 1, 1, 1, 1, 1, 1, b"01234567", 1))
SKIP, MEMBER = codec.encode_skip(5, 7), codec.encode_member(1, 2, 3, 4, 1)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"\x00" * 7, "cut inside its head"),
        (damaged(SKIP, (0, len(SKIP) - 1)), "impossible length"),
        (damaged(SKIP, (0, len(SKIP) + 8)), "impossible length"),
        (damaged(SKIP, (0, 0)), "impossible length"),
        (damaged(SKIP, (6, 8)), "impossible length"),
        (damaged(SKIP[:8], (0, 8), (6, 1)), "impossible length"),
        (damaged(EVENT[:72], (0, 72)), "has"),
        (damaged(EVENT[:80], (0, 80)), "has"),
        (damaged(EVENT, (len(EVENT) - 12, 9)), "has"),
        (damaged(SKIP + bytes(8), (0, len(SKIP) + 8)), "has"),
        (damaged(MEMBER[:-8], (0, len(MEMBER) - 8)), "has"),
        (damaged(codec.encode_position(1, 2, 3, 4, 5), (6, 1)), "has"),
        (damaged(codec.encode_redact(1, 2, 1), (6, 1)), "has"),
        (damaged(SKIP, (4, 99)), "unknown type"),
    ],
)
def test_a_damaged_record_is_refused_by_name(blob: bytes, reason: str) -> None:
    for decode in (_native.decode_batch, codec.decode_batch):
        with pytest.raises(ValueError, match=f"journal record 7 .*{reason}"):
            decode(7, 1, blob)


def test_a_start_that_looks_for_rows_only_does_not_run_in_circles() -> None:
    row = codec.encode_row(b"row")
    assert list(codec.row_payloads(7, SKIP + row)) == [(8, b"row")]
    with pytest.raises(ValueError, match="journal record 7 has an impossible length of 0 bytes"):
        list(codec.row_payloads(7, damaged(SKIP, (0, 0)) + row))
