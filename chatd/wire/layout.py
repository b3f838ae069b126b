"""Fields to bytes and back, driven by the layouts of the schema: one reader, one writer, no code per op.

Decoding never allocates from a declared length: a field is cut out of bytes that are there, or it is an error. A list
is read entry by entry and every entry takes at least one byte, so the body bounds its count as well as its limit does.
`trace` receives (path, type, start, end, value) of every field in order, up to the one that failed, for `explain`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from chatd.wire import varint
from chatd.wire.errors import LocalProtocolError, WireError
from chatd.wire.schema import RECORDS, Field, Layout
from chatd.wire.time40 import TIME40_BYTES, TIME40_LIMIT

Value = int | bytes | str | tuple[Mapping[str, Any], ...]
Trace = Callable[[str, str, int, int, Value], None]

FIXED_BYTES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "time40": TIME40_BYTES}


class Reader:
    """A position in a body. Every method moves it forward or raises WireError."""

    def __init__(self, data: bytes, offset: int = 0, end: int | None = None, trace: Trace | None = None) -> None:
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end
        self.trace = trace

    def take(self, count: int, what: str) -> bytes:
        left = self.end - self.offset
        if left < count:
            raise WireError("frame.short", self.offset, f"{what} needs {count} bytes, the body has {left} left")
        taken = self.data[self.offset : self.offset + count]
        self.offset += count
        return taken

    def varint(self) -> int:
        value, self.offset = varint.decode(self.data, self.offset, self.end)
        return value

    def finish(self) -> None:
        """Everything must have been read."""
        if self.offset != self.end:
            raise WireError("frame.trailing", self.offset, f"{self.end - self.offset} bytes behind the last field")

    def fields(self, fields: tuple[Field, ...], path: str = "") -> dict[str, Value]:
        """Read these fields in order; path names their owner in traces."""
        values: dict[str, Value] = {}
        for field in fields:
            start = self.offset
            value = self.items(field, path) if field.type == "list" else self.scalar(field)
            values[field.name] = value
            if self.trace and field.type != "list":
                self.trace(path + field.name, field.type, start, self.offset, value)
        return values

    def items(self, field: Field, path: str) -> tuple[Mapping[str, Any], ...]:
        start = self.offset
        count = self.varint()
        if count > field.limit:
            raise WireError("field.limit", start, f"{field.name} has {count} entries, {field.limit} are allowed")
        if self.trace:
            self.trace(path + field.name, "count", start, self.offset, count)
        record = RECORDS[field.record]
        return tuple(self.fields(record.fields, f"{path}{field.name}[{index}].") for index in range(count))

    def scalar(self, field: Field) -> int | bytes | str:
        start = self.offset
        if field.type == "varint":
            return self.varint()
        if field.type in FIXED_BYTES:
            return int.from_bytes(self.take(FIXED_BYTES[field.type], field.name), "big")
        if field.type in {"rest", "msgpack"}:
            raw = self.take(max(self.end - self.offset, int(field.type == "msgpack")), field.name)
        elif field.type in {"bytes", "str"}:
            raw = self.take(self.varint(), field.name)
        else:
            raw = self.take(int(field.type.removeprefix("bytes")), field.name)
        if field.limit and len(raw) > field.limit:
            raise WireError("field.limit", start, f"{field.name} has {len(raw)} bytes, {field.limit} are allowed")
        return self.text(field, raw) if field.type == "str" else raw

    def text(self, field: Field, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = self.offset - len(raw) + error.start
            raise WireError("str.utf8", at, f"{field.name} is not UTF-8") from None


def decode_fields(layout: Layout, data: bytes) -> dict[str, Value]:
    """All of `data` as the fields of a layout without extension block: a record, a payload, an extension."""
    reader = Reader(data)
    values = reader.fields(layout.fields)
    reader.finish()
    return values


def encode_fields(fields: tuple[Field, ...], values: Mapping[str, Any]) -> bytes:
    """The bytes of these fields. LocalProtocolError names a value that is missing or does not fit."""
    out = bytearray()
    for field in fields:
        if field.name not in values:
            raise LocalProtocolError("INTERNAL", f"field {field.name} is missing")
        out += (
            encode_items(field, values[field.name])
            if field.type == "list"
            else encode_scalar(field, values[field.name])
        )
    return bytes(out)


def encode_items(field: Field, entries: Any) -> bytes:
    if len(entries) > field.limit:
        raise LocalProtocolError("INTERNAL", f"{field.name} has {len(entries)} entries, {field.limit} are allowed")
    record = RECORDS[field.record]
    return varint.encode(len(entries)) + b"".join(encode_fields(record.fields, entry) for entry in entries)


def encode_scalar(field: Field, value: Any) -> bytes:
    if field.type == "varint":
        return varint.encode(value)
    if field.type in FIXED_BYTES:
        width = FIXED_BYTES[field.type]
        if not 0 <= value < 1 << 8 * width or (field.type == "time40" and value >= TIME40_LIMIT):
            raise LocalProtocolError("INTERNAL", f"{field.name} = {value} does not fit {field.type}")
        return bytes(int(value).to_bytes(width, "big"))
    raw = value.encode("utf-8") if isinstance(value, str) else bytes(value)
    if field.limit and len(raw) > field.limit:
        raise LocalProtocolError("INTERNAL", f"{field.name} has {len(raw)} bytes, {field.limit} are allowed")
    if field.type in {"bytes", "str"}:
        return varint.encode(len(raw)) + raw
    if field.type == "msgpack" and not raw:
        raise LocalProtocolError("INTERNAL", f"{field.name} needs a map, if only an empty one")
    if field.type not in {"rest", "msgpack"} and len(raw) != int(field.type.removeprefix("bytes")):
        raise LocalProtocolError("INTERNAL", f"{field.name} must have exactly the bytes of {field.type}")
    return raw
