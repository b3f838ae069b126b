"""Payloads of messages that have a layout: what each field may be. Text is checked by the shard already."""

import re
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.services.messages import typed
from chatd.services.messages.parts import Effect, fields_of
from chatd.wire.schema import KINDS, ErrorCode, Kind

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

MEDIA_BYTES_MAX = 1 << 40
PIXELS_MAX = 100_000
DURATION_MS_MAX = 24 * 3600 * 1000
LATITUDE_MAX, LONGITUDE_MAX = 180 * 10**7, 360 * 10**7
_MEDIA = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_MIME = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]*")
_PHONE = re.compile(r"(\+?[0-9 ()-]{3,32})?")
_EMAIL = re.compile(r"([^@\s]+@[^@\s]+)?")

Check = Callable[[Any], bool]


def _text(value: str) -> bool:
    """Anything but control characters; line breaks and tabs are fine."""
    return not any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in value)


def _line(value: str) -> bool:
    return _text(value) and "\n" not in value


def _named(value: str) -> bool:
    return bool(value.strip()) and _line(value)


def _number(most: int, least: int = 1) -> Check:
    return lambda value: least <= value <= most


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value: pattern.fullmatch(value) is not None


def _mime(family: str = "") -> Check:
    return lambda value: _MIME.fullmatch(value) is not None and value.startswith(family)


_FILE = {"media": _matches(_MEDIA), "size_bytes": _number(MEDIA_BYTES_MAX), "caption": _text}
_PICTURE = {"width": _number(PIXELS_MAX), "height": _number(PIXELS_MAX)}
_SOUND = {"duration_ms": _number(DURATION_MS_MAX)}

CHECKS: dict[int, dict[str, Check]] = {
    Kind.STICKER: {"pack": _line, "name": _line, "emoji": _line},
    Kind.IMAGE: {**_FILE, **_PICTURE, "mime": _mime("image/")},
    Kind.VOICE: {**_FILE, **_SOUND, "mime": _mime("audio/")},
    Kind.VIDEO: {**_FILE, **_PICTURE, **_SOUND, "mime": _mime("video/")},
    Kind.FILE: {**_FILE, "mime": _mime(), "name": _named},
    Kind.LOCATION: {"latitude": _number(LATITUDE_MAX, 0), "longitude": _number(LONGITUDE_MAX, 0), "name": _line,
                    "address": _text},
    Kind.CONTACT: {"name": _named, "phone": _matches(_PHONE), "email": _matches(_EMAIL)},
}  # fmt: skip
"""Per kind and field; a field without a check is bounded by its layout alone."""


def judge(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    """A message with a payload layout: nothing is staged beside it."""
    check(hub, send.kind, send.payload)
    return ()


def check(hub: "Hub", kind: int, payload: bytes) -> None:
    """A payload as a SEND of this kind may have it; also what an edit replaces it by. BAD_REQUEST, TOO_LARGE."""
    if len(payload) > KINDS[kind].payload_bytes_max:
        raise CallError(ErrorCode.TOO_LARGE, f"{len(payload)} bytes; this kind takes {KINDS[kind].payload_bytes_max}")
    if kind in (Kind.TEXT, Kind.MARKDOWN):
        _check_text(payload)
    elif KINDS[kind].layout is not None:
        _check_fields(hub, kind, fields_of(kind, payload))


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"not UTF-8 at byte {error.start}") from None


def _check_fields(hub: "Hub", kind: int, fields: dict[str, Any]) -> None:
    for name, fits in CHECKS.get(kind, {}).items():
        if name in fields and not fits(fields[name]):
            raise CallError(ErrorCode.BAD_REQUEST, f"{Kind(kind).name}: {name} cannot be {fields[name]!r}")
    if kind == Kind.STICKER and not (fields["name"] or fields["emoji"]):
        raise CallError(ErrorCode.BAD_REQUEST, "a sticker needs a name or an emoji")
    if kind == Kind.CONTACT and fields["user"] and hub.rows.find("user", fields["user"]) is None:
        raise CallError(ErrorCode.NOT_FOUND, f"there is no user {fields['user']}")
    if kind == Kind.TYPED:
        typed.check(hub, fields["name"], fields["content"])
