"""Payloads whose layout the kind decides: the events the server writes itself, and the stub."""

from collections.abc import Mapping
from typing import Any

from chatd.wire import varint
from chatd.wire.errors import LocalProtocolError, WireError
from chatd.wire.layout import Value, decode_fields, encode_fields
from chatd.wire.schema import KINDS


def decode_payload(kind: int, payload: bytes) -> dict[str, Value] | None:
    """The fields of a system kind's payload, None for kinds whose payload is free. WireError when it is malformed."""
    rule = KINDS.get(kind)
    return decode_fields(rule.layout, payload) if rule and rule.layout else None


def encode_payload(kind: int, values: Mapping[str, Any]) -> bytes:
    """The payload of a system kind: encode_payload(Kind.TITLE_CHANGED, {"title": "Lunch"})."""
    rule = KINDS.get(kind)
    if rule is None or rule.layout is None:
        raise LocalProtocolError("INTERNAL", f"kind {kind} has a free payload")
    return encode_fields(rule.layout.fields, values)


def stub_bytes(payload: bytes) -> int:
    """Length of the real payload of a DELIVER with flag STUB. WireError when the payload is not exactly one varint."""
    length, end = varint.decode(payload)
    if end != len(payload):
        raise WireError("frame.trailing", end, "a stub is one varint")
    return length
