"""The shapes of traffic and the arithmetic on its results."""

import io

import pytest

from bench.generator import BROKEN, Measurement
from bench.rows import COUNTS, rows_of
from bench.scenarios import Point
from bench.shapes import Credential, Shape, fan_out, idle, pairs, ping, ring, write_plan

SHAPES = [
    ring(3),
    ring(10),
    ping(),
    fan_out(5),
    pairs(10, 25, online=True),
    pairs(10, 25, online=False),
    idle(7),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_everyone_on_a_channel_is_one_of_its_members(shape: Shape) -> None:
    for number, (publish, subscribe) in enumerate(zip(shape.publish, shape.subscribe, strict=True)):
        assert all(number in shape.members[channel] for channel in (*publish, *subscribe))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_no_two_channels_have_the_same_members(shape: Shape) -> None:
    """A direct conversation exists once per pair: two channels would be one conversation."""
    assert len({frozenset(members) for members in shape.members}) == len(shape.members)


def test_recipients_that_are_offline_are_not_connected() -> None:
    shape = pairs(10, 25, online=False)
    assert shape.connection_count == 10
    assert all(members[1] >= 10 for members in shape.members)
    assert not any(shape.subscribe)


def test_a_ring_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="three"):
        ring(2)


def test_a_plan_has_one_line_per_connection() -> None:
    text = io.StringIO()
    write_plan(text, ping(), [Credential(1, 7, "", b"\x01\xff"), Credential()], [42])
    assert text.getvalue() == "1 7 - 01ff 42 -\n0 0 - - - 42\n"


def measurement(per_s: float, generator: float = 0.5, **counts: int) -> Measurement:
    return Measurement(
        per_s=per_s,
        server_cpu_us_per_op=1 / per_s,
        server_cpu_share=1,
        process_cpu_us_per_op={"server": 1 / per_s},
        latency_us={"p50": per_s, "p99": 2.0, "p999": 3.0, "max": 4.0},
        delivery_us=None,
        ack_us=None,
        buckets=[],
        bytes_per_connection=100,
        process_bytes_per_connection={"server": 100},
        connect_ms=1,
        login={},
        generator_cpu_share=generator,
        steal_share=0,
        counts=dict.fromkeys((*COUNTS, *BROKEN), 0) | counts,
    )


def test_a_row_has_the_median_and_the_spread_of_its_repeats() -> None:
    point = Point(label="x", work="relay", shape=ping())
    (row,) = rows_of(point, {"chatd": [measurement(100), measurement(300), measurement(110)]})
    assert row["per_s"] == 110
    assert row["spread"]["per_s"] == [100, 300]
    assert row["latency_us"]["p50"] == 110
    assert any("2.73" in doubt or "3.00" in doubt for doubt in row["doubts"])


def test_a_busy_generator_is_a_doubt_and_a_lost_message_a_fault() -> None:
    point = Point(label="x", work="relay", shape=ping())
    (row,) = rows_of(point, {"nats": [measurement(1, generator=0.95, unanswered=2)]})
    assert any("generator is the bottleneck" in doubt for doubt in row["doubts"])
    assert row["faults"] == ["2 unanswered"]
