"""Parameters of methods: what each may be, checked before any work. Everything here is a peer's."""

import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from chatd.hub.frames import CallError
from chatd.hub.rights import ROLES
from chatd.wire.schema import TITLE_BYTES_MAX, ErrorCode, Right

ID_END = 1 << 63
NAME_BYTES_MAX = 64
LABEL_BYTES_MAX = 64
PASSWORD_BYTES_MIN = 8
PASSWORD_BYTES_MAX = 256
REQUEST_KEY_BYTES_MAX = 16
TOPIC_BYTES_MAX = 512
REFERENCE_BYTES_MAX = 256
REASON_BYTES_MAX = 256
NOTE_BYTES_MAX = 512
RIGHTS_BITS = max(Right).bit_length()
REQUIRED = object()

Check = Callable[[Any], Any]
"""value → checked value. ValueError says what it must be."""


class Param(NamedTuple):
    key: int
    name: str
    check: Check
    default: Any = REQUIRED


def checked(params: dict[int, Any], table: tuple[Param, ...]) -> dict[str, Any]:
    """Keyword arguments for the handler. CallError BAD_REQUEST names the first key that is wrong."""
    arguments = {}
    for param in table:
        value = params.get(param.key)
        if value is None and param.default is not REQUIRED:
            arguments[param.name] = param.default
            continue
        try:
            arguments[param.name] = param.check(value)
        except ValueError as error:
            text = f"parameter {param.key} ({param.name}) must be {error}"
            raise CallError(ErrorCode.BAD_REQUEST, text) from None
    return arguments


def request_key(params: dict[int, Any]) -> bytes | None:
    """Parameter 0, the idempotency key."""
    key = params.get(0)
    if key is None:
        return None
    if not isinstance(key, bytes) or not 1 <= len(key) <= REQUEST_KEY_BYTES_MAX:
        raise CallError(ErrorCode.BAD_REQUEST, f"parameter 0 must be 1 to {REQUEST_KEY_BYTES_MAX} bytes")
    return key


# ---------------------------------------------------------------- checks


def identifier(value: Any) -> int:
    if type(value) is not int or not 0 < value < ID_END:
        raise ValueError("an id, a positive integer")
    return value


def after(value: Any) -> int:
    if type(value) is not int or not 0 <= value < ID_END:
        raise ValueError("an id or 0")
    return value


def limit(most: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or value < 0:
            raise ValueError(f"a number up to {most}")
        return min(value or most, most)

    return check


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("true or false")
    return value


def data(most: int) -> Check:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) > most:
            raise ValueError(f"at most {most} bytes")
        return value

    return check


def one_of(*allowed: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or value not in allowed:
            raise ValueError("one of " + ", ".join(map(str, allowed)))
        return value

    return check


def identifiers(most: int) -> Check:
    """A list without repeats, in the order given."""

    def check(value: Any) -> list[int]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"a list of at most {most} ids")
        return list(dict.fromkeys(identifier(item) for item in value))

    return check


def text(bytes_max: int, bytes_min: int = 0) -> Check:
    """Printable text: no control characters, NFC, trimmed."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"text of {bytes_min} to {bytes_max} bytes")
        cleaned = unicodedata.normalize("NFC", value).strip()
        if not bytes_min <= len(cleaned.encode(errors="surrogatepass")) <= bytes_max:
            raise ValueError(f"text of {bytes_min} to {bytes_max} bytes of UTF-8")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in cleaned):
            raise ValueError("text without control characters")
        return cleaned

    return check


def user_name(value: Any) -> str:
    """1 to 64 bytes, printable, no spaces. Names are compared as they are, after NFC."""
    name: str = text(NAME_BYTES_MAX, 1)(value)
    if any(character.isspace() or unicodedata.category(character)[0] in "CZ" for character in name):
        raise ValueError("a name without spaces and invisible characters")
    return name


def names(most: int) -> Check:
    def check(value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"a list of at most {most} names")
        return list(dict.fromkeys(user_name(item) for item in value))

    return check


def password(value: Any) -> str:
    """Taken as it is: no trimming, no normalisation."""
    if (
        not isinstance(value, str)
        or not PASSWORD_BYTES_MIN <= len(value.encode(errors="replace")) <= PASSWORD_BYTES_MAX
    ):
        raise ValueError(f"a password of {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes")
    return value


def number(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a number from {low} to {high}")
        return value

    return check


def exactly(size: int) -> Check:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != size:
            raise ValueError(f"{size} bytes")
        return value

    return check


def denials(value: Any) -> dict[int, int]:
    """{role: rights denied}"""
    if not isinstance(value, dict) or not all(type(part) is int for item in value.items() for part in item):
        raise ValueError("a map from role to rights")
    if any(not 0 < role < ROLES or not 0 <= rights < 1 << RIGHTS_BITS for role, rights in value.items()):
        raise ValueError(f"a map from a role below {ROLES} to bits of rights")
    return value


def public_name(value: Any) -> str:
    """A user name, or nothing."""
    return "" if value == "" else user_name(value)


title = text(TITLE_BYTES_MAX)
label = text(LABEL_BYTES_MAX)
display_name = text(NAME_BYTES_MAX)
topic = text(TOPIC_BYTES_MAX)
reference = text(REFERENCE_BYTES_MAX)
reason = text(REASON_BYTES_MAX)
note = text(NOTE_BYTES_MAX)
