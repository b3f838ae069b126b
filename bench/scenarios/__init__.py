"""The scenarios: which points are measured, and with which servers beside chatd."""

from bench.scenarios import durable, idle, relay
from bench.scenarios.base import Options, Point, Scenario

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (relay.RELAY, durable.DURABLE, idle.IDLE)}

__all__ = ["SCENARIOS", "Options", "Point", "Scenario"]
