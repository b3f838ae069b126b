"""When the program is asked for a new credential, and how often.

Facts: tokens expire while sessions live, and whoever makes them may be slow, or not there for a while. Consequence:
asking must neither hold up the session nor end it while there is another way. Decision: the shell asks beside all else;
an answer that does not come or is refused is asked for again, with the same jittered back-off as connections; only the
program itself (ClientError) and a second refusal at login end the session.
"""

from chatd.client.backoff import Backoff

# REAUTHs that may be refused for good within one session: a server ends the session at the third failure.
REFUSALS_MAX = 1


class Renewal:
    """wanted: the shell should ask now (`take`). pending: there is none that could log in."""

    def __init__(self, backoff: Backoff, pending: bool) -> None:
        self.wanted = self.pending = pending
        self.ask_at: float | None = None
        self._backoff = backoff
        self._announced = False
        self._refusals = 0

    def want(self) -> None:
        self.wanted = self.pending = True

    def take(self) -> bool:
        """True once for each time that it is wanted."""
        wanted, self.wanted = self.wanted, False
        return wanted

    def failed(self, now: float, retry_after_ms: int = 0) -> None:
        """None came, or it was refused: ask again later."""
        self.pending = True
        self.ask_at = now + self._backoff.next_delay_s(retry_after_ms)

    def tick(self, now: float) -> None:
        if self.ask_at is not None and now >= self.ask_at:
            self.ask_at, self.wanted = None, True

    def renewed(self) -> None:
        """There is one again; whether it is good, the server says."""
        self.wanted = self.pending = False
        self.ask_at = None

    def accepted(self) -> None:
        """WELCOME or RESUMED."""
        self._announced, self._refusals = False, 0
        self._backoff.succeeded()

    def on_reauth_error(self, now: float, retry_after_ms: int, retryable: bool) -> None:
        """The first ERROR announces the grace period, the others refuse. Without a REAUTH its end ends the session."""
        if not self._announced:
            self._announced = True
            self.want()
        elif retryable or self._refusals < REFUSALS_MAX:
            self._refusals += not retryable
            self.failed(now, retry_after_ms)
