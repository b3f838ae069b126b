"""The hub role: a store, a core, and the hub's loop over both."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import trio

from chatd import logs
from chatd.engine.native import HubCore
from chatd.errors import StoreLockedError, StoreLostError
from chatd.hub.core_settings import HubCoreSettings
from chatd.init import ADMIN_NAME, admin_key_path, ensure_administrator
from chatd.server.roles import Role, store_opened
from chatd.services.role import run as run_services
from chatd.storage.sqlite.search_store import SqliteSearchReader
from chatd.storage.stores import open_store

if TYPE_CHECKING:
    from chatd.storage.interface import Store

POSITION = struct.Struct("<Q")
# A position that waits in the pipe is newer than the ones before it: only the last one matters.
FOLD_READ_BYTES = 4096


def core_settings(settings: dict[str, Any], store: Store) -> HubCoreSettings:
    hub, session = settings["hub"], settings["session"]
    return HubCoreSettings(
        log_epoch=store.log_epoch,
        session_epoch_base=store.boot_count << 32,
        tail_records_max=hub["tail_events_max"],
        tail_bytes_max=hub["tail_bytes_max"],
        devices_online_max=hub["user_devices_online_max"],
        devices_online_replace=hub["user_devices_online_policy"] == "replace",
        sends_per_s=session["sends_per_s"],
        sends_burst=session["sends_burst"],
        amplification_max=session["amplification_max"],
        amplification_ms=session["amplification_s"] * 1000,
        takeover_ms=hub["takeover_wait_ms"],
        ledger_entries=hub["ledger_entries_max"],
        receipt_members_max=min(500, hub["group_members_max"]),
    )


async def run(role: Role, *, task_status: trio.TaskStatus[None]) -> None:
    """Until ("stop",). ready is reported when recovery is complete."""
    read_only = bool(role.message.get("read_only"))
    where, store = await store_opened(lambda: _open(role, read_only), StoreLockedError)
    if not read_only and ensure_administrator(store, role.data):
        logs.get().info("first administrator made", name=ADMIN_NAME, key=str(admin_key_path(role.data)))
    core = HubCore(core_settings(role.settings, store))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_when_moved, role, where)
            commands_in, commands = trio.open_memory_channel[tuple[Any, ...]](64)
            nursery.start_soon(_forward, role.commands, commands_in)
            if role.descriptors:
                nursery.start_soon(_read_positions, role.descriptors[0], commands_in)
            await run_services(
                core,
                store,
                {**role.settings["hub"], "read_only": read_only},
                commands,
                on_link_lost=lambda shard: nursery.start_soon(role.say, {"say": "lost", "to": "shard", "index": shard}),
                search_index=SqliteSearchReader(role.data),
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()
    finally:
        core.close()
        store.close()


def _open(role: Role, read_only: bool) -> tuple[str, Store]:
    where = role.where()
    return where, open_store(where, role.data, read_only=read_only)


async def _end_when_moved(role: Role, where: str) -> None:
    """As with a database that goes away: shards keep what has no answer for the next hub, which is told where to go."""
    await role.until_moved(where)
    raise StoreLostError("the store is moved")


async def _forward(source: trio.MemoryReceiveChannel[Any], sink: trio.MemorySendChannel[Any]) -> None:
    async for command in source:
        await sink.send(command)


async def _read_positions(descriptor: int, sink: trio.MemorySendChannel[Any]) -> None:
    """How far the folder has come, from the pipe that outlives every hub and folder."""
    async with trio.lowlevel.FdStream(descriptor) as pipe:
        async for data in pipe:
            whole = len(data) - len(data) % POSITION.size
            if whole:
                await sink.send(("folded", POSITION.unpack_from(data, whole - POSITION.size)[0]))
