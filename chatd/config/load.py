"""Read settings from file, environment and flags; turn them into plain data for workers."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from chatd.config.model import (
    Accept,
    Auth,
    Backup,
    Hub,
    Listen,
    Log,
    Process,
    Queue,
    Section,
    Session,
    StoreSetting,
    Tls,
)
from chatd.errors import ConfigError

FILE_NAME = "chatd.toml"
# Variables with our prefix that are not settings of the server: of the build, and of the client's commands.
NOT_SETTINGS = {"CHATD_PURE", "CHATD_DEBUG", "CHATD_SANITIZE", "CHATD_BUILD_DIR", "CHATD_CONFIG", "CHATD_SERVER"}
PREFIX = "CHATD_"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    data: Path = Path("data")
    """Directory of the store, its secrets and the lock; created when it is absent."""
    store: StoreSetting = "sqlite"
    """Where messages are kept: "sqlite", in files in `data`, or a PostgreSQL database,
    "postgresql://user@host:5432/database"; several addresses (host1,host2) are tried in turn for the one that may
    write. Rather than here, a password belongs in ~/.pgpass or in CHATD_STORE."""
    listen: Listen = Field(default_factory=Listen)
    tls: Tls = Field(default_factory=Tls)
    process: Process = Field(default_factory=Process)
    accept: Accept = Field(default_factory=Accept)
    session: Session = Field(default_factory=Session)
    queue: Queue = Field(default_factory=Queue)
    hub: Hub = Field(default_factory=Hub)
    auth: Auth = Field(default_factory=Auth)
    backup: Backup = Field(default_factory=Backup)
    log: Log = Field(default_factory=Log)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No .env, no secrets directory: load() merges the file below the environment and the flags above it."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def secrets_dir(self) -> Path:
        return self.data / "secrets"

    @property
    def shard_count(self) -> int:
        """process.shards, or one per core this process may use."""
        return self.process.shards or min(64, len(os.sched_getaffinity(0)))


def load(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings from file, environment and flags.

    file: a TOML file; without it CHATD_CONFIG, then ./chatd.toml when that exists. flags: dotted key → value.
    Raises ConfigError with one line per fault: the key, what it must be, and what it was.
    """
    merged: dict[str, Any] = {}
    path = file or _file_from_environment()
    if path is not None:
        merged = _read_toml(path)
    _merge(merged, _environment())
    for key, value in (flags or {}).items():
        _put(merged, key.split("."), value)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None


def _file_from_environment() -> Path | None:
    if named := os.environ.get("CHATD_CONFIG"):
        return Path(named)
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _environment() -> dict[str, Any]:
    """What pydantic-settings finds in the environment; a misspelt variable is an error instead of being ignored."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in NOT_SETTINGS:
            continue
        if upper.partition("__")[0] not in known:
            raise ConfigError(f"environment variable {name} is no setting; see `chatd config example`")
    return EnvSettingsSource(Settings)()


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _put(tree: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"{'.'.join(keys)}: {key} is a value, not a section")
        tree = branch
    tree[keys[-1]] = value


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = [f"the configuration{f' {path}' if path else ''} cannot be used:"]
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"  {key}: there is no such setting; see `chatd config example`")
        else:
            said = fault["msg"].removeprefix("Value error, ")
            # A password may be in it.
            found = "" if key == "store" else f", not {fault['input']!r:.80}"
            lines.append(f"  {key}: {said}{found}")
    return "\n".join(lines)


def plain(section: Section) -> dict[str, Any]:
    """A section as JSON-ready data, for workers that must not import pydantic."""
    return section.model_dump(mode="json")
