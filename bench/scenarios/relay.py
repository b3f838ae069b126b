"""relay and fanout: ephemeral messages from connection to connection, chatd beside NATS, Redis publish/subscribe and
mosquitto at QoS 0.

chatd's EPHEMERAL frames are compared with what the peers do: nothing is stored, nothing is acknowledged. chatd's
connections are authenticated and every conversation's membership has been checked at SUBSCRIBE.
"""

from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import Shape, fan_out, ring

PEERS = ("nats", "redis", "mosquitto")


def ring_points(options: Options) -> list[Point]:
    if options.connections is not None or options.window is not None:
        return [relay_point(ring(options.connections or 200), options.window or 64, "", options)]
    return [
        relay_point(ring(200), 64, "CPU ≤ 0.25 µs and ≤ 0.5 × best peer", options),
        relay_point(ring(1000), 8, "CPU ≤ 0.8 × best peer", options),
        relay_point(ring(1000), 1, "CPU ≤ 1.1 × best peer", options),
    ]


def fan_out_points(options: Options) -> list[Point]:
    shape = fan_out(options.connections or 500)
    return [relay_point(shape, options.window or 16, "CPU ≤ 0.6 × best peer", options)]


def relay_point(shape: Shape, window: int, goal: str, options: Options) -> Point:
    return Point(
        label=f"relay, {shape.name}, {window} in flight",
        work="relay",
        shape=shape,
        window=window,
        seconds=options.seconds or 4,
        warm_up=options.warm_up if options.warm_up is not None else 1,
        goal=goal,
    )


RELAY = Scenario(
    name="relay",
    title="ephemeral messages relayed",
    works=frozenset({"relay"}),
    peers=PEERS,
    points=ring_points,
)
FANOUT = Scenario(
    name="fanout",
    title="one ephemeral message to a whole group",
    works=frozenset({"relay"}),
    peers=PEERS,
    points=fan_out_points,
)
