"""The n-th call fails: one malloc, accept4, epoll_ctl, read, write, mmap or ftruncate of one worker of a live server
under load (faults/failnth.c does it).

The worker may go on, or end with a message and be replaced. It must not crash, hang, or acknowledge what is not stored:
after each failure everybody gets answers again, and in the end the history is judged by every invariant. A server that
ends as a whole, with a message, is started again, as systemd would.
"""

import json
import mmap
import os
import signal
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

import trio

from chatd.testing import ChatdServer
from support.history import now
from support.inside import changed
from support.invariants import Finding, check
from support.preload import compiled
from support.probe import Probe
from support.processes import is_alive, kill9, name_of, workers
from support.scenes import conversation

CALLS = ("malloc", "accept4", "epoll_ctl", "read", "write", "mmap", "ftruncate")
ROLES = ("shard", "hub", "folder")
NEVER = {("hub", "accept4"), ("folder", "accept4"), ("shard", "ftruncate")}
"""Only shards accept, and they write no file."""
AT_START = ("mmap", "ftruncate")
"""Rare afterwards: the worker is killed, so that its replacement meets the failure."""
FIRES_WITHIN_S = 1.0
RECOVERS_WITHIN_S = 20.0
CALM_ENDS = ("status 1", "status 74", "status 78", "SIGKILL")
"""Of workers: with a message, for the store's sake, refusing to run, or by our own hand."""
NO_MEMORY = ("memory allocation of", "_PyErr_NoMemory")
"""How libraries written in Rust (cryptography) and a starting interpreter end, by SIGABRT, when malloc fails."""
LAYOUT = struct.Struct("<qqq8s")


class Failure(NamedTuple):
    role: str
    call: str
    number: int


def every(numbers: Iterable[int]) -> Iterator[Failure]:
    """Each of these numbers for each call of each role that makes it."""
    for number, role, call in product(numbers, ROLES, CALLS):
        if (role, call) not in NEVER:
            yield Failure(role, call, number)


class Failpoint:
    """The file that the preloaded library of every worker maps."""

    def __init__(self, directory: Path) -> None:
        path = directory / "failpoint"
        path.write_bytes(bytes(LAYOUT.size))
        self.variables = {"FAILPOINT": str(path), "LD_PRELOAD": compiled("failnth.c", directory)}
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), LAYOUT.size)

    def arm(self, failure: Failure) -> None:
        LAYOUT.pack_into(self._shared, 0, 0, 0, CALLS.index(failure.call) + 1, failure.role.encode())
        self._shared[:8] = struct.pack("<q", failure.number)

    def disarm(self) -> None:
        self._shared[:8] = bytes(8)

    @property
    def fired(self) -> bool:
        return bool(LAYOUT.unpack_from(self._shared)[1])


@dataclass(slots=True)
class Outcome:
    """By role and call: how many failures came about, how many of them cost the worker, and how many the server."""

    fired: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    unreached: Counter[str] = field(default_factory=Counter)
    acked: int = 0
    findings: list[Finding] = field(default_factory=list)


async def fail_one_by_one(directory: Path, failures: Iterable[Failure]) -> Outcome:
    """A server under load and under churn, with one failure after the other."""
    outcome, failpoint = Outcome(), Failpoint(directory)
    with (
        changed(SMALL_STORE="1", **failpoint.variables),
        ChatdServer.start(directory, "--shards", "1", "--log", "json", inline=False) as server,
    ):
        last: Failure | None = None
        try:
            async with conversation(server, "ann", "bob", "carl") as (run, probes, _):
                for last in failures:
                    await one(server, failpoint, last, probes, outcome)
        except* trio.TooSlowError:
            outcome.findings.append(Finding("STUCK", f"nobody was answered any more after {last}"))
        else:
            outcome.findings += check(run.history)
        outcome.acked = sum(send.outcome == "ok" for send in run.history.sends)
        outcome.findings += judged_log(server)
    return outcome


async def one(
    server: ChatdServer, failpoint: Failpoint, failure: Failure, probes: list[Probe], outcome: Outcome
) -> None:
    name, where = "shard 0" if failure.role == "shard" else failure.role, f"{failure.role} {failure.call}"
    await recovered(server, name, probes)
    before, supervisor = workers(server.pid)[name], server.pid
    failpoint.arm(failure)
    if failure.call not in AT_START:
        await churn(failpoint, probes)
    if not failpoint.fired and name_of(before):
        kill9(before)
        await churn(failpoint, probes)
    failpoint.disarm()
    (outcome.fired if failpoint.fired else outcome.unreached)[where] += 1
    await recovered(server, name, probes)
    if server.pid != supervisor:
        outcome.ended[where] += 1
    elif failpoint.fired and workers(server.pid)[name] != before:
        outcome.replaced[where] += 1
    os.kill(server.pid, signal.SIGHUP)  # three failures of the store in a minute make it read-only


async def recovered(server: ChatdServer, name: str, probes: list[Probe]) -> None:
    """Everybody has an answer to something sent from now on, and the worker is there."""
    began = now()
    with trio.fail_after(RECOVERS_WITHIN_S):
        while not (name in workers(server.pid) and all(probe.acked_until > began for probe in probes)):
            if not is_alive(server.pid):
                server.kill()
                await trio.to_thread.run_sync(server.launch)
            await trio.sleep(0.005)


async def churn(failpoint: Failpoint, probes: list[Probe]) -> None:
    """Connections end and come back, for a while or until the failure has come about."""
    turn = 0
    with trio.move_on_after(FIRES_WITHIN_S):
        while not failpoint.fired:
            connection = probes[turn % len(probes)].connection
            if connection is not None:
                await connection.stream.aclose()
            turn += 1
            await trio.sleep(0.02)


def judged_log(server: ChatdServer) -> list[Finding]:
    """Workers that ended in another way than with a message, and those that fell silent."""
    found, said_last = [], ""
    for line in server.log.read_text().splitlines():
        if not line.startswith("{"):
            said_last += line + "\n"
            continue
        said = json.loads(line)
        if said.get("event") == "worker ended":
            if said["how"] not in CALM_ENDS and not any(text in said_last for text in NO_MEMORY):
                found.append(
                    Finding("CRASH", f"{said['worker']} ended by {said['how']}: {said_last[:1500] or 'silently'}")
                )
            said_last = ""
        elif "worker is silent" in str(said.get("event")):
            found.append(Finding("HANG", line))
    return found
