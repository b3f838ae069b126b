"""A group of five people in five terminals, on either store, as somebody new would do it with README: they meet, talk,
the server (and its database) dies in mid-conversation, everybody goes on, and all have read the same.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.postgres import Postgres
from support.terminal import Terminal, terminal

from chatd.testing import ChatdServer

CHATD = (sys.executable, "-m", "chatd")
NAMES = ("alice", "bob", "carol", "dave", "erin")
WITHIN_S = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """One of its own: it is killed."""
    if request.param == "sqlite":
        yield None
        return
    with Postgres.running() as server:
        yield server


def chatd(server: ChatdServer, *words: str) -> str:
    command = [*CHATD, *words, "--data", str(server.data), "--server", server.address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def all_say(screens: dict[str, Terminal], word: str) -> None:
    """One after the other, each when everybody has read the one before."""
    for name, screen in screens.items():
        screen.type(f"[{name} {word}]\r")
        all_read(screens, name, word)


def all_read(screens: dict[str, Terminal], name: str, word: str) -> None:
    for screen in screens.values():
        screen.until(f"[{name} {word}]", WITHIN_S)


def test_five_people_in_a_group_go_on_whatever_dies(tmp_path: Path, database: Postgres | None) -> None:
    store = database.database() if database else "sqlite"
    with (
        ChatdServer.start(tmp_path, "--store", store, "--shards", "2", inline=False) as server,
        ExitStack() as stack,
    ):
        for name in NAMES:
            chatd(server, "user", "add", name)
        place = ["--data", str(server.data), "--server", server.address]
        screens = {name: stack.enter_context(terminal([*CHATD, "chat", "--as", name, *place])) for name in NAMES}
        for name, screen in screens.items():
            screen.until(f"{name}: choose a conversation", WITHIN_S)
        chatd(server, "group", "create", "the five", *NAMES[1:], "--as", "alice")
        for screen in screens.values():
            screen.until("# the five", WITHIN_S)
        all_say(screens, "says hello")

        server.kill()
        for name, screen in screens.items():
            screen.until("no connection", WITHIN_S)
            screen.type(f"[{name} alone]\r")
        server.launch()
        for name in NAMES:
            all_read(screens, name, "alone")
        if database:
            database.kill()
            for name, screen in screens.items():
                screen.type(f"[{name} without database]\r")
            database.start()
            for name in NAMES:
                all_read(screens, name, "without database")
        all_say(screens, "says bye")

        logs = {name: _log(server, name) for name in NAMES}
    said = [f"[{name} {word}]" for word in ("says hello", "alone", "says bye") for name in NAMES]
    said += [f"[{name} without database]" for name in NAMES if database]
    assert sorted(logs["alice"]) == sorted(said)
    assert all(log == logs["alice"] for log in logs.values())


def _log(server: ChatdServer, name: str) -> list[str]:
    listed = chatd(server, "history", "1", "--as", name, "--json").splitlines()
    return [text for text in (json.loads(line).get("text") for line in listed) if text]
