"""durable: sends that are acknowledged when they are on disk, chatd beside Redis Streams with `appendfsync always` and
PostgreSQL with pipelined INSERTs. Every acknowledged event is read again afterwards.

What a chatd acknowledgement includes and XADD does not: membership, idempotency, one sequence per conversation, and the
way to every member's devices.
"""

from dataclasses import replace

from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import Shape, pairs

CONVERSATIONS_PER_DEVICE = 2.5


def points(options: Options) -> list[Point]:
    devices = options.connections or 2000
    window = options.window or 4  # 8,000 unanswered sends: hub.shard_sends_max is 10,000, more would be told BUSY
    few = min(50, devices)
    hot = pairs(devices, int(devices * CONVERSATIONS_PER_DEVICE), online=False)
    online = pairs(devices, int(devices * CONVERSATIONS_PER_DEVICE), online=True)
    if options.rate:
        return [_paced(shape, options.rate, options) for shape in (hot, online)]
    full = full_point(hot, window, "≥ 100,000 per s", options)
    both = full_point(online, window, "", options)
    chosen = [full, half_of(full, "p99 ≤ 5 ms", options), both, half_of(both, "delivery p99 ≤ 5 ms", options)]
    if options.connections is None and options.window is None:
        small = pairs(few, int(few * CONVERSATIONS_PER_DEVICE), online=False)
        chosen += [full_point(small, 1, "", options), full_point(small, 16, "", options)]
    return chosen


def full_point(shape: Shape, window: int, goal: str, options: Options) -> Point:
    # A peer has no recipients: it is measured where chatd's stay offline.
    return Point(
        label=f"durable, {shape.name}, {window} in flight",
        work="durable",
        shape=shape,
        window=window,
        seconds=options.seconds or 5,
        warm_up=options.warm_up if options.warm_up is not None else 2,
        goal=goal,
        reread=True,
        only=frozenset({"chatd"}) if any(shape.subscribe) else frozenset(),
    )


def _paced(shape: Shape, rate: float, options: Options) -> Point:
    point = full_point(shape, 64, "p99 ≤ 5 ms", options)
    return replace(point, label=f"durable, {shape.name}, {rate:,.0f} per s", rate=rate)


def half_of(full: Point, goal: str, options: Options) -> Point:
    return Point(
        label=f"{full.label}, at half load",
        work="durable",
        shape=full.shape,
        window=64,  # sends_in_flight_max of the protocol: the schedule decides, not the window
        seconds=options.seconds or 5,
        warm_up=full.warm_up,
        of=full.label,
        rate_share=0.5,
        goal=goal,
        reread=True,
        only=full.only,
    )


DURABLE = Scenario(
    name="durable",
    title="durable sends acknowledged",
    works=frozenset({"durable"}),
    peers=("redis-streams", "postgres"),
    points=points,
    shared_cores=True,
)
