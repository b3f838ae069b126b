"""The client needs no compiler and no part of the server."""

import subprocess
import sys

BARE = """
import sys
for missing in ("chatd._native", "apsw", "pydantic", "pydantic_settings", "typer", "textual", "jwt"):
    sys.modules[missing] = None
import chatd.client, chatd.client.blocking
layers = ("chatd.engine", "chatd.hub", "chatd.shard", "chatd.storage", "chatd.config", "chatd.supervisor")
print([name for name in sys.modules if name.startswith(layers)])
"""


def test_the_client_imports_where_nothing_of_the_server_can_be() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
