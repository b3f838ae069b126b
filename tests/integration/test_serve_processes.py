"""`chatd serve` with processes: ready soon, drained by SIGTERM, workers replaced, nobody left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from support.processes import is_alive, kill9, workers

from chatd.client import Client, Event
from chatd.testing import ChatdServer

# The contract says 2 s; a loaded machine is allowed more here, the bench measures.
REPLACED_WITHIN_S = 10.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChatdServer]:
    with ChatdServer.start(tmp_path, "--shards", "2", "--log", "json", inline=False) as server:
        until(lambda: bool(logged(server, "ready")), "ready")
        yield server


def until(reached: Callable[[], bool], what: str, within_s: float = REPLACED_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"no {what} within {within_s:g} s"
        time.sleep(0.02)


def logged(server: ChatdServer, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def conversation(alice: Client, bob: Client) -> int:
    users = [await alice.user_named("bob")]
    del bob
    return await alice.direct(users[0].id)


async def receive(client: Client, text: bytes) -> Event:
    with trio.fail_after(REPLACED_WITHIN_S):
        async for event in client.events():
            if event.payload == text:
                return event
    raise AssertionError


def test_all_roles_run_and_the_status_file_says_where(server: ChatdServer) -> None:
    assert workers(server.pid).keys() == {"hub", "folder", "indexer", "shard 0", "shard 1"}
    status = json.loads((server.data / "run.json").read_text())
    assert status["pid"] == server.pid
    assert status["listeners"] == [{"kind": "tcp", "host": "127.0.0.1", "port": server.port}]
    (ready,) = logged(server, "ready")
    assert isinstance(ready["took_s"], float)


def test_secrets_are_private_and_not_in_argv_or_environment(server: ChatdServer) -> None:
    secret = (server.data / "secrets" / "jwt.key").read_text().strip()
    for pid in [server.pid, *workers(server.pid).values()]:
        for name in ("cmdline", "environ"):
            assert secret.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert secret not in server.log.read_text()
    assert {path.stat().st_mode & 0o777 for path in (server.data / "secrets").iterdir()} == {0o600}


def test_sigterm_drains_and_nobody_is_left(server: ChatdServer) -> None:
    pids = [server.pid, *workers(server.pid).values()]
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 8
    assert not any(map(is_alive, pids))
    assert not (server.data / "run.json").exists()


def test_supervisor_killed_takes_its_workers_along(server: ChatdServer) -> None:
    pids = workers(server.pid)
    os.kill(pids["shard 1"], signal.SIGSTOP)
    server.kill()
    until(lambda: not any(map(is_alive, pids.values())), "end of the workers", 5)
    server.launch()


@pytest.mark.parametrize("victim", ["hub", "folder", "indexer", "shard 0", "shard 1"])
async def test_a_killed_worker_is_replaced_and_the_conversation_goes_on(server: ChatdServer, victim: str) -> None:
    async with server.client("bob") as bob, server.client("alice") as alice:
        cid = await conversation(alice, bob)
        await alice.send(cid, "before")
        await receive(bob, b"before")
        old = workers(server.pid)
        kill9(old[victim])
        await alice.send(cid, "after")
        await receive(bob, b"after")
        with trio.fail_after(REPLACED_WITHIN_S):
            while not logged(server, "worker replaced"):  # noqa: ASYNC110 a file has no event
                await trio.sleep(0.02)
        new = workers(server.pid)
    assert {name for name in old if old[name] != new.get(name)} == {victim}
    (replaced,) = logged(server, "worker replaced")
    assert replaced["worker"] == victim
    assert isinstance(replaced["after_ms"], int)


def test_a_hung_worker_is_dumped_and_replaced(tmp_path: Path) -> None:
    options = ["--shards", "1", "--log", "json", "--set", "process.silence_timeout_ms=1000"]
    with ChatdServer.start(tmp_path, *options, inline=False) as server:
        until(lambda: bool(logged(server, "ready")), "ready")
        shard = workers(server.pid)["shard 0"]
        os.kill(shard, signal.SIGSTOP)
        until(lambda: bool(logged(server, "worker replaced")), "replacement")
        assert logged(server, "worker is silent: stack dump, then SIGKILL")
        assert workers(server.pid)["shard 0"] != shard


async def test_three_aborts_of_the_hub_make_it_read_only_until_sighup(server: ChatdServer) -> None:
    async with server.client("bob") as bob, server.client("alice") as alice:
        cid = await conversation(alice, bob)
        await alice.send(cid, "before")
        for count in range(1, 4):
            os.kill(workers(server.pid)["hub"], signal.SIGABRT)
            with trio.fail_after(REPLACED_WITHIN_S):
                while len(logged(server, "worker replaced")) < count:  # noqa: ASYNC110 a file has no event
                    await trio.sleep(0.02)
        assert logged(server, "the store failed three times in a minute: read-only until SIGHUP or restart")
        with trio.move_on_after(1):
            await alice.send(cid, "waits")
            pytest.fail("a send was acknowledged by a read-only hub")
        page = await bob.history(cid)
        assert b"before" in [event.payload for event in page.events]
        assert b"waits" not in [event.payload for event in page.events]
        os.kill(server.pid, signal.SIGHUP)
        await receive(bob, b"waits")


def test_a_second_server_is_refused_with_the_reason(server: ChatdServer, tmp_path: Path) -> None:
    def refusal(*options: str) -> str:
        command = [sys.executable, "-m", "chatd", "serve", "--log", "json", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode != 0
        return done.stderr

    assert "uses this port" in refusal("--data", str(tmp_path / "other"), "--listen", server.address)
    assert "is in use" in refusal("--data", str(server.data), "--listen", "127.0.0.1:0")
    assert workers(server.pid).keys() == {"hub", "folder", "indexer", "shard 0", "shard 1"}
