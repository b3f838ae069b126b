"""Search through restarts, while folder or indexer stand still, while there is no index; client and command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from support.processes import kill9, workers

from chatd.client import Client
from chatd.storage.sqlite.search_store import SqliteSearchReader
from chatd.testing import ChatdServer
from chatd.wire.schema import Kind

FOLLOWED_WITHIN_S = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChatdServer]:
    with ChatdServer.start(tmp_path / "data", "--shards", "1", inline=False) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def on_either_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChatdServer]:
    store = request.getfixturevalue("postgres").database() if request.param == "postgresql" else request.param
    with ChatdServer.start(tmp_path / "data", "--shards", "1", "--store", store, inline=False) as running:
        yield running


async def found(client: Client, words: str, **filters: Any) -> list[tuple[int, int]]:
    return [(hit.cid, hit.seq) async for hit in client.search(words, **filters)]


def followed(server: ChatdServer, docs: int) -> None:
    """Wait until the index has so many messages."""
    reader = SqliteSearchReader(server.data)
    deadline = time.monotonic() + FOLLOWED_WITHIN_S
    while True:
        with reader.view() as view:
            count = sum(block.doc_count for block in view.blocks())
        if count == docs:
            reader.close()
            return
        assert time.monotonic() < deadline, f"{count} messages are indexed, not {docs}"
        time.sleep(0.05)


async def test_an_index_follows_restarts_kills_and_removal(server: ChatdServer) -> None:
    async with server.client("ann") as ann:
        cid = await ann.create_group("g")
        seqs = [(await ann.send(cid, f"zebra 斑马 {number}")).seq for number in range(3)]
    await trio.to_thread.run_sync(followed, server, 3)
    kill9(workers(server.pid)["indexer"])
    async with server.client("ann") as ann:
        seqs.append((await ann.send(cid, "zebra 斑马")).seq)
        newest_first = [(cid, seq) for seq in reversed(seqs)]
        assert await found(ann, "斑") == newest_first
    await trio.to_thread.run_sync(followed, server, 4)
    server.stop()
    for path in server.data.glob("search.db*"):
        path.unlink()
    server.launch()
    async with server.client("ann") as ann:
        assert await found(ann, "斑马") == newest_first, "found while there is no index"
        await trio.to_thread.run_sync(followed, server, 4)
        assert await found(ann, "斑马") == newest_first


async def test_an_administrator_has_the_index_made_anew(server: ChatdServer) -> None:
    async with server.client("ann") as ann:
        cid = await ann.create_group("g")
        sent = [(cid, (await ann.send(cid, f"nashorn {number}")).seq) for number in range(3)]
        await trio.to_thread.run_sync(followed, server, 3)
        path = server.data / "search.db"
        refused = command(server, "ann", "search", "--rebuild")
        assert refused.returncode == 1
        assert "not for this kind of account" in refused.stderr
        with path.open("rb") as old:  # whose number no other file can get meanwhile
            assert command(server, "admin", "search", "--rebuild").returncode == 0
            with trio.fail_after(60):
                while not path.exists() or path.stat().st_ino == os.fstat(old.fileno()).st_ino:  # noqa: ASYNC110
                    await trio.sleep(0.1)
        assert await found(ann, "nashorn") == sent[::-1]
        await trio.to_thread.run_sync(followed, server, 3)
        assert await found(ann, "nashorn") == sent[::-1]


def command(server: ChatdServer, user: str, *words: str) -> "subprocess.CompletedProcess[str]":
    arguments = [sys.executable, "-m", "chatd", *words, "--as", user, "--data", str(server.data)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


async def test_commands_show_messages_as_they_are_now_before_and_no_longer(server: ChatdServer) -> None:
    async with server.client("ann") as ann:
        cid = await ann.create_group("g")
        seq = (await ann.send(cid, "frist")).seq
        await ann.edit(cid, seq, "first")
        await ann.react(cid, seq, "👍")
        last = (await ann.send(cid, "last")).seq
    shown = command(server, "ann", "history", str(cid), "--folded").stdout.splitlines()
    assert [line.partition("  ")[0] for line in shown] == [f"{cid}:{at}" for at in (1, seq, last)]
    assert shown[1].endswith("ann: first  (edited)  👍 1")
    (_, row, _) = map(json.loads, command(server, "ann", "history", str(cid), "--folded", "--json").stdout.splitlines())
    assert (row["text"], row["edit_seq"], row["reactions"]) == ("first", seq + 1, {"👍": 1})
    versions = command(server, "ann", "versions", f"{cid}:{seq}").stdout.splitlines()
    assert [line.rpartition("  ")[2] for line in versions] == ["frist", "first"]
    kept = command(server, "ann", "group", "retention", str(cid), "--events", "2")
    assert kept.returncode == 0, kept.stderr
    assert "events 2" in kept.stdout
    async with server.client("ann") as ann:
        with trio.fail_after(60):
            while (await ann.retention(cid)).floor_seq == 1:  # noqa: ASYNC110
                await trio.sleep(0.1)
        assert (await ann.retention(cid)).floor_seq == last
    first = command(server, "ann", "history", str(cid)).stdout.splitlines()[0]
    assert first.startswith(f"{cid}:1-{last - 1}  (not kept")


@pytest.mark.parametrize("still", ["folder", "indexer"])
async def test_what_was_acknowledged_is_found_while_nothing_follows(server: ChatdServer, still: str) -> None:
    async with server.client("ann") as ann, server.client("bob") as bob:
        cid = await ann.create_group("g", [bob.user])
        first = (await ann.send(cid, "walross")).seq
        await trio.to_thread.run_sync(followed, server, 1)
        os.kill(workers(server.pid)[still], signal.SIGSTOP)
        second = (await ann.send(cid, "WALROSS zwei")).seq
        assert await found(bob, "walross") == [(cid, second), (cid, first)]
        await trio.sleep(1.5)
        assert await found(bob, "walross", cid=cid) == [(cid, second), (cid, first)]


async def test_the_command_shows_and_filters(server: ChatdServer) -> None:
    async with server.client("ann") as ann, server.client("bob") as bob:
        cid = await ann.create_group("g", [bob.user])
        await ann.send(cid, "das Café ist offen")
        last = await bob.send(cid, "welches café?")

    def chatd(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "chatd", "search", "--as", "bob", "--data", str(server.data), *words],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    lines = chatd("cafe").splitlines()
    assert [line.partition("  ")[2] for line in lines] == [
        f"{cid}:{last.seq}  bob: welches café?",
        f"{cid}:{last.seq - 1}  ann: das Café ist offen",
    ]
    (hit,) = map(
        json.loads, chatd("CAFE", "--from", "ann", "--in", str(cid), "--since", "2020-01-01", "--json").splitlines()
    )
    assert (hit["excerpt"], hit["marks"]) == ("das Café ist offen", [[4, 5]])
    assert chatd("cafe", "--until", "2020-01-01") == ""


async def test_the_export_is_the_log_and_nothing_foreign(on_either_store: ChatdServer, tmp_path: Path) -> None:
    server = on_either_store
    async with server.client("ann") as ann, server.client("bob") as bob:
        cid = await ann.create_group("Ausflug", [bob.user])
        for number in range(450):
            await ann.send(cid, f"{number} 的")
        last = await bob.send(cid, b"\0\xff", kind=Kind.CUSTOM)
        expected = [event.payload async for event in ann.log(cid)]
        assert len(expected) == 453

    def export(user: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "chatd", "export", "--as", user, "--data", str(server.data), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    done = export("bob", str(cid))
    assert done.returncode == 0, done.stderr
    about, *events = map(json.loads, done.stdout.splitlines())
    assert about["conversation"] == {"cid": cid, "title": "Ausflug", "floor_seq": 1, "from_seq": 1, "to_seq": 453}
    assert [event["seq"] for event in events] == list(range(1, 454))
    assert {event["text"] for event in events if "text" in event} == {f"{number} 的" for number in range(450)}
    assert {event["sender_name"] for event in events} == {"ann", "bob"}
    (odd,) = [event for event in events if event["seq"] == last.seq]
    assert (odd["kind"], odd["payload_base64"]) == ("CUSTOM", "AP8=")
    out = tmp_path / "out.jsonl"
    assert export("ann", str(cid), "--out", str(out), "--from-seq", "450").returncode == 0
    assert [json.loads(line).get("seq") for line in out.read_text().splitlines()] == [None, 450, 451, 452, 453]
    again = export("ann", str(cid), "--out", str(out))
    assert again.returncode != 0
    assert "overwrites nothing" in again.stderr
    refused = export("eve", str(cid))
    assert refused.returncode == 1
    assert "no such conversation" in refused.stderr
