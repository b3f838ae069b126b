"""PostgreSQL fails under load: nothing acknowledged is lost, nothing comes twice, connections stay."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from support.invariants import check
from support.kills import kill_under_load
from support.live import DUP, RETRYABLE, Peer, peer
from support.pgcut import AnswerCutter
from support.pgkills import HUB, nemesis_of
from support.places import SMALL
from support.postgres import ROLE, USER, Postgres
from support.processes import workers

from chatd.storage.journal_codec import decode_batch
from chatd.storage.stores import check_store
from chatd.testing import ChatdServer
from chatd.wire.frame import Frame
from chatd.wire.schema import ErrorCode, Kind, Op

TRIES_MAX = 5
MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of its own: it is killed. It syncs."""
    with Postgres.running() as server:
        yield server


async def faults_under_load(
    tmp_path: Path,
    server: Postgres,
    roles: tuple[str, ...],
    *,
    seed: int,
    inline: bool = False,
    proxy: AnswerCutter | None = None,
    standby: Postgres | None = None,
) -> None:
    name = server.database().rpartition("/")[2]
    ports = [proxy.port if proxy else server.port, *([standby.port] if standby else [])]
    options = ["--store", server.dsn_of(name, *ports), *([] if inline else ["--shards", "2"])]
    chatd = await trio.to_thread.run_sync(lambda: ChatdServer.start(tmp_path, *options, inline=inline))
    try:
        run = await kill_under_load(chatd, roles, seed=seed, groups=2, nemesis=nemesis_of(server, proxy, standby))
    finally:
        await trio.to_thread.run_sync(chatd.stop)
    run.history.save(tmp_path / "history.jsonl")
    assert check(run.history) == []
    assert [kill.role for kill in run.kills] == list(roles)
    assert run.acked > 100
    left = (standby or server).dsn_of(name)
    assert (await trio.to_thread.run_sync(check_store, left, chatd.data, decode_batch)).findings == []


@pytest.mark.parametrize("inline", [True, False])
async def test_deaths_of_the_database_lose_nothing(tmp_path: Path, server: Postgres, inline: bool) -> None:
    roles = ("ended_session", "hub_backend", "postmaster", "restart")
    await faults_under_load(tmp_path, server, roles, inline=inline, seed=3)


async def test_a_crash_silence_and_a_shortage_of_connections_lose_nothing(tmp_path: Path, server: Postgres) -> None:
    roles = ("immediate_shutdown", "stopped_backend", "connection_shortage", "other_backend")
    await faults_under_load(tmp_path, server, roles, seed=7)


async def test_deaths_of_our_own_processes_lose_nothing(tmp_path: Path, server: Postgres) -> None:
    await faults_under_load(tmp_path, server, ("hub", "folder", "shard", "supervisor", "hub"), seed=4)


async def test_a_lost_reply_to_commit_is_neither_guessed_nor_stored_twice(tmp_path: Path, server: Postgres) -> None:
    async with AnswerCutter.running(server.port) as proxy:
        await faults_under_load(tmp_path, server, ("answer",) * 4, seed=5, proxy=proxy)
        assert proxy.cuts == 4


async def test_another_address_takes_over(tmp_path: Path, server: Postgres) -> None:
    standby = await trio.to_thread.run_sync(server.standby)
    try:
        await faults_under_load(tmp_path, server, ("failover",), seed=6, standby=standby)
    finally:
        standby.remove()


@pytest.mark.parametrize("inline", [True, False])
async def test_without_the_database_calls_are_refused_and_connections_stay(
    tmp_path: Path, server: Postgres, inline: bool
) -> None:
    options = ["--store", server.database(), *(word for setting in SMALL for word in ("--set", setting))]
    with ChatdServer.start(tmp_path, *options, inline=inline) as chatd:
        async with peer(chatd, "ann") as ann, peer(chatd, "bob") as bob:
            cid = await ann.group([bob.user])
            await ann.say(cid, b"before")
            server.stop()
            await trio.sleep(0.5)
            cseq = await ann.post(cid, b"meanwhile")
            events, refusal = await ann.pull(cid)
            assert (events, refusal.op, refusal["code"]) == ([], Op.ERROR, ErrorCode.UNAVAILABLE)
            answer = await ann.answer(cseq, within_s=8)
            assert (answer.op, answer["code"]) == (Op.SEND_NAK, ErrorCode.UNAVAILABLE)
            server.start()
            with trio.fail_after(30):
                while (answer := await ann.send(cid, b"meanwhile", cseq)).op == Op.SEND_NAK:
                    assert answer["code"] == ErrorCode.UNAVAILABLE
                    await trio.sleep(0.1)
            await bob.delivered(cid, answer["seq"])
            assert [text for _, text in await bob.log(cid)][-2:] == [b"before", b"meanwhile"]


