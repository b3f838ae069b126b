"""The scenarios: which points are measured, and with which servers beside chatd."""

from bench.scenarios.base import Options, Point, Scenario
from bench.scenarios.durable import DURABLE
from bench.scenarios.group import GROUP, SLOW_READER
from bench.scenarios.idle import IDLE
from bench.scenarios.latency import LATENCY
from bench.scenarios.login import LOGIN
from bench.scenarios.relay import FANOUT, RELAY

ALL = (RELAY, FANOUT, DURABLE, GROUP, IDLE, SLOW_READER, LOGIN, LATENCY)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in ALL}

__all__ = ["SCENARIOS", "Options", "Point", "Scenario"]
