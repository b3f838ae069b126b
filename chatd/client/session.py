"""The client without I/O: bytes, moments and wishes in; bytes, updates and answers out.

Facts: connections come and go, the server's answer to a lost connection is "unknown", and every promise of delivery has
to survive that. Consequence: what is promised (outbox, positions, requests) outlives connections, what belongs to one
connection (framing, window, heartbeat) dies with it. Decision: one object with injected clock and randomness that owns
both halves; `Client` only moves bytes and sleeps. So every interleaving can be replayed in a test without a socket.

    waiting ──dial──> connecting ──connected──> login ──WELCOME / RESUMED──> live ──lost──> waiting ... closed
"""

from collections import deque
from collections.abc import Callable

from chatd.client import login
from chatd.client.backoff import Backoff
from chatd.client.connection import Connection
from chatd.client.errors import ClientError, ClosedError, StateError, closed, refused
from chatd.client.inbox import Inbox
from chatd.client.live import Live
from chatd.client.login import Credential
from chatd.client.model import Link, Promise, Settings, Signal
from chatd.client.outbox import Outbox
from chatd.client.renewal import Renewal
from chatd.client.requests import Requests
from chatd.client.state import State
from chatd.errors import PeerProtocolError
from chatd.wire import Frame, make, schema
from chatd.wire.schema import Close, ErrorCode, Op

# A session that lived this long was a good one: the next failure starts the back-off anew.
GOOD_SESSION_S = 5.0
REDIRECTS_MAX = 5


