"""REQUESTs that wait for their REPLY.

A REPLY that never came leaves its effect unknown. So every method that changes something carries an idempotency key
(key 0 of its params): the server answers a repeated call with the first result, and the client may ask again after a
reconnect or a retryable refusal, until the caller's time is over.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatd.client.errors import ClientError, NoAnswerError, refused
from chatd.client.model import Promise, Settings
from chatd.wire.control import pack, unpack
from chatd.wire.errors import PeerProtocolError
from chatd.wire.schema import ErrorCode, Method

IDEMPOTENCY_KEY = 0
IDEMPOTENCY_KEY_BYTES = 16
RETRY_MIN_S = 0.1
# A bug of the server may have been a moment of restart; more often it is there again at once.
INTERNAL_RETRIES_MAX = 1
METHOD_NAMES = {method.value: method.name for method in Method}
# Asking these twice is harmless without a key: they change nothing, or nothing that is stored.
READS = {
    Method.USER_RESOLVE,
    Method.USER_GET,
    Method.CONVERSATION_GET,
    Method.CONVERSATION_LIST,
    Method.MEMBER_LIST,
    Method.PROFILE_GET,
    Method.RELATION_LIST,
    Method.CONVERSATION_RULES,
    Method.PUBLIC_FIND,
    Method.ROLE_LIST,
    Method.RESTRICTION_LIST,
    Method.INVITE_LIST,
    Method.INVITE_LOOK,
    Method.JOIN_REQUEST_LIST,
    Method.OWN_LIST,
    Method.REPORT_LIST,
    Method.DEVICE_LIST,
    Method.DEVICE_KICK,
    Method.RECEIPT_GET,
    Method.PRESENCE_SET,
    Method.PRESENCE_FOLLOW,
    Method.PRESENCE_UNFOLLOW,
    Method.SEARCH,
    Method.ADMIN_USER_LIST,
    Method.ADMIN_WHY,
    Method.ADMIN_STATS,
}

Result = dict[int, Any]


@dataclass(slots=True)
class Asked:
    id: int
    method: int
    params: bytes
    until: float
    promise: Promise[Result] = field(default_factory=Promise)
    in_flight: bool = False
    retry_at: float = 0.0
    last_refusal: Exception | None = None
    bugs_met: int = 0


class Requests:
    """At most settings.requests_max at a time. random_bytes(n): unguessable is not needed, unique is."""

    def __init__(self, settings: Settings, random_bytes: Callable[[int], bytes]) -> None:
        self._settings = settings
        self._random_bytes = random_bytes
        self._asked: dict[int, Asked] = {}
        self._next_id = 1

    @property
    def in_flight(self) -> bool:
        return any(asked.in_flight for asked in self._asked.values())

    def ask(self, method: int, params: Mapping[int, Any], timeout_s: float, now: float) -> Promise[Result]:
        if len(self._asked) >= self._settings.requests_max:
            raise ClientError(f"{len(self._asked)} requests wait for an answer: wait for some of them")
        values = dict(params)
        if method not in READS:
            values.setdefault(IDEMPOTENCY_KEY, self._random_bytes(IDEMPOTENCY_KEY_BYTES))
        asked = Asked(self._next_id, method, pack(values), now + timeout_s)
        self._next_id += 1
        self._asked[asked.id] = asked
        return asked.promise

    def forget(self, promise: Promise[Result]) -> None:
        """The caller does not wait any more."""
        for asked in list(self._asked.values()):
            if asked.promise is promise:
                del self._asked[asked.id]

    def due(self, now: float) -> Iterator[Asked]:
        """What to send now; each is in flight from here on."""
        for asked in self._asked.values():
            if not asked.in_flight and now >= asked.retry_at:
                asked.in_flight = True
                yield asked

    def expire(self, now: float) -> None:
        for asked in [asked for asked in self._asked.values() if now >= asked.until]:
            del self._asked[asked.id]
            asked.promise.fail(
                asked.last_refusal
                or NoAnswerError(f"{name_of(asked.method)}: no answer in time; whether it was done is unknown")
            )

    def deadline(self, live: bool) -> float | None:
        """When `due` or `expire` has something; without a live session nothing is due."""
        times = [asked.until for asked in self._asked.values()]
        if live:
            times += [asked.retry_at for asked in self._asked.values() if not asked.in_flight]
        return min(times, default=None)

    def on_reply(self, ident: int, code: int, retry_after_ms: int, retryable: bool, payload: bytes, now: float) -> None:
        asked = self._asked.get(ident)
        if asked is None:
            return
        try:
            result = unpack(payload)
        except PeerProtocolError:
            result, code = {1: "the answer is malformed"}, code or 100
        if code == 0:
            del self._asked[ident]
            asked.promise.resolve(result)
        else:
            self.on_error(ident, code, str(result.get(1, "")), retry_after_ms, retryable, now)

    def on_error(self, ident: int, code: int, text: str, retry_after_ms: int, retryable: bool, now: float) -> None:
        asked = self._asked.get(ident)
        if asked is None:
            return
        error = refused(code, text, retry_after_ms, what=name_of(asked.method))
        if code == ErrorCode.INTERNAL:
            asked.bugs_met += 1
        if retryable and asked.bugs_met <= INTERNAL_RETRIES_MAX:
            asked.in_flight = False
            asked.last_refusal = error
            asked.retry_at = now + max(RETRY_MIN_S, retry_after_ms / 1000)
            return
        del self._asked[ident]
        asked.promise.fail(error)

    def on_lost(self) -> None:
        for asked in self._asked.values():
            asked.in_flight = False

    def fail(self, error: Exception) -> None:
        for asked in self._asked.values():
            asked.promise.fail(error)
        self._asked.clear()


def name_of(method: int) -> str:
    return METHOD_NAMES.get(method, f"method {method}")
