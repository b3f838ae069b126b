"""redis-server: publish/subscribe with defaults and lifted buffers, and Streams with an fsync before every answer."""

from typing import ClassVar

from bench.servers.base import Server, program, version_of

LIFTED = {"maxclients": "100000", "client-output-buffer-limit": "pubsub 0 0 0", "protected-mode": "no"}
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


class Redis(Server):
    """Publish/subscribe. Snapshots are off: they have nothing to save here."""

    name = "redis"
    peer = "redis"
    protocol = "redis"
    works: ClassVar[frozenset[str]] = frozenset({"relay", "group", "idle"})
    options: ClassVar[dict[str, str]] = {"save": ""}

    def command(self) -> list[str]:
        arguments = [_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        for name, value in self._options().items():
            arguments += [f"--{name}", value]
        return arguments

    def _options(self) -> dict[str, str]:
        return {**self.options, **(LIFTED if self.lifted else {})}

    def settings(self) -> dict[str, object]:
        return {"version": version_of(_binary()), **self._options()}


class RedisStreams(Redis):
    """XADD to one stream per conversation; the reply comes after the fsync of the append-only file."""

    name = "redis-streams"
    works: ClassVar[frozenset[str]] = frozenset({"durable"})
    options: ClassVar[dict[str, str]] = {"save": "", **DURABLE}


def _binary() -> str:
    return program("redis-server", "redis-server")
