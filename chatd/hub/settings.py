"""Settings of the hub's Python side. The configuration fills it in; the defaults are those of docs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Plain values, no parsing here. A rate of 0 is no limit."""

    read_only: bool = False
    """The store failed three times in a minute. Reads work, writes get UNAVAILABLE."""
    provision_jwt_users: bool = True
    """A valid token of an unknown subject makes a user of that name."""
    guests: bool = True
    calls_in_progress_max: int = 1024
    """SYNC, PULL, REQUEST and, counted apart, RPC of shards; over it BUSY."""
    pulls_per_s: float = 10.0
    """SYNC and PULL of one device."""
    pulls_burst: int = 20
    requests_per_s: float = 20.0
    """The other calls of one device."""
    requests_burst: int = 40
    searches_per_s: float = 5.0
    """SEARCH of one user: the most expensive question there is."""
    searches_burst: int = 20
    resolves_per_min: float = 5.0
    """USER_RESOLVE of one user: names cannot be tried out in bulk."""
    resolves_burst: int = 100
    group_members_max: int = 500
    channel_members_max: int = 100_000
    """Of channels and the world room."""
    roles: tuple[Mapping[str, Any], ...] = ()
    """The operator's own, as Roles takes them."""
    user_conversations_max: int = 5000
    user_groups_owned_max: int = 100
    user_devices_max: int = 100
    """Registered, not online."""
    edit_window_s: int = 86_400
    recall_window_s: int = 120
    """For the author; moderators recall any time."""
    expiry_max_s: int = 366 * 86_400
    pins_max: int = 50
    """Of a conversation."""
    scheduled_max: int = 100
    """Of a user."""
    drafts_max: int = 1000
    """Of a user."""
    commands_max: int = 100
    """Of a device, without a final result."""
    kinds: tuple[Mapping[str, Any], ...] = ()
    """The operator's own: name and content, a schema."""
    stream_idle_s: int = 30
    """A live stream of which nothing comes for so long ends as truncated."""

    retention_days: int = 0
    """How long any conversation keeps its events; 0: for ever."""
    retention_events: int = 0
    """How many of the newest events any conversation keeps; 0: all."""

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "HubSettings":
        """The fields that the configuration's section has; its other keys are the core's and the shards'."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in known})
