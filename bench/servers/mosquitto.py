"""mosquitto: defaults, but without bounds on what waits for a client, so that it drops no message. QoS 0 only."""

from typing import ClassVar

from bench.servers.base import Server, program, version_of

NEEDED = {"allow_anonymous": "true", "user": "root", "log_type": "none"}
LIFTED = {"max_queued_messages": "0", "max_connections": "-1", "set_tcp_nodelay": "true"}


class Mosquitto(Server):
    """`user root` keeps it from giving up root, without which it could not read its own temporary configuration."""

    name = "mosquitto"
    peer = "mosquitto"
    protocol = "mqtt"
    works: ClassVar[frozenset[str]] = frozenset({"relay", "group", "idle"})

    def command(self) -> list[str]:
        configuration = self.directory / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *(f"{name} {value}" for name, value in self._options().items())]
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [_binary(), "-c", str(configuration)]

    def settings(self) -> dict[str, object]:
        return {"version": version_of(_binary(), "-h").split("\n")[0], **self._options()}

    def _options(self) -> dict[str, str]:
        return {**NEEDED, **(LIFTED if self.lifted else {})}


def _binary() -> str:
    return program("mosquitto", "mosquitto")
