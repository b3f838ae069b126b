"""What differs from seed to seed beside faults and actions: how many there are of everything, and how small."""

from random import Random

from support.sim.template import template


class Shape:
    """Drawn once, before the run."""

    def __init__(self, rng: Random) -> None:
        self.shard_count = rng.choice((1, 2, 3))
        self.devices_each = rng.choice((2, 3, 4))
        devices = rng.choice((50,) * 41 + (60,) * 4 + (80, 80, 120, 120, 200))
        self.users = list(range(2, 2 + devices // self.devices_each))
        self.users = [user for user in self.users if user in template().devices]
        self.groups = [cid for cid, members in template().groups.items() if set(members) <= set(self.users)]
        self.lively = self.groups[:: rng.choice((2, 3, 4))]
        self.latency_ms = rng.choice((2, 10, 40))
        self.slow_reads = rng.choice((0.0, 0.02, 0.1))
        self.split = rng.choice((0.0, 0.1, 0.4))
        self.ring_bytes = rng.choice((1 << 18, 1 << 20))
        # The smallest is full with a burst, so that who reads slowly misses pushes in the middle of a conversation.
        soft = rng.choice((512, 16_384, 65_536))
        self.engine_limits = {"queue_soft_bytes": soft, "queue_drained_bytes": soft // 4, "heartbeat_ms": 10_000}
        self.engine_limits["token_grace_ms"] = 20_000
        self.core_limits = {"tail_records_max": rng.choice((800, 100_000)), "ledger_entries": 256}
        reserve = {"reserve_bytes": 1 << 16, "slack_bytes": 1 << 12}
        self.store_limits = {"segment_bytes": rng.choice((120_000, 400_000, 1 << 24)), **reserve}
        self.fold_limits = {
            "segment_age_s": rng.choice((-1, 1e9)),
            "checkpoint_interval_s": rng.choice((0, 1e9)),
            "portion_records": rng.choice((40, 100_000)),
            "cache_bytes": 1 << 20,
            **reserve,
        }
        self.fold_ms = rng.choice((800, 2000, 5000))
