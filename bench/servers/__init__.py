"""The servers that are measured. The scenario starts them on free loopback ports, in directories that go away."""

from bench.servers.base import Server, StartError
from bench.servers.chatd import Chatd
from bench.servers.mosquitto import Mosquitto
from bench.servers.nats import Nats
from bench.servers.postgres import Postgres
from bench.servers.redis import Redis, RedisStreams

SERVERS: dict[str, type[Server]] = {
    server.name: server for server in (Chatd, Nats, Redis, RedisStreams, Mosquitto, Postgres)
}

__all__ = ["SERVERS", "Server", "StartError"]
