"""JSON Web Tokens: one algorithm per issuer, keys from a map, every claim required. security.md 4; ASVS 9.1, 9.2.

The header of a token is its bearer's word. It may name a key id, which is looked up in a map; it may not bring a key
(jwk), a place to fetch one (jku, x5u), a file, or an algorithm other than the issuer's. PyJWT parses keys, signs and
verifies signatures; a token is taken apart and its claims are judged here, once: 7 µs instead of 32 of jwt.decode.
"""

import base64
import binascii
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
import orjson

from chatd.clock import SYSTEM

TOKEN_BYTES_MAX = 2048
SUBJECT_BYTES_MAX = 64
# What a ticket and the engine can hold; the year 2106.
TIME_S_MAX = 1 << 32
FORBIDDEN_HEADERS = frozenset({"jku", "x5u", "jwk", "x5c", "crit", "b64", "zip"})


class Claims(NamedTuple):
    """A token that holds. issued_ms is compared with the user's token epoch, the time of the last revocation."""

    subject: str
    expires_s: int
    issued_ms: int
    create_user: bool


class InvalidTokenError(Exception):
    """The message is for our logs, by a closed set of words; clients learn AUTH_FAILED only. expired: or that."""

    def __init__(self, reason: str, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


class TokenVerifier:
    """Verifies tokens of the issuers it was given (chatd.secrets.load)."""

    def __init__(
        self,
        issuers: list[dict[str, Any]],
        lifetime_max_s: int,
        clock_skew_s: int,
        now_s: Callable[[], float] = SYSTEM.wall_s,
    ) -> None:
        self._issuers = {issuer["issuer"]: issuer for issuer in issuers}
        self._lifetime_max_s = lifetime_max_s
        self._clock_skew_s = clock_skew_s
        self._now_s = now_s
        self._keys = {
            (issuer["issuer"], kid): _prepared(issuer["algorithm"], key)
            for issuer in issuers
            for kid, key in issuer["keys"].items()
        }

    def verify(self, token: bytes) -> Claims:
        """Claims of a valid token. InvalidTokenError otherwise, and nothing else."""
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidTokenError("too long")
        header, payload, signed, signature = _parts(token)
        issuer = self._issuers.get(payload.get("iss")) if isinstance(payload.get("iss"), str) else None
        if issuer is None:
            raise InvalidTokenError("unknown issuer")
        key = self._key(issuer, header)
        if not jwt.get_algorithm_by_name(issuer["algorithm"]).verify(signed, key, signature):
            raise InvalidTokenError("signature")
        return self._judged(payload, issuer)

    def _key(self, issuer: dict[str, Any], header: dict[str, Any]) -> Any:
        if header.get("alg") != issuer["algorithm"]:
            raise InvalidTokenError("algorithm")
        if FORBIDDEN_HEADERS & header.keys():
            raise InvalidTokenError("forbidden header")
        if header.get("typ") not in issuer["types"]:
            raise InvalidTokenError("type")
        kid = header.get("kid")
        if not isinstance(kid, str) or (issuer["issuer"], kid) not in self._keys:
            raise InvalidTokenError("unknown key id")
        return self._keys[issuer["issuer"], kid]

    def _judged(self, claims: dict[str, Any], issuer: dict[str, Any]) -> Claims:
        expires_s: Any = claims.get("exp")
        not_before_s: Any = claims.get("nbf")
        issued_s: Any = claims.get("iat", not_before_s)
        subject = claims.get("sub")
        if claims.get("aud") != issuer["audience"]:
            raise InvalidTokenError("audience")
        # bool is an int, and JSON has true. Only iat may have a fraction: it is compared with revocations.
        if type(issued_s) not in (int, float) or type(expires_s) is not int or type(not_before_s) is not int:
            raise InvalidTokenError("times")
        if not all(0 <= moment < TIME_S_MAX for moment in (issued_s, expires_s, not_before_s)):
            raise InvalidTokenError("times")
        now_s = self._now_s()
        if expires_s <= now_s - self._clock_skew_s:
            raise InvalidTokenError("expired", expired=True)
        if max(not_before_s, issued_s) > now_s + self._clock_skew_s:
            raise InvalidTokenError("not valid yet")
        if expires_s - not_before_s > self._lifetime_max_s:
            raise InvalidTokenError("lifetime")
        if not isinstance(subject, str) or not 0 < len(subject.encode("utf-8", "replace")) <= SUBJECT_BYTES_MAX:
            raise InvalidTokenError("subject")
        return Claims(subject, expires_s, int(issued_s * 1000), bool(issuer["create_users"]))


def issue(key: str, kid: str, issuer: str, subject: str, lifetime_s: int, **claims: Any) -> str:
    """A token of our own (HS256), as `chatd token` prints it. Kept beside the verifier so that they agree."""
    now = int(time.time())
    content = {"iss": issuer, "aud": issuer, "sub": subject, "iat": now, "nbf": now, "exp": now + lifetime_s, **claims}
    return jwt.encode(content, key, algorithm="HS256", headers={"kid": kid})


def _parts(token: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header and claims, what was signed, and the signature: nothing of it verified."""
    parts = token.split(b".")
    if len(parts) != 3:
        raise InvalidTokenError("not three parts")
    try:
        decoded = [base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True) for part in parts]
        header, claims = orjson.loads(decoded[0]), orjson.loads(decoded[1])
    except (ValueError, binascii.Error):
        raise InvalidTokenError("not base64 of JSON") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise InvalidTokenError("not objects")
    return header, claims, token.rpartition(b".")[0], decoded[2]


def _prepared(algorithm: str, key: str) -> Any:
    """Parse a PEM once; it costs more than a verification."""
    return jwt.get_algorithm_by_name(algorithm).prepare_key(key)
