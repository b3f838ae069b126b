"""Which frame is legal when: the session as a table, the same for both ends.

A connection walks start → greeted → authenticating → live → closed. The table has a row for every frame that moves it;
every other op has to be legal in the states the schema gives it, from the side the schema gives it. One object per
connection and end; it sees every frame in the order in which it crosses the wire and neither reads nor keeps payloads.
"""

from enum import Enum
from typing import Final

from chatd.wire.errors import LocalProtocolError, PeerProtocolError
from chatd.wire.frame import Frame
from chatd.wire.schema import (
    BEFORE,
    BODY_BYTES_MAX,
    CLIENT,
    LITE_FRAME_BYTES_MIN,
    LIVE,
    OPS,
    PREAUTH_FRAME_BYTES_MAX,
    SERVER,
    Feature,
    Op,
)


class Phase(Enum):
    START = "start"  # nothing but PING before HELLO
    GREETED = "greeted"  # HELLO has been sent
    AUTHENTICATING = "authenticating"  # AUTH or RESUME has been sent, the answer has not
    LIVE = "live"
    REAUTHENTICATING = "reauthenticating"  # live, a REAUTH is unanswered
    CLOSED = "closed"  # BYE has been sent or received


class Verdict(Enum):
    """What the receiver does with a legal frame."""

    PROCESS = "process"
    IGNORE = "ignore"  # an unknown op without the top bit
    # The server answers ERROR (SEND: SEND_NAK) with the code of this name, does not act on the frame, and goes on:
    UNSUPPORTED = "unsupported"
    NOT_ALLOWED_NOW = "not allowed now"
    BAD_REQUEST = "bad request"


# (phase, sender, op): next phase. An ERROR that answers AUTH, RESUME or REAUTH moves back, see _error.
MOVES: Final[dict[tuple[Phase, int, int], Phase]] = {
    (Phase.START, CLIENT, Op.HELLO): Phase.GREETED,
    (Phase.GREETED, SERVER, Op.CHALLENGE): Phase.GREETED,
    (Phase.AUTHENTICATING, SERVER, Op.CHALLENGE): Phase.AUTHENTICATING,
    (Phase.GREETED, CLIENT, Op.AUTH): Phase.AUTHENTICATING,
    (Phase.GREETED, CLIENT, Op.RESUME): Phase.AUTHENTICATING,
    (Phase.AUTHENTICATING, SERVER, Op.WELCOME): Phase.LIVE,
    (Phase.AUTHENTICATING, SERVER, Op.RESUMED): Phase.LIVE,
    (Phase.LIVE, CLIENT, Op.REAUTH): Phase.REAUTHENTICATING,
    (Phase.REAUTHENTICATING, SERVER, Op.WELCOME): Phase.LIVE,
}
# Ops that are legal only where the table has a row for them.
ONLY_BY_MOVE: Final = {op for _, _, op in MOVES}

BEFORE_LOGIN: Final = {Phase.START, Phase.GREETED, Phase.AUTHENTICATING}
LOGGED_IN: Final = {Phase.LIVE, Phase.REAUTHENTICATING}
LOGIN_FAILURE: Final = {Op.AUTH, Op.RESUME}

# Values below these are never legal.
LOWEST: Final[dict[int, tuple[str, int]]] = {
    Op.HELLO: ("frame_bytes_max", LITE_FRAME_BYTES_MIN),
    Op.SEND: ("cseq", 1),
    Op.SKIP: ("cseq", 1),
}


