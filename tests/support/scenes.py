"""Scenes: short runs of a live server, each with the fault that brings one kind of mistake to light.

A scene starts a server in a directory, lets clients and a fault act, and returns the findings of the invariants and
oracles that judge it. On a sound server it returns none; under a sabotage it returns what names it
(campaigns.sabotages has the table).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path

import trio

from chatd.client import Client, Credential
from chatd.testing import ChatdServer
from chatd.wire.schema import Op
from support.crash_images import KEEPS, cuts, record, violation
from support.history import Interval
from support.inside import environment
from support.invariants import Finding, check
from support.kills import Run, load, make_group, settle, user_id
from support.live import peer, ready
from support.preload import failing_disk
from support.probe import Probe
from support.processes import workers
from support.traced_load import judged_load

Scene = Callable[[Path], Awaitable[list[Finding]]]
ORACLE_SENDS = 200


def patient(scene: Scene) -> Scene:
    """Who waits in vain has found something, too."""

    @wraps(scene)
    async def run(directory: Path) -> list[Finding]:
        found: list[Finding] = []
        try:
            found = await scene(directory)
        except* trio.TooSlowError:
            found = [Finding("STUCK", "somebody waited for the server in vain")]
        return found

    return run


@asynccontextmanager
async def conversation(server: ChatdServer, *names: str) -> AsyncIterator[tuple[Run, list[Probe], int]]:
    """Probes of these users, the first one the owner, talk in one group during the block; a name that comes twice has
    two devices. Afterwards everything is read. Who is removed from the list of probes need not have it all."""
    run, cid = Run(), await make_group(server, list(dict.fromkeys(names)))
    probes = [
        Probe(run.history, ("127.0.0.1", server.port), server.token(name), seed=number)
        for number, name in enumerate(names)
    ]
    async with trio.open_nursery() as nursery:
        for probe in probes:
            probe.positions[cid] = 0
            nursery.start_soon(probe.run)
            nursery.start_soon(load, run, probe, cid)
        for probe in probes:
            await probe.welcome.wait()
        yield run, probes, cid
        run.loading = False
        await settle(run, probes, [cid] * len(probes))
        run.history.expected_online[cid] = frozenset(probe.device for probe in probes)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def served(directory: Path, shards: int = 1, *options: str, **variables: str) -> AsyncIterator[ChatdServer]:
    """A server of its own processes, with these environment variables, that lets people in."""
    with (
        environment(**variables),
        ChatdServer.start(directory, "--shards", str(shards), *options, inline=False) as server,
    ):
        await ready(server)
        yield server


# ---- what leaves the server, and when
async def traffic_under_trace(directory: Path) -> list[Finding]:
    async with served(directory) as server:
        verdict = await judged_load(server, ORACLE_SENDS, directory / "trace")
    return verdict.findings if verdict.acks else [Finding("INVALID", "no ack was seen: the run proves nothing")]


async def a_sync_that_fails(directory: Path) -> list[Finding]:
    variables, armed, _ = failing_disk(directory)
    async with served(directory, **variables) as server, peer(server, "ann") as ann:
        cid = await ann.group()
        await ann.say(cid)
        hub = workers(server.pid)["hub"]
        armed.write_bytes(b"1")
        answer = await ann.send(cid)
        if armed.read_bytes():
            return [Finding("INVALID", "no sync was asked for: the run proves nothing")]
        if answer.op == Op.SEND_ACK and workers(server.pid).get("hub") == hub:
            return [Finding("RETRIED_SYNC", f"{cid}:{answer['seq']} was acked by the hub whose sync had failed")]
    return []


async def power_cuts(directory: Path) -> list[Finding]:
    recording, found = await record(directory, sends=320, pause_s=0.2), []
    for index, cut in enumerate(cuts(recording, 60, seed=1)):
        image = directory / f"image-{index}"
        image.mkdir()
        text = violation(recording, cut, KEEPS[index % len(KEEPS)], index, image)
        if text:
            found.append(Finding(*text.split(": ", 1)))
    return found


# ---- what is stored, and what is read
@patient
async def two_devices_of_one_user(directory: Path) -> list[Finding]:
    async with served(directory) as server:
        async with conversation(server, "ann", "ann", "bob") as (run, _, _):
            await trio.sleep(2)
        return check(run.history)


@patient
async def a_disk_without_space(directory: Path) -> list[Finding]:
    variables, _, full = failing_disk(directory)
    async with served(directory, **variables) as server:
        async with conversation(server, "ann", "bob", "carl") as (run, _, _):
            for _ in range(5):
                await trio.sleep(0.4)
                full.write_bytes(b"1")
            await trio.sleep(1)
        if full.read_bytes():
            return [Finding("INVALID", "no write failed: the run proves nothing")]
        return check(run.history)


@patient
async def logins_under_load(directory: Path) -> list[Finding]:
    async with served(directory, 2) as server:
        async with conversation(server, "ann", "bob", "carl") as (run, probes, _):
            for round_ in range(12):
                probe = probes[round_ % len(probes)]
                await probe.welcome.wait()
                if probe.connection is not None:
                    await probe.connection.stream.aclose()
                await trio.sleep(0.1)
            await trio.sleep(0.5)
        return check(run.history)


@patient
async def a_member_is_removed(directory: Path) -> list[Finding]:
    async with served(directory, 2) as server:
        async with conversation(server, "ann", "bob", "carl") as (run, probes, cid):
            await trio.sleep(1)
            carl = await user_id(server, "carl")
            async with Client(server.address, Credential.jwt(server.token("ann"))) as owner:
                leave_seq = await owner.remove_members(cid, [carl])
            await trio.sleep(1)
            gone = probes.pop()
        for probe in probes:
            run.history.add(Interval(probe.user, cid, join_seq=1))
        run.history.add(Interval(gone.user, cid, join_seq=1, leave_seq=leave_seq))
        return check(run.history)


# ---- the links between the processes
@patient
async def busy_rings(directory: Path) -> list[Finding]:
    found: list[Finding] = []
    async with served(directory, 2) as server:
        try:
            async with conversation(server, "ann", "bob", "carl", "dora", "ann") as (run, _, _):
                await trio.sleep(5)
            found = check(run.history)
        finally:
            lines = [line for line in server.log.read_text().splitlines() if "a ring was corrupt" in line]
    # The checksum turns a record that was read too early into a lost link, which the log names.
    return [*found, *(Finding("RING", line) for line in lines[:3])]
