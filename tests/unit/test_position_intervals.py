"""Contract 9: a receipt is durable within a second of the frame that carries it."""

from chatd.engine.settings import EngineSettings
from chatd.hub.core_settings import HubCoreSettings

DURABLE_MS = 1_000
COMMIT_MS = 100  # what is left for ticks, the ring and a sync


def test_shard_and_hub_together_leave_time_for_the_commit() -> None:
    assert EngineSettings().position_interval_ms + HubCoreSettings().position_interval_ms + COMMIT_MS <= DURABLE_MS
