"""durable: sends that are acknowledged when they are on disk, chatd beside Redis Streams with `appendfsync always` and
PostgreSQL with pipelined INSERTs. Every acknowledged event is read again afterwards.

What a chatd acknowledgement includes and theirs do not: membership, idempotency, one sequence per conversation, and the
way to every member's devices. A peer has no recipients: it is measured where chatd's stay offline.

hot: few devices, busy conversations, so everything that a send needs is in memory. cold: 100,000 conversations on a
store that has seen millions of events, each conversation loaded when its turn comes.
"""

from dataclasses import replace

from bench.prefill import ColdSet
from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import Shape, pairs

CONVERSATIONS_PER_DEVICE = 2.5
CHATD = frozenset({"chatd"})
POSTGRESQL_GOAL = "≥ 50,000 per s"
PACED_GOALS = {"sqlite": "p99 ≤ 5 ms", "postgresql": "p99 ≤ 25 ms"}
SUSTAINED_PER_S = 100_000
SUSTAINED_SHARE = 24  # times the seconds of the other points: a minute at two and a half
COLD = ColdSet(devices=10_000, conversations=100_000, events=2_000_000)
COLD_QUICK = ColdSet(devices=500, conversations=5_000, events=20_000)


def points(options: Options) -> list[Point]:
    devices, window = options.connections or 2000, options.window or 4
    offline, online = hot_set(devices, online=False), hot_set(devices, online=True)
    if options.rate:
        return [paced(shape, options.rate, options) for shape in (offline, online)]
    if options.store == "postgresql":
        return _on_postgresql(offline, online, window, options)
    chosen = [
        # 8,000 unanswered sends: hub.shard_sends_max is 10,000, more would be told BUSY.
        full_point("hot", offline, window, options),
        full_point("online", online, window, options),
    ]
    if options.connections is None and options.window is None:
        few = hot_set(50, online=False)
        chosen += [full_point("50 devices × 1", few, 1, options), full_point("50 devices × 16", few, 16, options)]
    chosen.append(_sustained(online, options))
    if options.connections is None:
        chosen.append(_cold(COLD_QUICK if options.quick else COLD, options))
    return chosen


def _on_postgresql(offline: Shape, online: Shape, window: int, options: Options) -> list[Point]:
    hot = replace(full_point("hot", offline, window, options), goal=POSTGRESQL_GOAL)
    few = full_point("50 devices × 1", hot_set(50, online=False), 1, options)
    return [
        hot,
        half_of(hot, "hot", "p99 ≤ 25 ms"),
        replace(full_point("online", online, window, options), goal=POSTGRESQL_GOAL),
        few,
    ]


def hot_set(devices: int, *, online: bool) -> Shape:
    return pairs(devices, int(devices * CONVERSATIONS_PER_DEVICE), online=online)


def full_point(name: str, shape: Shape, window: int, options: Options) -> Point:
    """As fast as the windows allow."""
    return Point(
        label=f"durable, {name}, {window} in flight: {shape.name}",
        work="durable",
        shape=shape,
        window=window,
        seconds=options.seconds or 5,
        warm_up=options.warm_up if options.warm_up is not None else 2,
        goal="≥ 100,000 per s" if name in ("hot", "online") else "",
        reread=True,
        only=CHATD if any(shape.subscribe) else frozenset(),
    )


def half_of(full: Point, name: str, goal: str) -> Point:
    """At half the rate that the same server reached at `full`, on a schedule."""
    # The window is sends_in_flight_max of the protocol: the schedule decides, not the window.
    return replace(
        full, label=f"half load, {name}: {full.shape.name}", window=64, of=full.label, rate_share=0.5, goal=goal
    )


def paced(shape: Shape, rate: float, options: Options) -> Point:
    point = full_point("", shape, 64, options)
    label, goal = f"durable, {rate:,.0f} per s: {shape.name}", PACED_GOALS[options.store]
    return replace(point, label=label, rate=rate, goal=goal, only=CHATD)


def _sustained(shape: Shape, options: Options) -> Point:
    """Long enough that a backlog which only grows would show."""
    return replace(
        paced(shape, SUSTAINED_PER_S, options),
        label=f"durable, sustained {SUSTAINED_PER_S:,} per s: {shape.name}",
        seconds=(options.seconds or 2.5) * SUSTAINED_SHARE,
        repeats=1,
        goal="≥ 100,000 per s for a minute, backlog flat",
    )


def _cold(cold: ColdSet, options: Options) -> Point:
    shape = cold.shape()
    return replace(
        full_point("cold", shape, 1, options),
        label=f"durable, cold, 1 in flight: {shape.name}, {cold.events:,} events stored before",
        cold=cold,
        repeats=1,
        only=CHATD,
        goal="",
    )


DURABLE = Scenario(
    name="durable",
    title="durable sends acknowledged",
    works=frozenset({"durable"}),
    peers=("redis-streams", "postgres"),
    points=points,
    shared_cores=True,
)
