"""Thousands of power cuts of one live run: `make crashes CUTS=2000`.

One run of a live server is recorded; the disk is rebuilt at CUTS places spread over it, at each in four ways: of what
was not synced nothing, everything, a random part, or everything with the last write torn at a sector.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import trio
from support.crash_images import KEEPS, cuts, record, violation

from campaigns.report import machine, write

SENDS, PAUSE_S = 4000, 0.2
MEMORY = Path("/dev/shm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    described, began = machine("campaigns.crash_images"), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        recording = trio.run(record, Path(directory), SENDS, PAUSE_S)
    print(f"recorded {recording.operations}", flush=True)
    found: list[str] = []
    images: Counter[str] = Counter()
    acked = 0
    for index, cut in enumerate(cuts(recording, options.cuts, options.seed)):
        acked += len(KEEPS) * len(recording.journal.marks_before(cut))
        for keep in KEEPS:
            # Images need no disk: what is on one after a cut has been decided already.
            with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as image:
                text = violation(recording, cut, keep, options.seed + index, Path(image))
            images[keep] += 1
            if text:
                found.append(f"cut {cut} of {recording.places}, keep {keep}: {text}")
                print(found[-1], flush=True)
        if (index + 1) % 100 == 0:
            print(f"{index + 1:5d}/{options.cuts} cuts, {len(found)} violations", flush=True)
    result = {
        "campaign": "crash images",
        "machine": described,
        "seconds": round(time.monotonic() - began),
        "recorded": recording.operations,
        "cuts": options.cuts,
        "images": dict(images),
        "acknowledged_events_required": acked,
        "violations": found,
    }
    write(options.json, result)
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
