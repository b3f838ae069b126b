"""Backups of a running server: by command, by schedule, and what clients see after a restore."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from support.processes import kill9, workers
from support.stories import QUICK

from chatd.client import Client, Credential, Event, Reset
from chatd.engine.native import Portion
from chatd.storage.backup.catalogue import read_catalogue
from chatd.storage.backup.make import Job, back_up
from chatd.storage.backup.restore import Point, restore
from chatd.storage.sqlite.check import check_store
from chatd.testing import ChatdServer
from chatd.wire.schema import Kind

PATIENCE_S = 60.0


def chatd(*arguments: str | Path, code: int = 0) -> str:
    """Standard output; for a refusal what it said."""
    command = [sys.executable, "-m", "chatd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code and not done.stdout else done.stdout


def until(condition: object, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


async def test_a_client_that_was_ahead_of_the_restored_state_reads_anew_and_nothing_doubles(tmp_path: Path) -> None:
    backups, restored, state = tmp_path / "backups", tmp_path / "restored", tmp_path / "ann.db"
    server = ChatdServer.start(tmp_path)
    credential = Credential.jwt(server.token("ann"))
    try:
        async with (
            Client(server.address, credential, state=state, settings=QUICK) as ann,
            server.client("bob", settings=QUICK) as bob,
        ):
            cid = await ann.create_group("Team", [bob.user])
            updates = bob.events()
            for text, incremental in (("first", False), ("second", True)):
                await ann.send(cid, text)
                job = Job(server.data, backups, Portion)
                await trio.to_thread.run_sync(partial(back_up, job, incremental=incremental))
            await ann.send(cid, "lost with the disk")
            assert await texts(updates, 3) == ["first", "second", "lost with the disk"]

            await trio.to_thread.run_sync(server.stop)
            await trio.to_thread.run_sync(restore, backups, restored, Point(), Portion)
            shutil.copytree(server.data / "secrets", restored / "secrets")
            server.data = restored
            _, unanswered = ann.queue(cid, "said while nobody served")
            await trio.to_thread.run_sync(server.launch)

            # Nothing of before comes again as if it were new.
            assert isinstance(await anext(updates), Reset)
            assert await texts(updates, 3) == ["first", "second", "said while nobody served"]
            await ann.answer(unanswered)
            log = [event async for event in bob.log(cid)]
            assert [event.seq for event in log] == list(range(1, len(log) + 1))
            said = [event.text for event in log if event.kind == Kind.TEXT]
            assert said == ["first", "second", "said while nobody served"]
            new = await bob.create_group("New", [ann.user])
            assert new > cid + 1000, "no number is given to two conversations"
        async with Client(server.address, credential, state=state, settings=QUICK) as again:
            assert (await again.send(cid, "and on")).seq == len(log) + 1
        await trio.to_thread.run_sync(server.stop)
    finally:
        server.kill()
    assert check_store(restored).findings == []
    epoch = chatd("epoch", "--data", restored)
    assert chatd("epoch", "--new", "--data", restored) != epoch


async def texts(updates: object, count: int) -> list[str]:
    """The next `count` texts; other events are passed over."""
    found: list[str] = []
    async for update in updates:  # type: ignore[attr-defined]
        assert isinstance(update, Event), update
        if update.kind == Kind.TEXT:
            found.append(update.text)
            if len(found) == count:
                break
    return found


@pytest.fixture
def scheduled(tmp_path: Path) -> Iterator[ChatdServer]:
    """A server with processes that makes a full backup at once, and an incremental one a second after something new."""
    settings = (f"backup.directory={tmp_path / 'backups'}", "backup.incremental_every_s=1")
    options = [word for setting in settings for word in ("--set", setting)]
    with ChatdServer.start(tmp_path, "--shards", "1", *options, inline=False) as server:
        yield server


def test_backups_are_made_by_the_schedule_and_their_process_may_die(scheduled: ChatdServer, tmp_path: Path) -> None:
    backups = tmp_path / "backups"

    def names() -> list[str]:
        return [one.name for line in read_catalogue(backups).lines for one in line.backups] if backups.exists() else []

    until(lambda: len(names()) == 1, "the first full backup")
    kill9(workers(scheduled.pid)["backup"])
    with scheduled.blocking_client("ann") as ann, scheduled.blocking_client("bob") as bob:
        cid = ann.direct(bob.user)
        ann.send(cid, "hello")
    until(lambda: len(names()) == 2, "an incremental one, by the replacement")
    until(lambda: json.loads(chatd("backup", "status", "--json", "--data", scheduled.data))["last"], "it is noted")
    status = json.loads(chatd("backup", "status", "--json", "--data", scheduled.data))
    assert (status["last"]["name"], status["failure"]) == (names()[-1], None)
    listed = [json.loads(line) for line in chatd("backup", "list", "--json", "--to", backups).splitlines()]
    assert [one["kind"] for one in listed] == ["full", "incremental"]
    assert listed[1]["from_position"] == listed[0]["to_position"] + 1
    assert chatd("backup", "verify", "--to", backups).count(": sound") == 2


def test_a_schedule_that_fails_says_so_and_serves_on(scheduled: ChatdServer, tmp_path: Path) -> None:
    until(lambda: (tmp_path / "backups").exists() and read_catalogue(tmp_path / "backups").lines, "the first one")
    shutil.rmtree(tmp_path / "backups")
    (tmp_path / "backups").touch()
    until(
        lambda: "cannot be made" in chatd_status(scheduled.data) or "cannot be read" in chatd_status(scheduled.data),
        "it",
    )
    with scheduled.blocking_client("ann") as ann:
        assert ann.user


def chatd_status(data: Path) -> str:
    try:
        return str(json.loads((data / "backup.json").read_text())["failure"])
    except (OSError, ValueError):
        return ""


def test_what_cannot_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "has no chatd.db" in chatd("backup", "--data", tmp_path / "none", "--to", tmp_path / "b", code=1)
    assert "Say --to DIR" in chatd("backup", "list", code=1)
    assert "is no backup" in chatd("restore", tmp_path / "nothing", "--to", tmp_path / "r", code=1)
    (tmp_path / "empty").mkdir()
    assert "reach that point" in chatd("restore", tmp_path / "empty", "--to", tmp_path / "r", code=1)
    assert not (tmp_path / "r").exists()
    environment = {**os.environ, "CHATD_STORE": "postgresql://chatd@localhost/x", "CHATD_BACKUP__DIRECTORY": "/backups"}
    command = [sys.executable, "-m", "chatd", "serve", "--check", "--data", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)
    assert "backup.directory is for a store in files" in done.stderr
