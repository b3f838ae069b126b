"""Payloads of the events that the server writes: membership, roles, titles. Layouts: protocol/schema.toml, [kind]."""

from collections.abc import Iterable

from chatd.hub.core import Core
from chatd.wire.schema import Kind, Role
from chatd.wire.varint import encode as varint


def _string(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data


def _users(users: Iterable[int]) -> bytes:
    encoded = [varint(user) for user in users]
    return varint(len(encoded)) + b"".join(encoded)


def created(core: Core, cid: int, sender: int, kind: int, title: str) -> int:
    return core.stage_event(cid, sender, Kind.CONVERSATION_CREATED, bytes((kind,)) + _string(title), False)


def members_added(core: Core, cid: int, sender: int, role: Role, users: Iterable[int]) -> int:
    return core.stage_event(cid, sender, Kind.MEMBERS_ADDED, bytes((role,)) + _users(users), False)


def members_removed(core: Core, cid: int, sender: int, users: Iterable[int]) -> int:
    return core.stage_event(cid, sender, Kind.MEMBERS_REMOVED, _users(users), False)


def member_left(core: Core, cid: int, user: int) -> int:
    return core.stage_event(cid, user, Kind.MEMBER_LEFT, varint(user), False)


def role_changed(core: Core, cid: int, sender: int, user: int, role: Role) -> int:
    return core.stage_event(cid, sender, Kind.ROLE_CHANGED, varint(user) + bytes((role,)), False)


def title_changed(core: Core, cid: int, sender: int, title: str) -> int:
    return core.stage_event(cid, sender, Kind.TITLE_CHANGED, _string(title), False)
