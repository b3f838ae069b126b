"""idle: connections that are logged in and subscribed and do nothing but prove that they live.

Three figures: user-space memory of the server per connection, its CPU time for heartbeats, and what it costs to log in
with a token (all servers: to connect and subscribe) and with a resume ticket.
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
        Point(
            label=f"{shape.name}, resumed",
            work="idle",
            shape=shape,
            seconds=0.1,
            warm_up=0,
            resume=True,
            login_only=True,
            only=frozenset({"chatd"}),
        ),
    ]


IDLE = Scenario(
    name="idle",
    title="idle connections: memory, heartbeats, logins",
    work="idle",
    peers=("nats", "redis"),
    points=points,
    fresh=True,
)
