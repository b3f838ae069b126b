"""An engine with a manual clock, a fake hub and clients behind the second door: one step at a time, nothing sleeps."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

from chatd.engine.interface import Engine
from chatd.engine.native import Engine as NativeEngine
from chatd.engine.settings import EngineSettings
from support import frames
from support.frames import Frame
from support.ring_hub import RingHub

MANUAL = EngineSettings(manual_clock=1, random_seed=1, connections_max=4096)
LIFTED = replace(MANUAL.lifted(), queue_ephemeral_bytes=MANUAL.queue_hard_bytes)
TOKEN_EPOCH = 7


class Rig:
    """Engine, hub and what Python would do with the upcalls: every credential is good, the user is the device."""

    # What the tests of the engine run on; the fixture each_engine changes it.
    engine_class: ClassVar[Callable[[EngineSettings], Engine]] = NativeEngine

    def __init__(self, settings: EngineSettings = MANUAL, hub: bool = True, **changes: int) -> None:
        self.engine = type(self).engine_class(replace(settings, **changes))
        self.now_ms = 1000
        self.engine.set_time(self.now_ms * 1_000_000)
        self.upcalls: list[tuple[Any, ...]] = []
        self.automatic = True
        self.hub = RingHub()
        if hub:
            self.link(self.hub)

    def link(self, hub: RingHub) -> None:
        self.hub = hub
        self.engine.link_hub(hub.epoch, hub.to_shard, hub.to_hub)
        self.settle()

    def settle(self) -> None:
        """Poll engine and hub until neither has anything left to do."""
        while True:
            found = False
            for upcall in self.engine.poll(1000):
                found = True
                self.upcalls.append(upcall)
                if self.automatic:
                    self._serve(upcall)
            found = bool(self.hub.pump()) or self.engine.busy() or found
            if not found:
                return

    def _serve(self, upcall: tuple[Any, ...]) -> None:
        kind, handle = upcall[0], upcall[1] if len(upcall) > 1 else 0
        if kind == "auth":
            self.engine.register(handle, upcall[3], upcall[3], TOKEN_EPOCH, 0, 0)
        elif kind == "registered":
            self.engine.welcome(handle, frames.welcome(upcall[4], upcall[5], upcall[6]))

    def advance(self, ms: int) -> None:
        self.now_ms += ms
        self.engine.set_time(self.now_ms * 1_000_000)
        self.settle()

    def client(self, user: int = 0, **terms: int) -> "Client":
        """A client, logged in as `user` on a device of the same number unless user is 0."""
        client = Client(self)
        if user:
            client.login(user, **terms)
        return client

    def counter(self, name: str) -> int:
        return self.engine.counters()[name]

    def close(self) -> None:
        self.engine.dispose()
        self.hub.to_shard.close()
        self.hub.to_hub.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class Client:
    """One connection of the second door. Received frames collect in `frames` until they are taken."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.handle = rig.engine.open("192.0.2.1")

    def feed(self, *data: bytes) -> int:
        taken = self.rig.engine.feed(self.handle, b"".join(data))
        self.rig.settle()
        return taken

    def take(self) -> list[Frame]:
        """Everything that waits for this client."""
        data = b""
        self.rig.settle()
        while chunk := self.rig.engine.take(self.handle):
            data += chunk
            self.rig.settle()
        return frames.split(data)

    def ops(self) -> list[int]:
        return [frame.op for frame in self.take()]

    def login(self, user: int, **terms: int) -> None:
        self.feed(frames.hello(**terms), frames.auth(device=user))
        got = self.take()
        assert got[-1].op == frames.WELCOME, got

    def join(self, cid: int, topics: int = 3) -> None:
        self.feed(frames.subscribe(cid, topics))
        assert self.ops()[-1] == frames.SUBSCRIBE

    def end(self, reason: int = 0) -> None:
        with contextlib.suppress(ValueError):
            self.rig.engine.end(self.handle, reason)
        self.rig.settle()
