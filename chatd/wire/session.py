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
    UNSUPPORTED = "unsupported"  # the server answers ERROR (SEND: SEND_NAK) UNSUPPORTED and goes on


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
LOGIN_FAILURE: Final = {Op.AUTH, Op.RESUME}


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
        problem = self._problem(frame, self.role)
        if problem or not frame.known:
            raise LocalProtocolError("INTERNAL", f"{frame.name} cannot be sent now: {problem or 'unknown op'}")
        self._advance(frame, self.role)

    def received(self, frame: Frame) -> Verdict:
        """`frame` came from the peer. PeerProtocolError (reason BAD_FRAME or UNSUPPORTED): close with its reason."""
        if not frame.known:
            return self._not_understood(frame, f"op {frame.name}")
        sender = CLIENT + SERVER - self.role
        if self._lacks_feature(frame):
            return self._not_understood(frame, f"{frame.name} without its feature")
        problem = self._problem(frame, sender)
        if problem:
            raise PeerProtocolError("BAD_FRAME", f"{frame.name}: {problem}")
        if frame.unknown_extension:
            return self._not_understood(frame, f"extension {frame.unknown_extension} of {frame.name}")
        self._advance(frame, sender)
        return Verdict.PROCESS

    def _not_understood(self, frame: Frame, what: str) -> Verdict:
        """A live client is told and may go on; before login, and for a client, there is nothing to go on with."""
        if not frame.must_be_understood:
            return Verdict.IGNORE
        if self.role == CLIENT or self.phase in BEFORE_LOGIN:
            raise PeerProtocolError("UNSUPPORTED", f"{what} must be understood")
        return Verdict.UNSUPPORTED

    def _lacks_feature(self, frame: Frame) -> bool:
        needed = OPS[frame.op].feature
        return bool(needed) and not self.features & needed and self.phase not in BEFORE_LOGIN

    def _problem(self, frame: Frame, sender: int) -> str:
        """Why `sender` must not send a known op now, or an empty string."""
        if self.phase is Phase.CLOSED:
            return "nothing follows BYE"
        rule = OPS[frame.op]
        if not rule.sides & sender:
            return "this side never sends it"
        if not rule.states & (BEFORE if self.phase in BEFORE_LOGIN else LIVE):
            return f"not in phase {self.phase.value}"
        if frame.op in ONLY_BY_MOVE and (self.phase, sender, frame.op) not in MOVES:
            return f"not in phase {self.phase.value}"
        return ""

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
