"""The frames that the hub's Python side reads and writes: calls, their answers, pages of SYNC and PULL.

Events on their way out never pass here but for PULL below the tail. Everything received is a peer's: decoding raises
CallError and never trusts a length.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

from chatd.storage.interface import EventRow
from chatd.storage.journal_codec import EVENT_EXT, EVENT_TOMBSTONE
from chatd.wire import time40
from chatd.wire.errors import WireError
from chatd.wire.frame import decode
from chatd.wire.schema import (
    CURSOR_BYTES_MAX,
    EXTENSION_BYTES_MAX,
    EXTENSION_PULL_AROUND,
    EXTENSION_PULL_BYTE_RANGE,
    EXTENSION_PULL_FOLDED,
    EXTENSION_PULL_FROM_TIME,
    EXTENSION_PULL_RANGES,
    EXTENSION_SEND_EXPIRES,
    FLAG_DELIVER_HISTORY,
    FLAG_DELIVER_STUB,
    FLAG_DELIVER_TOMBSTONE,
    FLAG_ERROR_RETRYABLE,
    FLAG_EXT,
    FLAG_REPLY_RETRYABLE,
    FLAG_SYNC_PAGE_MORE,
    HEADER_BYTES,
    RETRYABLE,
    ErrorCode,
    Op,
)
from chatd.wire.varint import encode as varint

ERROR_TEXT_BYTES_MAX = 96
PULL_RANGES_MAX = 200
PARAMS_DEPTH_NOTE = "params must be one MessagePack map with integer keys, at most four levels deep"
PARAMS_DEPTH_MAX = 4


class CallError(Exception):
    """A call is refused: code is an error code of the schema, text says what happened and what to do."""

    def __init__(self, code: ErrorCode, text: str, retry_after_ms: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retry_after_ms = retry_after_ms


class SyncCall(NamedTuple):
    cursor: bytes
    limit: int


class PullCall(NamedTuple):
    cid: int
    from_seq: int
    to_seq: int
    limit: int
    byte_range: tuple[int, int] | None = None
    """offset, length of the payload of event from_seq"""
    before: int = 0
    """begin so many readable events before from_seq"""
    from_ms: int | None = None
    """Unix milliseconds: begin at the first event of this time or later, instead of from_seq"""
    ranges: tuple[tuple[int, int, int], ...] = ()
    """cid, from_seq, to_seq of many conversations"""
    folded: int | None = None
    """flags: messages as they are now"""


class RequestCall(NamedTuple):
    id: int
    method: int
    params: dict[int, Any]


class SyncEntry(NamedTuple):
    cid: int
    kind: int
    state: int
    head_seq: int
    floor_seq: int
    message_count: int
    read_seq: int
    read_count: int
    last_sender: int
    last_ts_ms: int
    last_kind: int
    last_preview: bytes


# ---------------------------------------------------------------- reading


class _Body:
    """A checked walk over the body of one frame."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def varint(self) -> int:
        value = shift = 0
        for at in range(self._at, min(self._at + 9, len(self._body))):
            byte = self._body[at]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if byte == 0 and shift > 7:
                    break
                self._at = at + 1
                return value
        raise CallError(ErrorCode.BAD_REQUEST, f"no canonical varint at byte {self._at} of the frame")

    def take(self, length: int) -> bytes:
        if length > len(self._body) - self._at:
            raise CallError(ErrorCode.BAD_REQUEST, f"{length} bytes announced, {len(self._body) - self._at} are there")
        self._at += length
        return self._body[self._at - length : self._at]

    def time_ms(self) -> int:
        return time40.to_unix_ms(int.from_bytes(self.take(time40.TIME40_BYTES), "big"))

    def ranges(self) -> tuple[tuple[int, int, int], ...]:
        count = self.varint()
        if not 0 < count <= PULL_RANGES_MAX:
            raise CallError(ErrorCode.BAD_REQUEST, f"1 to {PULL_RANGES_MAX} ranges")
        return tuple((self.varint(), self.varint(), self.varint()) for _ in range(count))

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)

    def end(self) -> None:
        if self._at != len(self._body):
            raise CallError(ErrorCode.BAD_REQUEST, f"{len(self._body) - self._at} bytes too many in the frame")


def decoded(op: int, flags: int, body: bytes) -> dict[str, Any]:
    """The fields of a frame with a fixed layout. BAD_REQUEST when it has another one."""
    try:
        return dict(decode(op, flags, body).fields)
    except WireError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"malformed: {error}") from None


def decode_sync(body: bytes) -> SyncCall:
    reader = _Body(body)
    cursor = reader.take(reader.varint())
    call = SyncCall(cursor, reader.varint())
    reader.end()
    if len(cursor) > CURSOR_BYTES_MAX:
        raise CallError(ErrorCode.BAD_REQUEST, f"a cursor has at most {CURSOR_BYTES_MAX} bytes")
    return call


