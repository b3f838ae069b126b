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
            engine.listen(descriptor, proxy)
            shard.on_drain.append(partial(engine.unlisten, descriptor))
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
