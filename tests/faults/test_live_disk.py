"""Faults of the disk under a running server (contract, section 11): full, failing at a sync, files that are damaged."""

import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.live import RETRYABLE, Peer, peer
from support.preload import failing_disk
from support.processes import is_alive

from chatd.errors import ChatdError
from chatd.testing import ChatdServer
from chatd.wire.frame import Frame
from chatd.wire.schema import ErrorCode, Kind, Method, Op

MIB = 1 << 20
REFUSED_WITHIN_S = 0.5
RECOVERED_WITHIN_S = 5.0
REFUSES_WITHIN_S = 10.0


# ---- full
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 112 MiB: the reserve takes 64 of them."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=112m", "tmpfs", path], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield path
    subprocess.run(["umount", path], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all space but a little."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - MIB)
    return ballast


async def until_full(who: Peer, cid: int) -> tuple[list[int], Frame]:
    """Send large events until one is refused. Returns the seqs stored, and the refusal."""
    seqs = []
    while True:
        begun = time.monotonic()
        answer = await who.send(cid, bytes(30_000), kind=Kind.CUSTOM)
        if answer.op == Op.SEND_NAK:
            assert time.monotonic() - begun < REFUSED_WITHIN_S
            return seqs, answer
        seqs.append(answer["seq"])


async def test_full_disk_refuses_sends_serves_the_rest_and_recovers_by_itself(small_disk: Path) -> None:
    with ChatdServer.start(small_disk, "--shards", "1", inline=False) as server:
        async with peer(server, "ann") as ann, peer(server, "bob") as bob, peer(server, "carl") as carl:
            cid = await ann.group([bob.user, carl.user])
            pid, ballast = server.pid, fill(small_disk)
            seqs, nak = await until_full(ann, cid)
            assert (nak["code"], nak.flags & RETRYABLE) == (ErrorCode.STORE_FULL, RETRYABLE)
            assert nak["retry_after_ms"] > 0
            later = await ann.send(cid, b"later")
            assert later["code"] == ErrorCode.OUT_OF_ORDER
            others = await bob.send(cid, b"others")
            assert others["code"] == ErrorCode.STORE_FULL
            assert [seq for seq, _ in await bob.log(cid, seqs[0])] == seqs, "reads go on"
            assert [seq for seq, _ in await carl.log(cid, seqs[-1])] == seqs[-1:]
            async with peer(server, "bob", device=bob.device) as again:
                assert await again.synced(cid) is not None, "a known device logs in"
                removed_at = (await ann.call(Method.MEMBER_REMOVE, {1: cid, 2: [carl.user]}))[1]
                assert removed_at == seqs[-1] + 1, "rights are taken away out of the reserve"
                ballast.unlink()
                begun = time.monotonic()
                with trio.fail_after(RECOVERED_WITHIN_S):
                    while (answer := await ann.send(cid, bytes(30_000), nak["cseq"], Kind.CUSTOM)).op != Op.SEND_ACK:  # noqa: ASYNC110
                        await trio.sleep(0.05)
                print(f"recovered {time.monotonic() - begun:.2f} s after space came back")
                assert answer["seq"] == removed_at + 1
                assert (await ann.send(cid, b"later", later["cseq"]))["seq"] == removed_at + 2
                assert (await again.delivered(cid, removed_at + 2))[-1]["payload"] == b"later"
            assert server.pid == pid


# ---- failing
@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: as many bytes as it has, so many syncs of the journal fail. Servers started now obey it."""
    variables, armed, _ = failing_disk(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return armed


@asynccontextmanager
async def writer(server: ChatdServer) -> AsyncIterator[tuple[Peer, int]]:
    async with peer(server, "ann") as ann:
        yield ann, await ann.group()


async def test_failed_sync_ends_the_hub_unacknowledged_and_a_restart_recovers(tmp_path: Path, armed: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "1", inline=False) as server:
        async with writer(server) as (ann, cid):
            await ann.say(cid, b"before")
            armed.write_bytes(b"1")
            begun = time.monotonic()
            ack = await ann.send(cid, b"during")
            print(f"stored {time.monotonic() - begun:.2f} s after the failed sync, by the next hub")
            assert ack.op == Op.SEND_ACK, "asked again of the next hub, on the same connection"
            assert armed.read_bytes() == b""
            assert "the store failed at position" in server.log.read_text()
            await ann.say(cid, b"after")
            payloads = [payload for _, payload in await ann.log(cid, 2)]
            assert payloads == [b"before", b"during", b"after"], "the failed batch may survive, but only once"


async def test_three_failures_in_a_minute_make_it_read_only(tmp_path: Path, armed: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "1", inline=False) as server:
        async with writer(server) as (ann, cid):
            await ann.say(cid, b"before")
            armed.write_bytes(b"1" * 50)
            with trio.fail_after(20):
                nak = await ann.send(cid, b"during")
                while nak["code"] == ErrorCode.UNAVAILABLE and "read-only until" not in server.log.read_text():
                    await trio.sleep(0.2)
                    nak = await ann.send(cid, b"during", nak["cseq"])
            begun = time.monotonic()
            nak = await ann.send(cid, b"during", nak["cseq"])
            assert (nak["code"], nak.flags & RETRYABLE) == (ErrorCode.UNAVAILABLE, RETRYABLE)
            assert len(armed.read_bytes()) == 47, "a sync is never tried again"
            assert await ann.log(cid, 2) == [(2, b"before")], "reads go on, but not of what may not be on the disk"
            nak = await ann.send(cid, b"during", nak["cseq"])
            assert (nak.op, nak["code"]) == (Op.SEND_NAK, ErrorCode.UNAVAILABLE)
            print(f"read-only: refused in {time.monotonic() - begun:.2f} s")
            armed.write_bytes(b"")
        server.stop()
        server.launch()
        async with peer(server, "ann", device=ann.device) as back:
            assert (await back.send(cid, b"during", 2)).op == Op.SEND_ACK, "a restart writes again"


# ---- damaged
def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * 4096)


def refusal(server: ChatdServer) -> str:
    """What a server says that does not start. Its port answers before its hub has looked at the files."""
    server.log.write_bytes(b"")
    with contextlib.suppress(ChatdError):
        server.launch()
    deadline = time.monotonic() + REFUSES_WITHIN_S
    while server.pid and is_alive(server.pid):
        assert time.monotonic() < deadline, "the server goes on"
        time.sleep(0.02)
    return server.log.read_text()


@pytest.mark.parametrize(
    "places",
    [
        # SQLite reads a page from the log when it has one there: both have to be hit.
        [("chatd.db", 0), ("chatd.db-wal", 0)],
        [("journal-00000001.db", 0), ("journal-00000001.db-wal", 0)],
        [("journal-00000001.db-wal", 40_000)],
    ],
)
async def test_damaged_file_stops_the_start_and_nothing_is_made_anew(
    tmp_path: Path, places: list[tuple[str, int]]
) -> None:
    with ChatdServer.start(tmp_path, "--shards", "1", inline=False) as server:
        async with writer(server) as (ann, cid):
            for _ in range(50):
                await ann.say(cid, bytes(1000))
        server.stop()
        for name, offset in places:
            damage(server.data / name, offset)
        before = {file.name: file.stat().st_size for file in server.data.glob("*.db")}
        assert places[0][0].removesuffix("-wal") in refusal(server)
        assert {file.name: file.stat().st_size for file in server.data.glob("*.db")} == before


async def test_missing_database_beside_its_journal_is_not_made_anew(tmp_path: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "1", inline=False) as server:
        async with writer(server) as (ann, cid):
            await ann.say(cid)
        server.kill()
        for path in server.data.glob("chatd.db*"):
            path.unlink()
        assert "missing beside its journal" in refusal(server)
        assert not (server.data / "chatd.db").exists()