def decode_pull(body: bytes, flags: int) -> PullCall:
    reader = _Body(body)
    cid, from_seq, to_seq, limit = reader.varint(), reader.varint(), reader.varint(), reader.varint()
    extensions = _decode_pull_extensions(reader) if flags & FLAG_EXT else {}
    reader.end()
    return PullCall(cid, from_seq, to_seq, limit, **extensions)


_PULL_EXTENSIONS: dict[int, tuple[str, Callable[[_Body], Any]]] = {
    EXTENSION_PULL_BYTE_RANGE: ("byte_range", lambda content: (content.varint(), content.varint())),
    EXTENSION_PULL_AROUND: ("before", _Body.varint),
    EXTENSION_PULL_FROM_TIME: ("from_ms", _Body.time_ms),
    EXTENSION_PULL_RANGES: ("ranges", _Body.ranges),
    EXTENSION_PULL_FOLDED: ("folded", _Body.varint),
}


def _decode_pull_extensions(reader: _Body) -> dict[str, Any]:
    length = reader.varint()
    if length > EXTENSION_BYTES_MAX:
        raise CallError(ErrorCode.BAD_REQUEST, f"an extension block has at most {EXTENSION_BYTES_MAX} bytes")
    block = _Body(reader.take(length))
    found: dict[str, Any] = {}
    while block._at < length:
        tag = block.varint()
        content = _Body(block.take(block.varint()))
        if tag in _PULL_EXTENSIONS:
            name, decode = _PULL_EXTENSIONS[tag]
            found[name] = decode(content)
            content.end()
        elif tag & 1:
            raise CallError(ErrorCode.UNSUPPORTED, f"extension {tag} of PULL is unknown here; leave it out")
    return found


def first_varint(body: bytes) -> int:
    """What an error refers to: the id of a REQUEST, the cid of the others, however broken the rest is."""
    return _Body(body).varint()


