# Sign-in data for shards. A shard checks credentials itself; the hub gives what to check against and makes users and
# devices, which the core is told of at once: their login follows. A resume never comes here. Unknown and unusable
# subjects give nil, so that a shard can answer in constant shape. docs/internals/rpc.md is the page for both sides.
"""The RPC methods of the hub: credentials, devices, guests, revocations."""

from typing import Any

from chatd.hub.flags import DeviceFlag, KeyFlag, UserFlag
from chatd.hub.frames import CallError
from chatd.hub.loop import Hub
from chatd.hub.rows import MissingRows, Name, Rows
from chatd.hub.rpc import RpcMethod
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.services import devices, params, users
from chatd.services.caller import now_ms
from chatd.storage.interface import DeviceRow, UserRow, View
from chatd.wire.schema import Credential, ErrorCode

CREDENTIALS_PER_CALL_MAX = 256

Subject = dict[str, Any]


async def ping(hub: Hub, shard: int) -> list[int]:
    return [now_ms(), hub.core.committed_pos]


async def credential(hub: Hub, shard: int, kind: int, subject: str | int) -> Subject | None:
    found = await credentials(hub, shard, [[kind, subject]])
    return found[0]


async def credentials(hub: Hub, shard: int, wanted: list[list[Any]]) -> list[Subject | None]:
    """One entry per [kind, subject], nil where there is nothing to check against. What is not in memory is read at
    once."""
    if len(wanted) > CREDENTIALS_PER_CALL_MAX:
        raise CallError(ErrorCode.BAD_REQUEST, f"at most {CREDENTIALS_PER_CALL_MAX} credentials per call")

    def find() -> list[Subject | None]:
        found: list[Subject | None] = []
        missing: list[Name] = []
        for kind, subject in wanted:
            try:
                found.append(_subject(hub.rows, kind, subject))
            except MissingRows as unknown:
                missing += unknown.names
        if missing:
            raise MissingRows(missing)
        return found

    result: list[Subject | None] = await hub.lookup(find)
    return result


async def known_devices(hub: Hub, shard: int, wanted: list[list[Any]]) -> list[list[int] | None]:
    """[user, token epoch] for each [user name, device] that belong together, nil for everything else.

    What most logins need to know, for all logins of a moment in one call and one read: keeping their rows would cost
    more than reading them. Who gets nil asks again, one by one, and learns why."""
    if len(wanted) > CREDENTIALS_PER_CALL_MAX:
        raise CallError(ErrorCode.BAD_REQUEST, f"at most {CREDENTIALS_PER_CALL_MAX} logins per call")

    devices = {device for _, device in wanted if device}
    for _ in range(SNAPSHOTS_PER_PAGE_MAX):
        fresh = {device: row for device in devices if (row := hub.rows.unfolded_row("device", device)) is not None}

        def read(view: View, fresh: dict[int, DeviceRow] = fresh) -> tuple[int, dict[int, DeviceRow], list[UserRow]]:
            owned = fresh | {row.id: row for row in view.devices(devices - fresh.keys())}
            return view.folded_pos, owned, view.users({row.uid for row in owned.values()})

        folded_pos, owned, owners = await hub.loader.read(read, page=False)
        if hub.rows.is_current(folded_pos):
            break
    else:
        raise too_fast()
    stored = {row.id: row for row in owners}
    return [_owner(hub.rows, _name(name), owned.get(device), stored) for name, device in wanted]


def _owner(rows: Rows, name: str, device: DeviceRow | None, stored: dict[int, UserRow]) -> list[int] | None:
    if device is None or rows.newest("device", device).flags & DeviceFlag.REVOKED:
        return None
    user = rows.unfolded_row("user", device.uid) or stored.get(device.uid)
    return None if user is None or user.name != name else [user.id, user.token_epoch]


def _subject(rows: Rows, kind: int, subject: str | int) -> Subject | None:
    match kind:
        case Credential.JWT:
            return _of_user(rows.find("user", _name(subject), unique=True)) or None
        case Credential.PASSWORD:
            row = rows.find("user", _name(subject), unique=True)
            return None if row is None or row.password_hash is None else _of_user(row) | {"hash": row.password_hash}
        case Credential.API_KEY:
            key = rows.find("api_key", subject)
            if key is None or key.flags & KeyFlag.REVOKED:
                return None
            secret = {"hash": key.hash, "acts_as_others": bool(key.flags & KeyFlag.ACTS_AS_OTHERS)}
            return _with(_of_user(rows.find("user", key.uid)), secret)
        case Credential.DEVICE_KEY:
            device = rows.find("device", subject)
            if device is None or device.key is None or device.flags & DeviceFlag.REVOKED:
                return None
            return _with(_of_user(rows.find("user", device.uid)), {"key": device.key, "device": device.id})
    raise CallError(ErrorCode.UNSUPPORTED, f"credential kind {kind} has nothing to look up")


