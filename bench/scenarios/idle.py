"""idle: connections that are logged in and subscribed and do nothing but prove that they live.

Two figures: user-space memory of the server per connection, and its CPU time for heartbeats.
"""

from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import idle

HEARTBEAT_MS = 25_000


def points(options: Options) -> list[Point]:
    shape = idle(options.connections or 5000)
    heartbeat_ms = options.heartbeat_ms or HEARTBEAT_MS
    return [
        Point(
            label=f"{shape.name}, heartbeat every {heartbeat_ms / 1000:g} s",
            work="idle",
            shape=shape,
            seconds=options.seconds or heartbeat_ms / 1000,
            warm_up=options.warm_up or 0,
            heartbeat_ms=heartbeat_ms,
            goal="≤ 512 bytes per connection, CPU ≤ 0.5 µs per connection and second",
        ),
    ]


IDLE = Scenario(
    name="idle",
    title="idle connections: memory, heartbeats",
    works=frozenset({"idle"}),
    peers=("nats", "redis", "mosquitto"),
    points=points,
    fresh=True,
)