def decode_request(body: bytes) -> RequestCall:
    reader = _Body(body)
    request, method = reader.varint(), reader.varint()
    packed = reader.rest()
    try:
        params = msgpack.unpackb(packed, strict_map_key=False, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise CallError(ErrorCode.BAD_REQUEST, PARAMS_DEPTH_NOTE) from error
    if not isinstance(params, dict) or not all(type(key) is int for key in params) or _depth(params) > PARAMS_DEPTH_MAX:
        raise CallError(ErrorCode.BAD_REQUEST, PARAMS_DEPTH_NOTE)
    return RequestCall(request, method, params)


def _depth(value: Any, level: int = 0) -> int:
    if level > PARAMS_DEPTH_MAX or not isinstance(value, dict | list):
        return level
    children = value.values() if isinstance(value, dict) else value
    return max((_depth(child, level + 1) for child in children), default=level + 1)


def parse_events(frames: bytes) -> list[EventRow]:
    """The events of the tail's DELIVER frames, stubs left out. Their flags are EVENT_EXT and EVENT_TOMBSTONE."""
    found = []
    at = 0
    while at < len(frames):
        length = int.from_bytes(frames[at : at + 2], "big")
        flags = frames[at + 3]
        body = _Body(frames[at + HEADER_BYTES : at + HEADER_BYTES + length])
        at += HEADER_BYTES + length
        cid, seq, sender = body.varint(), body.varint(), body.varint()
        ts_ms = time40.to_unix_ms(int.from_bytes(body.take(time40.TIME40_BYTES), "big"))
        kind = body.varint()
        stored = (flags & FLAG_EXT and EVENT_EXT) | (flags & FLAG_DELIVER_TOMBSTONE and EVENT_TOMBSTONE)
        if not flags & FLAG_DELIVER_STUB:
            found.append(EventRow(cid, seq, ts_ms, sender, kind, body.rest(), stored))
    return found


# ---------------------------------------------------------------- writing


def cut_text(text: str, bytes_max: int) -> bytes:
    """UTF-8, cut at a character."""
    return text.encode()[:bytes_max].decode(errors="ignore").encode()


def text_of(text: str, bytes_max: int) -> bytes:
    """A varint length and UTF-8, cut at a character."""
    cut = cut_text(text, bytes_max)
    return varint(len(cut)) + cut


def frame(op: int, flags: int, body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + bytes((op, flags)) + body


def error(op: int, ref: int, refusal: CallError) -> bytes:
    flags = FLAG_ERROR_RETRYABLE if refusal.code in RETRYABLE else 0
    body = refusal.code.to_bytes(2, "big") + bytes((op,)) + varint(ref) + varint(refusal.retry_after_ms)
    return frame(Op.ERROR, flags, body + text_of(refusal.text, ERROR_TEXT_BYTES_MAX))


def reply(request: int, result: dict[int, Any]) -> bytes:
    packed: bytes = msgpack.packb(result)
    return frame_or_raise(Op.REPLY, 0, varint(request) + b"\0\0\0" + packed)


def reply_error(request: int, refusal: CallError) -> bytes:
    flags = FLAG_REPLY_RETRYABLE if refusal.code in RETRYABLE else 0
    head = varint(request) + refusal.code.to_bytes(2, "big") + varint(refusal.retry_after_ms)
    return frame(Op.REPLY, flags, head + msgpack.packb({1: refusal.text}))


def notice(topic: int, content: dict[int, Any]) -> bytes:
    return frame_or_raise(Op.NOTICE, 0, varint(topic) + msgpack.packb(content))


def frame_or_raise(op: int, flags: int, body: bytes) -> bytes:
    if len(body) > 0xFFFF:
        raise CallError(ErrorCode.TOO_LARGE, f"the answer has {len(body)} bytes, a frame takes 65535; ask for less")
    return frame(op, flags, body)


def payload_of(row: EventRow) -> bytes:
    """What the row stores behind its extension block; b"" of a tombstone."""
    if row.flags & EVENT_TOMBSTONE:
        return b""
    if not row.flags & EVENT_EXT:
        return row.body
    body = _Body(row.body)
    body.take(body.varint())
    return body.rest()


def extensions_of(row: EventRow) -> dict[int, bytes]:
    """The entries of its extension block by tag; none of a tombstone."""
    found: dict[int, bytes] = {}
    if row.flags & EVENT_EXT and not row.flags & EVENT_TOMBSTONE:
        body = _Body(row.body)
        length = body.varint()
        block = _Body(body.take(length))
        while block._at < length:
            tag = block.varint()
            found[tag] = block.take(block.varint())
    return found


def expires_ms(row: EventRow) -> int:
    """From when on nothing of it may be shown, Unix time; 0: never."""
    seconds = extensions_of(row).get(EXTENSION_SEND_EXPIRES)
    return 0 if seconds is None else row.ts_ms + 1000 * _Body(seconds).varint()


def deliver_history(row: EventRow, frame_bytes_max: int) -> bytes:
    """DELIVER flagged HISTORY; a stub where the event is over what this client can receive."""
    flags, content = FLAG_DELIVER_HISTORY, row.body
    if row.flags & EVENT_TOMBSTONE:
        flags, content = flags | FLAG_DELIVER_TOMBSTONE, b""
    elif row.flags & EVENT_EXT:
        flags |= FLAG_EXT
    head = varint(row.cid) + varint(row.seq) + varint(row.sender) + time40.encode(row.ts_ms) + varint(row.kind)
    if len(head) + len(content) > frame_bytes_max:
        stub = FLAG_DELIVER_HISTORY | FLAG_DELIVER_STUB
        return frame(Op.DELIVER, stub, head + varint(len(payload_of(row))))
    return frame(Op.DELIVER, flags, head + content)


def extension_block(entries: Mapping[int, bytes]) -> bytes:
    """Without the length that stands before it."""
    return b"".join(varint(tag) + varint(len(content)) + content for tag, content in sorted(entries.items()))


def pull_end(
    cid: int, next_seq: int, head_seq: int, floor_seq: int, extensions: Mapping[int, bytes] = MappingProxyType({})
) -> bytes:
    body = varint(cid) + varint(next_seq) + varint(head_seq) + varint(floor_seq)
    if not extensions:
        return frame(Op.PULL_END, 0, body)
    block = extension_block(extensions)
    return frame(Op.PULL_END, FLAG_EXT, body + varint(len(block)) + block)


def chunks(
    cid: int, seq: int, payload: bytes, offset: int, length: int, frame_bytes_max: int, count_max: int
) -> tuple[bytes, int]:
    """CHUNK frames of payload[offset:offset+length], at most count_max of them, and the offset they reach."""
    out: list[bytes] = []
    end = min(len(payload), offset + length)
    while offset < end and len(out) < count_max:
        head = varint(cid) + varint(seq) + varint(offset) + varint(len(payload))
        data = payload[offset : min(end, offset + frame_bytes_max - len(head))]
        out.append(frame(Op.CHUNK, 0, head + data))
        offset += len(data)
    if not out:
        head = varint(cid) + varint(seq) + varint(min(offset, len(payload))) + varint(len(payload))
        out.append(frame(Op.CHUNK, 0, head))
    return b"".join(out), offset


def sync_entry(entry: SyncEntry) -> bytes:
    numbers = (entry.head_seq, entry.floor_seq, entry.message_count, entry.read_seq, entry.read_count)
    return b"".join(
        (
            varint(entry.cid),
            bytes((entry.kind, entry.state)),
            *map(varint, numbers),
            varint(entry.last_sender),
            time40.encode(entry.last_ts_ms),
            varint(entry.last_kind),
            varint(len(entry.last_preview)),
            entry.last_preview,
        )
    )


def sync_page(cursor: bytes, entries: Iterable[bytes], more: bool) -> bytes:
    encoded = list(entries)
    body = varint(len(cursor)) + cursor + varint(len(encoded)) + b"".join(encoded)
    return frame(Op.SYNC_PAGE, FLAG_SYNC_PAGE_MORE if more else 0, body)