def _name(subject: str | int) -> str:
    try:
        return params.user_name(subject)
    except ValueError:
        # No user can have this name: looking up a name that is not allowed finds nothing.
        return " "


def _of_user(row: UserRow | None) -> Subject:
    if row is None:
        return {}
    return {"user": row.id, "name": row.name, "token_epoch": row.token_epoch, "flags": row.flags}


def _with(subject: Subject, secret: Subject) -> Subject | None:
    return subject | secret if subject else None


async def provision(hub: Hub, shard: int, name: str, display_name: str) -> Subject:
    """The user of that name, made now if there is none: for a JSON Web Token that has been checked."""
    try:
        name, shown = params.user_name(name), params.display_name(display_name)
    except ValueError as error:
        raise CallError(ErrorCode.AUTH_FAILED, f"the token's subject must be {error}") from None

    def apply() -> Subject:
        row = hub.rows.find("user", name, unique=True)
        if row is None:
            if not hub.settings.provision_jwt_users:
                text = "no user of that name, and tokens do not make users here; ask an administrator"
                raise CallError(ErrorCode.AUTH_FAILED, text)
            row = users.stage_user(hub.rows, name, shown, None, UserFlag(0), now_ms())
        return _of_user(row)

    subject: Subject = await hub.change(apply)
    return subject


async def device(hub: Hub, shard: int, user: int, wanted: int, label: str) -> Subject:
    """A new device (wanted 0), or the assurance that `wanted` is a device of that user."""
    if wanted:
        row = await hub.lookup(lambda: hub.rows.find("device", wanted))
        if row is None or row.uid != user:
            raise CallError(ErrorCode.AUTH_FAILED, "this device is not one of this user; log in with device 0")
        if row.flags & DeviceFlag.REVOKED:
            raise CallError(ErrorCode.REVOKED, "this device was revoked; log in with device 0")
        return {"device": wanted, "created": False}
    await devices.check_device_count(hub, user)

    def apply() -> Subject:
        users.existing(hub.rows, [user])
        row = devices.stage_device(hub.rows, user, _label(label), None)
        return {"device": row.id, "created": True}

    made: Subject = await hub.change(apply)
    hub.core.put_device(made["device"], user, 0, 0)
    hub.wake()
    return made


async def guest(hub: Hub, shard: int, display_name: str, label: str) -> Subject:
    """A guest user with its one device."""
    if not hub.settings.guests:
        raise CallError(ErrorCode.AUTH_FAILED, "this server takes no guests")

    def apply() -> Subject:
        row = users.stage_user(hub.rows, "", _label(display_name), None, UserFlag.GUEST, now_ms())
        made = devices.stage_device(hub.rows, row.id, _label(label), None)
        return _of_user(row) | {"device": made.id, "created": True}

    made: Subject = await hub.change(apply)
    hub.core.put_user(made["user"], 0, made["flags"])
    hub.core.put_device(made["device"], made["user"], 0, 0)
    hub.wake()
    return made


def _label(text: str) -> str:
    """What a person typed at login, as far as it is text: a bad label is no reason to refuse a login."""
    try:
        cleaned: str = params.label(text)
    except ValueError:
        return ""
    return cleaned


async def revocations(hub: Hub, shard: int) -> list[list[int]]:
    """[user, token epoch] of recent revocations, newest last. The core's check at registration is the one that
    counts."""
    return [list(entry) for entry in hub.revoked]


async def flooded(hub: Hub, shard: int, device: int) -> None:
    """A device was closed with FLOOD there: every other shard refuses it for a while, too."""
    await hub.rpc.ask_all("ban", device, but=shard)


RPC_METHODS: dict[str, RpcMethod] = {
    "ping": ping,
    "credential": credential,
    "credentials": credentials,
    "known_devices": known_devices,
    "provision": provision,
    "device": device,
    "guest": guest,
    "revocations": revocations,
    "flooded": flooded,
}
