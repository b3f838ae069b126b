"""Secrets of one installation: files of mode 0600 in data/secrets, made at random, never shipped.

    jwt.key      signs this server's own tokens (`chatd token`), HS256
    ticket.keys  resume tickets: one line per key, newest first: id, Unix time of creation, 32 bytes in hex
    admin.key    the API key of the first administrator, made by `chatd init`

Importing this costs nothing; settings are duck-typed, so that commands without pydantic may use it too.
"""

import base64
import binascii
import os
import secrets
import time
from pathlib import Path
from typing import Any

from chatd.errors import ConfigError

LOCAL_ISSUER, LOCAL_KEY_ID = "chatd", "local"
SECRET_BYTES_MIN = 32
TOKEN_LIFETIME_S = 900
TICKET_KEYS_KEPT = 3
# Values that documentation, examples and other people's tutorials print: whoever copies one has no secret.
SHIPPED_EXAMPLES = frozenset(
    {
        "change-me-change-me-change-me-change-me",
        "0123456789abcdef0123456789abcdef",
        "0" * 64,
        "a-string-secret-at-least-256-bits-long",
        "your-256-bit-secret-your-256-bit-secret",
        "your-secret-key-your-secret-key-your-secret-key",
        "secretsecretsecretsecretsecretsecret",
    }
)


def directory(data: Path) -> Path:
    return data / "secrets"


def create(data: Path) -> list[Path]:
    """Make the data directory and the secrets that are missing in it; the paths made. ConfigError when it cannot."""
    made: list[Path] = []
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory(data).mkdir(mode=0o700, exist_ok=True)
        for name, text in (("jwt.key", _random_text()), ("ticket.keys", _ticket_line(1, int(time.time())))):
            path = directory(data) / name
            if not path.exists():
                write_private(path, text + "\n")
                made.append(path)
    except OSError as error:
        raise ConfigError(
            f"cannot make secrets in {directory(data)}: {error.strerror}. "
            "Make the data directory writable for this user, or name another one with --data"
        ) from None
    return made


def write_private(path: Path, text: str) -> None:
    """A file that only its owner can read, whole or not at all."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def load(settings: Any) -> dict[str, Any]:
    """What shards need to judge credentials: {"tickets": [[id, hex]], "issuers": [...]}. ConfigError names the file."""
    issuers = [
        {
            "issuer": LOCAL_ISSUER,
            "audience": LOCAL_ISSUER,
            "algorithm": "HS256",
            "keys": {LOCAL_KEY_ID: read_secret(directory(settings.data) / "jwt.key")},
            "types": ["JWT"],
            "create_users": True,
        }
    ]
    for issuer in settings.auth.issuers:
        read = read_secret if issuer.algorithm == "HS256" else _read_public_key
        keys = {kid: read(path if path.is_absolute() else settings.data / path) for kid, path in issuer.keys.items()}
        issuers.append({**issuer.model_dump(mode="json"), "keys": keys})
    tickets = [[number, key] for number, _, key in read_ticket_keys(settings.data)]
    return {"tickets": tickets, "issuers": issuers}


def mint(data: Path, user: str, lifetime_s: int = TOKEN_LIFETIME_S) -> str:
    """A token of this server's own issuer; its user is made at the first login. ConfigError without the secret."""
    import jwt

    now = time.time()
    claims = {
        "iss": LOCAL_ISSUER,
        "aud": LOCAL_ISSUER,
        "sub": user,
        # With its fraction: a token made in the second of a revocation, but after it, is good.
        "iat": now,
        "nbf": int(now),
        "exp": int(now) + lifetime_s,
    }
    secret = read_secret(directory(data) / "jwt.key")
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": LOCAL_KEY_ID})


def read_secret(path: Path) -> str:
    """A secret that is long enough and nobody's example. Group and others must not be able to read it."""
    text = _read(path, private=True)
    if text.lower() in SHIPPED_EXAMPLES:
        raise ConfigError(f"{path}: this secret is a published example; delete the file and run `chatd init`")
    if len(_bytes_of(text)) < SECRET_BYTES_MIN:
        raise ConfigError(
            f"{path}: the secret has less than {SECRET_BYTES_MIN} bytes; delete the file and `chatd init`"
        )
    return text


def _bytes_of(text: str) -> bytes:
    """How much randomness there can be: base64 and hex carry less than their length."""
    for decode in (binascii.unhexlify, lambda value: base64.b64decode(value + "=" * (-len(value) % 4), b"-_", True)):
        try:
            return bytes(decode(text))
        except (ValueError, binascii.Error):
            continue
    return text.encode()


def _read_public_key(path: Path) -> str:
    text = _read(path, private=False)
    if "PRIVATE KEY" in text:
        raise ConfigError(f"{path} holds a private key; the server needs the issuer's public key only")
    if "-----BEGIN PUBLIC KEY-----" not in text:
        raise ConfigError(f"{path} is no PEM public key")
    return text


def read_key(path: Path) -> str:
    """An API key that the server made: its form is its own, so it is not judged like an operator's secret."""
    return _read(path, private=True)


def _read(path: Path, private: bool) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(65_536).strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}. Is --data the server's data directory? "
            "`chatd init` makes missing secrets"
        ) from None
    if private and mode & 0o077:
        raise ConfigError(f"{path} can be read by others (mode {mode & 0o777:04o}); chmod 600 {path}")
    return text


# -- ticket keys: rotated, three kept --------------------------------------------------------------------------------


def read_ticket_keys(data: Path) -> list[tuple[int, int, str]]:
    """(id, created, key in hex), newest first."""
    path = directory(data) / "ticket.keys"
    keys = []
    for line in _read(path, private=True).splitlines():
        try:
            number, created, key = line.split()
            keys.append((int(number), int(created), key))
            if len(bytes.fromhex(key)) < SECRET_BYTES_MIN or not 0 < int(number) < 256:
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"{path}: not `id created key`; delete the file and `chatd init` (clients log in again)"
            ) from None
    if not keys:
        raise ConfigError(f"{path} holds no key; delete it and run `chatd init`")
    return keys


def rotate_ticket_keys(data: Path, lifetime_s: int, now: float) -> bool:
    """Put a new key in front when the newest is older than lifetime_s. True when it did."""
    keys = read_ticket_keys(data)
    number, created, _ = keys[0]
    if now - created < lifetime_s:
        return False
    lines = [
        _ticket_line(number % 255 + 1, int(now)),
        *(" ".join(map(str, key)) for key in keys[: TICKET_KEYS_KEPT - 1]),
    ]
    write_private(directory(data) / "ticket.keys", "\n".join(lines) + "\n")
    return True


def _ticket_line(number: int, created: int) -> str:
    return f"{number} {created} {secrets.token_hex(32)}"


def _random_text() -> str:
    return secrets.token_urlsafe(48)
