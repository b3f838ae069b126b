"""One frame: made by name, encoded, decoded.

A frame is four bytes of header (length u16, op, flags) and a body whose layout the op alone decides: a decoder never
tries two. Unknown ops keep their body as bytes; whether they are skipped or refused is for the session to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatd.wire import varint
from chatd.wire.errors import LocalProtocolError, WireError
from chatd.wire.layout import Reader, Trace, Value, decode_fields, encode_fields
from chatd.wire.schema import BODY_BYTES_MAX, EXTENSION_BYTES_MAX, EXTENSIONS, FLAG_EXT, HEADER_BYTES, OPS, Op, OpRule
from chatd.wire.schema import OP_MUST_UNDERSTAND as MUST_UNDERSTAND

Extensions = tuple[tuple[int, bytes], ...]
UNKNOWN_BODY: Final = "body"


@dataclass(frozen=True, slots=True)
class Frame:
    """op, flags as on the wire, fields by name, extensions as (tag, bytes) in order. `frame["cid"]` reads a field.

    flags: the EXT bit is set exactly when there are extensions; `make` and `encode` see to it.
    An op that the schema does not know has one field, "body".
    """

    op: int
    flags: int = 0
    fields: Mapping[str, Value] = field(default_factory=dict)
    extensions: Extensions = ()

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def name(self) -> str:
        return Op(self.op).name if self.known else f"0x{self.op:02X}"

    @property
    def known(self) -> bool:
        return self.op in OPS

    @property
    def must_be_understood(self) -> bool:
        return bool(self.op & MUST_UNDERSTAND)

    @property
    def unknown_extension(self) -> int:
        """The first odd tag this version does not know: the frame must be refused. 0: there is none."""
        return next((tag for tag, _ in self.extensions if tag & 1 and (self.op, tag) not in EXTENSIONS), 0)

    def extension(self, tag: int) -> dict[str, Value] | None:
        """The fields of a known extension, None when it is absent. WireError when its content breaks its layout."""
        content = dict(self.extensions).get(tag)
        return None if content is None else decode_fields(EXTENSIONS[self.op, tag], content)

    @property
    def malformed_extension(self) -> int:
        """The first known tag whose content breaks its layout: a server answers BAD_REQUEST. 0: there is none."""
        for tag, _ in self.extensions:
            if (self.op, tag) in EXTENSIONS:
                try:
                    self.extension(tag)
                except WireError:
                    return tag
        return 0


def make(op: Op, /, *, flags: int = 0, extensions: Extensions = (), **fields: Any) -> Frame:
    """A frame by field names: make(Op.ACK, count=3). ERROR's field op is given as **{"op": ...}."""
    return Frame(op, flags | (FLAG_EXT if extensions else 0), fields, extensions)


def encode(frame: Frame) -> bytes:
    """Header and body. LocalProtocolError names a field that is missing, superfluous or does not fit."""
    if not frame.known:
        raise LocalProtocolError("INTERNAL", f"there is no op 0x{frame.op:02X}")
    rule = OPS[frame.op]
    layout = rule.layout
    surplus = set(frame.fields) - {entry.name for entry in layout.fields}
    if surplus:
        raise LocalProtocolError("INTERNAL", f"{layout.name} has no field {', '.join(sorted(surplus))}")
    flags = frame.flags | (FLAG_EXT if frame.extensions else 0)
    if flags & ~rule.flags_mask or bool(flags & FLAG_EXT) != bool(frame.extensions):
        raise LocalProtocolError("INTERNAL", f"flags 0x{flags:02X} do not belong to this {layout.name}")
    split = len(layout.fields) if layout.ext is None else layout.ext
    body = encode_fields(layout.fields[:split], frame.fields)
    body += encode_extensions(frame.extensions)
    body += encode_fields(layout.fields[split:], frame.fields)
    if len(body) > BODY_BYTES_MAX:
        raise LocalProtocolError("INTERNAL", f"{layout.name} of {len(body)} bytes, {BODY_BYTES_MAX} are allowed")
    return len(body).to_bytes(2, "big") + bytes((frame.op, flags)) + body


