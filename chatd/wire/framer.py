"""Bytes in, frames out: the reference for every implementation's framing.

TCP cuts wherever it likes, so the same bytes must give the same frames, and the same error at the same place, however
they were cut. Therefore an error that stands behind good frames waits until those have been handed out.
"""

from chatd.wire.errors import LocalProtocolError, PeerProtocolError, WireError
from chatd.wire.frame import Frame, decode
from chatd.wire.schema import BODY_BYTES_MAX, HEADER_BYTES

FRAMES_PER_FEED_MAX = 64


class Framer:
    """One direction of one connection.

    body_bytes_max may be changed at any time (it is smaller before login) and binds the frames that follow.
    """

    def __init__(self, body_bytes_max: int = BODY_BYTES_MAX, frames_per_feed_max: int = FRAMES_PER_FEED_MAX) -> None:
        self.body_bytes_max = body_bytes_max
        self.frames_per_feed_max = frames_per_feed_max
        self.frame_count = 0
        self._buffer = b""
        self._offset = 0
        self._failure: PeerProtocolError | None = None
        self._waiting = False

    @property
    def partial_bytes(self) -> int:
        """Bytes held that are not part of a frame that was returned."""
        return len(self._buffer) - self._offset

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take received bytes and return the frames they complete, in order.

        data: any number of bytes, cut anywhere. At most frames_per_feed_max frames come back; the rest waits for
        feed(b""), and feeding more while it waits is a LocalProtocolError:
            while frames := framer.feed(data):
                ...
                data = b""
        Raises WireError (a PeerProtocolError; its .reason is a close reason of the schema) when the next frame breaks a
        clause; the framer is dead afterwards and raises the same again.
        Memory: what was fed last and one partial frame.
        Source: protocol/README.md, section Frame.
        """
        if data:
            if self._waiting:
                raise LocalProtocolError("INTERNAL", "frames are waiting: feed b'' until the answer is empty")
            self._buffer = self._buffer[self._offset :] + bytes(data)
            self._offset = 0
        frames: list[Frame] = []
        while self._failure is None and len(frames) < self.frames_per_feed_max:
            try:
                frame = self._next()
            except WireError as error:
                self._failure = error
                break
            if frame is None:
                break
            frames.append(frame)
        self._waiting = bool(frames) and (self._failure is not None or len(frames) == self.frames_per_feed_max)
        if self._failure is not None and not frames:
            raise self._failure
        self.frame_count += len(frames)
        return frames

    def _next(self) -> Frame | None:
        start = self._offset
        if len(self._buffer) - start < HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[start : start + 2], "big")
        if length > self.body_bytes_max:
            raise WireError("frame.size", 0, f"a body of {length} bytes, {self.body_bytes_max} are allowed now")
        if len(self._buffer) - start - HEADER_BYTES < length:
            return None
        body = self._buffer[start + HEADER_BYTES : start + HEADER_BYTES + length]
        self._offset = start + HEADER_BYTES + length
        return decode(self._buffer[start + 2], self._buffer[start + 3], body)
