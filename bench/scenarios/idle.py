"""idle: connections that are logged in and subscribed and do nothing but prove that they live.

Two figures: user-space memory of the server per connection, and its CPU time for heartbeats. Memory once more of a
server that was just started: there the hub's rows of users, devices and conversations count, too.
"""

from dataclasses import replace

from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import idle

HEARTBEAT_MS = 25_000
# Tables double: one size alone would show a lucky moment of theirs, or an unlucky one.
SIZES = (1000, 5000, 15_000)


def points(options: Options) -> list[Point]:
    sizes = (options.connections,) if options.connections else SIZES[:1] if options.quick else SIZES
    heartbeat_ms = options.heartbeat_ms or HEARTBEAT_MS
    beating = [
        Point(
            label=f"{shape.name}, heartbeat every {heartbeat_ms / 1000:g} s",
            work="idle",
            shape=shape,
            seconds=options.seconds or heartbeat_ms / 1000,
            warm_up=options.warm_up or 0,
            heartbeat_ms=heartbeat_ms,
            goal="≤ 512 bytes per connection, CPU ≤ 0.5 µs per connection and second",
        )
        for shape in map(idle, sizes)
    ]
    started = [
        replace(
            point, label=f"{point.shape.name}, server just started", restart=True, goal="", only=frozenset({"chatd"})
        )
        for point in beating
    ]
    return [*beating, *started]


IDLE = Scenario(
    name="idle",
    title="idle connections: memory, heartbeats",
    works=frozenset({"idle"}),
    peers=("nats", "redis", "mosquitto"),
    points=points,
    fresh=True,
)
