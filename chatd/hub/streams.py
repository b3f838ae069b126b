# Live streams: an event that is shown while it is being written. The hub has their state because it has order and
# membership; deltas are few (ten a second) and take the way of calls. Followers are those of the topic STREAMS: the
# core fans a frame out to them, takes it back from who is removed, and says who has begun to follow, who then gets
# everything so far.
#
# What must not be lost is the event at the end. A stream has a row from its first moment on, with what has been written
# as of the last look, and a row is due CHECK_S later: then it is written anew while the stream goes on, or the event is
# made of it when nothing has come for stream_idle_s. So one timer is checkpoint, idle limit and recovery: the row of a
# hub that has died becomes an event under the next one, because nobody there knows the stream.
"""The running live streams of all conversations."""

import codecs
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from chatd.hub import frames, reads
from chatd.hub.frames import CallError
from chatd.storage.journal_codec import EVENT_EXT, EVENT_MESSAGE
from chatd.storage.people_rows import StreamRow
from chatd.wire.frame import encode, encode_extensions, make
from chatd.wire.layout import encode_fields
from chatd.wire.schema import (
    EXTENSION_DELIVER_STREAM,
    EXTENSIONS,
    HEADER_BYTES,
    KINDS,
    STREAM_BYTES_MAX,
    ErrorCode,
    Kind,
    Op,
    Right,
    Topic,
)

if TYPE_CHECKING:
    from chatd.hub.calls import Call
    from chatd.hub.loop import Hub

PER_DEVICE_MAX = 4
PER_CONVERSATION_MAX = 16
STREAMS_MAX = 1000
BYTES_MAX = 16 << 20
"""Of all streams together."""
DELTAS_PER_S = 10
DELTAS_BURST = 20
CHECK_S = 2.0
"""What a hub that dies may cost: what was written in the last so many seconds."""
MUTED_FOR_EVER = 0xFFFFFFFF
KINDS_STREAMED = (Kind.TEXT, Kind.MARKDOWN, Kind.CUSTOM)
TRUNCATED = 1
"""Flag of the extension STREAM."""

Key = tuple[int, int]
"""cid, stream"""


@dataclass(slots=True)
class Stream:
    """One that runs. shard, handle: of the session that began it. ending: its event is staged, nothing comes after."""

    row: StreamRow
    active_s: float
    shard: int
    handle: int
    content: bytearray = field(default_factory=bytearray)
    pending: bytes = b""
    """The bytes at the end that are not a whole character yet."""
    deltas_left: float = DELTAS_BURST
    ending: bool = False

    @property
    def key(self) -> Key:
        return self.row.cid, self.row.stream

    def charge(self, now_s: float) -> None:
        """Take one delta from the bucket. Called before active_s moves on."""
        self.deltas_left = min(DELTAS_BURST, self.deltas_left + (now_s - self.active_s) * DELTAS_PER_S)
        self.active_s = now_s
        if self.deltas_left < 1:
            wait_ms = int((1 - self.deltas_left) / DELTAS_PER_S * 1000) + 1
            raise CallError(ErrorCode.RATE_LIMITED, f"a stream takes {DELTAS_PER_S} deltas a second", wait_ms)
        self.deltas_left -= 1

    def fresh(self, offset: int, payload: bytes) -> bytes:
        """What of a delta is new: repeats are nothing, gaps and other bytes are refused."""
        known = bytes(self.content[offset : offset + len(payload)])
        if offset > len(self.content) or not payload.startswith(known):
            text = f"offset {offset} does not go on from the {len(self.content)} bytes that are there"
            raise CallError(ErrorCode.BAD_REQUEST, text)
        return payload[len(known) :]

    def append(self, fresh: bytes) -> None:
        """BAD_REQUEST: it cannot be text, and nothing changed."""
        if self.row.kind in (Kind.TEXT, Kind.MARKDOWN):
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                decoder.decode(self.pending + fresh)
            except UnicodeDecodeError:
                raise CallError(ErrorCode.BAD_REQUEST, "this is not UTF-8") from None
            self.pending = decoder.getstate()[0]
        self.content += fresh


def refused_as_unknown() -> NoReturn:
    text = "no such stream of this device is running; if it was, it has ended as truncated"
    raise CallError(ErrorCode.NOT_FOUND, text)


