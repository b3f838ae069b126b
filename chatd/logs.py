"""Logs: structlog to standard error, as JSON lines or for people.

A line costs 5 µs, so nothing here belongs on the hot path. Rules (security.md 7): no payloads, no tokens; what a peer
sent appears only as numbers, closed words and addresses; control characters are escaped. limited() keeps a peer from
making us write more than one line a minute for a reason.
"""

import logging
import sys
import time
from collections import OrderedDict
from typing import Any

import orjson
import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LIMITED_S = 60.0
LIMITED_KEYS_MAX = 4096


def configure(output: str, level: str, **bound: Any) -> None:
    """Set up this process. output: human or json (resolved by the supervisor). bound: fields of every line (role …)."""
    human = output == "human"
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=_plain)
        if human
        else structlog.processors.JSONRenderer(serializer=orjson.dumps)
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
        _escape,
    ]
    if not human:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr)
        if human
        else structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[Forwarding()], level=LEVELS[level], force=True)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)


def set_level(level: str) -> None:
    """Change what is written from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))
    logging.getLogger().setLevel(LEVELS[level])


class Forwarding(logging.Handler):
    """Lines of libraries and of layers that know the standard logger only."""

    def emit(self, record: logging.LogRecord) -> None:
        get().log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def resolved(output: str) -> str:
    """human or json for the setting log.format."""
    if output == "auto":
        return "human" if sys.stderr.isatty() else "json"
    return output


def get() -> Any:
    return structlog.get_logger()


def _plain(stream: Any, exc_info: Any) -> None:
    structlog.dev.plain_traceback(stream, exc_info)


def _escape(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """A line stays a line, whatever a peer put into a name: control characters become \\x1b and the like."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode()
    return event


class Limited:
    """At most one line a minute for each key, with the count of those left out; keys are bounded, the oldest goes."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def allow(self, address: str, reason: str) -> int | None:
        """None: do not log. Otherwise log, and say how many lines were left out since the last one."""
        key, now = (address, reason), self._clock()
        last, left_out = self._seen.get(key, (-LIMITED_S, 0))
        if now - last < LIMITED_S:
            self._seen[key] = (last, left_out + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > LIMITED_KEYS_MAX:
            self._seen.popitem(last=False)
        return left_out
