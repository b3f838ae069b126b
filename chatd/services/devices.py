"""The caller's devices, and how a device or a user is logged out for good."""

import secrets
from typing import Any

from chatd.hub.flags import DeviceFlag
from chatd.hub.frames import CallError
from chatd.hub.loop import Hub
from chatd.hub.rows import Rows
from chatd.services import revocation
from chatd.services.caller import Caller, Result, now_ms
from chatd.storage.interface import DeviceRow
from chatd.wire.schema import Close, ErrorCode

DEVICE_KEY_BYTES = 32


async def devices_of(hub: Hub, user: int) -> list[DeviceRow]:
    """All devices of a user that are not revoked, those not folded yet included, ascending."""
    found = {row.id: row for row in await hub.loader.read(lambda view: view.devices_of(user))}
    found |= {row.id: row for row in hub.rows.unfolded("device") if row.uid == user}
    newest = [hub.rows.newest("device", row) for _, row in sorted(found.items())]
    return [row for row in newest if not row.flags & DeviceFlag.REVOKED]


def stage_device(rows: Rows, user: int, label: str, key: bytes | None) -> DeviceRow:
    """A new device in this batch."""
    row = DeviceRow(rows.next_id("device"), user, label, key, 0, 0, now_ms())
    rows.stage("device", row)
    return row


async def check_device_count(hub: Hub, user: int) -> None:
    most = hub.settings.user_devices_max
    if len(await devices_of(hub, user)) >= most:
        raise CallError(ErrorCode.LIMIT_REACHED, f"a user has at most {most} devices; revoke one that is not used")


async def list_own(caller: Caller) -> Result:
    """DEVICE_LIST"""
    rows = await devices_of(caller.hub, caller.user)
    online = {device for _, _, device, _ in caller.core.sessions(caller.user)}
    listed: list[list[Any]] = [
        [row.id, row.label, row.created_ms, row.id in online, row.key is not None] for row in rows
    ]
    return {1: listed}


async def revoke(caller: Caller, device: int) -> Result:
    """DEVICE_REVOKE"""

    def apply() -> Result:
        row = caller.rows.find("device", device)
        if row is None or row.uid != caller.user:
            raise CallError(ErrorCode.NOT_FOUND, "no such device of yours")
        caller.rows.stage("device", row._replace(flags=row.flags | DeviceFlag.REVOKED, key=None))
        return {}

    result = await caller.change(apply, urgent=True)
    row = await caller.hub.lookup(lambda: caller.rows.find("device", device))
    caller.core.put_device(device, row.uid, row.cseq_max, row.flags)
    revocation.end_sessions(caller.hub, caller.user, device)
    return result


async def kick(caller: Caller, device: int) -> Result:
    """DEVICE_KICK"""
    row = await caller.hub.lookup(lambda: caller.rows.find("device", device))
    if row is None or row.uid != caller.user:
        raise CallError(ErrorCode.NOT_FOUND, "no such device of yours")
    places = [session for session in caller.core.sessions(caller.user) if session[2] == device]
    for shard, handle, *_ in places:
        caller.core.kick(shard, handle, Close.KICKED)
    return {1: bool(places)}


async def create_key(caller: Caller, label: str) -> Result:
    """DEVICE_KEY_CREATE"""
    await check_device_count(caller.hub, caller.user)
    key = secrets.token_bytes(DEVICE_KEY_BYTES)

    def apply() -> Result:
        return {1: stage_device(caller.rows, caller.user, label, key).id, 2: key}

    return await caller.change(apply)
