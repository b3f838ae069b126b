# Typed messages: an application names a kind of its own and says what its content looks like. The operator registers it
# in the configuration with a schema, or installs a plugin: a Python distribution with an entry point in the group
# chatd.kinds, whose name is the kind's. Its object is a schema, or a function that is called with the content and
# raises ValueError for what it does not want; a function may have a schema, too, as its attribute `schema`, which is
# asked first. With a schema the content is one MessagePack value. What is registered is known from the start on.
"""Kinds registered by configuration and by plugins."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from chatd.hub.frames import CallError
from chatd.services.messages import shapes
from chatd.wire.schema import ErrorCode

if TYPE_CHECKING:
    from chatd.hub.loop import Hub
    from chatd.services.caller import Caller, Result

log = logging.getLogger(__name__)

GROUP = "chatd.kinds"
SCHEMA_BYTES_MAX = 4096
"""As JSON: a page of ten fits into a frame."""
Check = Callable[[bytes], None]
"""content of a TYPED payload → None. ValueError says what it must be."""


class Registered(NamedTuple):
    """schema: as JSON, "" for a kind without one."""

    shape: shapes.Shape | None
    schema: str
    check: Check | None


def registered(own: Iterable[Mapping[str, Any]]) -> dict[str, Registered]:
    """By name. own: name and content of each of the configuration's. ValueError: a schema is wrong or a name is taken.

    A plugin that cannot be loaded is left out: its messages are refused, others go on.
    """
    found: dict[str, Registered] = {}
    for given in own:
        _add(found, given["name"], given["content"])
    for point in entry_points(group=GROUP):
        try:
            plugin = point.load()
        except Exception:
            log.exception("the plugin for messages %r (%s) cannot be loaded; they are refused", point.name, point.value)
            continue
        _add(found, point.name, plugin)
    if found:
        log.info("typed messages: %s", ", ".join(sorted(found)))
    return found


def _add(found: dict[str, Registered], name: str, given: Any) -> None:
    if name in found:
        raise ValueError(f"{name}: two kinds have this name")
    schema = given if isinstance(given, Mapping) else getattr(given, "schema", None)
    if schema is None and not callable(given):
        raise ValueError(f"{name}: neither a schema nor a function")
    try:
        shape = None if schema is None else shapes.made(schema)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    text = "" if schema is None else json.dumps(schema, ensure_ascii=False)
    if len(text.encode()) > SCHEMA_BYTES_MAX:
        raise ValueError(f"{name}: its schema has more than {SCHEMA_BYTES_MAX} bytes as JSON")
    found[name] = Registered(shape, text, given if callable(given) else None)


def check(hub: "Hub", name: str, content: bytes) -> None:
    """UNSUPPORTED: nobody has registered it. BAD_REQUEST names the field."""
    kind: Registered | None = hub.kinds.get(name)
    if kind is None:
        raise CallError(ErrorCode.UNSUPPORTED, f"this server does not know {name!r} messages")
    try:
        if kind.shape is not None:
            shapes.check(kind.shape, _unpacked(content))
        if kind.check is not None:
            kind.check(content)
    except ValueError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"{name}: {error}") from None
    except Exception:
        log.exception("the plugin for messages %r failed; the message is refused", name)
        raise CallError(ErrorCode.BAD_REQUEST, f"the plugin for {name!r} messages failed on this one") from None


def _unpacked(content: bytes) -> Any:
    try:
        return msgpack.unpackb(content)
    except (ValueError, msgpack.UnpackException):
        raise ValueError("content is not one MessagePack value") from None


async def list_kinds(caller: "Caller", after: str, limit: int) -> "Result":
    """KIND_LIST"""
    names = sorted(name for name in caller.hub.kinds if name > after)
    return {1: [[name, caller.hub.kinds[name].schema or None] for name in names[:limit]], 2: len(names) > limit}