class Session:
    """The legality of one connection as one end sees it. role: CLIENT or SERVER, the side this object is on."""

    def __init__(self, role: int) -> None:
        self.role = role
        self.phase = Phase.START
        self.features = Feature(0)

    @property
    def receive_bytes_max(self) -> int:
        """The largest body this end accepts now; a framer's body_bytes_max follows it."""
        return PREAUTH_FRAME_BYTES_MAX if self.role == SERVER and self.phase in BEFORE_LOGIN else BODY_BYTES_MAX

    def sent(self, frame: Frame) -> None:
        """This end sends `frame`. LocalProtocolError when it must not: then it must not be sent."""
        problem = self._problem(frame, self.role) if frame.known else ("op.unknown", "there is no such op")
        if problem:
            raise LocalProtocolError("INTERNAL", f"{frame.name} cannot be sent now: {problem[1]}")
        self._advance(frame, self.role)

    def received(self, frame: Frame) -> Verdict:
        """`frame` came from the peer. PeerProtocolError (reason BAD_FRAME or UNSUPPORTED): close with its reason."""
        if not frame.known:
            if not frame.must_be_understood:
                return Verdict.IGNORE
            return self._not_understood(frame, f"op {frame.name}", closes=self.phase in BEFORE_LOGIN)
        if self._lacks_feature(frame):
            return self._not_understood(frame, f"{frame.name} without its feature")
        sender = CLIENT + SERVER - self.role
        problem = self._problem(frame, sender)
        if problem and problem[0] == "session.state" and self.role == SERVER and self.phase in LOGGED_IN:
            return Verdict.NOT_ALLOWED_NOW
        if problem:
            raise PeerProtocolError("BAD_FRAME", f"{problem[0]}: {frame.name}: {problem[1]}")
        if frame.unknown_extension:
            what = f"extension {frame.unknown_extension} of {frame.name}"
            return self._not_understood(frame, what, closes=frame.op == Op.HELLO)
        if frame.malformed_extension:
            return Verdict.BAD_REQUEST
        self._advance(frame, sender)
        return Verdict.PROCESS

    def _not_understood(self, frame: Frame, what: str, closes: bool = False) -> Verdict:
        """A server says so and goes on, if there is anything to go on with; a client can only ignore or close."""
        if self.role == CLIENT and not frame.must_be_understood:
            return Verdict.IGNORE
        if self.role == CLIENT or closes:
            raise PeerProtocolError("UNSUPPORTED", f"{what} must be understood")
        return Verdict.UNSUPPORTED

    def _lacks_feature(self, frame: Frame) -> bool:
        needed = OPS[frame.op].feature
        return bool(needed) and not self.features & needed and self.phase in LOGGED_IN

    def _problem(self, frame: Frame, sender: int) -> tuple[str, str] | None:
        """The clause that a known op from `sender` breaks now, and why."""
        if self.phase is Phase.CLOSED:
            return "session.state", "nothing follows BYE"
        rule = OPS[frame.op]
        if not rule.sides & sender:
            return "session.side", "this side never sends it"
        allowed = rule.states & (BEFORE if self.phase in BEFORE_LOGIN else LIVE)
        if not allowed or (frame.op in ONLY_BY_MOVE and (self.phase, sender, frame.op) not in MOVES):
            return "session.state", f"not in phase {self.phase.value}"
        lowest = LOWEST.get(frame.op)
        if lowest and frame.fields.get(lowest[0], lowest[1]) < lowest[1]:  # type: ignore[operator]
            return "session.value", f"{lowest[0]} is below {lowest[1]}"
        return None

    def _advance(self, frame: Frame, sender: int) -> None:
        if frame.op == Op.BYE:
            self.phase = Phase.CLOSED
            return
        if frame.op == Op.ERROR:
            self._error(frame)
            return
        self.phase = MOVES.get((self.phase, sender, frame.op), self.phase)
        if frame.op in {Op.WELCOME, Op.RESUMED}:
            self.features = Feature(frame["features"])

    def _error(self, frame: Frame) -> None:
        """Only the ERROR that answers a login moves; another one may cross it on the wire."""
        if self.phase is Phase.AUTHENTICATING and frame["op"] in LOGIN_FAILURE:
            self.phase = Phase.GREETED
        elif self.phase is Phase.REAUTHENTICATING and frame["op"] == Op.REAUTH:
            self.phase = Phase.LIVE
