"""What the hub's core may be told: a plain struct of integers, copied once at construction.

The native core and the reference read the same fields by name. Operators set these through chatd.config.
"""

from dataclasses import dataclass

from chatd.hub.rights import DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCoreSettings:
    """Every field is a non-negative int; 0 lifts a rate and nothing else."""

    log_epoch: int = 1
    session_epoch_base: int = 0
    """Above every epoch that an earlier hub gave out (boot_count << 32): epochs rise for ever."""
    digest_key: int = 0x6368617464
    """Both halves of the SipHash key. Stored digests depend on it: it never changes for a data directory."""

    shards_max: int = 64
    ring_reserve_bytes: int = 512 << 10
    """Of each ring to a shard, kept for answers and control; at most a quarter of the ring."""
    outbox_bytes_max: int = 8 << 20
    """Control records that wait for room, per shard. Over it the link is given up."""

    tail_records_max: int = 2_000_000
    tail_bytes_max: int = 256 << 20
    batch_records_max: int = 8192
    batch_bytes_max: int = 4 << 20
    """poll stops reading SENDs when one batch has this much; what Python stages is never refused for it."""

    conversations_max: int = 200_000
    devices_max: int = 200_000
    users_max: int = 200_000
    """Entries kept when idle. Those in use (sessions, unfolded records) are bounded by tail and connections."""
    parked_records_max: int = 100_000
    parked_bytes_max: int = 32 << 20
    devices_online_max: int = 10
    devices_online_replace: bool = False
    """One more device closes the one that came first, instead of being refused."""
    """Of one user at a time; the next login gets LIMIT_REACHED."""
    subscriptions_max: int = 1_000
    """Of one session; the next SUBSCRIBE gets LIMIT_REACHED."""
    receipt_members_max: int = 500
    """Conversations with more members have no RECEIPT frames."""

    role_rights: tuple[int, ...] = DEFAULT.words
    """Right bits of each of the sixteen roles. The one field that is not an int; put_role_rights replaces it."""

    sends_per_s: int = 0
    sends_burst: int = 50
    """SENDs of a user, all devices together; 0 per second: no limit. Above: NAK RATE_LIMITED."""
    amplification_max: int = 0
    amplification_ms: int = 10_000
    """Bytes to devices per byte that a user sent in this time; 0: no limit. Above: slow mode."""

    takeover_ms: int = 1_000
    position_interval_ms: int = 500
    """At most one POSITION record of one user and conversation in this time. With the shard's: below a second."""
    busy_retry_ms: int = 500
    ledger_entries: int = 65_536
    """Hops remembered for `why`, rounded up to a power of two; older ones have aged out."""