# ---- a SEND of which nobody knows whether it is stored
async def told_or_answered(who: Peer, cseq: int) -> Op:
    """What comes first for it."""

    def is_about_it(frame: Frame) -> bool:
        return bool(frame["ref" if frame.op == Op.ERROR else "cseq"] == cseq)

    frame = await who.next(Op.ERROR, Op.SEND_ACK, Op.SEND_NAK, where=is_about_it, within_s=30)
    if frame.op == Op.ERROR:
        assert (frame["op"], frame["code"]) == (Op.SEND, ErrorCode.UNAVAILABLE)
    return frame.op


async def until_stored(who: Peer, cid: int, cseq: int, payload: bytes, kind: Kind = Kind.TEXT) -> None:
    with trio.fail_after(60):
        while (answer := await who.send(cid, payload, cseq, kind)).op == Op.SEND_NAK:
            assert answer.flags & RETRYABLE
            await trio.sleep(0.1)


async def stored_once(who: Peer, cid: int, cseq: int, text: bytes) -> None:
    """The answer to what was open comes by itself; the same cseq again finds the same event."""
    ack = await who.answer(cseq, within_s=60)
    assert ack.op == Op.SEND_ACK
    again = await who.send(cid, text, cseq)
    assert (again.op, again["seq"], again.flags & DUP) == (Op.SEND_ACK, ack["seq"], DUP)
    assert [payload for _, payload in await who.log(cid)].count(text) == 1


async def test_a_send_that_was_not_committed_is_told_of_and_stored_by_the_next_hub(
    tmp_path: Path, server: Postgres
) -> None:
    with ChatdServer.start(tmp_path, "--store", server.database(), "--shards", "2", inline=False) as chatd:
        async with peer(chatd, "ann") as ann:
            cid = await ann.group()
            await ann.say(cid, b"before")
            (backend,) = server.backends(HUB)
            server.signal(backend, signal.SIGSTOP)
            cseq = await ann.post(cid, b"open")
            await trio.sleep(0.1)
            server.kill()
            assert await told_or_answered(ann, cseq) == Op.ERROR
            server.start()
            await stored_once(ann, cid, cseq, b"open")


async def test_a_send_whose_commit_was_not_answered_is_told_of_and_not_stored_twice(
    tmp_path: Path, server: Postgres
) -> None:
    async with AnswerCutter.running(server.port) as proxy:
        store = server.dsn_of(server.database().rpartition("/")[2], proxy.port)
        chatd = await trio.to_thread.run_sync(
            lambda: ChatdServer.start(tmp_path, "--store", store, "--shards", "2", inline=False)
        )
        try:
            async with peer(chatd, "ann") as ann:
                cid = await ann.group()
                for number in range(TRIES_MAX):
                    text = b"open %d" % number
                    # Just appended, so the hub does not ask now whether the server is there: the answer that is lost
                    # is that to the next batch.
                    await ann.say(cid, b"before")
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(proxy.cut, HUB)
                        await trio.testing.wait_all_tasks_blocked()
                        cseq = await ann.post(cid, text)
                    await trio.to_thread.run_sync(server.kill)
                    found = await told_or_answered(ann, cseq)
                    await trio.to_thread.run_sync(server.start)
                    if found == Op.ERROR:
                        await stored_once(ann, cid, cseq, text)
                        return
                    await until_stored(ann, cid, cseq, text)
        finally:
            await trio.to_thread.run_sync(chatd.stop)
    pytest.fail(f"the reply to COMMIT was not among the answers that were lost in {TRIES_MAX} tries")


# ---- the disk of the server is full
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB for a database; the write-ahead log lies elsewhere."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", path], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs (root)")
    if USER:
        shutil.chown(path, USER, USER)
    for parent in path.parents[:3]:
        parent.chmod(0o755)
    yield path
    subprocess.run(["umount", path], check=True)


async def test_a_full_disk_of_the_server_refuses_sends_serves_reads_and_recovers(
    tmp_path: Path, small_disk: Path
) -> None:
    with Postgres.running() as server:
        server.sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        server.sql(f"CREATE DATABASE full_one OWNER {ROLE} TABLESPACE small")
        store = server.dsn_of("full_one")
        with ChatdServer.start(tmp_path / "data", "--store", store, "--shards", "1", inline=False) as chatd:
            hub = workers(chatd.pid)["hub"]
            async with peer(chatd, "ann") as ann, peer(chatd, "bob") as bob:
                cid = await ann.group([bob.user])
                ballast, state = small_disk / "ballast", os.statvfs(small_disk)
                with ballast.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - MIB)
                seqs = []
                while (answer := await ann.send(cid, bytes(30_000), kind=Kind.CUSTOM)).op == Op.SEND_ACK:
                    seqs.append(answer["seq"])
                assert answer["code"] == ErrorCode.STORE_FULL
                assert [seq for seq, _ in await bob.log(cid, seqs[0])] == seqs
                ballast.unlink()
                await until_stored(ann, cid, answer["cseq"], bytes(30_000), Kind.CUSTOM)
                assert [seq for seq, _ in await bob.log(cid, seqs[0])] == [*seqs, seqs[-1] + 1]
            assert workers(chatd.pid)["hub"] == hub
        assert check_store(store, chatd.data, decode_batch).findings == []
