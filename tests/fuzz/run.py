"""Mutate inputs of every parser for a while: `make fuzz MINUTES=n`.

With the sanitized engine the run is guided: an input that reaches an edge of the native code that none reached before
joins the corpus, so that mutations go on from there. Python code is not measured that way; its targets mutate blindly.

A target is a file tests/fuzz/target_*.py. Its first lines state the invariant it tries to break; it has SEEDS, a list
of bytes, and one(data: bytes) -> None, which raises when the invariant is broken. The run is deterministic for a
seed; a failing input is written to build/fuzz/ and printed, so that it becomes a regression vector.
"""

import argparse
import ctypes
import hashlib
import importlib.util
import random
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from chatd import _native

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CRASHES = ROOT / "build" / "fuzz"
INPUT_BYTES_MAX = 65_540
INPUTS_KEPT_MAX = 4_096
INTERESTING = [
    b"\x00",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff",
    b"\x7f\xff",
    b"\x80\x00",
    b"\xff" * 4,
    b"\xff" * 9,
    b"\x80" * 8,
]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutate(rng: random.Random, corpus: list[bytes]) -> bytes:
    data = bytearray(rng.choice(corpus))
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + rng.randrange(1, 5)] = rng.choice(INTERESTING)
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 17))
            case 3:
                del data[at : at + rng.randrange(1, 17)]
            case 4:
                other = rng.choice(corpus)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case _ if data:
                data[at % len(data)] = rng.randrange(256)
    return bytes(data[:INPUT_BYTES_MAX])


class Edges:
    """What an input reached in the native code; nothing is ever new in a build that does not count (edges.c)."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_native.__file__)
        self.counted = hasattr(library, "chatd_edges_new")
        self._new: Callable[[], int] = library.chatd_edges_new if self.counted else lambda: 0
        self.reached = 0
        if self.counted:
            library.chatd_edges_forget()

    def news(self) -> int:
        fresh = self._new()
        self.reached += fresh
        return fresh


class Corpus:
    """Seeds and the inputs that reached something new, kept for the next run in build/fuzz/corpus/TARGET."""

    def __init__(self, target: ModuleType, *, guided: bool) -> None:
        self.directory = CRASHES / "corpus" / target.__name__
        self.directory.mkdir(parents=True, exist_ok=True)
        kept = [path.read_bytes() for path in sorted(self.directory.iterdir())[:INPUTS_KEPT_MAX]] if guided else []
        self.inputs: list[bytes] = [*target.SEEDS, *kept]

    def keep(self, data: bytes) -> None:
        if len(self.inputs) < INPUTS_KEPT_MAX:
            self.inputs.append(data)
            (self.directory / digest(data)).write_bytes(data)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def run_target(target: ModuleType, seconds: float, seed: int) -> dict[str, Any]:
    """Mutate for so long, or until an input breaks it; what was done."""
    rng, edges = random.Random(seed), Edges()
    corpus = Corpus(target, guided=edges.counted)
    given = len(corpus.inputs)
    began, count, from_corpus = time.monotonic(), 0, 0
    latest = CRASHES / f"{target.__name__}.latest"
    first = iter(list(corpus.inputs))
    violation = ""
    edges.news()
    while not violation and time.monotonic() < began + seconds:
        # The corpus itself comes first: only then is news what mutation found.
        known = next(first, None)
        data = mutate(rng, corpus.inputs) if known is None else known
        # Written first: after an abort by a sanitizer this is the culprit.
        latest.write_bytes(data)
        try:
            target.one(data)
        except Exception as error:  # noqa: BLE001 whatever it is, it is the finding
            crash = CRASHES / f"{target.__name__}-{digest(data)}"
            crash.write_bytes(data)
            traceback.print_exc()
            violation = f"input {count} of seed {seed}, kept as {crash.name}: {data.hex()}: {error!r}"
        fresh = edges.news()
        if known is not None:
            from_corpus += fresh
        elif fresh:
            corpus.keep(data)
        count += 1
    return {
        "inputs": count,
        "seconds": round(time.monotonic() - began),
        "corpus": given,
        "edges_of_corpus": from_corpus,
        "edges": edges.reached,
        "inputs_kept": len(corpus.inputs) - given,
        "violation": violation,
    }


def line(name: str, done: dict[str, Any]) -> str:
    guided = f", {done['edges']} edges ({done['edges_of_corpus']} by the corpus), {done['inputs_kept']} inputs kept"
    return f"{name}: {done['inputs']} inputs{guided if done['edges'] else ''}, {done['violation'] or 'nothing broken'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", type=Path, help="where the result goes, for docs/reliability.md")
    parser.add_argument("targets", nargs="*", help="names such as target_cursor; default all")
    arguments = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    sys.path.append(str(ROOT))  # behind the engine that was chosen
    from campaigns.report import machine, write

    CRASHES.mkdir(parents=True, exist_ok=True)
    paths = sorted(HERE.glob("target_*.py"))
    targets = [load(path) for path in paths if not arguments.targets or path.stem in arguments.targets]
    result = {"campaign": "fuzz", "machine": machine("tests.fuzz.run"), "seed": arguments.seed}
    done: dict[str, dict[str, Any]] = {}
    print(f"seed {arguments.seed}", flush=True)
    for target in targets:
        name = target.__name__.removeprefix("target_")
        done[name] = run_target(target, arguments.minutes * 60 / len(targets), arguments.seed)
        print(line(name, done[name]), flush=True)
        violations = [f"{name}: {one['violation']}" for name, one in done.items() if one["violation"]]
        write(arguments.json, {**result, "minutes": arguments.minutes, "targets": done, "violations": violations})
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
