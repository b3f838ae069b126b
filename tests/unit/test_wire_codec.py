"""The reference codec: every frame survives the round trip, and wrong values are refused before they are sent."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire_strategies import FRAMES, raw_frames

from chatd.wire import (
    Frame,
    LocalProtocolError,
    PeerProtocolError,
    WireError,
    decode,
    decode_one,
    encode,
    make,
    time40,
    varint,
)
from chatd.wire.payload import decode_payload, encode_payload, stub_bytes
from chatd.wire.schema import BODY_BYTES_MAX, KINDS, OPS, TIME_EPOCH_MS, Kind, Op


@given(FRAMES)
def test_a_frame_survives_the_round_trip(frame: Frame) -> None:
    if not OPS[frame.op].empty or any(frame.fields.values()):
        assert decode_one(encode(frame)) == frame


@given(raw_frames())
def test_what_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        frame = decode_one(data)
    except PeerProtocolError:
        return
    if frame.known:
        assert encode(frame) == data


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_but_protocol_errors(data: bytes) -> None:
    for op in OPS:
        with suppress(PeerProtocolError):
            decode(op, data[0] if data else 0, data)


@given(st.integers(0, 2**63 - 1))
def test_varints_are_as_long_as_they_say(value: int) -> None:
    encoded = varint.encode(value)
    assert varint.decode(encoded) == (value, len(encoded))
    assert varint.size(value) == len(encoded)


@pytest.mark.parametrize(
    ("raw", "clause"),
    [
        ("", "frame.short"),
        ("80", "frame.short"),
        ("8000", "varint.canonical"),
        ("ff8000", "varint.canonical"),
        ("ffffffffffffffffff01", "varint.range"),
        ("80808080808080808001", "varint.range"),
    ],
)
def test_a_varint_has_one_form(raw: str, clause: str) -> None:
    with pytest.raises(WireError) as caught:
        varint.decode(bytes.fromhex(raw))
    assert caught.value.clause == clause


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_varint_out_of_range_is_not_encoded(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        varint.encode(value)


def test_a_64_byte_text_costs_22_bytes() -> None:
    top = 2**28 - 1
    frame = make(Op.DELIVER, cid=top, seq=top, sender=top, time=2**40 - 1, kind=Kind.TEXT, payload=b"x" * 64)
    assert len(encode(frame)) - 64 <= 22


@pytest.mark.parametrize("op", [Op.WELCOME, Op.RESUMED])
def test_logging_in_fits_the_lite_profile(op: Op) -> None:
    top = 2**35 - 1
    fields: dict[str, object] = {"user": top, "device": top, "session_epoch": top, "cseq_stored": top, "log_epoch": top}
    fields |= {"features": 0x7F, "frame_bytes_max": 512, "window_frames": 4, "window_bytes": 2**21 - 1}
    fields |= {"frames_per_s": 2**14 - 1, "sends_per_s": 2**14 - 1, "heartbeat_ms": 300_000, "time": 2**40 - 1}
    fields |= {"cursor": bytes(16), "ticket": bytes(64)}
    if op == Op.RESUMED:
        fields["continuity"] = 1
    assert len(encode(make(op, **fields))) - 4 <= 128


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Op.ACK, 0, {}),
        Frame(Op.ACK, 0, {"count": 1, "other": 2}),
        Frame(Op.ACK, 0x02, {"count": 1}),
        Frame(Op.SEND, 0x01, {"cseq": 1, "cid": 1, "kind": 1, "payload": b""}),
        Frame(Op.BYE, 0, {"reason": 65536, "retry_after_ms": 0, "text": ""}),
        Frame(Op.BYE, 0, {"reason": 1, "retry_after_ms": 0, "text": "x" * 65}),
        Frame(Op.CHALLENGE, 0, {"nonce": bytes(15)}),
        Frame(Op.SEND, 0x01, {"cseq": 1, "cid": 1, "kind": 1, "payload": b""}, ((2, b""), (2, b""))),
        Frame(Op.SEND, 0x01, {"cseq": 1, "cid": 1, "kind": 1, "payload": b""}, ((2, bytes(1024)),)),
        Frame(Op.SEND, 0, {"cseq": 1, "cid": 1, "kind": 1, "payload": bytes(BODY_BYTES_MAX)}),
        Frame(Op.RECEIPT, 0, {"cid": 1, "entries": [{"user": 1, "delivered_seq": 1, "read_seq": 1}] * 501}),
        Frame(Op.REQUEST, 0, {"id": 1, "method": 1, "params": b""}),
        Frame(0x7F, 0, {"body": b""}),
    ],
)
def test_a_wrong_frame_is_not_encoded(frame: Frame) -> None:
    with pytest.raises(LocalProtocolError):
        encode(frame)


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x03", b"\x00\x01\x95\x00", b"\x00\x01\x95\x00\x01\x00"])
def test_one_frame_is_neither_less_nor_more(data: bytes) -> None:
    with pytest.raises(WireError, match="not exactly one frame"):
        decode_one(data)


SAMPLES = {
    **dict.fromkeys(("u8", "u16", "u32", "u64", "varint", "time40"), 3),
    "str": "Mittagsrunde",
    "bytes": b"\x01\xff",
    "bytes8": b"12345678",
    "bytes16": bytes(16),
    "rest": b"the rest",
    "user": ({"user": 4}, {"user": 500}),
    "denial": ({"role": 1, "rights": 3},),
}


@pytest.mark.parametrize("kind", [kind for kind, rule in KINDS.items() if rule.layout])
def test_payloads_of_system_kinds_survive_the_round_trip(kind: int) -> None:
    layout = KINDS[kind].layout
    assert layout is not None
    values = {field.name: SAMPLES[field.record or field.type] for field in layout.fields}
    assert decode_payload(kind, encode_payload(kind, values)) == values


def test_a_payload_of_a_free_kind_is_left_alone() -> None:
    assert decode_payload(Kind.TEXT, b"\xff") is None
    with pytest.raises(LocalProtocolError):
        encode_payload(Kind.TEXT, {})


def test_a_stub_is_one_varint() -> None:
    assert stub_bytes(varint.encode(30_000)) == 30_000
    with pytest.raises(WireError):
        stub_bytes(b"\x01\x01")


def test_time40_counts_milliseconds_since_2025() -> None:
    assert time40.from_unix_ms(TIME_EPOCH_MS) == 0
    assert time40.to_unix_ms(time40.from_unix_ms(1_763_000_000_123)) == 1_763_000_000_123
    assert time40.encode(TIME_EPOCH_MS + 258) == b"\0\0\0\1\2"


def test_a_clock_that_is_wrong_reads_as_the_nearest_time() -> None:
    assert time40.encode(0) == bytes(5)
    assert time40.encode(TIME_EPOCH_MS + (1 << 40)) == b"\xff" * 5
