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
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from chatd import _native

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
CRASHES = HERE.parents[1] / "build" / "fuzz"
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


def run_target(target: ModuleType, seconds: float, seed: int) -> str:
    """Mutate for so long; what was done, as a line. Whatever the target raises comes through."""
    rng, edges = random.Random(seed), Edges()
    corpus = Corpus(target, guided=edges.counted)
    deadline = time.monotonic() + seconds
    count = 0
    latest = CRASHES / f"{target.__name__}.latest"
    first = iter(list(corpus.inputs))
    edges.news()
    while time.monotonic() < deadline:
        # The corpus itself comes first: only then is news what mutation found.
        given = next(first, None)
        data = mutate(rng, corpus.inputs) if given is None else given
        # Written first: after an abort by a sanitizer this is the culprit.
        latest.write_bytes(data)
        try:
            target.one(data)
        except BaseException:
            crash = CRASHES / f"{target.__name__}-{digest(data)}"
            crash.write_bytes(data)
            print(f"{target.__name__}: input {count} of seed {seed} broke it, kept as {crash}: {data.hex()}")
            raise
        if edges.news() and given is None:
            corpus.keep(data)
        count += 1
    guided = f", {edges.reached} edges, {len(corpus.inputs)} inputs in the corpus" if edges.counted else ""
    return f"{target.__name__}: {count} inputs{guided}, nothing broken"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("targets", nargs="*", help="names such as target_cursor; default all")
    arguments = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    CRASHES.mkdir(parents=True, exist_ok=True)
    paths = sorted(HERE.glob("target_*.py"))
    targets = [load(path) for path in paths if not arguments.targets or path.stem in arguments.targets]
    print(f"seed {arguments.seed}", flush=True)
    for target in targets:
        print(run_target(target, arguments.minutes * 60 / len(targets), arguments.seed), flush=True)


if __name__ == "__main__":
    main()
