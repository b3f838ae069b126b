# Logins and resumes: from the engine's upcall to WELCOME.
# Facts: after a crash all clients of a shard resume at once, 20,000 a second is the goal. Consequence: a resume is
# synchronous, without a task and without the hub's Python side: open the ticket, register; later seal a new ticket,
# send RESUMED. A token of a user and a device that exist, which is nearly every other login, is verified at once and
# then asked for together with the others of its moment: one call to the hub and one task for all of them. What is left
# (passwords, keys, guests, new users and devices, whatever is wrong) is a task of its own. Registration with the hub,
# natively, is the same for all and is where revocations and takeover are decided.
"""What a shard does with AUTH, RESUME, REAUTH and the hub's answer to a registration."""

import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from chatd import logs
from chatd.clock import SYSTEM, Clock
from chatd.engine.interface import Engine
from chatd.shard import frames
from chatd.shard.credentials import Attempt, Credentials, LoginRefusedError, Principal
from chatd.shard.hub_calls import HubCalls, HubRefusalError
from chatd.shard.key_sessions import KeySessions
from chatd.shard.limits import LoginLimits
from chatd.shard.ticket import Ticket, TicketRing
from chatd.shard.tokens import Claims, TokenVerifier
from chatd.wire import sync_cursor
from chatd.wire.schema import Close, Credential, ErrorCode, Op

# Registrations without an answer yet. A connection that ended meanwhile leaves its entry; the oldest are forgotten.
PENDING_MAX = 65_536
LOGINS_MAX = 2048
# Of a call `known_devices`; the hub refuses more.
TOKENS_PER_CALL_MAX = 256
BUSY_RETRY_MS = 1000
# How often a new hub is asked which keys still hold, when it does not answer.
KEY_CHECKS_MAX, KEY_CHECK_PAUSE_S = 30, 1.0
# Short of memory: whoever is refused comes back at a moment of its own.
SHED_RETRY_S = (5.0, 30.0)

Start = Callable[..., None]


class Pending(NamedTuple):
    """A registration under way. resumed: (log epoch, cursor) of the client, None for AUTH. key: Principal.key."""

    token_epoch: int
    token_expires_s: int
    resumed: tuple[int, bytes] | None
    key: int = 0


class Bearer(NamedTuple):
    """A login whose token holds; the hub has not been asked about its user yet."""

    handle: int
    attempt: Attempt
    claims: Claims


