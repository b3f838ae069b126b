"""A shard's memory is multiplied by the number of shards: what it must not import."""

import subprocess
import sys

import pytest

HEAVY = {
    "pydantic",
    "pydantic_settings",
    "typer",
    "textual",
    "apsw",
    "asyncpg",
    "uvloop",
    "asyncio",
    "chatd.config",
    "rich",
    "structlog",
}


@pytest.mark.parametrize(("role", "allowed"), [("shard_role", set()), ("hub_role", {"apsw"})])
def test_workers_do_not_import_what_only_others_need(role: str, allowed: set[str]) -> None:
    script = f"import sys, chatd.worker, chatd.server.{role}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & (HEAVY - allowed)
