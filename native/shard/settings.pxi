# Settings and counters: what the engine is told once, and what it tells.
#
# All of them are u64, so that comparisons in the hot path never mix signs. chatd/engine/settings.py says what each one
# means; a field that is missing here is an error at construction, not a default.

cdef struct engine_t              # shard_state.pxi
cdef struct conn_t                # slab.pxi

cdef struct settings_t:
    uint64_t manual_clock
    uint64_t random_seed
    uint64_t report_closed
    uint64_t connections_max
    uint64_t memory_bytes_max
    uint64_t parked_bytes_max
    uint64_t accepts_per_s
    uint64_t accepts_per_address_per_s
    uint64_t accepts_per_address_burst
    uint64_t connections_per_address_max
    uint64_t loopback_unlimited
    uint64_t accept_pause_ms
    uint64_t preauth_connections_max
    uint64_t send_buffer_bytes
    uint64_t notsent_lowat_bytes
    uint64_t tcp_user_timeout_ms
    uint64_t defer_accept_s
    uint64_t first_byte_ms
    uint64_t login_ms
    uint64_t preauth_frame_bytes_max
    uint64_t preauth_bytes_max
    uint64_t login_failures_max
    uint64_t frame_ms
    uint64_t frame_bytes_per_s
    uint64_t read_budget_bytes
    uint64_t lull_us
    uint64_t heartbeat_ms
    uint64_t heartbeat_jitter_percent
    uint64_t token_grace_ms
    uint64_t linger_ms
    uint64_t frames_per_s
    uint64_t frames_burst
    uint64_t bytes_per_s
    uint64_t bytes_burst
    uint64_t sends_per_s
    uint64_t sends_burst
    uint64_t ack_interval_ms
    uint64_t flood_factor
    uint64_t flood_ms
    uint64_t typing_interval_ms
    uint64_t sends_in_flight_max
    uint64_t pulls_outstanding_max
    uint64_t requests_outstanding_max
    uint64_t refused_sends_max
    uint64_t subscriptions_max
    uint64_t subscriptions_total_max
    uint64_t features
    uint64_t window_frames_default
    uint64_t window_frames_max
    uint64_t window_bytes_default
    uint64_t window_bytes_max
    uint64_t queue_ephemeral_bytes
    uint64_t queue_soft_bytes
    uint64_t queue_drained_bytes
    uint64_t queue_hard_bytes
    uint64_t queues_bytes_max
    uint64_t stall_ms
    uint64_t pending_sends_max
    uint64_t pending_bytes_max
    uint64_t pending_wait_ms
    uint64_t hubless_wait_ms
    uint64_t gate_entries
    uint64_t ledger_entries
    uint64_t ledger_recipients_max
    uint64_t positions_max
    uint64_t position_interval_ms
    uint64_t upcalls_max


