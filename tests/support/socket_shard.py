"""An engine on real loopback sockets, with a fake hub: whoever waits for something polls until it is there."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from chatd.engine.native import Engine
from chatd.engine.settings import EngineSettings
from support import frames
from support.ring_hub import RingHub

OPEN = replace(EngineSettings(connections_max=2048, defer_accept_s=0).lifted(), preauth_connections_max=1024)


class Shard:
    """Engine, hub and a listener; `step` runs all of them until a condition holds."""

    def __init__(self, proxy: bool = False, **changes: int) -> None:
        self.engine = Engine(replace(OPEN, **changes))
        self.hub = RingHub()
        self.engine.link_hub(1, self.hub.to_shard, self.hub.to_hub)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.engine.listen(self.listener.fileno(), proxy)
        self.address = self.listener.getsockname()
        self.addresses: list[str] = []
        self.clients: list[socket.socket] = []

    def poll(self) -> list[tuple[Any, ...]]:
        return self.engine.poll(500)

    def step(self) -> None:
        for upcall in self.poll():
            if upcall[0] == "auth":
                self.addresses.append(str(upcall[8]))
                self.engine.register(upcall[1], upcall[3], upcall[3], 0, 0, 0)
            elif upcall[0] == "registered":
                self.engine.welcome(upcall[1], frames.welcome(upcall[4], upcall[5], upcall[6]))
        self.hub.pump()

    def connect(self, data: bytes = b"", receive_bytes: int = 0) -> socket.socket:
        """receive_bytes: of the socket's buffer, 0: the system's. Closed at the end at the latest."""
        client = socket.socket()
        self.clients.append(client)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(5)
        client.connect(self.address)
        if data:
            client.sendall(data)
        return client

    def login(self, user: int) -> socket.socket:
        client = self.connect(frames.hello() + frames.auth(device=user))
        assert [frame.op for frame in self.receive(client)] == [frames.WELCOME]
        return client

    def receive(self, client: socket.socket, count: int = 1) -> list[frames.Frame]:
        """Frames until there are `count`, or the connection ends."""
        data = b""
        deadline = time.monotonic() + 5
        client.setblocking(False)
        while time.monotonic() < deadline:
            self.step()
            try:
                chunk = client.recv(1 << 16)
            except BlockingIOError:
                continue
            data += chunk
            got = frames.split(data, cut=True)
            if len(got) >= count or not chunk:
                return got
        raise AssertionError(f"{count} frames did not come, got {data!r}")

    def until(self, name: str, value: int) -> None:
        deadline = time.monotonic() + 5
        while (now := self.engine.counters()[name]) != value:
            assert time.monotonic() < deadline, f"{name} is {now}, not {value}"
            self.step()

    def close(self) -> None:
        self.engine.dispose()
        for held in (self.listener, *self.clients):
            held.close()


@contextmanager
def running(proxy: bool = False, **changes: int) -> Iterator[Shard]:
    shard = Shard(proxy, **changes)
    try:
        yield shard
    finally:
        shard.close()
