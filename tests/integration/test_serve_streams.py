"""Streams whose producer or hub is lost, and the commands about streams and telemetry, with the real server."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from support.live import Peer, peer
from support.processes import kill9, workers

from chatd.testing import ChatdServer
from chatd.wire.frame import Frame
from chatd.wire.layout import decode_fields
from chatd.wire.schema import EXTENSION_DELIVER_STREAM, EXTENSIONS, Feature, Op, Topic

STREAMS = Feature.RECEIPTS | Feature.STREAMS
PATIENCE_S = 60.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    """Two shards, and streams that end after five seconds of silence."""
    store = request.getfixturevalue("postgres").database() if request.param == "postgresql" else "sqlite"
    options = ("--store", store, "--shards", "2", "--set", "hub.stream_idle_s=5")
    with ChatdServer.start(tmp_path_factory.mktemp("streams"), *options, inline=False) as server:
        yield server


class Command:
    """`chatd …` as a process: lines are fed and read while it runs."""

    def __init__(self, server: ChatdServer, *arguments: str) -> None:
        environment = {**os.environ, "CHATD_DATA": str(server.data)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatd", *arguments],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue(maxsize=10_000)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def feed(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self._reader.join(PATIENCE_S)
        with self.process:
            pass

    def next(self) -> str:
        return self.lines.get(timeout=PATIENCE_S)

    def end(self) -> list[str]:
        """The end of its input, and what it says then."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0
        return [self.next()]


@contextmanager
def command(server: ChatdServer, *arguments: str) -> Iterator[Command]:
    running = Command(server, *arguments)
    try:
        yield running
    finally:
        running.close()


def run(server: ChatdServer, *arguments: str) -> str:
    environment = {**os.environ, "CHATD_DATA": str(server.data)}
    done = subprocess.run(
        [sys.executable, "-m", "chatd", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


async def follow(who: Peer, cid: int) -> None:
    await who.put(Op.SUBSCRIBE, cid=cid, topics=int(Topic.STREAMS))
    assert (await who.next(Op.SUBSCRIBE, Op.ERROR, within_s=PATIENCE_S)).op == Op.SUBSCRIBE


async def cut_off(who: Peer) -> bytes:
    """The payload of the truncated event that comes."""

    def fits(frame: Frame) -> bool:
        return EXTENSION_DELIVER_STREAM in dict(frame.extensions)

    frame = await who.next(Op.DELIVER, where=fits, within_s=PATIENCE_S)
    layout = EXTENSIONS[Op.DELIVER, EXTENSION_DELIVER_STREAM]
    told = decode_fields(layout, dict(frame.extensions)[EXTENSION_DELIVER_STREAM])
    assert told["flags"] == 1
    payload: bytes = frame["payload"]
    assert told["bytes"] == len(payload)
    return payload


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
async def test_the_stream_of_a_killed_producer_becomes_a_truncated_event(server: ChatdServer) -> None:
    async with peer(server, "bob", features=STREAMS) as bob, peer(server, "carl") as carl:
        cid = await bob.group([carl.user])
        await follow(bob, cid)
        with command(server, "stream", "--as", "carl", "--group", str(cid)) as producer:
            producer.feed("the first half")
            frame = await bob.next(Op.STREAM_DELTA, within_s=PATIENCE_S)
            assert frame["payload"] == b"the first half"
            producer.process.kill()
        assert await cut_off(bob) == b"the first half"
        assert (await bob.next(Op.STREAM_END, within_s=PATIENCE_S))["stream"] == frame["stream"]


async def test_a_stream_outlives_its_hub_as_far_as_it_was_kept(server: ChatdServer) -> None:
    async with (
        peer(server, "bob", shard=0, features=STREAMS) as bob,
        peer(server, "carl", shard=1, features=STREAMS) as carl,
    ):
        cid = await bob.group([carl.user])
        await follow(bob, cid)
        await carl.put(Op.STREAM_START, cid=cid, stream=0, kind=1)
        stream = (await carl.next(Op.STREAM_START, within_s=PATIENCE_S))["stream"]
        written = b"kept "
        await carl.put(Op.STREAM_DELTA, cid=cid, stream=stream, offset=0, payload=written)
        for _ in range(8):
            # The server looks at it every two seconds.
            await trio.sleep(0.4)
            await carl.put(Op.STREAM_DELTA, cid=cid, stream=stream, offset=len(written), payload=b"and ")
            written += b"and "
        kill9(workers(server.pid)["hub"])
        shown = await cut_off(bob)
        assert shown.startswith(b"kept ")
        assert written.startswith(shown)


def conversation(server: ChatdServer, name: str) -> str:
    """Of doris and a new user."""
    run(server, "user", "add", name)
    return run(server, "send", "--as", "doris", "--to", name, "hi").split(":")[0]


def test_a_pipe_is_shown_while_it_runs(chatd_server: ChatdServer) -> None:
    server = chatd_server
    cid = conversation(server, "emil")
    run(server, "tail", "--as", "emil", "--idle", "1")
    with (
        command(server, "tail", "--as", "emil", "--live", "--json") as tail,
        command(server, "stream", "--as", "doris", "--group", cid, "--markdown") as pipe,
    ):
        shown = ""
        for piece in ("Once ", "upon ", "a time"):
            pipe.feed(piece)
            while not shown.endswith(piece):
                line: dict[str, Any] = json.loads(tail.next())
                assert line["type"] == "stream"
                shown = shown[: line["begin"]] + line["text"]
        place = pipe.end()[0]
        event = next(line for line in map(json.loads, iter(tail.next, "")) if line["type"] == "event")
        assert f"{event['cid']}:{event['seq']}" == place
        assert (event["text"], event["kind"]) == ("Once upon a time", "MARKDOWN")
    assert "Once upon a time" in run(server, "history", cid, "--as", "doris")


def test_values_are_told_and_read(chatd_server: ChatdServer) -> None:
    server = chatd_server
    cid = conversation(server, "fred")
    run(server, "telemetry", "send", "--as", "doris", cid, "20.5", "--key", "7", "--keep")
    run(server, "telemetry", "send", "--as", "doris", cid, "21.0", "--key", "7", "--keep")
    run(server, "telemetry", "send", "--as", "doris", cid, "not kept", "--key", "8")
    (line,) = run(server, "telemetry", "last", "--as", "fred", cid, "--json").splitlines()
    value = json.loads(line)
    assert (value["key"], value["value"]) == (7, "21.0")
    assert run(server, "telemetry", "last", "--as", "fred", cid, "--of", "doris").startswith("doris  7  ")
    assert run(server, "telemetry", "last", "--as", "fred", cid, "--of", "fred") == ""


def test_scripts_without_a_loop_stream_too(chatd_server: ChatdServer) -> None:
    with chatd_server.blocking_client("greta") as greta:
        cid = greta.create_group("notes", [])
        with greta.stream(cid) as write:
            write("line ")
            write("after line")
        assert greta.latest(cid)[-1].text == "line after line"
