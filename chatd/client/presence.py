"""Following the presence of others, and saying one's own: kept up over leases and connections."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from chatd.client.errors import ClientError
from chatd.client.model import Presence, Promise
from chatd.wire.schema import Method, NoticeTopic, PresenceState

if TYPE_CHECKING:
    from chatd.client.session import ClientSession

USERS_PER_REQUEST = 200
ANSWER_WITHIN_S = 30.0
RETRY_S = 30.0


class Presences:
    """Who is followed, and what was seen of them last. Sans-I/O: `plan` asks, answers and notices become signals."""

    def __init__(self, session: "ClientSession") -> None:
        self._session = session
        self._seen: dict[int, Presence | None] = {}
        self._own = PresenceState.ONLINE
        self._ask_at: float | None = None

    # ------------------------------------------------------------ wishes of the application

    def follow(self, users: Iterable[int], now: float) -> None:
        self._seen |= {user: None for user in users if user not in self._seen}
        self._ask_at = now

    def unfollow(self, users: Iterable[int], now: float) -> None:
        gone = [user for user in users if self._seen.pop(user, self) is not self]
        if gone and self._session.is_live:
            self._ask(Method.PRESENCE_UNFOLLOW, {1: gone}, now)

    def say(self, state: PresenceState, now: float) -> None:
        self._own = state
        if self._session.is_live:
            self._ask(Method.PRESENCE_SET, {1: int(state)}, now)

    # ------------------------------------------------------------ the session's side

    def on_live(self, now: float) -> None:
        """A new session has no leases and is simply there."""
        if self._own != PresenceState.ONLINE:
            self.say(self._own, now)
        if self._seen:
            self._ask_at = now

    def deadline(self) -> float | None:
        return self._ask_at

    def plan(self, now: float) -> None:
        if self._ask_at is None or now < self._ask_at:
            return
        self._ask_at = now + RETRY_S if self._seen else None
        users = sorted(self._seen)
        for start in range(0, len(users), USERS_PER_REQUEST):
            promise = self._ask(Method.PRESENCE_FOLLOW, {1: users[start : start + USERS_PER_REQUEST]}, now)
            promise.listeners.append(partial(self._on_followed, promise, now))
        if self._own != PresenceState.ONLINE:
            # A hub that was restarted in between does not know it any more.
            self.say(self._own, now)

    def on_notice(self, topic: int, content: dict[int, Any]) -> bool:
        """True: it was about presence."""
        if topic != NoticeTopic.PRESENCE:
            return False
        self._see(content.get(1), content.get(2), content.get(3))
        return True

    def _ask(self, method: Method, params: dict[int, Any], now: float) -> Promise[dict[int, Any]]:
        try:
            return self._session.requests.ask(method, params, ANSWER_WITHIN_S, now)
        except ClientError as error:
            # Too much else is asked at the moment: plan comes round again.
            promise: Promise[dict[int, Any]] = Promise()
            promise.fail(error)
            return promise

    def _on_followed(self, promise: Promise[dict[int, Any]], asked_at: float) -> None:
        try:
            answer = promise.result()
        except ClientError:
            return
        for entry in answer.get(1, ()):
            self._see(*entry)
        self._ask_at = asked_at + answer.get(2, 2000 * RETRY_S) / 2000

    def _see(self, user: Any, state: Any, seen_ms: Any) -> None:
        if user not in self._seen or not isinstance(seen_ms, int) or state not in list(PresenceState):
            return
        presence = Presence(user, PresenceState(state), seen_ms)
        if presence != self._seen[user]:
            self._seen[user] = presence
            self._session.signals.append(presence)
