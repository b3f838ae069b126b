"""What an engine may be told: a plain struct of integers, every limit of the hot path by name and unit.

The engine copies it once, at construction. Operators set these through chatd.config; nothing here parses or validates
text. Sources of the defaults: protocol/schema.toml for what the wire fixes, docs/limits for the rest.
"""

from dataclasses import dataclass, replace

UNLIMITED = 0
"""Value of a rate that is not limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Limits and choices of one engine. Every field is a non-negative int; 0 lifts a rate and nothing else."""

    # Whose clock and randomness. A manual clock stands still until set_time; a seed makes nonces and jitter repeatable.
    manual_clock: int = 0
    random_seed: int = 0
    # Emit ("closed", ...) for every session and not only for connections of open().
    report_closed: int = 0

    # Memory. Every block of the engine is counted against memory_bytes_max; a refused block closes one connection.
    connections_max: int = 100_000
    memory_bytes_max: int = 4 << 30
    parked_bytes_max: int = 64 << 20

    # Accepting. loopback_unlimited puts 127/8 and ::1 on the allow-list of the per-address limits.
    accepts_per_s: int = 10_000
    accepts_per_address_per_s: int = 50
    accepts_per_address_burst: int = 200
    connections_per_address_max: int = 1_000
    loopback_unlimited: int = 0
    accept_pause_ms: int = 100
    preauth_connections_max: int = 10_000
    send_buffer_bytes: int = 32_768
    notsent_lowat_bytes: int = 16_384
    tcp_user_timeout_ms: int = 30_000
    defer_accept_s: int = 3

    # Before login.
    first_byte_ms: int = 3_000
    login_ms: int = 5_000
    preauth_frame_bytes_max: int = 4_096
    preauth_bytes_max: int = 8_192
    login_failures_max: int = 3

    # A started frame has frame_ms plus its length at frame_bytes_per_s to be complete.
    frame_ms: int = 10_000
    frame_bytes_per_s: int = 4_096
    read_budget_bytes: int = 65_536
    # How long a poll that has just found work may wait in the kernel for more. 0: it never waits (tests; several roles
    # in one process, where the answer could only come from a task that stands meanwhile).
    lull_us: int = 0

    # Heartbeats: the interval told to the client, spread by the jitter; silence of one and a half of them closes.
    heartbeat_ms: int = 60_000
    heartbeat_jitter_percent: int = 20
    token_grace_ms: int = 60_000
    linger_ms: int = 1_000

    # Rates of one connection; 0 is unlimited.
    frames_per_s: int = 20
    frames_burst: int = 200
    bytes_per_s: int = 65_536
    bytes_burst: int = 524_288
    sends_per_s: int = 10
    sends_burst: int = 50
    ack_interval_ms: int = 20
    flood_factor: int = 10
    flood_ms: int = 10_000
    typing_interval_ms: int = 3_000

    # What a session may have outstanding.
    sends_in_flight_max: int = 64
    pulls_outstanding_max: int = 2
    requests_outstanding_max: int = 16
    refused_sends_max: int = 256
    subscriptions_max: int = 5_000
    subscriptions_total_max: int = 4_000_000

    # Windows and features offered; a client may ask for less.
    features: int = 0b10111
    window_frames_default: int = 1_024
    window_frames_max: int = 4_096
    window_bytes_default: int = 1_048_576
    window_bytes_max: int = 4_194_304

    # The ladder of a slow reader: ephemeral frames go first, then pushes (LAGGING), then the connection.
    queue_ephemeral_bytes: int = 32_768
    queue_soft_bytes: int = 65_536
    queue_drained_bytes: int = 16_384
    queue_hard_bytes: int = 262_144
    queues_bytes_max: int = 256 << 20
    stall_ms: int = 30_000

    # SENDs that wait for their answer. pending_wait_ms: for room in the ring; hubless_wait_ms: for a hub.
    pending_sends_max: int = 10_000
    pending_bytes_max: int = 32 << 20
    pending_wait_ms: int = 500
    hubless_wait_ms: int = 2_000

    # Tables. positions are flushed every position_interval_ms: with the hub's less than the second of contract 9.
    gate_entries: int = 65_536
    ledger_entries: int = 65_536
    ledger_recipients_max: int = 16
    positions_max: int = 65_536
    position_interval_ms: int = 300
    upcalls_max: int = 1_024

    def lifted(self) -> "EngineSettings":
        """The same engine without rate limits: the profile of benchmarks and load tests, which have to say so."""
        return replace(
            self,
            accepts_per_s=UNLIMITED,
            accepts_per_address_per_s=UNLIMITED,
            loopback_unlimited=1,
            frames_per_s=UNLIMITED,
            bytes_per_s=UNLIMITED,
            sends_per_s=UNLIMITED,
            typing_interval_ms=UNLIMITED,
            preauth_connections_max=self.connections_max,
            pending_sends_max=max(self.pending_sends_max, 200_000),
            pending_bytes_max=max(self.pending_bytes_max, 256 << 20),
        )
