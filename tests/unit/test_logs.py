"""Logs: a line is a line, and a peer cannot make us write many."""

import json
import subprocess
import sys

import pytest

from chatd.logs import LIMITED_KEYS_MAX, Limited, Logger

SCRIPT = """
import logging
from chatd import logs
logs.configure({output!r}, "info", role="shard", index=3)
logs.get().info("hello", who="a\\nb\\x1b[31m")
logs.get().debug("not written")
logging.getLogger("library").warning("from %s", "elsewhere")
logs.set_level("error")
logs.get().info("not written either")
try:
    1 / 0
except ZeroDivisionError:
    logs.get().exception("failed")
"""


def lines(output: str) -> list[str]:
    script = SCRIPT.format(output=output)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr.splitlines()


def test_json_lines() -> None:
    hello, library, failed = map(json.loads, lines("json"))
    assert (hello["event"], hello["role"], hello["index"], hello["level"]) == ("hello", "shard", 3, "info")
    assert hello["who"] == r"a\nb\x1b[31m"
    assert library["event"] == "from elsewhere"
    assert "ZeroDivisionError" in failed["exception"]


def test_human_lines_escape_control_characters_too() -> None:
    hello, library, *_ = lines("human")
    assert "hello" in hello
    assert "\x1b[31m" not in hello
    assert "from elsewhere" in library


def test_one_line_a_minute_for_each_reason() -> None:
    now = [100.0]
    limited = Limited(lambda: now[0])
    assert limited.allow("192.0.2.1", "password") == 0
    assert [limited.allow("192.0.2.1", "password") for _ in range(5)] == [None] * 5
    assert limited.allow("192.0.2.1", "ticket") == 0
    now[0] += 60
    assert limited.allow("192.0.2.1", "password") == 5


def test_remembered_addresses_are_bounded() -> None:
    limited = Limited()
    for number in range(LIMITED_KEYS_MAX + 50):
        limited.allow(str(number), "x")
    assert len(limited._seen) == LIMITED_KEYS_MAX


def test_a_field_may_bear_the_name_of_a_parameter(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The supervisor once died of its warning about memory, which had a field `level`."""
    Logger().warning("memory pressure", level=2, event="other")
    assert b"memory pressure" in capfdbinary.readouterr().err
