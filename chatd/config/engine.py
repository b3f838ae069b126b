"""The operator's settings as the engine's struct of integers (chatd.engine.settings.EngineSettings, by field name)."""

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatd.config.load import Settings

# Descriptors of a shard that are not connections: rings, control, listeners, epoll, logs, the reserve for EMFILE.
DESCRIPTORS_RESERVED = 400
# Longer than a round trip on one machine, shorter than anything a task beside the engine would notice.
LULL_US = 100


def engine_settings(settings: "Settings") -> dict[str, int]:
    """One line per field that an operator can change; the engine's defaults hold for the others."""
    accept, session, queue, hub = settings.accept, settings.session, settings.queue, settings.hub
    connections = min(accept.connections_max, max(16, _open_files() - DESCRIPTORS_RESERVED))
    preauth = max(accept.preauth_connections_max, connections * accept.preauth_share_percent // 100)
    return {
        "connections_max": connections,
        "accepts_per_s": accept.accepts_per_s,
        "accepts_per_address_per_s": accept.address_connects_per_s,
        "accepts_per_address_burst": accept.address_connects_burst,
        "connections_per_address_max": accept.address_connections_max,
        "preauth_connections_max": min(preauth, connections),
        "send_buffer_bytes": queue.socket_send_bytes,
        "notsent_lowat_bytes": queue.socket_unsent_bytes,
        "tcp_user_timeout_ms": queue.stall_timeout_ms,
        "first_byte_ms": accept.first_byte_timeout_ms,
        "login_ms": accept.auth_timeout_ms,
        "login_failures_max": accept.auth_failures_max,
        "frame_ms": session.frame_timeout_ms,
        "frame_bytes_per_s": session.frame_bytes_per_s,
        "read_budget_bytes": session.read_budget_bytes,
        "lull_us": 0 if settings.process.inline else LULL_US,
        "heartbeat_ms": session.heartbeat_ms,
        "token_grace_ms": settings.auth.reauth_grace_s * 1000,
        "frames_per_s": session.frames_per_s,
        "frames_burst": session.frames_burst,
        "bytes_per_s": session.bytes_per_s,
        "bytes_burst": session.bytes_burst,
        "sends_per_s": session.sends_per_s,
        "sends_burst": session.sends_burst,
        "flood_factor": session.flood_factor,
        "flood_ms": session.flood_s * 1000,
        "typing_interval_ms": session.ephemeral_interval_ms,
        "sends_in_flight_max": session.sends_in_flight_max,
        "window_frames_default": min(session.window_frames, 1024),
        "window_frames_max": session.window_frames,
        "window_bytes_default": min(session.window_bytes, 1 << 20),
        "window_bytes_max": session.window_bytes,
        "queue_soft_bytes": queue.soft_bytes,
        "queue_drained_bytes": queue.low_bytes,
        "queue_hard_bytes": queue.hard_bytes,
        "queues_bytes_max": queue.shard_bytes_max,
        "stall_ms": queue.stall_timeout_ms,
        "pending_sends_max": hub.shard_sends_max,
        "pending_bytes_max": hub.shard_sends_bytes_max,
        "pending_wait_ms": hub.send_wait_max_ms,
        "hubless_wait_ms": hub.hub_wait_max_ms,
        "ledger_entries": hub.ledger_entries_max,
    }


def _open_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
