"""Measure what docs/internals/process.md says of dead workers.

    PYTHONPATH=tests .venv/bin/python tests/faults/measure_restarts.py --cycles 15

Three shards; two people on shards 0 and 1 talk all the time. In every cycle shard 2, the hub and the folder are killed
with SIGKILL in turn, each further apart than the back-off remembers. Printed: how long until each was replaced (as the
supervisor logs it), and the time from SEND to DELIVER of the two around the kills of shard 2.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import trio
from support.live import Peer, peer
from support.processes import workers

from chatd.testing import ChatdServer

PACE_S = 0.005
BEFORE_S, AFTER_S, BETWEEN_S = 1.5, 3.0, 1.5


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def line(name: str, values: Sequence[float]) -> str:
    shown = [f"{label} {percentile(values, share):.1f}" for label, share in
             (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))]  # fmt: skip
    return f"{name:24} n {len(values):6}   " + "   ".join(shown)


async def talk(ann: Peer, bob: Peer, cid: int, took: list[tuple[float, float]]) -> None:
    """One message after the other. took: (moment, milliseconds from SEND to DELIVER)."""
    while True:
        begun = time.monotonic()
        seq = await ann.say(cid)
        await bob.delivered(cid, seq)
        took.append((begun, 1000 * (time.monotonic() - begun)))
        await trio.sleep(PACE_S)


async def kill(server: ChatdServer, name: str, then_s: float) -> float:
    moment = time.monotonic()
    os.kill(workers(server.pid)[name], signal.SIGKILL)
    await trio.sleep(then_s)
    return moment


async def measure(server: ChatdServer, cycles: int) -> None:
    took: list[tuple[float, float]] = []
    kills: list[float] = []
    async with peer(server, "ann", shard=0) as ann, peer(server, "bob", shard=1) as bob, trio.open_nursery() as nursery:
        nursery.start_soon(talk, ann, bob, await ann.group([bob.user]), took)
        for _ in range(cycles):
            await trio.sleep(BEFORE_S)
            kills.append(await kill(server, "shard 2", AFTER_S))
            for name in ("hub", "folder"):
                await kill(server, name, BETWEEN_S)
        nursery.cancel_scope.cancel()
    lines = [json.loads(text) for text in server.log.read_text().splitlines() if '"worker replaced"' in text]
    print("replaced after, ms")
    for role in ("shard 2", "hub", "folder"):
        print(line(role, [entry["after_ms"] for entry in lines if entry["worker"] == role]))
    print("SEND to DELIVER between shards 0 and 1, ms")
    before = [ms for at, ms in took if any(moment - BEFORE_S / 2 <= at < moment for moment in kills)]
    after = [ms for at, ms in took if any(moment <= at < moment + AFTER_S for moment in kills)]
    print(line(f"{BEFORE_S / 2:g} s before a kill", before))
    print(line(f"{AFTER_S:g} s after a kill", after))


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill workers of a live server and measure.")
    parser.add_argument("--cycles", type=int, default=15)
    cycles = parser.parse_args().cycles
    with tempfile.TemporaryDirectory() as directory:
        options = ("--shards", "3", "--log", "json")
        with ChatdServer.start(Path(directory), *options, inline=False) as server:
            trio.run(measure, server, cycles)


if __name__ == "__main__":
    main()
