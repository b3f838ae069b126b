"""kill -9 of every process under load: nothing acknowledged is lost, nothing comes twice, everybody goes on."""

from pathlib import Path

import pytest
from support.invariants import check
from support.kills import kill_under_load

from chatd.testing import ChatdServer

ROLES = ("shard", "hub", "folder", "supervisor", "hub", "shard")


@pytest.mark.parametrize("shards", [1, 3])
async def test_kills_lose_nothing(tmp_path: Path, shards: int) -> None:
    with ChatdServer.start(tmp_path, "--shards", str(shards), inline=False) as server:
        run = await kill_under_load(server, ROLES, seed=shards)
    run.history.save(tmp_path / "history.jsonl")
    assert check(run.history) == []
    assert [kill.role for kill in run.kills] == list(ROLES)
    assert all(kill.unanswered > 0 for kill in run.kills)
    assert run.acked > 200
