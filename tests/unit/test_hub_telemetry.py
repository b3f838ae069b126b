"""The last values of telemetry in the hub: what is kept, and what is let go."""

from types import SimpleNamespace
from typing import Any

import pytest

from chatd.clock import Clock
from chatd.hub import telemetry
from chatd.hub.calls import Call
from chatd.hub.telemetry import Telemetry
from chatd.wire.frame import encode, make
from chatd.wire.layout import encode_fields
from chatd.wire.schema import (
    EXTENSION_EPHEMERAL_TELEMETRY,
    EXTENSIONS,
    FLAG_EXT,
    HEADER_BYTES,
    EphemeralKind,
    Op,
    Right,
)

EVERYTHING = (0, -1)


def made() -> Telemetry:
    hub: Any = SimpleNamespace(
        core=SimpleNamespace(rights=lambda cid, user: int(Right.WRITE)),
        clock=Clock(wall_ns=lambda: 5_000_000_000, monotonic_ns=lambda: 7_000_000_000),
    )
    return Telemetry(hub)


def tell(values: Telemetry, cid: int, user: int, key: int, value: bytes) -> None:
    told = encode_fields(EXTENSIONS[Op.EPHEMERAL, EXTENSION_EPHEMERAL_TELEMETRY].fields, {"key": key, "flags": 1})
    extensions = ((EXTENSION_EPHEMERAL_TELEMETRY, told),)
    kind = int(EphemeralKind.TELEMETRY)
    frame = encode(make(Op.EPHEMERAL, extensions=extensions, cid=cid, sender=0, kind=kind, payload=value))
    values.on_value(Call(0, 1, user, user, Op.EPHEMERAL, FLAG_EXT, 0, 0, 65_535, 0, frame[HEADER_BYTES:]))


def kept(values: Telemetry, cid: int, user: int = 0) -> list[tuple[int, int, bytes]]:
    found, more = values.last(cid, user, EVERYTHING, 1000)
    assert not more
    return [(*place, value.payload) for place, value in found]


def test_the_newest_value_of_each_sender_and_key_is_kept() -> None:
    values = made()
    for value in (b"1", b"2"):
        tell(values, 1, 8, 3, value)
        tell(values, 1, 7, 3, value)
        tell(values, 1, 7, 0, value)
        tell(values, 2, 7, 3, b"elsewhere")
    assert kept(values, 1) == [(7, 0, b"2"), (7, 3, b"2"), (8, 3, b"2")]
    assert kept(values, 1, user=8) == [(8, 3, b"2")]
    assert kept(values, 3) == []
    page, more = values.last(1, 0, (7, 0), 1)
    assert ([place for place, _ in page], more) == ([(7, 3)], True)
    assert page[0][1][1:] == (5000, 7000)


@pytest.mark.parametrize("bound", ["VALUES_MAX", "BYTES_MAX"])
def test_the_table_is_bounded(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, bound, 4)
    monkeypatch.setattr(telemetry, "PER_CONVERSATION_MAX", 3)
    values = made()
    for key in range(4):
        tell(values, 1, 7, key, b"x")
    assert kept(values, 1) == [(7, 1, b"x"), (7, 2, b"x"), (7, 3, b"x")], "a conversation has its share"
    tell(values, 1, 7, 1, b"y")
    tell(values, 2, 7, 0, b"x")
    tell(values, 3, 7, 0, b"x")
    assert kept(values, 1) == [(7, 1, b"y"), (7, 3, b"x")], "what was written longest ago goes"
    assert kept(values, 2) == kept(values, 3) == [(7, 0, b"x")]