class Logins:
    """The login side of one shard."""

    def __init__(
        self,
        engine: Engine,
        hub: HubCalls,
        settings: dict[str, Any],
        wake: Callable[[], None],
        start_soon: Start,
        clock: Clock = SYSTEM,
    ) -> None:
        self._engine, self._hub, self._wake, self._start_soon = engine, hub, wake, start_soon
        self._clock = clock
        self._auth = auth = settings["auth"]
        accept, session = settings["accept"], settings["session"]
        self._limits = LoginLimits(
            auth["user_logins_per_min"],
            auth["address_logins_per_min"],
            accept["flap_connects_per_min"],
            accept["flap_ban_s"],
            accept["address_exempt"],
            clock.monotonic_s,
        )
        self._frames = frames.WelcomeFrames(session["frames_per_s"], session["sends_per_s"])
        self._pending: OrderedDict[int, Pending] = OrderedDict()
        self._in_progress = 0
        self._bearers: list[Bearer] = []
        self._asking = False
        self._log_epoch = 0
        self._log = logs.get()
        self._limited = logs.Limited()
        self._keys = KeySessions(
            lambda handle: engine.terms(handle) is not None, lambda handle: self._end(handle, Close.REVOKED)
        )
        self.sheds = False
        """Short of memory: nobody new."""
        hub.questions |= {"ban": self._ban, "key_revoked": self._keys.revoke}
        tokens = self._use_keys(settings["secrets"])
        self._credentials = Credentials(hub, self._limits, tokens, auth["password_queue_max"])

    def use_secrets(self, secrets: dict[str, Any]) -> None:
        """New ticket keys and issuers, after a reload."""
        self._credentials.tokens = self._use_keys(secrets)

    def _use_keys(self, secrets: dict[str, Any]) -> TokenVerifier:
        skew_s = self._auth["clock_skew_s"]
        self._tickets = TicketRing([(number, bytes.fromhex(key)) for number, key in secrets["tickets"]], skew_s)
        return TokenVerifier(secrets["issuers"], self._auth["token_lifetime_max_s"], skew_s, self._clock.wall_s)

    # -- upcalls -----------------------------------------------------------------------------------------------------

    def on_resume(self, handle: int, ticket: bytes, log_epoch: int, cursor: bytes, address: str) -> None:
        opened = self._tickets.open(ticket, self._clock.wall_s())
        if not isinstance(opened, Ticket):
            self._refuse(handle, Op.RESUME, opened, "ticket", address)
            return
        refused_s = self._limits.banned(opened.device) or self._limits.device(opened.device, address)
        if self.sheds or refused_s:
            self._shed(handle, refused_s)
            return
        user, device, token_epoch, session_epoch, _, token_expires_s = opened
        if self._engine.register(handle, user, device, token_epoch, session_epoch, token_expires_s):
            self._expect(handle, Pending(token_epoch, token_expires_s, (log_epoch, cursor)))

    def on_auth(
        self,
        handle: int,
        credential: int,
        device: int,
        identity: str,
        proof: bytes,
        label: str,
        nonce: bytes,
        address: str,
    ) -> None:
        """Cost is charged before work: the limits that need no look-up come first."""
        if self._in_progress >= LOGINS_MAX:
            self._refuse(handle, Op.AUTH, ErrorCode.AUTH_BUSY, "logins", address, BUSY_RETRY_MS)
            return
        wait_s = self._limits.address(address)
        if wait_s:
            self._refuse(handle, Op.AUTH, ErrorCode.RATE_LIMITED, "address rate", address, int(wait_s * 1000) + 1)
            return
        banned_s = self._limits.banned(device)
        if self.sheds or banned_s:
            self._shed(handle, banned_s)
            return
        self._in_progress += 1
        attempt = Attempt(credential, device, identity, proof, label, nonce, address)
        if credential == Credential.JWT and device:
            self._on_token(handle, attempt)
        else:
            self._start_soon(self._log_in, handle, attempt)

    def _on_token(self, handle: int, attempt: Attempt) -> None:
        try:
            self._bearers.append(Bearer(handle, attempt, self._credentials.claims(attempt)))
        except LoginRefusedError as refusal:
            self._in_progress -= 1
            self._refuse(handle, Op.AUTH, refusal.code, refusal.reason, attempt.address, refusal.retry_after_ms)

    def flush(self) -> None:
        """After the upcalls of a poll: ask for the tokens that came. While a call is out, the next ones collect."""
        if self._bearers and not self._asking:
            self._asking = True
            batch, self._bearers = self._bearers[:TOKENS_PER_CALL_MAX], self._bearers[TOKENS_PER_CALL_MAX:]
            self._start_soon(self._ask_for, batch)

    def on_reauth(
        self, handle: int, credential: int, identity: str, proof: bytes, user: int, device: int, session_epoch: int
    ) -> None:
        if self._in_progress >= LOGINS_MAX:
            self._refuse(handle, Op.REAUTH, ErrorCode.AUTH_BUSY, "logins", "", BUSY_RETRY_MS)
            return
        self._in_progress += 1
        attempt = Attempt(credential, device, identity, proof, "", b"", "")
        self._start_soon(self._reauthenticate, handle, attempt, user, session_epoch)

    def on_registered(
        self,
        handle: int,
        error: int,
        retry_after_ms: int,
        user: int,
        device: int,
        session_epoch: int,
        previous_epoch: int,
        cseq_stored: int,
        pos: int,
        log_epoch: int,
    ) -> None:
        """The hub has fixed the sync position and shut out older connections: the session can begin."""
        pending = self._pending.pop(handle, None)
        if pending is None:
            self._engine.close(handle, Close.INTERNAL)
            return
        op = Op.AUTH if pending.resumed is None else Op.RESUME
        if error:
            self._refuse(handle, op, ErrorCode(error), "registration", "", retry_after_ms)
            return
        terms = self._engine.terms(handle)
        if terms is None:
            return
        self._log_epoch = log_epoch
        if self._keys.is_revoked(pending.key):
            self._end(handle, Close.REVOKED)
            return
        self._keys.opened(handle, pending.key)
        ticket = b""
        if not pending.key:
            ticket = self._ticket(user, device, pending.token_epoch, session_epoch, pending.token_expires_s)
        cursor = sync_cursor.encode(log_epoch, sync_cursor.SyncCursor(pos))
        session = frames.Session(user, device, session_epoch, cseq_stored, terms, log_epoch, cursor, ticket)
        if pending.resumed is None:
            frame = self._frames.welcome(session)
        else:
            known_epoch, known = pending.resumed
            continuous = known_epoch == log_epoch and sync_cursor.is_current(log_epoch, known)
            frame = self._frames.resumed(session, continuity=continuous)
        self._engine.welcome(handle, frame)

    def on_link(self) -> None:
        """A new hub: the last one may have died between revoking a key and saying so."""
        keys = self._keys.keys()
        for first in range(0, len(keys), TOKENS_PER_CALL_MAX):
            self._start_soon(self._check_keys, keys[first : first + TOKENS_PER_CALL_MAX])

    def on_closed(self, handle: int, user: int, device: int, reason: int) -> None:
        """A session has ended. Whoever flooded is refused for a while, on every shard."""
        if reason == Close.FLOOD and device:
            self._ban(device)
            self._start_soon(self._tell_ban, device)

    # -- tasks -------------------------------------------------------------------------------------------------------

    async def _log_in(self, handle: int, attempt: Attempt, claims: Claims | None = None) -> None:
        """claims: of its token, when that was verified and charged already."""
        try:
            credentials = self._credentials
            principal = await (credentials.verify(attempt) if claims is None else credentials.verify_claims(claims))
            device = principal.device or await self._device(principal, attempt)
            self._register(handle, principal, device, attempt.address)
        except LoginRefusedError as refusal:
            self._refuse(handle, Op.AUTH, refusal.code, refusal.reason, attempt.address, refusal.retry_after_ms)
        except HubRefusalError as refusal:
            self._refuse(handle, Op.AUTH, refusal.code, "hub", attempt.address, refusal.retry_after_ms)
        except Exception:  # noqa: BLE001 a bug must not end the other logins
            self._log.exception("login failed", credential=attempt.credential)
            self._refuse(handle, Op.AUTH, ErrorCode.INTERNAL, "bug", attempt.address, BUSY_RETRY_MS)
        finally:
            self._in_progress -= 1
            self._wake()

    async def _ask_for(self, batch: list[Bearer]) -> None:
        refused: tuple[ErrorCode, str, int] | None = None
        owners: list[list[int] | None] = []
        try:
            wanted = [(bearer.claims.subject, bearer.attempt.device) for bearer in batch]
            owners = await self._hub.call("known_devices", wanted)
        except HubRefusalError as refusal:
            refused = refusal.code, "hub", refusal.retry_after_ms
        except Exception:  # noqa: BLE001 a bug must not end the other logins
            self._log.exception("logins failed", count=len(batch))
            refused = ErrorCode.INTERNAL, "bug", BUSY_RETRY_MS
        finally:
            self._asking = False
        self.flush()
        for bearer, owner in zip(batch, owners or [None] * len(batch), strict=True):
            if refused is None and owner is None:
                self._start_soon(self._log_in, bearer.handle, bearer.attempt, bearer.claims)
                continue
            self._in_progress -= 1
            if refused is not None:
                code, reason, retry_after_ms = refused
                self._refuse(bearer.handle, Op.AUTH, code, reason, bearer.attempt.address, retry_after_ms)
            elif owner is not None:
                self._admit(bearer, *owner)
        self._wake()

    def _admit(self, bearer: Bearer, user: int, token_epoch: int) -> None:
        try:
            principal = self._credentials.holder(bearer.claims, user, token_epoch, bearer.attempt.device)
        except LoginRefusedError as refusal:
            self._refuse(bearer.handle, Op.AUTH, refusal.code, refusal.reason, bearer.attempt.address)
        else:
            self._register(bearer.handle, principal, principal.device, bearer.attempt.address)

    def _register(self, handle: int, principal: Principal, device: int, address: str) -> None:
        """Only now is it known whose device it is: naming somebody else's must not shut that out."""
        flapping_s = self._limits.device(device, address)
        if flapping_s:
            self._shed(handle, flapping_s)
        elif self._engine.register(handle, principal.user, device, principal.token_epoch, 0, principal.expires_s):
            self._expect(handle, Pending(principal.token_epoch, principal.expires_s, None, principal.key))

    async def _check_keys(self, keys: list[int]) -> None:
        for _ in range(KEY_CHECKS_MAX):
            with contextlib.suppress(HubRefusalError):
                known = await self._hub.call("credentials", [[int(Credential.API_KEY), key] for key in keys])
                for key, subject in zip(keys, known, strict=True):
                    if subject is None:
                        self._keys.revoke(key)
                return
            await trio.sleep(KEY_CHECK_PAUSE_S)

    async def _device(self, principal: Principal, attempt: Attempt) -> int:
        answer = await self._hub.call("device", principal.user, attempt.device, attempt.label)
        device: int = answer["device"]
        return device

    async def _reauthenticate(self, handle: int, attempt: Attempt, user: int, session_epoch: int) -> None:
        try:
            principal = await self._credentials.verify(attempt)
            if principal.user != user:
                raise LoginRefusedError(ErrorCode.AUTH_FAILED, "reauth: another user")
            _, pos = await self._hub.call("ping")
            terms = self._engine.terms(handle)
            if terms is None:
                return
            if self._keys.is_revoked(principal.key):
                raise LoginRefusedError(ErrorCode.REVOKED, "API key: revoked")
            self._keys.opened(handle, principal.key)
            ticket = b""
            if not principal.key:
                ticket = self._ticket(user, attempt.device, principal.token_epoch, session_epoch, principal.expires_s)
            cursor = sync_cursor.encode(self._log_epoch, sync_cursor.SyncCursor(pos))
            session = frames.Session(user, attempt.device, session_epoch, 0, terms, self._log_epoch, cursor, ticket)
            self._engine.reauthenticated(handle, principal.expires_s, self._frames.welcome(session))
        except LoginRefusedError as refusal:
            self._refuse(handle, Op.REAUTH, refusal.code, refusal.reason, "", refusal.retry_after_ms)
        except HubRefusalError as refusal:
            self._refuse(handle, Op.REAUTH, refusal.code, "hub", "", refusal.retry_after_ms)
        except Exception:  # noqa: BLE001 a bug must not end the other logins
            self._log.exception("reauthentication failed", credential=attempt.credential)
            self._refuse(handle, Op.REAUTH, ErrorCode.INTERNAL, "bug", "", BUSY_RETRY_MS)
        finally:
            self._in_progress -= 1
            self._wake()

    # -- small things ------------------------------------------------------------------------------------------------

    def _ticket(self, user: int, device: int, token_epoch: int, session_epoch: int, token_expires_s: int) -> bytes:
        expires_s = int(self._clock.wall_s()) + self._auth["ticket_lifetime_s"]
        return self._tickets.seal(Ticket(user, device, token_epoch, session_epoch, expires_s, token_expires_s))

    def _expect(self, handle: int, pending: Pending) -> None:
        self._pending[handle] = pending
        if len(self._pending) > PENDING_MAX:
            self._pending.popitem(last=False)

    def _shed(self, handle: int, seconds: float) -> None:
        """Not now. seconds: until it may come again, 0: some time later."""
        wait_s = seconds or random.uniform(*SHED_RETRY_S)  # noqa: S311 a spread, no secret
        self._engine.close(handle, Close.SHED, int(wait_s * 1000))

    def _end(self, handle: int, reason: Close) -> None:
        self._engine.close(handle, reason)
        self._wake()

    def _ban(self, device: int) -> None:
        self._limits.ban(device)

    async def _tell_ban(self, device: int) -> None:
        """The other shards, through the hub; that one of them may miss it costs us one more flood."""
        with contextlib.suppress(HubRefusalError):
            await self._hub.call("flooded", device)

    def _refuse(self, handle: int, op: Op, code: ErrorCode, reason: str, address: str, retry_after_ms: int = 0) -> None:
        self._engine.refuse(handle, frames.error(code, op, retry_after_ms))
        left_out = self._limited.allow(address, reason)
        if left_out is not None:
            self._log.info("login refused", code=code.name, reason=reason, address=address, like_it_since=left_out)
