"""latency: one connection to one other with a single message in flight, and devices by the thousand at half load.

One in flight is the way through the server and nothing else. A server under load is another matter: the rate that each
server reaches is found first, then half of it is sent on a schedule, and time counts from when a message was due.
"""

from dataclasses import replace

from bench.scenarios.base import Options, Point, Scenario
from bench.scenarios.durable import CHATD, full_point, half_of, hot_set
from bench.scenarios.relay import PEERS, relay_point
from bench.shapes import ping


def points(options: Options) -> list[Point]:
    devices, window = options.connections or 2000, options.window or 4
    once = replace(relay_point(ping(), 1, "p50 ≤ best peer", options), own_core=True)
    kept = replace(once, label="durable, one to one, 1 in flight", work="group", goal="", own_core=False, only=CHATD)
    chosen = [once, kept]
    for name, online in (("offline", False), ("online", True)):
        full = full_point(name, hot_set(devices, online=online), window, options)
        full = replace(full, reread=False, goal="")
        chosen += [full, half_of(full, name, "acknowledgement p99 ≤ 5 ms" if not online else "delivery p99 ≤ 5 ms")]
    return chosen


LATENCY = Scenario(
    name="latency",
    title="latency of one message, alone and at half load",
    works=frozenset({"relay", "durable"}),
    peers=(*PEERS, "redis-streams", "postgres"),
    points=points,
    shared_cores=True,
)
