"""Invariant: rows as a damaged store could give them become a DELIVER that decodes to them, or are refused by name.

The first byte says which: 0 an event row (five numbers of eight bytes, then its payload), 1 a batch to replay (its
count, then its records), 2 a ROW record.
"""

import struct
from typing import Any

import target_journal

from chatd.engine.native import HubCore
from chatd.errors import LocalProtocolError
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.reference.core import ReferenceHubCore
from chatd.storage.interface import parse_row, row_record
from chatd.wire.framer import Framer
from chatd.wire.schema import Op

EVENT = struct.Struct("<5Q")
SEEDS = [
    b"\x00" + EVENT.pack(7, 1, 1_800_000_000_000, 3, 1) + b"hello",
    b"\x00" + EVENT.pack(2**63 - 1, 2**63, 0, 127, 128) + bytes(300),
    *(b"\x01" + seed for seed in target_journal.SEEDS),
    b"\x02" + row_record("user", {"id": 1, "name": "alice", "display_name": "Alice", "flags": 0}),
    b"\x02" + row_record("device", {"id": 5}, deleted=True),
]


def one(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"\x01":
        assert replayed(HubCore, rest) == replayed(ReferenceHubCore, rest)
    elif kind == b"\x02":
        read_row(rest)
    elif len(rest) >= EVENT.size:
        deliver((*EVENT.unpack_from(rest), rest[EVENT.size :], 1))


def deliver(row: tuple[Any, ...]) -> None:
    cid, seq, ts_ms, sender, kind, payload, _ = row
    assert encoded(HubCore, row) == encoded(ReferenceHubCore, row)
    frames = encoded(HubCore, row)
    if frames is None:
        assert max(cid, seq, ts_ms, sender, kind) >= 2**63
        return
    (frame,) = Framer().feed(frames)
    values = frame.fields
    if frame.op == Op.DELIVER:
        assert (values["cid"], values["seq"], values["kind"]) == (cid, seq, kind)
        assert values["payload"] == payload


def encoded(core: Any, row: tuple[Any, ...]) -> bytes | None:
    try:
        frames: bytes = core(HubCoreSettings()).encode_events([row])
    except (ValueError, LocalProtocolError):
        return None
    return frames


def replayed(core: Any, data: bytes) -> Any:
    """What the batch holds and what stands in memory afterwards."""
    hub = core(HubCoreSettings())
    try:
        replayed = hub.replay(1, data[0] if data else 0, data[1:])
    except ValueError:
        return "refused"
    return *map(list, replayed), hub.committed_pos


def read_row(payload: bytes) -> None:
    try:
        table, values, deleted = parse_row(payload)
    except ValueError:
        return
    assert parse_row(row_record(table, values, deleted=deleted)) == (table, values, deleted)
