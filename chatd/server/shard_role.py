"""The shard role: an engine with its listeners, and the loop that drives it."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import trio

from chatd.engine.native import Engine
from chatd.engine.settings import EngineSettings
from chatd.shard.loop import Shard

if TYPE_CHECKING:
    from chatd.server.roles import Role


class Door:
    """A plain listener, open or shut. Shut: who comes waits in the kernel's queue, or is refused by it."""

    def __init__(self, engine: Engine, descriptor: int, proxy: bool) -> None:
        self._engine, self._descriptor, self._proxy = engine, descriptor, proxy
        self._open = False

    def switch(self, accepting: bool) -> None:
        if accepting and not self._open:
            self._engine.listen(self._descriptor, self._proxy)
        elif self._open and not accepting:
            self._engine.unlisten(self._descriptor)
        self._open = accepting


async def run(role: Role, *, task_status: trio.TaskStatus[None]) -> None:
    """Until ("stop",)."""
    engine = Engine(EngineSettings(**role.settings["engine"]))
    engine.trust(role.settings["accept"]["address_exempt"], role.settings["proxy_networks"])
    shard = Shard(engine, role.settings, role.say)
    proxy = bool(role.settings["proxy_networks"])
    tls: list[socket.socket] = []
    for kind, descriptor in zip(role.message["listeners"], role.descriptors, strict=True):
        if kind == "tls":
            tls.append(socket.socket(fileno=descriptor))
        else:
            door = Door(engine, descriptor, proxy)
            door.switch(True)
            shard.on_accepting.append(door.switch)
            shard.on_drain.append(partial(door.switch, False))
    try:
        async with trio.open_nursery() as nursery:
            if tls:
                from chatd.gateways.tls import TlsGateway

                gateway = TlsGateway(shard, role.settings)
                for sock in tls:
                    nursery.start_soon(gateway.serve, sock)
            await shard.run(role.commands, task_status=task_status)
            nursery.cancel_scope.cancel()
    finally:
        engine.dispose()
