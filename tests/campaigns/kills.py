"""Hundreds of live kills under load, in rounds: `make kills KILLS=500`, on PostgreSQL with STORE=postgresql.

A round is a fresh server with real processes, nine devices that send as fast as their windows allow, and twenty-five
kills of a role drawn by the round's seed, each while SENDs wait for their answer. On PostgreSQL the database is fresh,
too, and most of what is killed is its (support.pgkills.ROLES). After it the whole history is judged
by every invariant and the store by `chatd check`; only the figures are kept, so memory stays that of one round. What
belongs to a violation (history, log, data) is left in build/kills/, on the checkout's disk like the data of a round:
/tmp may be memory.
"""

import argparse
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio
from support import pgkills
from support.invariants import check
from support.kills import Nemesis, Run, kill_under_load
from support.postgres import Postgres

from campaigns.report import machine, spread, write
from chatd.errors import ChatdError
from chatd.storage.journal_codec import decode_batch
from chatd.storage.stores import check_store
from chatd.testing import ChatdServer

ROLES = {"sqlite": {"shard": 4, "hub": 4, "folder": 1, "supervisor": 1}, "postgresql": pgkills.ROLES}
"""store → role → weight."""
KILLS_PER_ROUND = 25
ROUND_S_MAX = 300.0
EVIDENCE = Path(__file__).resolve().parents[2] / "build" / "kills"


@dataclass(slots=True)
class Tally:
    """What all rounds so far amount to."""

    kills: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    unanswered: list[int] = field(default_factory=list)
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    violations: list[str] = field(default_factory=list)

    def add(self, run: Run, violations: list[str]) -> None:
        history = run.history
        for kill in run.kills:
            self.kills[kill.role] += 1
            self.unanswered.append(kill.unanswered)
            self.recovery_s[kill.role].append(kill.recovered_s)
        outcomes = Counter(send.outcome for send in history.sends)
        self.operations.update({f"sends_{outcome}": count for outcome, count in outcomes.items()})
        self.operations.update(
            connections=len(history.connections),
            delivered=len(history.seen),
            applied=len(history.applied),
            stored=len(history.stored),
        )
        self.violations += violations

    def result(self) -> dict[str, Any]:
        return {
            "kills": {**self.kills, "all": self.kills.total()},
            "operations": dict(sorted(self.operations.items())),
            "unanswered_at_kill": {"min": min(self.unanswered, default=0), **spread(self.unanswered)},
            "recovery_s": {role: spread(times) for role, times in sorted(self.recovery_s.items())},
            "violations": self.violations,
        }


async def one_round(directory: Path, seed: int, kills: int, shards: int, store: str) -> tuple[Run, list[str]]:
    """The run, and what was wrong with it."""
    with ExitStack() as stack:
        database = stack.enter_context(Postgres.running()) if store == "postgresql" else None
        try:
            return await _round(directory, seed, kills, shards, store, database)
        finally:
            if database is not None:
                shutil.copy(database.log, directory / "postgresql.log")


async def _round(
    directory: Path, seed: int, kills: int, shards: int, store: str, database: Postgres | None
) -> tuple[Run, list[str]]:
    roles = Random(seed).choices(list(ROLES[store]), list(ROLES[store].values()), k=kills)
    where = "sqlite" if database is None else database.database()
    nemesis = Nemesis if database is None else pgkills.nemesis_of(database)
    run, found = Run(), []
    server = ChatdServer.start(directory, "--store", where, "--shards", str(shards), inline=False)
    try:
        with trio.fail_after(ROUND_S_MAX):
            await kill_under_load(server, roles, seed=seed, run=run, nemesis=nemesis)
    except* trio.TooSlowError:
        found.append(f"STUCK: after {[kill.role for kill in run.kills][-3:]} somebody did not go on")
    finally:
        try:
            server.stop()
        except ChatdError as error:
            found.append(f"STUCK: {error}")
    if not found:
        found += [f"{finding.word}: {finding.text}" for finding in check(run.history)]
    found += [f"CHECK: {finding}" for finding in check_store(where, server.data, decode_batch).findings]
    return run, [f"seed {seed}: {text}" for text in found]


def keep_evidence(directory: Path, run: Run, seed: int) -> None:
    kept = EVIDENCE / f"seed-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(directory, kept)
    run.history.save(kept / "history.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--store", choices=list(ROLES), default="sqlite")
    parser.add_argument("--shards", default="1,3", help="numbers of shards that the rounds take in turn")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next one has the next seed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shards = [int(number) for number in options.shards.split(",")]
    described, tally, began = machine("campaigns.kills"), Tally(), time.monotonic()
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    seed = options.seed
    while (left := options.kills - tally.kills.total()) > 0:
        with tempfile.TemporaryDirectory(dir=EVIDENCE) as name:
            directory = Path(name)
            turn = shards[(seed - options.seed) % len(shards)]
            run, violations = trio.run(one_round, directory, seed, min(left, KILLS_PER_ROUND), turn, options.store)
            tally.add(run, violations)
            if violations:
                keep_evidence(directory, run, seed)
        for violation in violations:
            print(violation, flush=True)
        print(
            f"{tally.kills.total():5d}/{options.kills} kills, {tally.operations['sends_ok']} acked,"
            f" {len(tally.violations)} violations, {time.monotonic() - began:.0f} s",
            flush=True,
        )
        seed += 1
        result = {"campaign": "kills", "machine": described, "store": options.store}
        result |= {"seeds": [options.seed, seed - 1], "shards": shards}
        result |= {"seconds": round(time.monotonic() - began)} | tally.result()
        write(options.json, result)
        if not run.kills:
            break  # no server to kill: the violation says why
    raise SystemExit(bool(tally.violations))


if __name__ == "__main__":
    main()
