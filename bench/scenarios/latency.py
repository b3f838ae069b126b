"""latency: one connection to one other with a single message in flight, and end to end at half load.

One in flight is the way through the server and nothing else. A server under load is another matter, so the second half
finds the rate that each server reaches, sends half of it on a schedule and counts from when a message was due.
"""

from dataclasses import replace

from bench.scenarios.base import Options, Point, Scenario
from bench.scenarios.durable import full_point, half_of
from bench.scenarios.relay import PEERS, relay_point
from bench.shapes import pairs, ping


def points(options: Options) -> list[Point]:
    once = relay_point(ping(), 1, "p50 ≤ best peer", options)
    once = replace(once, own_core=True)
    kept = replace(once, own_core=False, label="durable, one to one, 1 in flight", work="group", peer_work="-", goal="")
    devices = options.connections or 2000
    full = full_point(pairs(devices, devices * 5 // 2, online=True), options.window or 4, "", options)
    return [once, kept, full, half_of(full, "acknowledgement and delivery p99 ≤ 5 ms", options)]


LATENCY = Scenario(
    name="latency",
    title="latency of one message, alone and at half load",
    works=frozenset({"relay"}),
    peers=PEERS,
    points=points,
    shared_cores=True,
)
