"""The five credentials: what each proves, and against what. The table at the end is all that logins know of them.

Whatever is wrong, a client learns AUTH_FAILED and nothing else (an expired or revoked token excepted, which its holder
knows anyway); the reasons are for our logs.
"""

import hashlib
import hmac
from typing import TYPE_CHECKING, NamedTuple

from chatd.shard.hub_calls import HubCalls, HubRefusalError
from chatd.shard.limits import LoginLimits
from chatd.shard.passwords import PasswordBusyError, PasswordVerifier
from chatd.shard.tokens import Claims, InvalidTokenError, TokenVerifier
from chatd.wire.schema import Credential, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEVICE_PROOF_CONTEXT = b"chatd.v1 device"
API_KEY_PREFIX = "chatd"


class Principal(NamedTuple):
    """Who it is. device: a device that was made or proved on the way, 0 when the login has to get one. key: the API
    key of somebody else that acts as this user, 0 for every other credential."""

    user: int
    token_epoch: int
    expires_s: int = 0
    device: int = 0
    key: int = 0


class Attempt(NamedTuple):
    """What AUTH or REAUTH said."""

    credential: int
    device: int
    identity: str
    proof: bytes
    label: str
    nonce: bytes
    address: str


class LoginRefusedError(Exception):
    """reason: a closed set of words for the log."""

    def __init__(self, code: ErrorCode, reason: str, retry_after_ms: int = 0) -> None:
        super().__init__(reason)
        self.code, self.reason, self.retry_after_ms = code, reason, retry_after_ms


class Credentials:
    """Verifies attempts; the tokens' keys can be exchanged while it runs."""

    def __init__(self, hub: HubCalls, limits: LoginLimits, tokens: TokenVerifier, password_queue_max: int) -> None:
        self._hub, self._limits = hub, limits
        self.tokens = tokens
        self._passwords = PasswordVerifier(password_queue_max)
        self._table: dict[int, Callable[[Attempt], Awaitable[Principal]]] = {
            Credential.JWT: self._jwt,
            Credential.API_KEY: self._api_key,
            Credential.PASSWORD: self._password,
            Credential.GUEST: self._guest,
            Credential.DEVICE_KEY: self._device_key,
        }

    async def verify(self, attempt: Attempt) -> Principal:
        """Who this is. Raises LoginRefusedError or HubRefusalError."""
        verify = self._table.get(attempt.credential)
        if verify is None:
            raise LoginRefusedError(ErrorCode.UNSUPPORTED, "unknown credential")
        return await verify(attempt)

    def _charge(self, user: object, address: str) -> None:
        wait_s = self._limits.user(user)
        if wait_s:
            raise LoginRefusedError(ErrorCode.RATE_LIMITED, "user rate", int(wait_s * 1000) + 1)
        self._limits.user_succeeded(user, address)

    def claims(self, attempt: Attempt) -> Claims:
        """What a JSON Web Token says, verified and charged to its user. Raises LoginRefusedError."""
        try:
            claims = self.tokens.verify(attempt.proof)
        except InvalidTokenError as error:
            code = ErrorCode.TOKEN_EXPIRED if error.expired else ErrorCode.AUTH_FAILED
            raise LoginRefusedError(code, f"token: {error}") from None
        self._charge(claims.subject, attempt.address)
        return claims

    async def _jwt(self, attempt: Attempt) -> Principal:
        return await self.verify_claims(self.claims(attempt))

    async def verify_claims(self, claims: Claims) -> Principal:
        """Who a verified token speaks for. Raises LoginRefusedError or HubRefusalError."""
        subject = await self._hub.call("credential", int(Credential.JWT), claims.subject)
        if subject is None and claims.create_user:
            subject = await self._hub.call("provision", claims.subject, "")
        if subject is None:
            raise LoginRefusedError(ErrorCode.AUTH_FAILED, "token: unknown user")
        return self.holder(claims, subject["user"], subject["token_epoch"])

    @staticmethod
    def holder(claims: Claims, user: int, token_epoch: int, device: int = 0) -> Principal:
        """The user, unless what it held was revoked. Raises LoginRefusedError."""
        # A second is the resolution of iat: a token issued within the second of the revocation counts as older.
        if claims.issued_ms < token_epoch:
            raise LoginRefusedError(ErrorCode.REVOKED, "token: revoked")
        return Principal(user, token_epoch, claims.expires_s, device)

    async def _api_key(self, attempt: Attempt) -> Principal:
        """The secret has 192 random bits: a plain hash suffices and there is nothing to guess."""
        prefix, _, rest = attempt.proof.decode("ascii", "replace").partition("_")
        number, _, secret = rest.partition("_")
        if prefix != API_KEY_PREFIX or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise LoginRefusedError(ErrorCode.AUTH_FAILED, "API key: malformed")
        subject = await self._hub.call("credential", int(Credential.API_KEY), int(number))
        digest = hashlib.sha256(secret.encode()).digest()
        if not hmac.compare_digest(digest, subject["hash"] if subject else bytes(32)) or subject is None:
            raise LoginRefusedError(ErrorCode.AUTH_FAILED, "API key")
        key = 0
        if attempt.identity and attempt.identity != subject["name"]:
            key = int(number)
            if not subject["acts_as_others"]:
                raise LoginRefusedError(ErrorCode.FORBIDDEN, "API key: may not act as others")
            subject = await self._hub.call("provision", attempt.identity, "")
        self._charge(subject["user"], attempt.address)
        return Principal(subject["user"], subject["token_epoch"], key=key)

    async def _password(self, attempt: Attempt) -> Principal:
        """Same shape and time for a wrong password, a user without one, and nobody."""
        wait_s = self._limits.user(attempt.identity)
        if wait_s:
            raise LoginRefusedError(ErrorCode.RATE_LIMITED, "user rate", int(wait_s * 1000) + 1)
        subject = await self._hub.call("credential", int(Credential.PASSWORD), attempt.identity)
        try:
            right = await self._passwords.verify(subject["hash"] if subject else None, attempt.proof)
        except PasswordBusyError:
            raise LoginRefusedError(ErrorCode.AUTH_BUSY, "password queue", 1000) from None
        if not right:
            raise LoginRefusedError(ErrorCode.AUTH_FAILED, "password")
        self._limits.user_succeeded(attempt.identity, attempt.address)
        return Principal(subject["user"], subject["token_epoch"])

    async def _guest(self, attempt: Attempt) -> Principal:
        subject = await self._hub.call("guest", attempt.identity, attempt.label)
        return Principal(subject["user"], subject["token_epoch"], device=subject["device"])

    async def _device_key(self, attempt: Attempt) -> Principal:
        """HMAC-SHA256(key, "chatd.v1 device" | nonce | device as u64); the nonce was this connection's CHALLENGE."""
        if not attempt.nonce or not attempt.device:
            raise LoginRefusedError(ErrorCode.AUTH_FAILED, "device key: no challenge or no device")
        self._charge(("device", attempt.device), attempt.address)
        subject = await self._hub.call("credential", int(Credential.DEVICE_KEY), attempt.device)
        message = DEVICE_PROOF_CONTEXT + attempt.nonce + attempt.device.to_bytes(8, "big")
        expected = hmac.digest(subject["key"] if subject else bytes(32), message, "sha256")
        if not hmac.compare_digest(expected, attempt.proof) or subject is None:
            raise LoginRefusedError(ErrorCode.AUTH_FAILED, "device key")
        return Principal(subject["user"], subject["token_epoch"], device=attempt.device)


__all__ = ["Attempt", "Credentials", "HubRefusalError", "LoginRefusedError", "Principal"]
