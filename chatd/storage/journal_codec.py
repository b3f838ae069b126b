"""The reference codec of journal batches.

native/journal.h is the layout, docs/internals/journal.md says what comes out. Production decodes with
chatd._native.decode_batch, which is injected into the store; the differential test holds both equal. The encoders serve
tests, benchmarks and tools: in production the hub's native core writes batches. Pure functions.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

EVENT, SKIP, MEMBER, POSITION, ROW, REDACT = range(1, 7)
EVENT_MESSAGE, EVENT_EXT, EVENT_TOMBSTONE = 1, 2, 4
ALIGNMENT = 8

# bytes, type, flags, pad: the head of every record.
_HEAD = Struct("<IBBH")
_EVENT = Struct("<8xQQQQQQQqII")
_SKIP = Struct("<8xQQ")
_MEMBER = Struct("<8xQQQQII")
_POSITION = Struct("<8xQQQQQ")
_REDACT = Struct("<8xQQII")

EventTuple = tuple[int, int, int, int, int, int, int, int, int, bytes, int]
IdempotencyTuple = tuple[int, int, int, int]
MemberTuple = tuple[int, int, int, int, int, int]
PositionTuple = tuple[int, int, int, int, int, int]
RowTuple = tuple[int, bytes]
RedactTuple = tuple[int, int, int]


class Decoded(NamedTuple):
    """The records of one batch by table, in journal order within each."""

    events: list[EventTuple]
    idempotency: list[IdempotencyTuple]
    changed: dict[int, int]
    members: list[MemberTuple]
    positions: list[PositionTuple]
    rows: list[RowTuple]
    redactions: list[RedactTuple]


class Record(NamedTuple):
    """Where one record lies in its blob: the fields and payload are blob[start:end], padding excluded."""

    pos: int
    type: int
    start: int
    end: int


def decode_batch(pos: int, count: int, blob: bytes) -> Decoded:
    """Decode the records pos .. pos+count-1.

    Raises ValueError when the records do not fill the blob exactly, do not number `count` or are not as journal.h says.
    """
    out = Decoded([], [], {}, [], [], [], [])
    for record in records(pos, count, blob):
        if record.type == ROW:
            out.rows.append((record.pos, blob[record.start + _HEAD.size : record.end]))
        elif record.type in _DECODERS:
            _DECODERS[record.type](out, blob, record)
        else:
            raise ValueError(f"journal record {record.pos} has unknown type {record.type}")
    return out


def records(pos: int, count: int, blob: bytes) -> Iterator[Record]:
    """Walk over the heads only; ValueError as in decode_batch, types are not judged."""
    offset, at, size = 0, pos, len(blob)
    while offset < size:
        if size - offset < _HEAD.size:
            raise ValueError(f"journal record {at} is cut inside its head")
        length, kind, _, pad = _HEAD.unpack_from(blob, offset)
        if length % ALIGNMENT or pad >= ALIGNMENT or length < _HEAD.size + pad or length > size - offset:
            raise ValueError(f"journal record {at} has an impossible length of {length} bytes")
        yield Record(at, kind, offset, offset + length - pad)
        offset += length
        at += 1
    if at != pos + count:
        raise ValueError(f"the batch at {pos} holds {at - pos} records, its row says {count}")


def row_payloads(pos: int, blob: bytes) -> Iterator[RowTuple]:
    """Only the ROW records: (pos, MessagePack bytes). Checks less than `records`: a start scans millions."""
    offset, size, unpack_head = 0, len(blob), _HEAD.unpack_from
    while offset < size:
        length, kind, _, pad = unpack_head(blob, offset)
        if kind == ROW:
            yield pos, blob[offset + _HEAD.size : offset + length - pad]
        elif length < _HEAD.size:
            raise ValueError(f"journal record {pos} has an impossible length of {length} bytes")
        offset += length
        pos += 1


def _decode_event(out: Decoded, blob: bytes, record: Record) -> None:
    _expect(_EVENT.size, record, exactly=False)
    cid, seq, sender, device, cseq, ts_ms, message_count, digest, kind, size = _EVENT.unpack_from(blob, record.start)
    body = blob[record.start + _EVENT.size : record.end]
    if len(body) != size:
        raise ValueError(f"journal record {record.pos} has {len(body)} bytes of payload, its head says {size}")
    flags = blob[record.start + 5]
    out.events.append((cid, seq, ts_ms, sender, device, cseq, kind, message_count, digest, body, flags))
    out.changed[cid] = record.pos
    if device:
        out.idempotency.append((device, cseq, cid, seq))


def _decode_skip(out: Decoded, blob: bytes, record: Record) -> None:
    _expect(_SKIP.size, record)
    device, cseq = _SKIP.unpack_from(blob, record.start)
    out.idempotency.append((device, cseq, 0, 0))


def _decode_member(out: Decoded, blob: bytes, record: Record) -> None:
    _expect(_MEMBER.size, record)
    cid, user, join_seq, leave_seq, role, _ = _MEMBER.unpack_from(blob, record.start)
    out.members.append((cid, user, join_seq, leave_seq, role, record.pos))


def _decode_position(out: Decoded, blob: bytes, record: Record) -> None:
    _expect(_POSITION.size, record)
    cid, user, delivered_seq, read_seq, read_count = _POSITION.unpack_from(blob, record.start)
    out.positions.append((cid, user, delivered_seq, read_seq, read_count, record.pos))


def _decode_redact(out: Decoded, blob: bytes, record: Record) -> None:
    _expect(_REDACT.size, record)
    cid, seq, _, _ = _REDACT.unpack_from(blob, record.start)
    out.redactions.append((cid, seq, record.pos))


_DECODERS = {
    EVENT: _decode_event,
    SKIP: _decode_skip,
    MEMBER: _decode_member,
    POSITION: _decode_position,
    REDACT: _decode_redact,
}


def _expect(size: int, record: Record, *, exactly: bool = True) -> None:
    found = record.end - record.start
    if found < size or (exactly and found != size):
        raise ValueError(f"journal record {record.pos} of type {record.type} has {found} bytes, not {size}")


def encode_event(event: EventTuple) -> bytes:
    cid, seq, ts_ms, sender, device, cseq, kind, message_count, digest, body, flags = event
    fields = _EVENT.pack(cid, seq, sender, device, cseq, ts_ms, message_count, digest, kind, len(body))
    return _record(EVENT, fields[_HEAD.size :] + body, flags)


def encode_skip(device: int, cseq: int) -> bytes:
    return _record(SKIP, _SKIP.pack(device, cseq)[_HEAD.size :])


def encode_member(cid: int, user: int, join_seq: int, leave_seq: int, role: int) -> bytes:
    return _record(MEMBER, _MEMBER.pack(cid, user, join_seq, leave_seq, role, 0)[_HEAD.size :])


def encode_position(cid: int, user: int, delivered_seq: int, read_seq: int, read_count: int) -> bytes:
    return _record(POSITION, _POSITION.pack(cid, user, delivered_seq, read_seq, read_count)[_HEAD.size :])


def encode_redact(cid: int, seq: int, reason: int) -> bytes:
    return _record(REDACT, _REDACT.pack(cid, seq, reason, 0)[_HEAD.size :])


def encode_row(payload: bytes) -> bytes:
    """payload: what interface.row_record made."""
    return _record(ROW, payload)


def _record(kind: int, content: bytes, flags: int = 0) -> bytes:
    pad = -(_HEAD.size + len(content)) % ALIGNMENT
    length = _HEAD.size + len(content) + pad
    return _HEAD.pack(length, kind, flags, pad) + content + bytes(pad)
