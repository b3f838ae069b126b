"""Live streams of a session: those that we write, kept up over connections, and those of others while they run.

The server keeps no deltas for us: what is lost on the way is lost to it. So a stream that we write is kept whole until
its event is stored, a new connection says all of it again (the server skips what it has), and the SEND at the end says
how many bytes there must be. Of others we know what a snapshot and the deltas behind it said; when one is missing, to
follow again brings the next snapshot.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chatd.client.errors import ClientError, refused
from chatd.client.messages import extension
from chatd.client.model import Event, Promise, RunningStream, Streaming
from chatd.client.state import Waiting
from chatd.wire import Frame, make
from chatd.wire.frame import Extensions
from chatd.wire.schema import EXTENSION_SEND_STREAM, STREAM_BYTES_MAX, ErrorCode, Kind, Op

if TYPE_CHECKING:
    from chatd.client.session import ClientSession

DELTA_INTERVAL_S = 0.1
# The server gives up a stream of which it hears nothing for so many seconds, 30 where nothing else is configured.
SIGN_OF_LIFE_S = 10.0
DELTA_BYTES_MAX = 16_000
RUNNING_MAX = 256

Key = tuple[int, int]
"""cid, stream"""


@dataclass(slots=True, eq=False)
class OwnStream:
    """One that we write. stream: 0 until the server has answered; sent: bytes that left on this connection."""

    cid: int
    kind: int
    started: Promise["OwnStream"] = field(default_factory=Promise)
    stream: int = 0
    content: bytearray = field(default_factory=bytearray)
    sent: int = 0
    next_at: float = 0.0
    spoke_at: float = 0.0
    ending: bool = False
    error: Exception | None = None

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        if self.ending:
            raise ClientError("this stream has ended")
        if len(self.content) + len(data) > STREAM_BYTES_MAX:
            text = f"a stream has at most {STREAM_BYTES_MAX} bytes, and {len(self.content)} are written"
            raise refused(ErrorCode.TOO_LARGE, text)
        self.content += data

    def end(self) -> Extensions:
        """Nothing more is written: what the SEND says that makes the event of it."""
        self.ending, self.next_at = True, 0.0
        return (extension(EXTENSION_SEND_STREAM, stream=self.stream, flags=0, bytes=len(self.content)),)


class LiveStreams:
    """Sans-I/O: `plan` says what leaves, frames of the server come in, changes become Streaming signals."""

    def __init__(self, session: "ClientSession") -> None:
        self._session = session
        self._own: list[OwnStream] = []
        self.running: dict[Key, RunningStream] = {}

    # ------------------------------------------------------------ wishes of the application

    def start(self, cid: int, kind: Kind) -> OwnStream:
        own = OwnStream(cid, int(kind))
        self._own.append(own)
        self._ask(own)
        return own

    def forget(self, own: OwnStream) -> None:
        """Its event is stored, or nobody writes it any more."""
        if own in self._own:
            self._own.remove(own)

    def content_of(self, row: Waiting, extensions: Extensions) -> tuple[bytes, bool, int]:
        """(payload, stub, size) of a send of ours: the server took that of the stream which it ended."""
        told = Event(row.cid, 0, 0, 0, row.kind, b"", extensions=dict(extensions)).extension(EXTENSION_SEND_STREAM)
        if not told:
            return row.payload, False, len(row.payload)
        for own in self._own:
            if (own.cid, own.stream) == (row.cid, told["stream"]):
                return bytes(own.content), False, len(own.content)
        return b"", True, told["bytes"]

    # ------------------------------------------------------------ the session's side

    def on_live(self) -> None:
        for own in self._own:
            own.sent, own.next_at = 0, 0.0
            if not own.stream:
                self._ask(own)

    def on_lost(self) -> None:
        for key in list(self.running):
            self._over(key)

    def fail(self, error: Exception) -> None:
        """No answers will come any more."""
        for own in self._own:
            own.error = error
            own.started.fail(error)

    def plan(self, now: float) -> None:
        for own in self._running_own():
            while own.sent < len(own.content) and now >= own.next_at:
                self._emit(own, now)
            if now >= own.spoke_at + SIGN_OF_LIFE_S and not own.ending:
                self._emit(own, now)

    def deadline(self) -> float | None:
        due = [
            own.next_at if own.sent < len(own.content) else own.spoke_at + SIGN_OF_LIFE_S
            for own in self._running_own()
            if own.sent < len(own.content) or not own.ending
        ]
        return min(due, default=None)

    def _running_own(self) -> list[OwnStream]:
        return [own for own in self._own if own.stream and own.error is None]

    def _ask(self, own: OwnStream) -> None:
        if self._session.is_live:
            self._session.emit(make(Op.STREAM_START, cid=own.cid, stream=0, kind=own.kind))

    def _emit(self, own: OwnStream, now: float) -> None:
        """The next piece; an empty one says that we are still there."""
        data = bytes(own.content[own.sent : own.sent + DELTA_BYTES_MAX])
        self._session.emit(make(Op.STREAM_DELTA, cid=own.cid, stream=own.stream, offset=own.sent, payload=data))
        own.sent += len(data)
        own.next_at = now if own.ending else now + DELTA_INTERVAL_S
        own.spoke_at = now

    # ------------------------------------------------------------ what the server says

    def on_start(self, frame: Frame, now: float) -> None:
        for own in self._own:
            if not own.stream and (own.cid, own.kind) == (frame["cid"], frame["kind"]):
                own.stream, own.spoke_at = frame["stream"], now
                self.running.pop((own.cid, own.stream), None)
                own.started.resolve(own)
                return

    def on_error(self, op: int, ref: int, error: Exception, retryable: bool, retry_at: float) -> None:
        if op == Op.STREAM_START:
            asked = next((own for own in self._own if not own.stream and own.cid == ref), None)
            if asked is not None:
                self.forget(asked)
                asked.started.fail(error)
            return
        for own in self._own:
            if own.stream and own.stream == ref:
                own.sent, own.next_at = 0, retry_at
                own.error = None if retryable else error

    def on_snapshot(self, frame: Frame) -> None:
        key = frame["cid"], frame["stream"]
        if any((own.cid, own.stream) == key for own in self._own):
            return
        known = self.running.get(key)
        payload: bytes = frame["payload"]
        begin = len(known.content) if known is not None and payload.startswith(known.content) else 0
        if known is None and len(self.running) >= RUNNING_MAX:
            self._over(next(iter(self.running)))
        self.running[key] = RunningStream(*key, frame["sender"], frame["kind"], payload)
        self._tell(key, begin, payload[begin:])

    def on_delta(self, frame: Frame) -> None:
        key = frame["cid"], frame["stream"]
        known = self.running.get(key)
        if known is None or known.stale:
            return
        begin = len(known.content)
        if frame["offset"] > begin:
            known.stale = True
            self._session.wishes.follow_again(frame["cid"])
            return
        fresh = frame["payload"][begin - frame["offset"] :]
        if fresh:
            known.content += fresh
            self._tell(key, begin, fresh)

    def on_end(self, cid: int, stream: int) -> None:
        """STREAM_END, or the event that it became."""
        if (cid, stream) in self.running:
            self._over((cid, stream))

    def unfollowed(self, cid: int) -> None:
        """Nothing more is heard of what runs there."""
        for key in [key for key in self.running if key[0] == cid]:
            self._over(key)

    def _tell(self, key: Key, begin: int, data: bytes, over: bool = False) -> None:
        known = self.running[key]
        self._session.signals.append(Streaming(*key, known.sender, known.kind, begin, data, over))

    def _over(self, key: Key) -> None:
        self._tell(key, len(self.running[key].content), b"", over=True)
        del self.running[key]
