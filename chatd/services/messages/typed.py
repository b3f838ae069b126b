# Typed messages: an application names a kind of its own and says what its content looks like. A plugin is a Python
# distribution with an entry point in the group chatd.kinds; its name is the kind's, its object is called with the
# content and raises ValueError for what it does not want. Plugins are loaded once, when the hub first needs one.
"""Kinds registered by plugins."""

import logging
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from chatd.hub.frames import CallError
from chatd.wire.schema import ErrorCode

log = logging.getLogger(__name__)

GROUP = "chatd.kinds"
Schema = Callable[[bytes], None]
"""content of a TYPED payload → None. ValueError says what it must be."""


@cache
def schemas() -> dict[str, Schema]:
    """By name. A plugin that cannot be loaded is left out: its messages are refused, others go on."""
    found: dict[str, Schema] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception:
            log.exception("the plugin for messages %r (%s) cannot be loaded; they are refused", point.name, point.value)
    if found:
        log.info("typed messages: %s", ", ".join(sorted(found)))
    return found


def check(name: str, content: bytes) -> None:
    schema = schemas().get(name)
    if schema is None:
        raise CallError(ErrorCode.UNSUPPORTED, f"no plugin of this server knows {name!r} messages")
    try:
        schema(content)
    except ValueError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"{name}: {error}") from None
    except Exception:
        log.exception("the plugin for messages %r failed; the message is refused", name)
        raise CallError(ErrorCode.BAD_REQUEST, f"the plugin for {name!r} messages failed on this one") from None
