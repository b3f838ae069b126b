"""The parts of the simulation that could be wrong without any run showing it."""

import json
from pathlib import Path
from random import Random

import pytest
from campaigns import simulate
from campaigns.simulate import Brief, Task, campaign
from support.sim.buggify import ARMED, POINTS, Buggify
from support.sim.rings import Direction, native_ring


def test_a_record_that_was_being_written_is_never_read() -> None:
    for seed in range(200):
        direction = Direction(native_ring, 1 << 16, 1)
        for number in range(30):
            direction.near.write(bytes([number]) * 100)
        direction.lose_near(Random(seed))
        read = []
        while (record := direction.far.read()) is not None:
            read.append(record[0])
        assert read == list(range(len(read)))
        assert len(read) <= 20
        assert not direction.far.corrupt
        direction.close()


def test_a_torn_record_lies_where_the_next_one_begins() -> None:
    """Were its head published, the reader would find it: it is no record, but it is there."""
    direction = Direction(native_ring, 1 << 16, 1)
    direction.near.write(b"torn" * 50)
    direction.lose_near(Random(3))
    memory = Path(f"/proc/self/fd/{direction.far.memfd}").read_bytes()
    assert b"torntorn" in memory
    direction.close()


def test_points_are_armed_by_seed_and_strike_until_they_are_disarmed() -> None:
    def strikes(seed: int) -> dict[str, int]:
        buggify = Buggify(seed)
        for point in list(POINTS) * 2000:
            buggify(point)
        return buggify.strikes

    assert strikes(5) == strikes(5)
    struck = sum(len(strikes(seed)) for seed in range(1, 101))
    assert 0.7 * ARMED < struck / (100 * len(POINTS)) < 1.3 * ARMED
    buggify = Buggify(5)
    buggify.disarm()
    assert not any(buggify(point) for point in list(POINTS) * 1000)


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [(seed, side) for seed in range(1, 11) for side in ("native", "reference")]
    heading = {"plan": {"seeds": 10, "sides": ["native", "reference"]}, "machine": {"commit": "c0ffee"}}
    ran: list[Task] = []

    def play(task: Task) -> Brief:
        if task == (4, "reference") and len(ran) < len(tasks) // 2:
            raise KeyboardInterrupt
        ran.append(task)
        return Brief(*task, task[0] != 2, ["LOST"] if task[0] == 2 else [], "", {"cut": 1}, {}, 1000, 66.0, 0.5)

    monkeypatch.setattr(simulate, "simulate", play)
    monkeypatch.setattr(simulate, "PROGRESS_S", -1.0)
    path = tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        campaign(tasks, 1, heading, path)
    stopped = json.loads(path.read_text())
    assert (stopped["seeds_done"], stopped["runs"]) == (3, {"native": 4, "reference": 3})
    monkeypatch.setattr(simulate, "simulate", lambda task: Brief(*task, True, [], "", {"cut": 1}, {}, 1000, 66.0, 0.5))
    whole = campaign(tasks, 1, heading, path)
    assert (whole["seeds_done"], whole["operations"], whole["faults"]) == (10, 20_000, {"cut": 20})
    assert [entry["seed"] for entry in whole["failed"]] == [2, 2]
    other = {**heading, "machine": {"commit": "other"}}
    assert campaign(tasks[:4], 1, other, path)["runs"] == {"native": 2, "reference": 2}
