"""Power cuts anywhere in a live run lose nothing acknowledged; `make crashes` cuts two thousand times as often."""

from pathlib import Path

import pytest
from support import strace
from support.crash_images import KEEPS, Recording, cuts, record, violation
from support.inside import environment

CUTS = 100


def violations(recording: Recording, directory: Path, count: int) -> list[str]:
    """At `count` places, at each in one of the ways."""
    found = []
    for index, cut in enumerate(cuts(recording, count, seed=1)):
        image = directory / f"image-{index}"
        image.mkdir()
        text = violation(recording, cut, KEEPS[index % len(KEEPS)], index, image)
        found += [f"cut {cut} keep {KEEPS[index % len(KEEPS)]}: {text}"] if text else []
    return found


async def test_what_was_acknowledged_survives_a_power_cut_anywhere(tmp_path: Path) -> None:
    strace.require()
    recording = await record(tmp_path, sends=640, pause_s=0.2)
    assert recording.operations["mark"] == 640
    assert recording.operations["delete"] > 0, "segments were removed meanwhile"
    assert recording.operations["sync"] > 30
    assert violations(recording, tmp_path, CUTS) == []


@pytest.mark.parametrize("sabotage", ["2", "15"])
async def test_images_show_a_journal_without_sync_and_a_fold_in_two_halves(tmp_path: Path, sabotage: str) -> None:
    strace.require()
    with environment(SABOTAGE=sabotage):
        recording = await record(tmp_path, sends=320, pause_s=0.2)
    assert violations(recording, tmp_path, CUTS // 2)
