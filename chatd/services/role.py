"""The hub role: core, store and services put together. docs/internals/process.md has the commands."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import trio

from chatd.clock import SYSTEM, Clock
from chatd.hub.commit import abort_process
from chatd.hub.core import Core
from chatd.hub.loop import Command, Hub
from chatd.hub.settings import HubSettings
from chatd.services.messages import typed
from chatd.services.messages.due import TIMED
from chatd.services.messages.judge import judge
from chatd.services.registry import Registry
from chatd.services.signin import RPC_METHODS
from chatd.storage.interface import Store
from chatd.storage.search.interface import SearchReader


def make_hub(
    core: Core,
    store: Store,
    settings: HubSettings,
    *,
    abort: Callable[[str], NoReturn] = abort_process,
    on_link_lost: Callable[[int], None] = lambda shard: None,
    clock: Clock = SYSTEM,
    search_index: SearchReader | None = None,
) -> Hub:
    """A hub with all methods, not yet running. It owns neither core nor store."""
    registry = Registry()
    registry.hub = Hub(
        core,
        store,
        settings,
        registry,
        RPC_METHODS,
        abort,
        on_link_lost,
        clock,
        judge=judge,
        timed=TIMED,
        search_index=search_index,
        kinds=typed.registered(settings.kinds),
    )
    return registry.hub


async def run(
    core: Core,
    store: Store,
    settings: Mapping[str, Any],
    commands: AsyncIterable[Command],
    *,
    on_link_lost: Callable[[int], None] = lambda shard: None,
    search_index: SearchReader | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ("stop",). settings: the configuration's section for the hub, read_only added by the supervisor."""
    hub = make_hub(
        core, store, HubSettings.from_mapping(settings), on_link_lost=on_link_lost, search_index=search_index
    )
    await hub.run(commands, task_status=task_status)


@asynccontextmanager
async def offline(
    core: Core, store: Store, settings: HubSettings | None = None, clock: Clock = SYSTEM
) -> AsyncIterator[Hub]:
    """A running hub without shards, for commands that change a data directory while no server runs.

    Use Hub.change with the stage_* functions of services inside; everything is durable when it returns.
    """
    send, receive = trio.open_memory_channel[Command](1)
    hub = make_hub(core, store, settings or HubSettings(), clock=clock)
    async with trio.open_nursery() as nursery, send:
        await nursery.start(lambda *, task_status: hub.run(receive, task_status=task_status))
        try:
            yield hub
        finally:
            send.send_nowait(("stop",))
