"""data/run.json: where the running server listens, for local commands and tests. Gone when nobody serves."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatd import __version__

if TYPE_CHECKING:  # commands that run elsewhere than on Linux read the file too
    from chatd.supervisor.listeners import Listener

FILE_NAME = "run.json"


def write_status(data: Path, listeners: "list[Listener]") -> None:
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


def read_status(data: Path) -> dict[str, Any]:
    """What the server wrote; empty: nobody says that he serves this directory. He may have been killed since."""
    try:
        content: dict[str, Any] = json.loads((data / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def running_on(data: Path) -> str | None:
    """host:port of the plain TCP listener of the server that says it serves this directory; None: nobody says so."""
    for listener in read_status(data).get("listeners", []):
        if listener["kind"] == "tcp":
            host = listener["host"]
            return f"[{host}]:{listener['port']}" if ":" in host else f"{host}:{listener['port']}"
    return None


def remove_status(data: Path) -> None:
    """Ours; that of another server stays."""
    if read_status(data).get("pid") == os.getpid():
        (data / FILE_NAME).unlink(missing_ok=True)
