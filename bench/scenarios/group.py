"""group: one sender, 499 others online, every message on disk before it goes out. slow-reader: the same while some of
them do not read.

Nobody waits for company: chatd has no timer that collects messages. What is sent while one commit is on its way to the
disk is the next commit, so bundling delays a message by the commit before it, and that is in the latencies. Peers keep
nothing: theirs are the ephemeral messages of `fanout`, sent at the same windows and paces.
"""

from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import fan_out

STUCK = 20
PACE = 200.0  # messages per second: 100,000 deliveries, which every peer does with ease
STUCK_PAYLOAD = 2048  # 4 MB in ten seconds: more than queue and socket together may hold


def group_points(options: Options) -> list[Point]:
    shape, window = fan_out(options.connections or 500), options.window or 64
    return [
        Point(
            label=f"group, {shape.name}, {window} in flight",
            work="group",
            peer_work="relay",
            shape=shape,
            window=window,
            seconds=options.seconds or 5,
            warm_up=options.warm_up if options.warm_up is not None else 1,
            goal="≥ 1,000,000 deliveries/s on one shard core",
        )
    ]


def stuck_points(options: Options) -> list[Point]:
    shape = fan_out(options.connections or 500)
    stuck = min(options.stuck or STUCK, shape.connection_count - 2)
    pace = options.rate or PACE
    return [
        Point(
            label=f"group, {shape.name}, {pace:g} messages/s of {STUCK_PAYLOAD} bytes, {stuck} do not read",
            work="group",
            shape=shape,
            window=64,
            rate=pace,
            payload=STUCK_PAYLOAD,
            stuck=stuck,
            seconds=3 * options.seconds if options.seconds else 10,
            warm_up=options.warm_up if options.warm_up is not None else 1,
            goal="≤ 356 KiB per stuck reader, nothing lost",
        )
    ]


GROUP = Scenario(
    name="group",
    title="durable messages to a group of 500",
    works=frozenset({"group", "relay"}),
    peers=("nats", "redis"),
    points=group_points,
    shared_cores=True,
)
SLOW_READER = Scenario(
    name="slow-reader",
    title="readers that stop reading",
    works=frozenset({"group"}),
    peers=("nats", "redis", "mosquitto"),
    points=stuck_points,
    fresh=True,
    shared_cores=True,
    defaults=True,
)
