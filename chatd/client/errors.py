"""What can go wrong for a program that uses the client: one small tree, sorted by what the program should do.

ClientError
├─ StateError           the state file cannot be used: another program has it, or it belongs to someone else
├─ UnreachableError     no session could be made in the time given; the client goes on trying only while it is open
├─ ClosedError          the session is over for good (`reason` is a close reason of the protocol): open a new client
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
        super().__init__(f"the session is closed ({self.name})" + (f": {text}" if text else ""))


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


def refused(code: int, text: str = "", retry_after_ms: int = 0, what: str = "") -> RefusedError:
    """The exception for an error code; a code this version does not know is a plain RefusedError."""
    kind = BY_CODE.get(code) or BY_CLASS.get(schema.ERROR_CLASS.get(code, ""), RefusedError)
    return kind(code, text, retry_after_ms, what)