class Streams:
    """One per hub, and one of the committer's overlays: a stream begins and ends with the batch that says so."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._live: dict[Key, Stream] = {}
        self._beginning: list[Stream] = []
        self._ending: list[Stream] = []
        self._bytes = 0

    # ------------------------------------------------------------ as an overlay

    def check_room(self) -> None:
        """Nothing here grows with what is staged."""

    def committed(self) -> None:
        for stream in self._beginning:
            self._live[stream.key] = stream
            self._hub.core.streaming(stream.row.cid, True)
            self._tell(stream, self._snapshot(stream), stream.shard, stream.handle)
        for stream in self._ending:
            self._forget(stream)
        self._beginning, self._ending = [], []

    def rejected(self) -> None:
        for stream in self._ending:
            stream.ending = False
        self._beginning, self._ending = [], []

    # ------------------------------------------------------------ begin

    async def start(self, call: "Call") -> bytes:
        """The answer to STREAM_START."""
        asked = frames.decoded(call.op, call.flags, call.body)
        cid, kind = asked["cid"], asked["kind"]
        if asked["stream"]:
            raise CallError(ErrorCode.BAD_REQUEST, "the server chooses the stream's id: ask with 0")
        if kind not in KINDS_STREAMED:
            raise CallError(ErrorCode.UNSUPPORTED, f"kind {kind} cannot be streamed")
        row: StreamRow = await self._hub.change(lambda: self._begin(call, cid, kind))
        return encode(make(Op.STREAM_START, cid=cid, stream=row.stream, kind=kind))

    def _begin(self, call: "Call", cid: int, kind: int) -> StreamRow:
        """In a turn."""
        hub = self._hub
        self._check_writer(cid, call.user)
        conversation = hub.rows.find("conversation", cid)
        exempt = (hub.core.rights(cid, call.user) or 0) & Right.NO_SLOW_MODE
        if conversation is not None and conversation.slow_mode_s and not exempt:
            raise CallError(ErrorCode.FORBIDDEN, "this conversation is in slow mode: who is held by it cannot stream")
        running = [*self._live.values(), *self._beginning]
        if sum(stream.row.device == call.device for stream in running) >= PER_DEVICE_MAX:
            raise CallError(ErrorCode.LIMIT_REACHED, f"a device has at most {PER_DEVICE_MAX} streams; end one")
        if sum(stream.row.cid == cid for stream in running) >= PER_CONVERSATION_MAX:
            raise CallError(ErrorCode.LIMIT_REACHED, f"{PER_CONVERSATION_MAX} streams run here, which is the limit")
        if len(running) >= STREAMS_MAX:
            raise CallError(ErrorCode.BUSY, "too many streams run at the moment; try again later", 5000)
        row = StreamRow(cid, secrets.randbits(32) + 1, call.user, call.device, kind, 0, b"")
        row = self._keep(row, min(CHECK_S, hub.settings.stream_idle_s))
        self._beginning.append(Stream(row, hub.clock.monotonic_s(), call.shard, call.handle))
        return row

    def _check_writer(self, cid: int, user: int) -> None:
        """CallError, or Missing. As the core says of a SEND."""
        if not reads.is_member(reads.intervals(self._hub.core, cid, user)):
            raise reads.not_found()
        if not reads.may_write(self._hub, cid, user):
            until_s = self._hub.core.muted_until_s(cid, user)
            muted = self._hub.clock.wall_ms() < until_s * 1000 and until_s != MUTED_FOR_EVER
            raise CallError(ErrorCode.MUTED if muted else ErrorCode.FORBIDDEN, "you may not write there now")

    def _keep(self, row: StreamRow, after_s: float) -> StreamRow:
        """Stage the row, due after so long."""
        row = row._replace(due_ms=self._hub.clock.wall_ms() + int(after_s * 1000))
        self._hub.rows.stage("live_stream", row)
        self._hub.timers.expect("live_stream", row.due_ms)
        return row

    # ------------------------------------------------------------ while it runs

    def on_delta(self, call: "Call") -> None:
        """STREAM_DELTA: passed on, or refused with ERROR."""
        number = 0
        try:
            delta = frames.decoded(call.op, call.flags, call.body)
            number = delta["stream"]
            self._take(call, self.of(delta["cid"], number, call.device), delta["offset"], delta["payload"])
        except CallError as refusal:
            self._hub.core.frames(call.shard, call.handle, frames.error(call.op, number, refusal), False)

    def of(self, cid: int, number: int, device: int) -> Stream:
        """A running stream of that device. NOT_FOUND."""
        stream = self._live.get((cid, number))
        if stream is None or stream.ending or stream.row.device != device:
            refused_as_unknown()
        return stream

    def _take(self, call: "Call", stream: Stream, offset: int, payload: bytes) -> None:
        cid, user = stream.row.cid, stream.row.uid
        self._check_writer(cid, user)
        stream.charge(self._hub.clock.monotonic_s())
        fresh = stream.fresh(offset, payload)
        if not fresh:
            return
        begin = len(stream.content)
        if begin + len(fresh) > STREAM_BYTES_MAX:
            self._cut(stream)
            text = f"a stream has at most {STREAM_BYTES_MAX} bytes; it has ended as truncated"
            raise CallError(ErrorCode.TOO_LARGE, text)
        if self._bytes + len(fresh) > BYTES_MAX:
            raise CallError(ErrorCode.BUSY, "the streams that run have too many bytes; try again later", 1000)
        stream.append(fresh)
        self._bytes += len(fresh)
        frame = encode(make(Op.STREAM_DELTA, cid=cid, stream=stream.row.stream, offset=begin, payload=fresh))
        self._tell(stream, frame, call.shard, call.handle)

    def on_followed(self, shard: int, handle: int, cid: int, frame_bytes_max: int) -> None:
        """A session has begun to follow: it gets what there is, if it can take so much at once."""
        for stream in self._live.values():
            frame = self._snapshot(stream) if stream.row.cid == cid else b""
            if frame and len(frame) - HEADER_BYTES <= frame_bytes_max:
                self._hub.core.frames(shard, handle, frame, False)

    def _snapshot(self, stream: Stream) -> bytes:
        cid, number, user, _, kind, *_ = stream.row
        payload = bytes(stream.content)
        return encode(make(Op.STREAM_SNAPSHOT, cid=cid, stream=number, sender=user, kind=kind, payload=payload))

    def _tell(self, stream: Stream, frame: bytes, but_shard: int, but_handle: int) -> None:
        self._hub.core.to_followers(stream.row.cid, Topic.STREAMS, frame, but_shard, but_handle)

    # ------------------------------------------------------------ end

    def finish(self, stream: Stream) -> None:
        """In the turn that stages its event."""
        self._hub.rows.remove("live_stream", stream.row)
        stream.ending = True
        self._ending.append(stream)

    def look_at(self, row: StreamRow) -> None:
        """In a turn, when the row is due."""
        if self._hub.rows.find("live_stream", (row.cid, row.stream)) is None:
            return
        stream = self._live.get((row.cid, row.stream))
        if stream is None:
            self._truncate(row)
            self._hub.rows.remove("live_stream", row)
            return
        left_s = stream.active_s + self._hub.settings.stream_idle_s - self._hub.clock.monotonic_s()
        row = row._replace(content=bytes(stream.content))
        if left_s > 0:
            stream.row = self._keep(row, min(CHECK_S, left_s))
        elif not stream.ending:
            self._truncate(row)
            self.finish(stream)

    def _truncate(self, row: StreamRow) -> None:
        """Stage the event of a stream that its sender has not ended: nothing was written, or may not be: none."""
        content = row.content
        if row.kind in (Kind.TEXT, Kind.MARKDOWN):
            content = content.decode(errors="ignore").encode()
        try:
            self._check_writer(row.cid, row.uid)
        except CallError:
            return
        if content:
            content = encode_extensions(((EXTENSION_DELIVER_STREAM, told(row, TRUNCATED, content)),)) + content
            flags = EVENT_EXT | (EVENT_MESSAGE if KINDS[row.kind].message else 0)
            self._hub.core.stage_event(row.cid, row.uid, row.kind, content, flags)

    def _cut(self, stream: Stream) -> None:
        """End it as truncated, in a turn of its own. What is in the way of that leaves it to the timer."""

        def apply() -> None:
            if self._live.get(stream.key) is stream and not stream.ending:
                self._truncate(stream.row._replace(content=bytes(stream.content)))
                self.finish(stream)

        self._hub.committer.submit(apply, lambda error: None)

    def _forget(self, stream: Stream) -> None:
        cid = stream.row.cid
        if self._live.pop(stream.key, None) is None:
            return
        self._bytes -= len(stream.content)
        self._tell(stream, encode(make(Op.STREAM_END, cid=cid, stream=stream.row.stream, cseq=0)), 0, 0)
        if not any(other.row.cid == cid for other in self._live.values()):
            self._hub.core.streaming(cid, False)


def told(row: StreamRow, flags: int, content: bytes) -> bytes:
    """The extension STREAM of an event."""
    fields = {"stream": row.stream, "flags": flags, "bytes": len(content)}
    return encode_fields(EXTENSIONS[Op.DELIVER, EXTENSION_DELIVER_STREAM].fields, fields)
