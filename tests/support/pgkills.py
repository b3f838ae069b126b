"""Faults of the database under load, beside those of our own processes: what `kills` does, to PostgreSQL."""

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from support.kills import Nemesis, until
from support.pgcut import AnswerCutter
from support.postgres import ROLE, Postgres

HUB = "chatd hub"
OTHERS = ("chatd folder", "chatd reader")
RECOVERY_S = 30.0
STOPPED_S = 3.0
"""Longer than the hub waits for an answer, shorter than a server needs to miss a client."""
SHORTAGE_S = 2.0

ROLES = {
    "hub_backend": 3,
    "other_backend": 2,
    "ended_session": 3,
    "stopped_backend": 1,
    "connection_shortage": 1,
    "postmaster": 2,
    "immediate_shutdown": 2,
    "restart": 1,
    "shard": 2,
    "hub": 2,
    "folder": 1,
    "supervisor": 1,
}
"""role → weight, for a campaign. Not among them, as they need something beside the server: `answer`, `failover`."""


class PostgresNemesis(Nemesis):
    """A role that is a method here is a fault of the database. Set `database` before the first."""

    database: Postgres
    proxy: AnswerCutter | None = None
    standby: Postgres | None = None

    async def kill(self, role: str) -> None:
        fault: Callable[[], Awaitable[None]] | None = getattr(self, role, None)
        if fault is None:
            await super().kill(role)
            return
        with trio.fail_after(RECOVERY_S):
            await until(lambda: any(probe.pending for probe in self.probes))
        kill = self.begin(role)
        await fault()
        await self._recovered(kill)

    async def hub_backend(self) -> None:
        """SIGKILL of one backend: the postmaster ends all others and recovers, which takes it a moment."""
        await self._signal(signal.SIGKILL, HUB)

    async def other_backend(self) -> None:
        await self._signal(signal.SIGKILL, *OTHERS)

    async def ended_session(self) -> None:
        """As an administrator, or a failing network, ends one session."""
        pid = self.random.choice(await self._pids(self.random.choice((HUB, *OTHERS))))
        await self._sql(f"SELECT pg_terminate_backend({pid})")

    async def stopped_backend(self) -> None:
        """It answers nothing for a while, and then what it was asked before."""
        pids = await self._signal(signal.SIGSTOP, HUB)
        try:
            await trio.sleep(STOPPED_S)
        finally:
            for pid in pids:
                self.database.signal(pid, signal.SIGCONT)

    async def postmaster(self) -> None:
        """SIGKILL of all of its processes."""
        await trio.to_thread.run_sync(self.database.kill)
        await self._start_again()

    async def immediate_shutdown(self) -> None:
        await trio.to_thread.run_sync(self.database.stop, signal.SIGQUIT)
        await self._start_again()

    async def restart(self) -> None:
        await trio.to_thread.run_sync(self.database.stop)
        await trio.to_thread.run_sync(self.database.start)

    async def connection_shortage(self) -> None:
        """The hub loses its session, and there is none to be had for a while."""
        await self._sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
        await self._sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{HUB}'")
        await trio.sleep(SHORTAGE_S)
        await self._sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")

    async def answer(self) -> None:
        """The COMMIT happens, its reply is lost."""
        assert self.proxy is not None
        with trio.fail_after(RECOVERY_S):
            await self.proxy.cut(HUB)

    async def failover(self) -> None:
        """The server dies, its standby takes over at another address."""
        assert self.standby is not None
        await trio.to_thread.run_sync(self.database.kill)
        await trio.to_thread.run_sync(self.standby.promote)

    async def _signal(self, number: signal.Signals, *applications: str) -> list[int]:
        pids = await self._pids(*applications)
        for pid in pids:
            with suppress(ProcessLookupError):
                self.database.signal(pid, number)
        return pids

    async def _pids(self, *applications: str) -> list[int]:
        """Of the sessions with these names, as soon as there is one."""
        with trio.fail_after(RECOVERY_S):
            while True:
                for application in applications:
                    if pids := await trio.to_thread.run_sync(self.database.backends, application):
                        return pids
                await trio.sleep(0.01)

    async def _start_again(self) -> None:
        await trio.sleep(self.random.uniform(0, 1.5))
        await trio.to_thread.run_sync(self.database.start)

    async def _sql(self, statement: str) -> None:
        await trio.to_thread.run_sync(self.database.sql, statement)


def nemesis_of(
    database: Postgres, proxy: AnswerCutter | None = None, standby: Postgres | None = None
) -> Callable[..., PostgresNemesis]:
    """For kill_under_load."""

    def made(*arguments: Any) -> PostgresNemesis:
        nemesis = PostgresNemesis(*arguments)
        nemesis.database, nemesis.proxy, nemesis.standby = database, proxy, standby
        return nemesis

    return made