def decode(op: int, flags: int, body: bytes, trace: Trace | None = None) -> Frame:
    """The frame of a header and its body. WireError when a clause is broken."""
    rule = OPS.get(op)
    if rule is None:
        return Frame(op, flags, {UNKNOWN_BODY: body})
    check_header(rule, flags, len(body))
    layout = rule.layout
    reader = Reader(body, trace=trace)
    split = len(layout.fields) if layout.ext is None else layout.ext
    fields = reader.fields(layout.fields[:split])
    extensions = decode_extensions(op, reader) if flags & FLAG_EXT else ()
    fields |= reader.fields(layout.fields[split:])
    reader.finish()
    return Frame(op, flags, fields, extensions)


def decode_one(data: bytes) -> Frame:
    """A whole frame and nothing behind it, header included."""
    if len(data) < HEADER_BYTES or len(data) != HEADER_BYTES + int.from_bytes(data[:2], "big"):
        raise WireError("frame.short", len(data), "not exactly one frame")
    return decode(data[2], data[3], data[HEADER_BYTES:])


def check_header(rule: OpRule, flags: int, body_bytes: int) -> None:
    """What can be said of a known op before its body is read."""
    if flags & ~rule.flags_mask:
        raise WireError("frame.flags", 0, f"{rule.layout.name} has no flags 0x{flags & ~rule.flags_mask:02X}")
    if body_bytes == 0 and not rule.empty:
        raise WireError("frame.empty", 0, f"{rule.layout.name} without a body")


def encode_extensions(extensions: Extensions) -> bytes:
    if not extensions:
        return b""
    tags = [tag for tag, _ in extensions]
    if tags != sorted(set(tags)) or tags[0] < 1:
        raise LocalProtocolError("INTERNAL", f"extension tags {tags} must ascend from 1")
    block = b"".join(varint.encode(tag) + varint.encode(len(value)) + value for tag, value in extensions)
    if len(block) > EXTENSION_BYTES_MAX:
        raise LocalProtocolError("INTERNAL", f"extensions of {len(block)} bytes, {EXTENSION_BYTES_MAX} are allowed")
    return varint.encode(len(block)) + block


def decode_extensions(op: int, reader: Reader) -> Extensions:
    """The block at the reader's position. What an extension holds is for `Frame.extension` to check."""
    start = reader.offset
    length = reader.varint()
    if not 1 <= length <= EXTENSION_BYTES_MAX:
        raise WireError("ext.block", start, f"an extension block of {length} bytes")
    if length > reader.end - reader.offset:
        raise WireError("ext.block", start, "the extension block is longer than the body")
    if reader.trace:
        reader.trace("ext", "bytes of the block", start, reader.offset, length)
    block = Reader(reader.data, reader.offset, reader.offset + length, reader.trace)
    extensions: list[tuple[int, bytes]] = []
    while block.offset < block.end:
        extensions.append(decode_extension(op, block, extensions[-1][0] if extensions else 0))
    reader.offset = block.end
    return tuple(extensions)


def decode_extension(op: int, block: Reader, previous: int) -> tuple[int, bytes]:
    start = block.offset
    tag = block.varint()
    if tag <= previous:
        raise WireError("ext.order", start, f"extension {tag} behind {previous}: tags ascend from 1")
    value_bytes = block.varint()
    inner = block.offset
    value = block.take(value_bytes, f"extension {tag}")
    if block.trace:
        trace_extension(op, tag, inner, block)
    return tag, value


def trace_extension(op: int, tag: int, start: int, block: Reader) -> None:
    """Tell the trace of the content between start and the block's position, by field where the extension is known."""
    assert block.trace
    layout = EXTENSIONS.get((op, tag))
    try:
        if layout is not None:
            known = Reader(block.data, start, block.offset, block.trace)
            known.fields(layout.fields, f"ext.{layout.name}.")
            known.finish()
            return
    except WireError:
        pass
    block.trace(f"ext.{tag}", "bytes", start, block.offset, block.data[start : block.offset])
