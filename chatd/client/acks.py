"""When to acknowledge DELIVERs: every 32 frames, 200 ms or half a window, never twice within 20 ms.

An ACK frees the server's window for this connection and drives delivered receipts, so it must count only what the
application has room for: a DELIVER that still waits in the application's queue is received, but not yet released.
Back-pressure is nothing more than that: who stops taking events stops releasing, and the server stops pushing.
"""

from chatd.wire import schema

EVERY_S = schema.ACK_EVERY_MS / 1000
INTERVAL_MIN_S = schema.ACK_INTERVAL_MIN_MS / 1000


class AckPolicy:
    """Counts of one connection. Invariant: sent <= released <= received."""

    def __init__(self, window_frames: int, window_bytes: int, now: float) -> None:
        self.received = 0
        self.released = 0
        self.sent = 0
        self._bytes_unsent = 0
        self._half_frames = max(1, min(schema.ACK_EVERY_FRAMES, window_frames // 2 or schema.ACK_EVERY_FRAMES))
        self._half_bytes = max(1, (window_bytes or schema.WINDOW_BYTES_DEFAULT) // 2)
        self._last_sent_at = now - INTERVAL_MIN_S
        self._oldest_at = now

    def on_received(self) -> None:
        self.received += 1

    def release(self, size_bytes: int, now: float) -> None:
        """One DELIVER is out of the way: taken by the application, or dropped as known."""
        if self.released == self.sent:
            self._oldest_at = now
        self.released += 1
        self._bytes_unsent += size_bytes

    def due_at(self) -> float | None:
        """When the next ACK should go out; None when there is nothing to say."""
        waiting = self.released - self.sent
        if waiting <= 0:
            return None
        earliest = self._last_sent_at + INTERVAL_MIN_S
        if waiting >= self._half_frames or self._bytes_unsent >= self._half_bytes:
            return earliest
        return max(earliest, self._oldest_at + EVERY_S)

    def take(self, now: float) -> int | None:
        """The count to send now, or None when it is not due."""
        due = self.due_at()
        if due is None or now < due:
            return None
        self.sent = self.released
        self._bytes_unsent = 0
        self._last_sent_at = now
        return self.sent
