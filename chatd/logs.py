"""Logs: JSON lines on standard error, or lines for people.

A line costs 5 µs, so nothing here belongs on the hot path. Rules (security.md 7): no payloads, no tokens; what a peer
sent appears only as numbers, closed words and addresses; control characters are escaped. Limited keeps a peer from
making us write more than one line a minute for a reason.

Written here, not structlog, which did the same until 2026-11: it imports rich, attrs and asyncio, 40 to 190 ms of
start and megabytes of every worker, and there may be 64 of them.
"""

import logging
import sys
import time
import traceback
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import orjson

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LIMITED_S = 60.0
LIMITED_KEYS_MAX = 4096


class Logger:
    """Writes events with fields. One per process; error objects in exc_info, or True for the current exception."""

    def __init__(self) -> None:
        self._human = False
        self._level = logging.INFO
        self._bound: dict[str, Any] = {}

    def configure(self, *, human: bool, level: int, bound: dict[str, Any]) -> None:
        self._human, self._level, self._bound = human, level, bound

    def set_level(self, level: int) -> None:
        self._level = level

    def debug(self, event: str, /, **fields: Any) -> None:
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self.log(logging.ERROR, event, **fields)

    def exception(self, event: str, exc_info: Any = True, **fields: Any) -> None:
        self.log(logging.ERROR, event, exc_info=exc_info, **fields)

    def log(self, level: int, event: str, /, *, exc_info: Any = None, **fields: Any) -> None:
        if level < self._level:
            return
        shown = {key: _escaped(value) for key, value in {**self._bound, **fields}.items()}
        stack = _stack(exc_info)
        word = logging.getLevelName(level).lower()
        now = datetime.now(tz=UTC)
        if self._human:
            said = " ".join(f"{key}={value}" for key, value in shown.items())
            line = f"{now.astimezone():%H:%M:%S} [{word}] {_escaped(event)} {said}\n{stack}".encode()
        else:
            entry = {**shown, "event": _escaped(event), "level": word, "timestamp": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"}
            if stack:
                entry["exception"] = stack.rstrip()
            line = orjson.dumps(entry, default=str) + b"\n"
        # One write, so that lines of several processes do not mix.
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


_LOGGER = Logger()


def configure(output: str, level: str, **bound: Any) -> None:
    """Set up this process. output: human or json (resolved by the supervisor). bound: fields of every line (role …)."""
    _LOGGER.configure(human=output == "human", level=LEVELS[level], bound=bound)
    logging.basicConfig(handlers=[Forwarding()], level=LEVELS[level], force=True)


def set_level(level: str) -> None:
    """Change what is written from now on."""
    _LOGGER.set_level(LEVELS[level])
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


def get() -> Logger:
    return _LOGGER


def _stack(exc_info: Any) -> str:
    """The traceback that exc_info stands for: an exception, what sys.exc_info() gives, True for the current one."""
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""


def _escaped(value: Any) -> Any:
    """A line stays a line, whatever a peer put into a name: control characters become \\x1b and the like."""
    if isinstance(value, str) and not value.isprintable():
        return value.encode("unicode_escape").decode()
    return value


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
