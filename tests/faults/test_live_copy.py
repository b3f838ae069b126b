"""A server moves from files to a database and back under load: nothing acknowledged is lost, connections stay."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from support.history import now
from support.invariants import check
from support.kills import Nemesis, kill_under_load, make_group
from support.postgres import Postgres

from chatd.errors import ChatdError
from chatd.storage.journal_codec import decode_batch
from chatd.storage.stores import check_store
from chatd.testing import ChatdServer

COPY_S_MAX = 120.0


async def move(server: ChatdServer, origin: str, to: str) -> dict[str, Any]:
    """`chatd store copy --switch`, with patience: this machine may be busy."""
    command = [sys.executable, "-m", "chatd", "store", "copy", origin, to, "--switch", "--within", "60", "--json"]
    with trio.fail_after(COPY_S_MAX):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, (done.stderr.decode(), server.log.read_text()[-3000:])
    said: dict[str, Any] = json.loads(done.stdout)
    return said


class Mover(Nemesis):
    """Moves the store as others kill processes."""

    dsn: str

    async def kill(self, role: str) -> None:
        ways = {"to_database": (str(self.server.data), self.dsn), "to_files": (self.dsn, str(self.server.data))}
        if role not in ways:
            await super().kill(role)
            return
        kill = self.begin(role)
        said = await move(self.server, *ways[role])
        assert said["fenced_s"] > 0
        kill.at = now()
        await self._recovered(kill)


@pytest.mark.parametrize(
    ("inline", "roles"),
    [
        (True, ("to_database", "to_files")),
        (False, ("to_database", "hub", "folder", "to_files", "hub")),
    ],
)
async def test_moving_there_and_back_loses_nothing(
    tmp_path: Path, postgres: Postgres, inline: bool, roles: tuple[str, ...]
) -> None:
    dsn = postgres.database()

    def nemesis(*arguments: Any) -> Mover:
        mover = Mover(*arguments)
        mover.dsn = dsn
        return mover

    options = [] if inline else ["--shards", "2"]
    chatd = await trio.to_thread.run_sync(lambda: ChatdServer.start(tmp_path, *options, inline=inline))
    try:
        run = await kill_under_load(chatd, roles, seed=7, groups=2, nemesis=nemesis)
    finally:
        await trio.to_thread.run_sync(chatd.stop)
    run.history.save(tmp_path / "history.jsonl")
    assert check(run.history) == []
    assert run.acked > 100
    assert (await trio.to_thread.run_sync(check_store, "sqlite", chatd.data, decode_batch)).findings == []


async def test_clients_wait_and_go_on_and_the_old_store_is_refused(tmp_path: Path, postgres: Postgres) -> None:
    dsn, said = postgres.database(), list[str]()
    chatd = await trio.to_thread.run_sync(lambda: ChatdServer.start(tmp_path, inline=False))
    try:
        cid = await make_group(chatd, ["ann", "bob"])
        async with chatd.client("ann") as ann, trio.open_nursery() as nursery:

            async def talk() -> None:
                while True:
                    text = f"message {len(said)}"
                    await ann.say(cid, text)
                    said.append(text)

            nursery.start_soon(talk)
            await move(chatd, str(chatd.data), dsn)
            count = len(said)
            with trio.fail_after(60):
                while len(said) < count + 10:  # noqa: ASYNC110 another task sends
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        chatd.stop()
        with pytest.raises(ChatdError, match="has moved: start with --store"):
            chatd.launch()
        moved = ChatdServer(chatd.data, chatd.port, ["--inline", "--store", dsn])
        await trio.to_thread.run_sync(moved.launch)
        async with moved.client("bob") as bob:
            heard = [event.payload.decode() async for event in bob.log(cid) if event.payload.startswith(b"message ")]
        assert heard[: len(said)] == said
        await trio.to_thread.run_sync(moved.stop)
    finally:
        chatd.stop()
