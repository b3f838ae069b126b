"""Bytes in words: what `chatd decode HEX` prints, for any byte string, broken ones too.

Every field becomes a line with its place and bytes. Where a clause is broken, a line names the clause and points at the
byte, and the lines go on with the next frame: framing only needs lengths, so one bad body does not hide the rest.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from chatd.wire.errors import PeerProtocolError, WireError
from chatd.wire.frame import decode
from chatd.wire.layout import Reader
from chatd.wire.payload import stub_bytes
from chatd.wire.schema import (
    CLIENT,
    FLAG_DELIVER_STUB,
    FLAG_EXT,
    HEADER_BYTES,
    KINDS,
    OPS,
    SERVER,
    Close,
    ConversationKind,
    Credential,
    EphemeralKind,
    ErrorCode,
    Feature,
    Kind,
    MemberState,
    Method,
    Op,
    OpRule,
    Role,
    Topic,
)
from chatd.wire.time40 import to_unix_ms

BYTES_SHOWN_MAX = 48
FRAMES_EXPLAINED_MAX = 1000
SENDERS = {CLIENT: "client → server", SERVER: "server → client", CLIENT | SERVER: "either side"}

# Fields whose numbers have names: (op or None for all ops, field): names.
NAMES: dict[tuple[int | None, str], Any] = {
    (Op.EPHEMERAL, "kind"): EphemeralKind,
    (Op.STREAM_SNAPSHOT, "kind"): Kind,
    (Op.SEND, "kind"): Kind,
    (Op.DELIVER, "kind"): Kind,
    (Op.SYNC_PAGE, "kind"): ConversationKind,
    (Op.SYNC_PAGE, "state"): MemberState,
    (Op.SYNC_PAGE, "last_kind"): Kind,
    (Op.AUTH, "credential"): Credential,
    (Op.REAUTH, "credential"): Credential,
    (Op.BYE, "reason"): Close,
    (Op.GOAWAY, "reason"): Close,
    (Op.ERROR, "code"): ErrorCode,
    (Op.ERROR, "op"): Op,
    (Op.SEND_NAK, "code"): ErrorCode,
    (Op.REPLY, "code"): ErrorCode,
    (Op.REQUEST, "method"): Method,
    (None, "features"): Feature,
    (None, "topics"): Topic,
    (None, "role"): Role,
}


def explain(data: bytes) -> list[str]:
    """Lines that say what `data` is when it is read as frames. Never raises; at most 1,000 frames are explained."""
    lines: list[str] = []
    offset = 0
    for _ in range(FRAMES_EXPLAINED_MAX):
        if offset == len(data):
            break
        left = len(data) - offset
        length = int.from_bytes(data[offset : offset + 2], "big")
        if left < HEADER_BYTES:
            lines.append(
                f"byte {offset}: {left} bytes of a header; a frame starts with {HEADER_BYTES}: {shown(data[offset:])}"
            )
            return lines
        end = offset + HEADER_BYTES + length
        lines += explain_frame(data, offset, min(end, len(data)), length)
        if end > len(data):
            lines.append(f"  ! cut off: the header announces a body of {length} bytes, {left - HEADER_BYTES} are here")
            return lines
        offset = end
    if offset < len(data):
        lines.append(f"byte {offset}: {len(data) - offset} more bytes are not explained")
    return lines or ["no bytes"]


def explain_frame(data: bytes, start: int, end: int, length: int) -> Iterator[str]:
    op, flags = data[start + 2], data[start + 3]
    body_start = start + HEADER_BYTES
    body = data[body_start:end]
    rule = OPS.get(op)
    if rule is None:
        must = "must be understood: refused" if op & 0x80 else "may be ignored: skipped"
        yield f"byte {start}: op 0x{op:02X}, unknown, {must}; flags 0x{flags:02X}, body of {length} bytes"
        yield f"  {shown(body)}"
        return
    title = f"{rule.layout.name} (0x{op:02X}, {SENDERS[rule.sides]})"
    yield f"byte {start}: {title}, {flag_names(rule, flags)}, body of {length} bytes"
    traced: list[str] = []

    def trace(path: str, kind: str, first: int, after: int, value: Any) -> None:
        raw = body[first:after].hex()
        place = f"{body_start + first}: {raw[:24]}{'…' if len(raw) > 24 else ''}"
        traced.append(f"  {place:<32} {path} = {worded(op, path, kind, value)}")

    try:
        frame = decode(op, flags, body, trace)
    except WireError as error:
        yield from traced
        # What is missing because the string is cut off is not the frame's fault; the caller says that it is cut.
        if len(body) == length or error.clause not in {"frame.short", "frame.empty"}:
            yield f"  ! {error.clause}: {error.detail} (byte {body_start + error.offset})"
        return
    yield from traced
    if frame.unknown_extension:
        yield f"  ! ext.unknown: extension {frame.unknown_extension} is odd, so it must be understood"
    if frame.malformed_extension:
        yield f"  ! ext.content: extension {frame.malformed_extension} breaks its layout"
    if op == Op.DELIVER:
        yield from explain_payload(flags, frame["kind"], frame["payload"])


def explain_payload(flags: int, kind: int, payload: bytes) -> Iterator[str]:
    """What a DELIVER carries, where the schema says more than "bytes"."""
    rule = KINDS.get(kind)
    lines: list[str] = []
    try:
        if flags & FLAG_DELIVER_STUB:
            yield f"  payload: a stub, the event has {stub_bytes(payload)} bytes of payload"
        elif rule and rule.layout:
            reader = Reader(
                payload,
                trace=lambda path, kind, first, after, value: lines.append(worded(None, path, kind, value, path)),
            )
            reader.fields(rule.layout.fields)
            reader.finish()
            yield f"  payload: {', '.join(lines)}"
    except WireError as error:
        yield f"  ! payload: {error.clause}: {error.detail} (byte {error.offset} of the payload)"


def flag_names(rule: OpRule, flags: int) -> str:
    names = [name for name, bit in rule.flags.items() if flags & bit]
    if flags & FLAG_EXT and rule.flags_mask & FLAG_EXT:
        names.append("EXT")
    strange = flags & ~rule.flags_mask
    if strange:
        names.append(f"unknown bits 0x{strange:02X}")
    return "flags " + " ".join(names) if names else "no flags"


def worded(op: int | None, path: str, kind: str, value: Any, label: str = "") -> str:
    """A value as people read it: names for codes, dates for times, text for text, MessagePack opened."""
    text = f"{label} = " if label else ""
    name = path.rpartition(".")[2]
    if kind == "time40":
        moment = datetime.fromtimestamp(to_unix_ms(value) / 1000, UTC)
        return f"{text}{value} ({moment.isoformat(timespec='milliseconds')})"
    if isinstance(value, int):
        return f"{text}{value}{code_name(op, name, value)}"
    if isinstance(value, str):
        return text + clipped(repr(value))
    if kind == "msgpack":
        return text + opened(value)
    return text + shown(value)


def code_name(op: int | None, field: str, value: int) -> str:
    names = NAMES.get((op, field)) or NAMES.get((None, field))
    if names is None:
        return ""
    if issubclass(names, Feature | Topic):
        found = " ".join(member.name for member in names if member & value)
        return f" ({found})" if found else ""
    try:
        return f" ({names(value).name})"
    except ValueError:
        return " (unknown)"


def opened(value: bytes) -> str:
    try:
        from chatd.wire import control
    except ImportError:
        return shown(value)
    try:
        return clipped(repr(control.unpack(value)))
    except PeerProtocolError as error:
        return f"{shown(value)} ! {error}"


def shown(value: bytes) -> str:
    """Hexadecimal, and the text when it is printable UTF-8."""
    raw = value[:BYTES_SHOWN_MAX].hex() + ("…" if len(value) > BYTES_SHOWN_MAX else "")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    printable = f" {clipped(repr(text))}" if text and text.isprintable() else ""
    return f"{len(value)} bytes {raw}{printable}" if value else "empty"


def clipped(text: str) -> str:
    return text if len(text) <= 2 * BYTES_SHOWN_MAX else text[: 2 * BYTES_SHOWN_MAX] + "…"


def parse_hex(text: str) -> bytes:
    """Bytes from hexadecimal as people paste it: blanks, colons, commas and 0x are left out. ValueError otherwise."""
    cleaned = "".join(text.replace("0x", " ").replace("0X", " ").translate(str.maketrans(":,-", "   ")).split())
    wrong = next((char for char in cleaned if char not in "0123456789abcdefABCDEF"), "")
    if wrong or len(cleaned) % 2:
        raise ValueError(f"not hexadecimal: {wrong!r}" if wrong else "an odd number of hexadecimal digits")
    return bytes.fromhex(cleaned)
