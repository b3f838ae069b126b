"""The token matrix: every way in which a token may be wrong (security.md 4, ASVS 9.1 and 9.2)."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chatd.shard.tokens import InvalidTokenError, TokenVerifier, issue

SECRET = "k" * 64
OTHER = "o" * 64
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = (
    PRIVATE.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
LOCAL = {
    "issuer": "chatd", "audience": "chatd", "algorithm": "HS256", "keys": {"local": SECRET}, "types": ["JWT"],
    "create_users": True,
}  # fmt: skip
EXTERNAL = {
    "issuer": "https://id.example.org", "audience": "chat", "algorithm": "EdDSA", "keys": {"a": PUBLIC},
    "types": ["JWT", "at+jwt"], "create_users": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def verifier() -> TokenVerifier:
    return TokenVerifier([LOCAL, EXTERNAL], lifetime_max_s=900, clock_skew_s=60)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    content = {"iss": "chatd", "aud": "chatd", "sub": "alice", "iat": now, "nbf": now, "exp": now + 600} | changed
    return {name: value for name, value in content.items() if value is not None}


def token(content: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> bytes:
    return jwt.encode(content, key, algorithm=algorithm, headers={"kid": "local"} | headers).encode()


def raw(header: dict[str, Any], payload: Any, signature: bytes = b"") -> bytes:
    parts = [json.dumps(header).encode(), payload if isinstance(payload, bytes) else json.dumps(payload).encode()]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in [*parts, signature])


def test_own_token_is_accepted(verifier: TokenVerifier) -> None:
    accepted = verifier.verify(issue(SECRET, "local", "chatd", "alice", 600).encode())
    assert (accepted.subject, accepted.create_user) == ("alice", True)
    assert accepted.expires_s - accepted.issued_ms // 1000 == 600


def test_eddsa_token_is_accepted(verifier: TokenVerifier) -> None:
    content = claims(iss="https://id.example.org", aud="chat")
    for typ in ("JWT", "at+jwt"):
        accepted = verifier.verify(token(content, PRIVATE, "EdDSA", kid="a", typ=typ))
        assert (accepted.subject, accepted.create_user) == ("alice", False)


def test_a_secret_is_searched_for_a_pem_once(verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [token(claims(sub=name)) for name in ("alice", "bob", "carol")]
    verifier.verify(tokens[0])
    monkeypatch.setattr("jwt.algorithms.is_pem_format", lambda key: pytest.fail("looked again"))
    assert [verifier.verify(each).subject for each in tokens] == ["alice", "bob", "carol"]


def now() -> int:
    """Asked for by each test: collecting and running thousands of tests takes longer than a token lives."""
    return int(time.time())


HEADER = {"alg": "HS256", "typ": "JWT", "kid": "local"}


def refused() -> dict[str, bytes]:
    """What is wrong → the token."""
    return {
        "empty": b"",
        "two parts": b"a.b",
        "not base64": b"!.!.!",
        "not json": raw(HEADER, b"{"),
        "not an object": raw(HEADER, [1]),
        "not utf-8": b"\xff.\xff.\xff",
        "deeply nested": raw(HEADER, b"[" * 700),
        "no signature": raw(HEADER, claims()),
        "alg none": raw(HEADER | {"alg": "none"}, claims()),
        "alg None": raw(HEADER | {"alg": "None"}, claims()),
        "alg missing": raw({"typ": "JWT", "kid": "local"}, claims()),
        "other secret": token(claims(), OTHER),
        "HS384": token(claims(), SECRET, "HS384"),
        "HS256 signed with the public key": raw(
            HEADER | {"kid": "a"}, claims(iss="https://id.example.org", aud="chat"), b"x" * 32
        ),
        "EdDSA with the local issuer": token(claims(), PRIVATE, "EdDSA"),
        "key of the other issuer": token(claims(), PRIVATE, "EdDSA", kid="a"),
        "unknown kid": token(claims(), kid="other"),
        "kid is a path": token(claims(), kid="../../etc/passwd"),
        "kid is a number": raw(HEADER | {"kid": 1}, claims(), b"x"),
        "no kid": raw({"alg": "HS256", "typ": "JWT"}, claims(), b"x"),
        "jku": token(claims(), jku="https://evil.example"),
        "x5u": token(claims(), x5u="https://evil.example"),
        "jwk": token(claims(), jwk={"kty": "oct", "k": "a2tr"}),
        "x5c": token(claims(), x5c=["MII="]),
        "crit": token(claims(), crit=["exp"]),
        "typ missing": token(claims(), typ=None),
        "typ of another kind": token(claims(), typ="id+jwt"),
        "typ at+jwt for an issuer without it": token(claims(), typ="at+jwt"),
        "unknown issuer": token(claims(iss="https://evil.example")),
        "issuer is a list": raw(HEADER, claims() | {"iss": ["chatd"]}, b"x"),
        "other audience": token(claims(aud="https://shop.example")),
        "audience among others": token(claims(aud=["chatd", "shop"])),
        "no exp": token(claims(exp=None)),
        "no nbf": token(claims(nbf=None)),
        "no sub": token(claims(sub=None)),
        "no aud": token(claims(aud=None)),
        "no iss": token(claims(iss=None)),
        "nbf in the future": token(claims(nbf=now() + 300)),
        "iat in the future": token(claims(iat=now() + 300)),
        "lives too long": token(claims(exp=now() + 901 + 60)),
        "exp is a float": token(claims(exp=now() + 600.5)),
        "iat is not finite": raw(HEADER, claims(iat=float("nan")), b"x"),
        "iat is true": raw(HEADER, claims(iat=True), b"x"),
        "exp is true": raw(HEADER, claims(exp=True), b"x"),
        "exp is huge": token(claims(exp=1 << 70)),
        "sub is empty": token(claims(sub="")),
        "sub is long": token(claims(sub="a" * 65)),
        "longer than 2 KiB": token(claims(pad="x" * 2048)),
    }


@pytest.mark.parametrize("name", refused())
def test_refused(verifier: TokenVerifier, name: str) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        verifier.verify(refused()[name])
    assert not caught.value.expired


def test_issue_may_have_a_fraction_for_the_sake_of_revocations(verifier: TokenVerifier) -> None:
    assert verifier.verify(token(claims(iat=now() - 0.25))).issued_ms == (now() - 1) * 1000 + 750


def test_64_kib_are_refused_unread(verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidTokenError, match="too long"):
        verifier.verify(b"x" * 65_536)


def test_expired_is_said_and_skew_is_tolerated(verifier: TokenVerifier) -> None:
    verifier.verify(token(claims(nbf=now() - 600, exp=now() - 30)))
    with pytest.raises(InvalidTokenError) as caught:
        verifier.verify(token(claims(nbf=now() - 600, exp=now() - 120)))
    assert caught.value.expired


def test_times_are_judged_by_the_clock_that_was_given() -> None:
    issued = issue(SECRET, "local", "chatd", "alice", 600).encode()
    for ahead_s, reason in ((-61, "not valid yet"), (661, "expired")):
        there = TokenVerifier([LOCAL], 900, 60, lambda: time.time() + ahead_s)  # noqa: B023
        with pytest.raises(InvalidTokenError, match=reason):
            there.verify(issued)
    assert TokenVerifier([LOCAL], 900, 60, lambda: time.time() + 655).verify(issued).subject == "alice"


def test_an_expired_token_with_a_wrong_signature_is_just_wrong(verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        verifier.verify(token(claims(exp=now() - 600), OTHER))
    assert not caught.value.expired


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_no_prefix_of_a_token_is_accepted(verifier: TokenVerifier, cut: int) -> None:
    whole = token(claims())
    with pytest.raises(InvalidTokenError):
        verifier.verify(whole[: min(cut, len(whole) - 1)])