class ClientSession:
    """One device's session over any number of connections. Times are seconds of one monotonic clock.

    The shell does, in a loop: when `dial(now)` gives an address, connect and call `connected` or `lost`; feed
    `received`; write what `take(now)` gives; close the transport when `hang_up` is set and say `lost`; call `tick(now)`
    at `deadline()`. Nothing here raises for what the peer does: the end is `error`, and `closed` is then True.
    """

    def __init__(
        self,
        credential: Credential | None,
        state: State,
        settings: Settings,
        *,
        address: tuple[str, int],
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        label: str = "",
        now: float = 0.0,
    ) -> None:
        self.credential = credential
        self.state = state
        self.settings = settings
        self.phase = "waiting"
        self.error: Exception | None = None
        self.live: Promise[None] = Promise()
        self.last_trouble = ""
        self.inbox = Inbox(state, settings)
        self.outbox = Outbox(state, settings, random)
        self.requests = Requests(settings, random_bytes)
        self.signals: deque[Signal] = deque(maxlen=settings.signals_max)
        self.connection: Connection | None = None
        self.wishes = Live(self)
        self._backoff = Backoff(settings.backoff_base_s, settings.backoff_max_s, random)
        asking = Backoff(settings.backoff_base_s, settings.backoff_max_s, random)
        self.renewal = Renewal(asking, pending=credential is None and not state.ticket)
        self._random = random
        self._label = label
        self._address = address
        self._dialled = address
        self._redirect: tuple[str, int] | None = None
        self._redirects = 0
        self._reauth_sent = False
        self._last_reason = 0
        self._dial_at = now
        self._leave_at: float | None = None
        self._bye: tuple[int, int, str] | None = None
        self._fresh_credential_tried = False

    # ------------------------------------------------------------ the shell's side

    @property
    def synced(self) -> bool:
        """The list of conversations is complete as of this connection."""
        return self.phase == "live" and self.wishes.synced

    @property
    def closed(self) -> bool:
        return self.phase == "closed"

    @property
    def is_live(self) -> bool:
        """What is emitted now has a chance: the session is live and its connection not about to end."""
        return self.phase == "live" and not self.hang_up

    @property
    def hang_up(self) -> bool:
        """Close the transport once everything taken so far is written."""
        return self.connection is not None and self.connection.hang_up

    def dial(self, now: float) -> tuple[str, int] | None:
        """Where to connect now; None: not now."""
        if self.phase != "waiting" or self._lacks_credential or now < self._dial_at:
            return None
        self.phase = "connecting"
        self._signal_link()
        # One try: an address that gives no session is not tried again, the ordinary one knows where else to send us.
        self._dialled, self._redirect = self._redirect or self._address, None
        return self._dialled

    def connected(self, now: float) -> None:
        """The transport is up: log in."""
        self.phase = "login"
        self.connection = Connection(self.settings, now)
        credential = self.credential or Credential.guest()
        settings = self.settings
        self.emit(login.hello(credential, settings.agent, settings.window_frames, settings.window_bytes))
        if self.state.ticket:
            self.emit(
                make(Op.RESUME, ticket=self.state.ticket, log_epoch=self.state.log_epoch, cursor=self.state.cursor)
            )
        elif not credential.wants_challenge:
            self._authenticate()

    def received(self, data: bytes, now: float) -> None:
        """Bytes of the transport, cut anywhere."""
        connection = self.connection
        if connection is None or connection.hang_up:
            return
        connection.heard(now)
        try:
            for frame in connection.frames(data):
                self._on_frame(frame, now)
        except ClientError as error:
            self.stop(error)
        except PeerProtocolError as error:
            self.drop(Close.BAD_FRAME, f"the server broke the protocol: {error}")

    def lost(self, now: float, text: str = "") -> None:
        """The transport is gone, or could not be made. text: why, for people."""
        connection, self.connection = self.connection, None
        if self.closed:
            return
        if self.phase == "live":
            if connection is not None and now - connection.live_at >= GOOD_SESSION_S:
                self._backoff.succeeded()
            self.outbox.on_lost()
            self.inbox.on_lost()
            self.requests.on_lost()
            self.wishes.on_lost(now)
        self._reauth_sent = False
        reason, retry_after_ms, said = self._bye or (Close.PEER_CLOSED, 0, "")
        then = schema.CLOSE_THEN.get(reason, "ticket")
        self._bye = None
        self.phase = "waiting"
        self._last_reason = reason
        end = closed(reason, said)
        self.last_trouble = said or text or f"{end.name}: {end.text}"
        if then == "stop":
            self.stop(end)
            return
        if then == "fresh":
            self.state.set_ticket(b"")
        leaving, self._leave_at = self._leave_at is not None and now >= self._leave_at, None
        self._dial_at = now if leaving else now + self._backoff.next_delay_s(retry_after_ms)
        self._signal_link(self._dial_at - now)

    def take(self, now: float) -> bytes:
        """Everything that should be written now. Call it when the previous bytes have been written."""
        if self.connection is None:
            return b""
        if self.phase == "live" and not self.hang_up:
            self.wishes.plan(now)
        return self.connection.take(now)

    def tick(self, now: float) -> None:
        """Let time pass: timeouts of requests, of the login and of the peer, the end of GOAWAY's window."""
        self.requests.expire(now)
        self.renewal.tick(now)
        connection = self.connection
        if connection is None or connection.hang_up:
            return
        if self.phase == "login" and now >= connection.login_until:
            self.drop(Close.AUTH_TIMEOUT, "no complete login in time")
        elif self.phase == "live":
            if connection.is_dead(now) or now >= (self.outbox.answer_deadline() or now + 1):
                self.drop(Close.HEARTBEAT_TIMEOUT, "the server does not answer any more")
            elif self._leave_at is not None and now >= self._leave_at:
                connection.acknowledge()
                self.emit(make(Op.BYE, reason=int(Close.NORMAL), retry_after_ms=0, text=""))
                connection.hang_up = True
                self._bye = (Close.GOING_AWAY, 0, "the server is moving us")
            else:
                connection.keep_alive(now, self.expects_answer)

    def deadline(self) -> float | None:
        """When `tick` or `take` has to be called again if nothing happens before."""
        times = [self.requests.deadline(self.phase == "live"), self.renewal.ask_at]
        if self.phase == "waiting" and not self._lacks_credential:
            times.append(self._dial_at)
        if self.connection is not None and not self.connection.hang_up:
            if self.phase == "login":
                times.append(self.connection.login_until)
            elif self.phase == "live":
                times += [
                    self._leave_at,
                    self.outbox.answer_deadline(),
                    self.connection.deadline(self.expects_answer),
                    self.wishes.deadline(),
                ]
        return min((time for time in times if time is not None), default=None)

    def new_credential(self, credential: Credential) -> None:
        """The answer to `renewal`: used by the next login, or at once when the live session asked for it."""
        self.credential = credential
        self.renewal.renewed()
        if self.is_live and not self._reauth_sent and not credential.wants_challenge:
            self._reauth_sent = True
            self.emit(login.reauth(credential))

    def no_credential(self, now: float, trouble: str = "") -> None:
        """The other answer. trouble: why there is none now; "": nobody makes another one."""
        if trouble:
            self.last_trouble = trouble
            self.renewal.failed(now)
            if self.phase == "waiting":
                self._signal_link(max(0.0, (self.renewal.ask_at or now) - now))
        elif self.phase != "live" and not self.state.ticket:
            self.stop(self.error or ClientError("a credential is needed: the ticket has expired"))
        else:
            self.renewal.renewed()

    def close(self) -> None:
        """Say BYE and end for good. What is unanswered stays in the state file."""
        if self.connection is not None and self.phase in {"login", "live"} and not self.connection.hang_up:
            if self.phase == "live":
                self.connection.acknowledge()
            self.emit(make(Op.BYE, reason=int(Close.NORMAL), retry_after_ms=0, text=""))
            self.connection.hang_up = True
        self.stop(ClosedError(Close.NORMAL, "closed by the program"))

    # ------------------------------------------------------------ for the handlers

    @property
    def expects_answer(self) -> bool:
        """Silence is suspicious now."""
        return bool(
            self.outbox.conversations_in_flight() or self.inbox.pulls or self.requests.in_flight or self.wishes.syncing
        )

    def emit(self, frame: Frame) -> None:
        if self.connection is not None and not self.connection.hang_up:
            self.connection.emit(frame)

    def drop(self, reason: Close, text: str) -> None:
        """Give this connection up; `lost` follows when the transport is closed."""
        if self.connection is not None:
            self.emit(make(Op.BYE, reason=int(reason), retry_after_ms=0, text=text[:48]))
            self.connection.hang_up = True
        self._bye = self._bye or (reason, 0, text)

    def stop(self, error: Exception) -> None:
        """The end: everybody who waits hears of it."""
        if self.closed:
            return
        self.phase, self.error = "closed", error
        if self.connection is not None:
            self.connection.hang_up = True
        for part in (self.outbox, self.inbox, self.requests, self.wishes.streams):
            part.fail(error)
        self.live.fail(error)
        self._signal_link(text=str(error))

    def leave(self, window_ms: int, ticket: bytes, now: float) -> None:
        """GOAWAY: go at a random moment of the window, so that a worker's clients do not come back as one wave."""
        if ticket:
            self.state.set_ticket(ticket)
        leave_at = now + self._random() * window_ms / 1000
        self._leave_at = leave_at if self._leave_at is None else min(self._leave_at, leave_at)

    def on_bye(self, reason: int, retry_after_ms: int, text: str) -> None:
        self._bye = (reason, retry_after_ms, text)
        if self.connection is not None:
            self.connection.hang_up = True

    def on_redirect(self, host: str, port: int, retry_after_ms: int) -> None:
        self._redirects += 1
        followed = self._redirects <= REDIRECTS_MAX and 0 < port < 65536 and bool(host)
        if followed:
            self._redirect = (host, port)
        else:
            self._redirect, self._redirects = None, 0
        where = f"redirected to {host}:{port}" + ("" if followed else ", which is not followed")
        self.on_bye(Close.GOING_AWAY, retry_after_ms, where)

    def on_reauth_error(self, retry_after_ms: int, retryable: bool, now: float) -> None:
        self._reauth_sent = False
        self.renewal.on_reauth_error(now, retry_after_ms, retryable)

    def on_reauthenticated(self, ticket: bytes) -> None:
        self._reauth_sent = False
        self.renewal.accepted()
        self.state.set_ticket(ticket)

    # ------------------------------------------------------------ login

    def _on_frame(self, frame: Frame, now: float) -> None:
        if self.phase == "live" or frame.op not in {Op.CHALLENGE, Op.WELCOME, Op.RESUMED, Op.ERROR}:
            self.wishes.on_frame(frame, now)
        elif frame.op == Op.CHALLENGE:
            self._on_challenge(frame)
        elif frame.op == Op.ERROR:
            self._on_login_error(frame, now)
        else:
            self._on_welcome(frame, now)

    def _on_challenge(self, frame: Frame) -> None:
        if self.connection is not None:
            self.connection.nonce = frame["nonce"]
        if not self.state.ticket:
            self._authenticate()

    def _authenticate(self) -> None:
        """AUTH; without a credential at hand the shell is asked for one and this connection given up."""
        connection, credential = self.connection, self.credential
        if connection is None:
            return
        if credential is None:
            self.renewal.want()
            self.drop(Close.NORMAL, "")
            self._bye = (Close.PEER_CLOSED, 0, "a credential is needed")
        elif connection.nonce or not credential.wants_challenge:
            self.emit(login.auth(credential, self.state.device, self._label, connection.nonce))

    def _on_login_error(self, frame: Frame, now: float) -> None:
        code, retry_after_ms, text = frame["code"], frame["retry_after_ms"], frame["text"]
        error = refused(code, text, retry_after_ms, what="login")
        self.last_trouble = str(error)
        if frame.flags & schema.FLAG_ERROR_RETRYABLE:
            self.drop(Close.NORMAL, "")
            self._bye = (Close.PEER_CLOSED, retry_after_ms, str(error))
        elif code == ErrorCode.MOVED:
            return  # REDIRECT follows
        elif frame["op"] == Op.RESUME:
            self.state.set_ticket(b"")
            self._authenticate()
        elif schema.ERROR_CLASS.get(code) == "auth" and not self._fresh_credential_tried and code != ErrorCode.REVOKED:
            # Whoever can make a new token gets one chance; `Client` stops with this error when there is nobody.
            self._fresh_credential_tried = True
            self.renewal.want()
            self.error = error
            self.drop(Close.NORMAL, "")
            self._bye = (Close.TOKEN_EXPIRED, 0, str(error))
        else:
            self.stop(error)

    def _on_welcome(self, frame: Frame, now: float) -> None:
        connection = self.connection
        if connection is None:
            return
        epoch_before = self.state.log_epoch
        try:
            self.state.set_session(frame["user"], frame["device"], frame["log_epoch"], frame["ticket"])
        except StateError as error:
            self.stop(error)
            return
        self.phase, self.error = "live", None
        self._fresh_credential_tried, self._redirects = False, 0
        self._redirect = self._dialled if self._dialled != self._address else None
        self.renewal.accepted()
        self.inbox.me = frame["user"]
        if epoch_before and epoch_before != frame["log_epoch"]:
            self.inbox.discard(frame["log_epoch"])
        connection.welcome(frame, now)
        self.outbox.on_live(frame["cseq_stored"])
        continuity = frame.op == Op.WELCOME or frame["continuity"] == 1
        self.wishes.on_live(not continuity, now)
        self.live.resolve(None)
        self._signal_link()

    def _signal_link(self, retry_s: float = 0.0, text: str = "") -> None:
        self.signals.append(Link(self.phase, retry_s, text or self.last_trouble, self._last_reason))

    @property
    def _lacks_credential(self) -> bool:
        return self.renewal.pending and not self.state.ticket
