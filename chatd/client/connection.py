"""What belongs to one connection and dies with it: framing, legality, window, heartbeat."""

from collections.abc import Iterator

from chatd.client.acks import AckPolicy
from chatd.client.model import Settings
from chatd.wire import Frame, Framer, Session, Verdict, encode, make, schema
from chatd.wire.schema import Op

# A heartbeat goes out before the interval is over: the server counts from its own clock and the network takes time.
HEARTBEAT_SHARE = 0.8


class Connection:
    """Made when the transport is up. nonce: of CHALLENGE, b"" until it came."""

    generations = 0  # a DELIVER is released on the connection that brought it, never on a later one

    def __init__(self, settings: Settings, now: float) -> None:
        Connection.generations += 1
        self.generation = Connection.generations
        self.nonce = b""
        self.hang_up = False
        self.login_until = now + settings.login_timeout_s
        self.live_at = now
        self.acks = AckPolicy(0, 0, now)
        self._framer = Framer()
        self._legality = Session(schema.CLIENT)
        self._out = bytearray()
        self._heartbeat_s = 25.0
        self._probe_after_s = settings.probe_after_s
        self._probe_timeout_s = settings.probe_timeout_s
        self._heard_at = now
        self._said_at = now
        self._probe_until: float | None = None

    def welcome(self, frame: Frame, now: float) -> None:
        """WELCOME or RESUMED: the agreed window and heartbeat."""
        self.live_at = now
        self.acks = AckPolicy(frame["window_frames"], frame["window_bytes"], now)
        self._heartbeat_s = max(1.0, frame["heartbeat_ms"] / 1000 * HEARTBEAT_SHARE)

    def frames(self, data: bytes) -> Iterator[Frame]:
        """The frames that data completes and that are to be processed; none behind the one that ends the connection.

        PeerProtocolError for what is not legal.
        """
        while frames := self._framer.feed(data):
            data = b""
            for frame in frames:
                if self.hang_up:
                    return
                if self._legality.received(frame) is Verdict.PROCESS:
                    yield frame

    def emit(self, frame: Frame) -> None:
        self._legality.sent(frame)
        self._out += encode(frame)

    def take(self, now: float) -> bytes:
        taken = bytes(self._out)
        self._out.clear()
        if taken:
            self._said_at = now
        return taken

    def acknowledge(self) -> None:
        """Say now what could have waited: the connection is about to end."""
        if self.acks.released > self.acks.sent:
            self.acks.sent = self.acks.released
            self.emit(make(Op.ACK, count=self.acks.released))

    # ------------------------------------------------------------ proof of life

    def heard(self, now: float) -> None:
        self._heard_at = now
        self._probe_until = None

    def keep_alive(self, now: float, expects_answer: bool) -> None:
        """PING when we were silent for a heartbeat; it wants a PONG when the server's silence is suspicious."""
        suspicious = self._probe_until is None and now >= self._suspicious_at(expects_answer)
        if suspicious:
            self._probe_until = now + self._probe_timeout_s
        if suspicious or now >= self._said_at + self._heartbeat_s:
            flags = schema.FLAG_PING_REPLY_WANTED if suspicious else 0
            # A lone frame without a body does not wake the server: what wants an answer now carries a byte.
            self.emit(make(Op.PING, flags=flags, echo=b"?" if suspicious else b""))
            self._said_at = now

    def is_dead(self, now: float) -> bool:
        """A PONG was asked for and nothing at all came."""
        return self._probe_until is not None and now >= self._probe_until

    def deadline(self, expects_answer: bool) -> float:
        probe = self._probe_until if self._probe_until is not None else self._suspicious_at(expects_answer)
        return min(self._said_at + self._heartbeat_s, probe)

    def _suspicious_at(self, expects_answer: bool) -> float:
        return self._heard_at + (self._probe_after_s if expects_answer else self._heartbeat_s)
