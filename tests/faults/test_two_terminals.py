"""README's promise: two people chat in two terminals, the server is killed in mid-conversation and started again."""

import json
import subprocess
import sys
import time
from pathlib import Path

from support.terminal import Terminal, terminal

from chatd.testing import ChatdServer

CHATD = (sys.executable, "-m", "chatd")
ROUNDS = 4


def chatd(server: ChatdServer, *words: str) -> str:
    command = [*CHATD, *words, "--data", str(server.data), "--server", server.address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def say(writer: Terminal, reader: Terminal, text: str) -> None:
    writer.type(f"{text}\r")
    reader.until(text)


def test_both_terminals_go_on_after_kill_9_with_nothing_lost_and_nothing_twice(tmp_path: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "2", inline=False) as server:
        place = ["--data", str(server.data), "--server", server.address]
        chatd(server, "user", "add", "bob")
        cid = chatd(server, "send", "--as", "alice", "--to", "bob", "[begin]").strip().partition(":")[0]
        with (
            terminal([*CHATD, "chat", "--as", "alice", "--to", "bob", *place]) as alice,
            terminal([*CHATD, "chat", "--as", "bob", *place]) as bob,
        ):
            alice.until("[begin]")
            bob.until("[begin]")
            said = ["[begin]"]
            for number in range(ROUNDS):
                for writer, reader, name in ((alice, bob, "alice"), (bob, alice, "bob")):
                    say(writer, reader, f"[{name} {number}]")
                    said.append(f"[{name} {number}]")
            server.kill()
            for screen, name in ((alice, "alice"), (bob, "bob")):
                screen.until("no connection")
                screen.type(f"[{name} alone]\r")
            time.sleep(0.5)
            server.launch()
            alice.until("[bob alone]")
            bob.until("[alice alone]")
            say(alice, bob, "[alice again]")
            say(bob, alice, "[bob again]")
        listed = chatd(server, "history", cid, "--as", "alice", "--json").splitlines()
        stored = [text for text in (json.loads(line).get("text") for line in listed) if text]
        assert stored[: len(said)] == said
        assert sorted(stored[len(said) : -2]) == ["[alice alone]", "[bob alone]"]
        assert stored[-2:] == ["[alice again]", "[bob again]"]
