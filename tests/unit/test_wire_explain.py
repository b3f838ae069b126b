"""`explain` says something true about every byte string."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from support.wire_strategies import FRAMES, raw_frames

from chatd.cli.decode import is_sound
from chatd.wire import Frame, encode, make
from chatd.wire.explain import FRAMES_EXPLAINED_MAX, explain, parse_hex
from chatd.wire.schema import HEADER_BYTES, KINDS, OPS, Kind, Op


@given(st.one_of(st.binary(max_size=300), st.lists(raw_frames(), max_size=5).map(b"".join)))
def test_anything_is_explained(data: bytes) -> None:
    assert explain(data)


@given(FRAMES)
def test_every_field_of_a_frame_is_named(frame: Frame) -> None:
    if OPS[frame.op].empty and not any(frame.fields.values()):
        return
    text = "\n".join(explain(encode(frame)))
    assert OPS[frame.op].layout.name in text
    assert all(name in text for name in frame.fields)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", "no bytes"),
        ("00", "1 bytes of a header"),
        ("0005 9500 01", "cut off: the header announces a body of 5 bytes, 1 are here"),
        ("0002 9500 8000", "! varint.canonical: a varint with a last byte of zero has a shorter form (byte 5)"),
        ("0002 9500 0101", "! frame.trailing: 1 bytes behind the last field (byte 5)"),
        ("0001 9504 01", "unknown bits 0x04"),
        ("0000 9500", "! frame.empty: ACK without a body"),
        ("0001 7f00 61", "op 0x7F, unknown, may be ignored: skipped"),
        ("0001 ff00 61", "op 0xFF, unknown, must be understood: refused"),
        ("0004 8900 0007 00 00", "reason = 7 (SLOW_FRAME)"),
        ("0004 b000 01 0a 91 01", "a control payload is one map with integer keys"),
        ("0004 9400 01", "cut off"),
    ],
)
def test_what_is_broken_is_said(raw: str, said: str) -> None:
    assert said in "\n".join(explain(parse_hex(raw)))


def test_a_broken_frame_does_not_hide_the_next() -> None:
    lines = explain(parse_hex("0001 9500 ff 0001 9500 05"))
    assert any("frame.short" in line for line in lines)
    assert any("count = 5" in line for line in lines)


def test_payloads_are_opened() -> None:
    fields = {"cid": 1, "seq": 2, "sender": 3, "time": 0}
    stub = make(Op.DELIVER, flags=0x04, kind=Kind.TEXT, payload=b"\x80\x02", **fields)
    assert "a stub, the event has 256 bytes of payload" in explain(encode(stub))[-1]
    assert KINDS[Kind.MEMBERS_ADDED].layout
    added = make(Op.DELIVER, kind=Kind.MEMBERS_ADDED, payload=bytes.fromhex("01020405"), **fields)
    assert "role = 1 (MEMBER)" in explain(encode(added))[-1]
    broken = make(Op.DELIVER, kind=Kind.MEMBERS_ADDED, payload=b"\x01", **fields)
    assert "! payload: frame.short" in explain(encode(broken))[-1]


def test_explaining_has_an_end() -> None:
    lines = explain(bytes.fromhex("00000100") * (FRAMES_EXPLAINED_MAX + 1))
    assert "4 more bytes are not explained" in lines[-1]


@pytest.mark.parametrize("text", ["0x00 0x01,0x95:00-01", "00019500 01", "000195\n0001"])
def test_hexadecimal_is_read_as_people_paste_it(text: str) -> None:
    assert parse_hex(text) == bytes.fromhex("0001950001")


@pytest.mark.parametrize("text", ["0", "zz", "00 1"])
def test_what_is_not_hexadecimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        parse_hex(text)


@pytest.mark.parametrize("vector", vectors.load("forbidden"), ids=vectors.named)
def test_every_forbidden_frame_names_the_clause_it_breaks(vector: dict[str, Any]) -> None:
    data = vectors.expand(vector["bytes"])
    said = "\n".join(explain(data))
    if vector["clause"] == "frame.size":
        assert "! cut off" in said, "only the header is there; its length is too large before login only"
    elif vector["clause"] == "op.unknown":
        assert is_sound(data) == ("must be understood" not in said), "known ops without their feature are fine as bytes"
    elif vector["clause"].startswith("session."):
        assert is_sound(data), "legal in another state or from the other side"
    else:
        assert f"! {vector['clause']}: " in said
        assert not is_sound(data)


@pytest.mark.parametrize("vector", vectors.load("valid"), ids=vectors.named)
def test_a_valid_frame_is_sound_and_cut_anywhere_it_is_not(vector: dict[str, Any]) -> None:
    data = vectors.expand(vector["bytes"])
    assert is_sound(data)
    assert not any(line.lstrip().startswith("!") for line in explain(data))
    for cut in range(1, min(len(data), 200)):
        said = explain(data[:cut])
        assert not is_sound(data[:cut])
        assert "of a header" in said[-1] if cut < HEADER_BYTES else "! cut off" in said[-1]


def test_without_the_packages_of_the_server_a_control_payload_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`chatd decode` of a client-only installation, which has no MessagePack."""
    frame = encode(make(Op.REQUEST, id=1, method=1, params=b"\x81\x01\x02"))
    opened = explain(frame)
    monkeypatch.setitem(sys.modules, "chatd.wire.control", None)
    monkeypatch.delattr("chatd.wire.control", raising=False)
    assert explain(frame) != opened
    assert explain(frame)[-1].endswith("params = 3 bytes 810102")
