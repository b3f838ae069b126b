"""Where contract tests meet: a running server in one of the ways to run it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from chatd.testing import ChatdServer
from support.live import Peer, peer

MODES = {"inline": 1, "one shard": 1, "three shards": 3, "postgresql": 1, "postgresql, three shards": 3}
"""Name → number of shards."""
# A group's log must not fit a stuck reader's queue and socket: LAG after kilobytes instead of hundreds of them.
SMALL = ("queue.soft_bytes=8192", "queue.low_bytes=4096", "queue.socket_send_bytes=4096", "auth.guests=true")
meetings = count(1)


@dataclass
class Place:
    """A running server and how to meet on it. Names are made unique, so that tests can share the server."""

    server: ChatdServer
    shards: int
    suffix: str = ""

    def name(self, name: str) -> str:
        return f"{name}-{self.suffix}"

    def peer(self, name: str, *, shard: int | None = None, **login: Any) -> Any:
        """A logged-in device of that user; shard is taken modulo the shards there are."""
        on = shard % self.shards if shard is not None and self.shards > 1 else None
        return peer(self.server, self.name(name), shard=on, **login)

    @asynccontextmanager
    async def people(self, *names: str, **login: Any) -> AsyncIterator[list[Peer]]:
        """One device of each, each on another shard as far as there are some."""
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(self.peer(name, shard=index, **login))
                for index, name in enumerate(names)
            ]


def start(directory: Path, mode: str, store: str = "sqlite") -> ChatdServer:
    """store: the setting of that name."""
    flags = ["--store", store, *(word for setting in SMALL for word in ("--set", setting))]
    if mode == "inline":
        return ChatdServer.start(directory, *flags)
    return ChatdServer.start(directory, *flags, "--shards", str(MODES[mode]), inline=False)
