"""What `chatd serve` prints for people works when it is typed as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.terminal import terminal

from chatd.testing import free_port

COMMAND = re.compile(r"^ +(\S.* (?:chat|send) --as .*?)\s*$", re.MULTILINE)


@pytest.mark.parametrize("data", ["data", "my data"])
def test_the_printed_commands_can_be_typed_in_another_terminal(data: str, tmp_path: Path) -> None:
    def in_place(line: str) -> list[str]:
        # A terminal where no environment is active.
        return ["env", "PATH=/usr/bin:/bin", "sh", "-c", f"cd '{tmp_path}' && exec {line}"]

    serve = f"{sys.executable} -m chatd serve --data '{data}' --listen 127.0.0.1:{free_port()}"
    with terminal(in_place(serve)) as server:
        server.until("lists the rest")
        chat, send = COMMAND.findall(server.painted)
        with terminal(in_place(chat)) as alice:
            alice.until("choose a conversation")
            alice.until("Ctrl+N")
            sent = subprocess.run(in_place(send), capture_output=True, text=True, timeout=60, check=True)
            assert re.fullmatch(r"\d+:\d+\n", sent.stdout)
            alice.until("hello")
