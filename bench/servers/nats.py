"""nats-server: defaults, but buffers and connections lifted, so that no client is dropped."""

from typing import ClassVar

from bench.servers.base import Server, program, version_of

LIFTED = {"max_connections": 200_000, "max_pending": 268_435_456, "write_deadline": '"60s"'}


class Nats(Server):
    name = "nats"
    peer = "nats"
    protocol = "nats"
    works: ClassVar[frozenset[str]] = frozenset({"relay", "group", "idle"})

    def command(self) -> list[str]:
        configuration = self.directory / "nats.conf"
        lines = [f"{name}: {value}" for name, value in LIFTED.items()] if self.lifted else []
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [_binary(), "-a", "127.0.0.1", "-p", str(self.port), "-c", str(configuration)]

    def settings(self) -> dict[str, object]:
        return {"version": version_of(_binary()), **(LIFTED if self.lifted else {})}


def _binary() -> str:
    return program("nats-server", "nats-server")
