"""What can go wrong for a program that uses the client: one small tree, sorted by what the program should do.

ClientError
├─ StateError           the state file cannot be used: another program has it, or it belongs to someone else
├─ UnreachableError     no session could be made in the time given; the client goes on trying only while it is open
├─ ClosedError          the session is over for good (`reason` is a close reason of the protocol): open a new client
│  ├─ TakenOverError     another program is this device now: give each program a state file of its own
│  ├─ LoggedOutError     log in with another credential
│  └─ IncompatibleError  client and server do not speak the same version: upgrade the older one
├─ NoAnswerError        no answer in time: whether the request had an effect is unknown
├─ OutboxFullError      too many sends wait for their answer: wait for some of them
├─ WithdrawnError       this send was given up with Client.withdraw before it was stored
└─ RefusedError         the server said no (`code`, `name`, `retry_after_ms`)
   ├─ InvalidError      it can never be accepted: a bug of the caller, or over a stated limit
   ├─ AuthError         another credential is needed
   ├─ NotPermittedError do not retry
   │  ├─ ForbiddenError, NotFoundError, LimitReachedError
   ├─ ThrottledError    later
   ├─ UnavailableError  later
   └─ MovedError        elsewhere
"""

from chatd.errors import ChatdError
from chatd.wire import schema
from chatd.wire.schema import Close, ErrorCode

CLOSE_NAMES = {close.value: close.name for close in Close}
ERROR_NAMES = {error.value: error.name for error in ErrorCode}


class ClientError(ChatdError):
    """Base of everything the client library raises."""


class StateError(ClientError):
    """The state file cannot be used. The message names the file and says what to do."""


class UnreachableError(ClientError):
    """No session with the server in the time given. The message holds the last reason."""


class ClosedError(ClientError):
    """The session is over and the client does not reconnect. reason: a close reason (protocol/schema.toml)."""

    def __init__(self, reason: int, text: str = "") -> None:
        self.reason = reason
        self.name = CLOSE_NAMES.get(reason, f"close reason {reason}")
        self.text = text
        super().__init__(f"the session is closed ({self.name})" + (f": {text}" if text else ""))


class TakenOverError(ClosedError):
    """The same device logged in elsewhere. Connecting again would take it over in turn, for ever."""


class LoggedOutError(ClosedError):
    """The credential, the device or the user is not accepted any more."""


class IncompatibleError(ClosedError):
    """One side needs what the other does not know."""


class NoAnswerError(ClientError):
    """The server did not answer in time: the effect of the request is unknown."""


class OutboxFullError(ClientError):
    """The bounded outbox is full: nothing was queued."""


class WithdrawnError(ClientError):
    """The send was withdrawn and will never be stored."""


class RefusedError(ClientError):
    """The server refused. code: an error code of the protocol, name: its name, retry_after_ms: 0 when not said."""

    def __init__(self, code: int, text: str = "", retry_after_ms: int = 0, what: str = "") -> None:
        self.code = code
        self.name = ERROR_NAMES.get(code, f"error {code}")
        self.text = text
        self.retry_after_ms = retry_after_ms
        about = f"{what}: " if what else ""
        super().__init__(f"{about}{self.name}" + (f": {text}" if text else ""))


class InvalidError(RefusedError):
    """It can never be accepted as it is."""


class AuthError(RefusedError):
    """The credential was not accepted, has expired or was revoked."""


class NotPermittedError(RefusedError):
    """Not allowed for this user; retrying does not help."""


class ForbiddenError(NotPermittedError):
    """A member without this right."""


class NotFoundError(NotPermittedError):
    """No such thing for this user: absent and foreign look the same."""


class LimitReachedError(NotPermittedError):
    """A stated limit of users, members or devices."""


class ThrottledError(RefusedError):
    """Over a rate or a bound: again after retry_after_ms."""


class UnavailableError(RefusedError):
    """A part of the server is not there now: again after retry_after_ms."""


class MovedError(RefusedError):
    """Served elsewhere."""


BY_CODE: dict[int, type[RefusedError]] = {
    ErrorCode.FORBIDDEN: ForbiddenError,
    ErrorCode.NOT_FOUND: NotFoundError,
    ErrorCode.LIMIT_REACHED: LimitReachedError,
}
BY_CLASS: dict[str, type[RefusedError]] = {
    "protocol": InvalidError,
    "auth": AuthError,
    "permission": NotPermittedError,
    "throttled": ThrottledError,
    "temporary": UnavailableError,
    "moved": MovedError,
}


# What ended a connection, for people: the exception if it ends the session, and what to do. After the reasons with
# "again" the client goes on by itself; they are seen as the text of Link and of UnreachableError.
AGAIN = "the client connects again by itself"
CLOSED: dict[int, tuple[type[ClosedError], str]] = {
    Close.NORMAL: (ClosedError, "open a new client to go on"),
    Close.PEER_CLOSED: (ClosedError, AGAIN),
    Close.PEER_RESET: (ClosedError, AGAIN),
    Close.GOING_AWAY: (ClosedError, AGAIN),
    Close.REPLACED: (TakenOverError, "another device of this user is online instead: so many are allowed here"),
    Close.TAKEN_OVER: (TakenOverError, "another program is this device now: give each one its own state file"),
    Close.SLOW: (ClosedError, f"take events faster, or use a smaller window; {AGAIN}"),
    Close.SLOW_FRAME: (ClosedError, f"the network is too slow; {AGAIN}"),
    Close.HEARTBEAT_TIMEOUT: (ClosedError, f"the network is broken, or the program blocked its loop; {AGAIN}"),
    Close.BAD_FRAME: (ClosedError, f"a bug of client or server: please report it; {AGAIN}"),
    Close.UNSUPPORTED: (IncompatibleError, "upgrade the older one of client and server"),
    Close.FLOOD: (ClosedError, f"send less; {AGAIN}"),
    Close.AUTH_FAILED: (LoggedOutError, "check the credential"),
    Close.AUTH_TIMEOUT: (ClosedError, AGAIN),
    Close.FIRST_BYTE_TIMEOUT: (ClosedError, f"is it the right port, with or without TLS? {AGAIN}"),
    Close.PREAUTH_EVICTED: (ClosedError, f"too many connections at once; {AGAIN}"),
    Close.TOKEN_EXPIRED: (ClosedError, "a new token is needed: give Client a function that makes one"),
    Close.REVOKED: (LoggedOutError, "log in with another credential"),
    Close.KICKED: (ClosedError, f"an administrator or another device closed it; {AGAIN}"),
    Close.SHED: (ClosedError, f"the server is full; {AGAIN}"),
    Close.INTERNAL: (ClosedError, f"the server lost a part; {AGAIN}"),
    Close.TLS_FAILED: (ClosedError, f"check the certificates; {AGAIN}"),
    Close.PROXY_FAILED: (ClosedError, "the balancer in front of the server must speak PROXY v2: tell its operator"),
}


def closed(reason: int, said: str = "") -> ClosedError:
    """The exception for a close reason. said: the server's own words, which may say more."""
    kind, advice = CLOSED.get(reason, (ClosedError, ""))
    return kind(reason, "; ".join(text for text in (said, advice) if text))


def refused(code: int, text: str = "", retry_after_ms: int = 0, what: str = "") -> RefusedError:
    """The exception for an error code; a code this version does not know is a plain RefusedError."""
    kind = BY_CODE.get(code) or BY_CLASS.get(schema.ERROR_CLASS.get(code, ""), RefusedError)
    return kind(code, text, retry_after_ms, what)
