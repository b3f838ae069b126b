"""data/run.json: where the running server listens, for local commands and tests. Gone when nobody serves."""

import json
import os
from pathlib import Path

from chatd import __version__
from chatd.supervisor.listeners import Listener

FILE_NAME = "run.json"


def write_status(data: Path, listeners: list[Listener]) -> None:
    """Replace the file as a whole: a reader sees the old one or the new one."""
    content = {
        "pid": os.getpid(),
        "version": __version__,
        "listeners": [
            {"kind": listener.kind, "host": listener.host or "127.0.0.1", "port": listener.port}
            for listener in listeners
        ],
    }
    scratch = data / f".{FILE_NAME}.new"
    scratch.write_text(json.dumps(content) + "\n", encoding="utf-8")
    scratch.replace(data / FILE_NAME)


def remove_status(data: Path) -> None:
    (data / FILE_NAME).unlink(missing_ok=True)
