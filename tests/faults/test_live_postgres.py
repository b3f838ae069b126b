"""PostgreSQL fails under load: nothing acknowledged is lost, nothing comes twice, connections stay."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from support.invariants import check
from support.kills import Nemesis, kill_under_load, until
from support.live import peer
from support.pgcut import AnswerCutter
from support.places import SMALL
from support.postgres import Postgres

from chatd.storage.journal_codec import decode_batch
from chatd.storage.stores import check_store
from chatd.testing import ChatdServer
from chatd.wire.schema import ErrorCode, Op

WRITER = "chatd hub"
RECOVERY_S = 30.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of its own: it is killed. It syncs."""
    with Postgres.running() as server:
        yield server


class PostgresNemesis(Nemesis):
    """Kills the database's processes as others kill the server's."""

    database: Postgres
    proxy: AnswerCutter | None = None
    standby: Postgres | None = None

    async def kill(self, role: str) -> None:
        fault = getattr(self, role, None)
        if fault is None:
            await super().kill(role)
            return
        with trio.fail_after(RECOVERY_S):
            await until(lambda: any(probe.pending for probe in self.probes))
        kill = self.begin(role)
        await fault()
        await self._recovered(kill)

    async def writing_backend(self) -> None:
        """SIGKILL of one backend: the postmaster ends all others and recovers, which takes it a moment."""
        for pid in await self._writers():
            os.kill(pid, signal.SIGKILL)

    async def terminated_backend(self) -> None:
        """As an administrator, or a failing network, ends one session."""
        await trio.to_thread.run_sync(
            self.database.sql,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{WRITER}'",
        )

    async def postmaster(self) -> None:
        await trio.to_thread.run_sync(self.database.kill)
        await trio.sleep(self.random.uniform(0, 1.5))
        await trio.to_thread.run_sync(self.database.start)

    async def restart(self) -> None:
        await trio.to_thread.run_sync(self.database.stop)
        await trio.to_thread.run_sync(self.database.start)

    async def answer(self) -> None:
        """The COMMIT happens, its reply is lost."""
        assert self.proxy is not None
        with trio.fail_after(RECOVERY_S):
            await self.proxy.cut(WRITER)

    async def failover(self) -> None:
        """The server dies, its standby takes over at another address."""
        assert self.standby is not None
        await trio.to_thread.run_sync(self.database.kill)
        await trio.to_thread.run_sync(self.standby.promote)

    async def _writers(self) -> list[int]:
        with trio.fail_after(RECOVERY_S):
            while True:
                pids = await trio.to_thread.run_sync(self.database.backends, WRITER)
                if pids:
                    return pids
                await trio.sleep(0.01)


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

    def nemesis(*arguments: Any) -> PostgresNemesis:
        made = PostgresNemesis(*arguments)
        made.database, made.proxy, made.standby = server, proxy, standby
        return made

    options = ["--store", server.dsn_of(name, *ports), *([] if inline else ["--shards", "2"])]
    chatd = await trio.to_thread.run_sync(lambda: ChatdServer.start(tmp_path, *options, inline=inline))
    try:
        run = await kill_under_load(chatd, roles, seed=seed, groups=2, nemesis=nemesis)
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
    roles = ("terminated_backend", "writing_backend", "postmaster", "restart")
    await faults_under_load(tmp_path, server, roles, inline=inline, seed=3)


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
