"""What a worker is told: plain data made from the settings, and the descriptors that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chatd import logs, secrets
from chatd.config import load, plain
from chatd.config.engine import engine_settings
from chatd.errors import ChatdError, ConfigError
from chatd.hub.rights import Roles
from chatd.storage.stores import is_postgresql

if TYPE_CHECKING:
    from pathlib import Path

    from chatd.config import Settings
    from chatd.supervisor.child import Child
    from chatd.supervisor.core import Supervisor


# A worker that turns beats this often within the silence that would end it.
BEATS_PER_SILENCE = 5


def worker_settings(settings: Settings, role: str, keys: dict[str, Any]) -> dict[str, Any]:
    """Everything one role needs, and no more: only shards see secrets, and they do not see the store."""
    told: dict[str, Any] = {
        "data": str(settings.data.absolute()),
        "log": {"format": logs.resolved(settings.log.format), "level": settings.log.level},
        "beat_ms": settings.process.silence_timeout_ms / BEATS_PER_SILENCE,
        "hub": {**plain(settings.hub), "guests": settings.auth.guests},
        "session": plain(settings.session),
    }
    if role != "shard":
        told["store"] = settings.store
        told["backup"] = backup_settings(settings)
    else:
        told |= {
            "engine": engine_settings(settings),
            "auth": plain(settings.auth),
            "tls": plain(settings.tls),
            "accept": plain(settings.accept),
            "proxy_networks": plain(settings.listen)["proxy_networks"],
            "secrets": keys,
        }
    return told


def backup_settings(settings: Settings) -> dict[str, Any]:
    """directory: None when the server makes none by itself. kept_bytes_max: of journal that waits for them."""
    backup = settings.backup
    told = plain(backup)
    if backup.directory is not None:
        told["directory"] = str(backup.directory.absolute())
    wanted = backup.directory is not None and backup.incremental_every_s
    return told | {"kept_bytes_max": backup.journal_bytes_max if wanted else 0}


def checked_backup(settings: Settings) -> None:
    """ConfigError when backups are wanted that this server cannot make."""
    if settings.backup.directory is not None and is_postgresql(settings.store):
        raise ConfigError(
            "backup.directory is for a store in files; the backups of a PostgreSQL database are PostgreSQL's own "
            "(docs/postgresql.md). Leave backup.directory out"
        )


def follower_roles(settings: Settings) -> tuple[str, ...]:
    """The workers that follow the store, and that nobody waits for; they end last, in this order."""
    return ("indexer", "backup") if settings.backup.directory is not None else ("indexer",)


def start_message(supervisor: Supervisor, child: Child) -> tuple[dict[str, Any], list[int]]:
    """The first packet for a worker, and its descriptors."""
    settings = worker_settings(supervisor.settings, child.role, supervisor.secrets)
    message: dict[str, Any] = {"do": "start", "role": child.role, "index": child.index, "settings": settings}
    if child.role == "shard":
        message["listeners"] = [listener.kind for listener in supervisor.listeners]
        message["shards"] = supervisor.shards
        return message, [listener.descriptor(child.index) for listener in supervisor.listeners]
    if child.role == "hub":
        message["read_only"] = supervisor.read_only
        message["shards"] = supervisor.shards
        return message, [supervisor.fold_read]
    return message, [supervisor.fold_write] if child.role == "folder" else []


class Reloadable(Protocol):
    """Who can be reloaded: the supervisor, or the inline server."""

    config_file: Path | None
    flags: dict[str, Any] | None
    secrets: dict[str, Any]
    settings: Settings


def reload_message(supervisor: Reloadable) -> dict[str, Any] | None:
    """SIGHUP: what may change without a restart. None when the new configuration cannot be used: the old one stays."""
    try:
        fresh = load(supervisor.config_file, supervisor.flags)
        keys = secrets.load(fresh)
        roles = checked_roles(fresh)
    except ChatdError as error:
        logs.get().error("reload refused; the old settings stay", error=str(error))
        return None
    supervisor.secrets = keys
    # A hub that starts later gets the new roles, too.
    hub = supervisor.settings.hub.model_copy(update={"roles": fresh.hub.roles})
    supervisor.settings = supervisor.settings.model_copy(update={"hub": hub})
    logs.configure(logs.resolved(fresh.log.format), fresh.log.level, role="supervisor")
    told = {"log_level": fresh.log.level, "secrets": keys, "tls": plain(fresh.tls), "roles": roles}
    return {"do": "reload", **told}


def checked_roles(settings: Settings) -> list[dict[str, Any]]:
    """The operator's own roles as the hub takes them. ConfigError names the one that cannot be."""
    own = [plain(role) for role in settings.hub.roles]
    try:
        Roles(own)
    except ValueError as error:
        raise ConfigError(f"hub.roles: {error}") from error
    return own


def checked_kinds(settings: Settings) -> None:
    """ConfigError names the kind of messages, of the configuration or of a plugin, whose schema cannot be."""
    from chatd.services.messages.typed import registered  # the hub's; nobody else needs it

    try:
        registered(plain(settings.hub)["kinds"])
    except ValueError as error:
        raise ConfigError(f"hub.kinds: {error}") from error
