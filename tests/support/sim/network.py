"""Connections: bytes that arrive in pieces, late, or not at all."""

from typing import TYPE_CHECKING

from support.sim.disk import Hit, ignore

if TYPE_CHECKING:
    from support.sim.device import Device
    from support.sim.hosts import ShardHost
    from support.sim.world import World

SOCKET_BYTES = 16_384
"""What kernels hold of one direction before the writer has to wait."""


class Connection:
    """Between a device and a shard. Either end may learn of its end late, or never."""

    def __init__(self, world: "World", device: "Device", host: "ShardHost", number: int) -> None:
        self.world, self.device, self.host, self.number = world, device, host, number
        self.handle: int = host.engine.open("127.0.0.1")
        host.connections[self.handle] = self
        self.server_open = self.client_open = True
        self.stalled = False
        """The device does not read."""
        self._on_wait: Hit = ignore
        self._up, self._down = bytearray(), bytearray()
        self._up_due = self._down_due = False
        self._throttled = False
        self._closing = False

    # -- device to shard ---------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if not self.client_open:
            return
        self._up += data
        if not self._up_due and not self._throttled:
            self._up_due = True
            self.world.later(self.world.latency_ms(), self._arrive_up)

    def _arrive_up(self) -> None:
        self._up_due = False
        if not self.server_open or not self._up or self._throttled:
            return
        size = self.world.piece(len(self._up))
        data = bytes(self._up[:size])
        taken = self.host.engine.feed(self.handle, data)
        self.host.arrived()
        del self._up[:taken]
        if taken < size:
            self._throttled = True
        elif self._up:
            self._up_due = True
            self.world.later(self.world.latency_ms(), self._arrive_up)

    def on_resumed(self) -> None:
        self._throttled = False
        if not self._up_due:
            self._up_due = True
            self.world.later(0, self._arrive_up)

    # -- shard to device ---------------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """The engine has bytes: take what the socket has room for."""
        if not self.server_open:
            return
        while (free := SOCKET_BYTES - len(self._down)) > 0:
            room = 1 if self.world.buggify("short_take") else free
            data = self.host.engine.take(self.handle, room)
            if data:
                self._down += data
                self.host.dirty = True
            if len(data) < room:
                break
        self._schedule_down()

    def _schedule_down(self) -> None:
        if not self._down or self._down_due:
            return
        if self.stalled:
            self._on_wait()
        else:
            self._down_due = True
            self.world.later(self.world.latency_ms(), self._arrive_down)

    def _arrive_down(self) -> None:
        self._down_due = False
        if not self.client_open:
            return
        if self.stalled:
            self._on_wait()
            return
        size = self.world.piece(len(self._down))
        data = bytes(self._down[:size])
        del self._down[:size]
        if data:
            self.device.on_bytes(self, data)
        if self.server_open:
            self.on_readable()
        else:
            self._schedule_down()
            if not self._down and self._closing:
                self._tell_device()

    def stall(self, hit: Hit) -> None:
        """hit: called when something has to wait."""
        self.stalled, self._on_wait = True, hit

    def read_again(self) -> None:
        """The end of a stall."""
        self.stalled = False
        if self.server_open:
            self.on_readable()
        self._schedule_down()
        if self._closing and not self._down:
            self._tell_device()

    # -- the end -----------------------------------------------------------------------------------------------------

    def on_closed(self, *, lost: bool = False) -> None:
        """The engine has closed it, or the whole shard is lost with what its kernel had not sent."""
        if lost:
            del self._down[self.world.piece(len(self._down)) :]
        elif self.server_open:
            while data := self.host.engine.take(self.handle):
                self._down += data
        self.server_open = False
        self._closing = True
        if not self._down:
            self.world.later(self.world.latency_ms(), self._tell_device)
        else:
            self._schedule_down()

    def _tell_device(self) -> None:
        if self.client_open and not self.stalled:
            self.client_open = False
            self.device.on_end(self)

    def leave(self) -> None:
        """The device closes: the server learns of it when what was sent before has arrived."""
        self.client_open = False
        self.world.later(self.world.latency_ms(), self._end_server)

    def _end_server(self) -> None:
        if self.server_open:
            if self._up and not self._throttled:
                self.host.engine.feed(self.handle, bytes(self._up))
            self.hang_up_server()

    def hang_up_server(self) -> None:
        if self.server_open:
            self.server_open = False
            self.host.connections.pop(self.handle, None)
            if self.host.up:
                self.host.engine.end(self.handle)
                self.host.dirty = True

    @property
    def in_flight(self) -> bool:
        """Bytes are under way, or an answer is waited for."""
        return bool(self._up or self._down or self.device.waits)

    def cut(self, *, tell_server: bool, tell_device: bool) -> None:
        """What is under way is lost. Whoever is not told finds out by its own deadlines."""
        if self.server_open and tell_server:
            data = bytes(self._up[: self.world.piece(len(self._up))]) if self._up else b""
            if data and not self._throttled:
                self.host.engine.feed(self.handle, data)
            self.hang_up_server()
        self._up.clear()
        self._down.clear()
        if self.client_open and tell_device:
            self.client_open = False
            self.device.on_end(self)

    @property
    def broken(self) -> bool:
        return self.client_open and not self.server_open and not self._down
