"""Kill processes of a live server under load, and return the history of what its clients saw.

Probes in several conversations send as fast as their small windows allow; the nemesis kills one role after the other
with SIGKILL, each time while SENDs wait for their answer. Only processes of this run's supervisor are killed.
"""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import trio

from chatd.client import Client, Credential
from chatd.testing import ChatdServer
from support.history import History, now
from support.probe import Probe, read_log
from support.processes import workers

RECOVERY_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Kill:
    """One fault: which role died, how many SENDs waited then, and after how long the next ack came."""

    role: str
    at: float
    unanswered: int
    recovered_s: float = float("inf")


@dataclass(slots=True)
class Run:
    history: History = field(default_factory=History)
    kills: list[Kill] = field(default_factory=list)
    acked: int = 0
    loading: bool = True


def victims(supervisor: int) -> dict[str, list[int]]:
    """role → pids; "supervisor" is itself. A role whose replacement has no name yet is missing."""
    found: dict[str, list[int]] = {"supervisor": [supervisor]}
    for name, pid in workers(supervisor).items():
        found.setdefault(name.split()[0], []).append(pid)
    return found


async def make_group(server: ChatdServer, names: Sequence[str]) -> int:
    async with Client(server.address, Credential.jwt(server.token(names[0]))) as owner:
        ids = [await user_id(server, name) for name in names[1:]]
        return await owner.create_group("kills", ids)


async def user_id(server: ChatdServer, name: str) -> int:
    async with Client(server.address, Credential.jwt(server.token(name))) as client:
        return client.user


async def until(condition: Callable[[], bool]) -> None:
    """Poll: what is waited for is spread over several probes. The caller sets the deadline."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.002)


def acks(run: Run) -> int:
    return sum(send.outcome == "ok" for send in run.history.sends)


class Nemesis:
    def __init__(self, server: ChatdServer, run: Run, probes: list[Probe], seed: int) -> None:
        self.server = server
        self.run = run
        self.probes = probes
        self.random = Random(seed)

    async def kill(self, role: str) -> None:
        """Kill one process of that role while SENDs are unanswered, then wait until acks flow again."""
        pid = await self._victim(role)
        kill = self.begin(role)
        if role == "supervisor":
            self.server.kill()
            await trio.to_thread.run_sync(self.server.launch)
        else:
            os.kill(pid, signal.SIGKILL)
        await self._recovered(kill)

    def begin(self, role: str) -> Kill:
        """Note that it happens now."""
        kill = Kill(role, now(), sum(len(probe.pending) for probe in self.probes))
        self.run.kills.append(kill)
        return kill

    async def _victim(self, role: str) -> int:
        """One process of that role, at a moment when SENDs are unanswered."""
        with trio.fail_after(RECOVERY_TIMEOUT_S):
            while True:
                pids = victims(self.server.pid).get(role)
                if pids and any(probe.pending for probe in self.probes):
                    return self.random.choice(pids)
                await trio.sleep(0.002)

    async def _recovered(self, kill: Kill) -> None:
        """Every probe is online and has had an answer to something that it sent after the kill."""
        with trio.fail_after(RECOVERY_TIMEOUT_S * 2):
            await until(lambda: all(probe.acked_until > kill.at for probe in self.probes))
        kill.recovered_s = now() - kill.at


async def kill_under_load(
    server: ChatdServer,
    roles: Sequence[str],
    *,
    groups: int = 3,
    seed: int = 1,
    run: Run | None = None,
    nemesis: Callable[..., Nemesis] = Nemesis,
) -> Run:
    """Run probes in `groups` groups of three and kill the roles in turn. Ends with the final read of every log.

    run: where to record, for a caller who wants what there is when this raises. nemesis: makes who kills.
    """
    run = Run() if run is None else run
    probes: list[Probe] = []
    cids: list[int] = []
    for number in range(groups):
        names = [f"user{number}{letter}" for letter in "abc"]
        cids.append(await make_group(server, names))
        for name in names:
            probe = Probe(run.history, ("127.0.0.1", server.port), server.token(name), seed=seed + len(probes))
            probe.positions[cids[-1]] = 0
            probes.append(probe)
    async with trio.open_nursery() as nursery:
        for index, probe in enumerate(probes):
            nursery.start_soon(probe.run)
            nursery.start_soon(load, run, probe, cids[index // 3])
        for probe in probes:
            await probe.welcome.wait()
        killer = nemesis(server, run, probes, seed)
        for role in roles:
            await trio.sleep(killer.random.uniform(0.2, 0.6))
            await killer.kill(role)
        await trio.sleep(0.5)
        run.loading = False
        await settle(run, probes, [cids[index // 3] for index in range(len(probes))])
        for index, cid in enumerate(cids):
            run.history.expected_online[cid] = frozenset(probe.device for probe in probes[3 * index : 3 * index + 3])
        nursery.cancel_scope.cancel()
    run.acked = acks(run)
    return run


async def load(run: Run, probe: Probe, cid: int) -> None:
    await probe.welcome.wait()
    while run.loading:
        await probe.send(cid)
        await trio.sleep(probe.random.uniform(0, 0.004))


async def settle(run: Run, probes: list[Probe], cids: list[int]) -> None:
    """No SEND waits, then five seconds at most for everybody to have everything. cids: of each probe."""
    with trio.fail_after(RECOVERY_TIMEOUT_S):
        for probe in probes:
            await probe.settled()
    for cid, reader in dict(zip(cids, probes, strict=True)).items():
        await read_log(run.history, reader, cid)
    heads = {cid: max((event.seq for event in run.history.stored if event.cid == cid), default=0) for cid in cids}
    with trio.move_on_after(5):
        await until(lambda: all(p.positions[cid] >= heads[cid] for p, cid in zip(probes, cids, strict=True)))
