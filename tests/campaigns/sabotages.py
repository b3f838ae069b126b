"""Every deliberate fault is caught within a minute by what names it: `make sabotage`.

A server of the build with deliberate faults plays a scene; the findings must contain the word that is expected. Before
that, the same build without a sabotage plays every scene and must have no finding: a harness that cries at everything
catches nothing. docs/internals/sabotages.md is this table for readers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import trio
from support import scenes, scenes_of_sessions
from support.inside import SABOTAGE_BUILD, TESTS, changed
from support.invariants import Finding
from support.scenes import Scene

from campaigns.report import machine, write

WITHIN_S = 60
SEEDS = 100
"""Of the simulation, before a sabotage counts as one that it does not catch."""


class Sabotage(NamedTuple):
    """what: is wrong in the server. word: of the finding that names it. simulated: of one of the simulation's, if it
    catches it."""

    what: str
    scene: Scene
    word: str
    simulated: str = "–"


SABOTAGES = {
    1: Sabotage("SEND_ACK leaves before the commit", scenes.traffic_under_trace, "EARLY_ACK", "LOST"),
    2: Sabotage("the journal is not synced", scenes.traffic_under_trace, "EARLY_ACK", "LOST"),
    3: Sabotage("events are pushed before the commit", scenes.traffic_under_trace, "EARLY_PUSH", "CRASHED"),
    4: Sabotage(
        "a repeated cseq is recognised whichever device sent it", scenes.two_devices_of_one_user, "LOST", "CROSS"
    ),
    5: Sabotage("the next seq is not taken back after a failed batch", scenes.a_disk_without_space, "GAP", "CRASHED"),
    6: Sabotage("pushes begin later than the login says", scenes.logins_under_load, "STUCK", "STUCK"),
    7: Sabotage("the end of a membership is not looked at when pushing", scenes.a_member_is_removed, "LEAK", "LEAK"),
    8: Sabotage("LAG is left out", scenes_of_sessions.a_reader_that_stops, "SKIP", "SKIP"),
    9: Sabotage("a ring's head is published before the record", scenes.busy_rings, "RING"),
    10: Sabotage("deadlines follow the wall clock", scenes_of_sessions.the_clock_is_set, "DROPPED"),
    11: Sabotage("a handle's generation is not compared", scenes_of_sessions.the_place_of_another, "CROSS", "LEAK"),
    12: Sabotage("a sync that failed is tried again", scenes.a_sync_that_fails, "RETRIED_SYNC"),
    13: Sabotage("records of an older session epoch are accepted", scenes_of_sessions.a_device_moves_on, "TWIN"),
    14: Sabotage("reads do not look at the tail", scenes.two_devices_of_one_user, "STALE", "LOST"),
    15: Sabotage("the fold's position is committed apart from its rows", scenes.power_cuts, "LOST", "INVALID"),
}


def table() -> str:
    """As docs/internals/sabotages.md shows it."""
    rows = ["| | sabotage | scene | caught by | in the simulation |", "|---|---|---|---|---|"]
    for number, s in SABOTAGES.items():
        rows.append(f"| {number} | {s.what} | {s.scene.__name__.replace('_', ' ')} | {s.word} | {s.simulated} |")
    return "\n".join(rows) + "\n"


def play(scene: Scene, number: int) -> tuple[list[Finding], float]:
    """The findings, and how many seconds it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, changed(build=SABOTAGE_BUILD, SABOTAGE=str(number)):
        findings = trio.run(scene, Path(directory))
    return findings, round(time.monotonic() - began, 1)


class Simulated(NamedTuple):
    """What the simulation says of a sabotage. seed: the first one that fails, 0: none of SEEDS does."""

    seed: int
    words: list[str]
    seconds: float


def simulate(number: int, build: Path | None = SABOTAGE_BUILD) -> Simulated:
    """Seeds in the build with deliberate faults, in a process of its own, until one fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, changed(build=build, SABOTAGE=str(number)):
        result = Path(directory) / "result.json"
        paths = [os.environ["PYTHONPATH"], str(TESTS.parent), str(TESTS)]
        options = ["--side", "native", "--seeds", str(SEEDS), "--jobs", "1", "--to-failure", "--json", str(result)]
        subprocess.run(
            [sys.executable, "-P", "-m", "campaigns.simulate", *options],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        failed = json.loads(result.read_text())["failed"]
    seconds = round(time.monotonic() - began, 1)
    return Simulated(failed[0]["seed"], failed[0]["words"], seconds) if failed else Simulated(0, [], seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("numbers", type=int, nargs="*", help="only these; 0: only the scenes without a sabotage")
    parser.add_argument("--simulation", action="store_true", help="and which seed of the simulation catches it")
    options = parser.parse_args()
    described, failed = machine("campaigns.sabotages"), []
    chosen = {n: s for n, s in SABOTAGES.items() if not options.numbers or n in options.numbers}
    sound, rows = {}, []
    for scene in {s.scene for s in (chosen or SABOTAGES).values()}:
        findings, seconds = play(scene, 0)
        sound[scene.__name__] = {"findings": len(findings), "seconds": seconds}
        print(f" 0 {scene.__name__}: {len(findings)} findings, {seconds} s", flush=True)
        failed += [f"0 {scene.__name__}: {finding}" for finding in findings[:3]]
    for number, sabotage in chosen.items():
        findings, seconds = play(sabotage.scene, number)
        words = sorted({finding.word for finding in findings})
        caught = sabotage.word in words and seconds <= WITHIN_S
        print(f"{number:2d} {sabotage.what}: {', '.join(words) or 'NOT CAUGHT'}, {seconds} s", flush=True)
        if not caught:
            failed.append(f"{number}: {sabotage.word} expected within {WITHIN_S} s, found {findings[:3]}")
        simulated = simulate(number) if options.simulation else None
        if simulated:
            if sabotage.simulated != "–" and not simulated.seed:
                failed.append(f"{number}: no seed of the simulation caught it, {sabotage.simulated} was expected")
            said = f"{', '.join(simulated.words)} with seed {simulated.seed}" if simulated.seed else "not caught"
            print(f"   in the simulation: {said}, {simulated.seconds} s", flush=True)
        row = {"number": number, "sabotage": sabotage.what, "scene": sabotage.scene.__name__, "expected": sabotage.word}
        rows.append({**row, "found": words, "seconds": seconds, "caught": caught})
        rows[-1] |= {"simulated": simulated._asdict()} if simulated else {}
    write(options.json, {"campaign": "sabotages", "machine": described, "without": sound, "rows": rows})
    print("\n".join(failed) or "all were caught, and nothing was found without one")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