cdef int settings_load(settings_t* s, object source) except -1:
    s.manual_clock = source.manual_clock
    s.random_seed = source.random_seed
    s.report_closed = source.report_closed
    s.connections_max = source.connections_max
    s.memory_bytes_max = source.memory_bytes_max
    s.parked_bytes_max = source.parked_bytes_max
    s.accepts_per_s = source.accepts_per_s
    s.accepts_per_address_per_s = source.accepts_per_address_per_s
    s.accepts_per_address_burst = source.accepts_per_address_burst
    s.connections_per_address_max = source.connections_per_address_max
    s.loopback_unlimited = source.loopback_unlimited
    s.accept_pause_ms = source.accept_pause_ms
    s.preauth_connections_max = source.preauth_connections_max
    s.send_buffer_bytes = source.send_buffer_bytes
    s.notsent_lowat_bytes = source.notsent_lowat_bytes
    s.tcp_user_timeout_ms = source.tcp_user_timeout_ms
    s.defer_accept_s = source.defer_accept_s
    s.first_byte_ms = source.first_byte_ms
    s.login_ms = source.login_ms
    s.preauth_frame_bytes_max = source.preauth_frame_bytes_max
    s.preauth_bytes_max = source.preauth_bytes_max
    s.login_failures_max = source.login_failures_max
    s.frame_ms = source.frame_ms
    s.frame_bytes_per_s = source.frame_bytes_per_s
    s.read_budget_bytes = source.read_budget_bytes
    s.lull_us = source.lull_us
    s.heartbeat_ms = source.heartbeat_ms
    s.heartbeat_jitter_percent = source.heartbeat_jitter_percent
    s.token_grace_ms = source.token_grace_ms
    s.linger_ms = source.linger_ms
    s.frames_per_s = source.frames_per_s
    s.frames_burst = source.frames_burst
    s.bytes_per_s = source.bytes_per_s
    s.bytes_burst = source.bytes_burst
    s.sends_per_s = source.sends_per_s
    s.sends_burst = source.sends_burst
    s.ack_interval_ms = source.ack_interval_ms
    s.flood_factor = source.flood_factor
    s.flood_ms = source.flood_ms
    s.typing_interval_ms = source.typing_interval_ms
    s.sends_in_flight_max = source.sends_in_flight_max
    s.pulls_outstanding_max = source.pulls_outstanding_max
    s.requests_outstanding_max = source.requests_outstanding_max
    s.refused_sends_max = source.refused_sends_max
    s.subscriptions_max = source.subscriptions_max
    s.subscriptions_total_max = source.subscriptions_total_max
    s.features = source.features
    s.window_frames_default = source.window_frames_default
    s.window_frames_max = source.window_frames_max
    s.window_bytes_default = source.window_bytes_default
    s.window_bytes_max = source.window_bytes_max
    s.queue_ephemeral_bytes = source.queue_ephemeral_bytes
    s.queue_soft_bytes = source.queue_soft_bytes
    s.queue_drained_bytes = source.queue_drained_bytes
    s.queue_hard_bytes = source.queue_hard_bytes
    s.queues_bytes_max = source.queues_bytes_max
    s.stall_ms = source.stall_ms
    s.pending_sends_max = source.pending_sends_max
    s.pending_bytes_max = source.pending_bytes_max
    s.pending_wait_ms = source.pending_wait_ms
    s.hubless_wait_ms = source.hubless_wait_ms
    s.gate_entries = source.gate_entries
    s.ledger_entries = source.ledger_entries
    s.ledger_recipients_max = source.ledger_recipients_max
    s.positions_max = source.positions_max
    s.position_interval_ms = source.position_interval_ms
    s.upcalls_max = source.upcalls_max
    return 0


# Events since the start. One name here, the same name in COUNTER_NAMES and in the metrics.
cdef enum:
    COUNT_ACCEPTED
    COUNT_ACCEPT_FAILED
    COUNT_ACCEPT_SHED
    COUNT_DESCRIPTORS_EXHAUSTED
    COUNT_FRAMES_IN
    COUNT_BYTES_IN
    COUNT_FRAMES_OUT
    COUNT_BYTES_OUT
    COUNT_WRITES
    COUNT_SHORT_WRITES
    COUNT_LOGINS
    COUNT_LOGIN_FAILURES
    COUNT_SENDS
    COUNT_SENDS_REFUSED
    COUNT_SENDS_REPLAYED
    COUNT_ANSWERS
    COUNT_ANSWERS_LATE
    COUNT_COMMITTED
    COUNT_COMMITTED_OLD
    COUNT_DELIVERS
    COUNT_DELIVERS_LAGGED
    COUNT_LAGS
    COUNT_EPHEMERAL_IN
    COUNT_EPHEMERAL_OUT
    COUNT_EPHEMERAL_DROPPED
    COUNT_EPHEMERAL_REPLACED
    COUNT_PEER_FULL
    COUNT_CALLS
    COUNT_CALLS_REFUSED
    COUNT_THROTTLED
    COUNT_POSITIONS
    COUNT_POSITIONS_DROPPED
    COUNT_PROBES
    COUNT_HANDLES_STALE
    COUNT_EVENTS_STALE
    COUNT_MEMORY_REFUSED
    COUNT_LINKS
    COUNT_LINKS_CORRUPT
    COUNT_POLLS
    COUNT_TICKS
    COUNTERS

COUNTER_NAMES = (
    "accepted", "accept_failed", "accept_shed", "descriptors_exhausted", "frames_in", "bytes_in", "frames_out",
    "bytes_out", "writes", "short_writes", "logins", "login_failures", "sends", "sends_refused", "sends_replayed",
    "answers", "answers_late", "committed", "committed_old", "delivers", "delivers_lagged", "lags", "ephemeral_in",
    "ephemeral_out", "ephemeral_dropped", "ephemeral_replaced", "peer_full", "calls", "calls_refused", "throttled",
    "positions", "positions_dropped", "probes", "handles_stale", "events_stale", "memory_refused", "links",
    "links_corrupt", "polls", "ticks",
)
if len(COUNTER_NAMES) != COUNTERS:
    raise ImportError("COUNTER_NAMES does not match the enumeration of counters")
