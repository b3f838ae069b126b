"""Payloads of the events that the server writes: membership, roles, rules. Layouts: protocol/schema.toml, [kind]."""

from collections.abc import Iterable, Mapping

from chatd.hub.core import Core
from chatd.storage.people_rows import CaseRow
from chatd.wire.schema import Kind
from chatd.wire.varint import encode as varint


def _string(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data


def _users(users: Iterable[int]) -> bytes:
    encoded = [varint(user) for user in users]
    return varint(len(encoded)) + b"".join(encoded)


def _staged(core: Core, cid: int, sender: int, kind: Kind, payload: bytes) -> int:
    return core.stage_event(cid, sender, kind, payload, False)


def created(core: Core, cid: int, sender: int, kind: int, title: str) -> int:
    return _staged(core, cid, sender, Kind.CONVERSATION_CREATED, bytes((kind,)) + _string(title))


def members_added(core: Core, cid: int, sender: int, role: int, users: Iterable[int]) -> int:
    return _staged(core, cid, sender, Kind.MEMBERS_ADDED, bytes((role,)) + _users(users))


def members_removed(core: Core, cid: int, sender: int, users: Iterable[int]) -> int:
    return _staged(core, cid, sender, Kind.MEMBERS_REMOVED, _users(users))


def member_left(core: Core, cid: int, user: int) -> int:
    return _staged(core, cid, user, Kind.MEMBER_LEFT, varint(user))


def member_joined(core: Core, cid: int, user: int, by: int) -> int:
    return _staged(core, cid, user, Kind.MEMBER_JOINED, varint(user) + varint(by))


def role_changed(core: Core, cid: int, sender: int, user: int, role: int) -> int:
    return _staged(core, cid, sender, Kind.ROLE_CHANGED, varint(user) + bytes((role,)))


def title_changed(core: Core, cid: int, sender: int, title: str) -> int:
    return _staged(core, cid, sender, Kind.TITLE_CHANGED, _string(title))


def info_changed(core: Core, cid: int, sender: int, topic: str, avatar: str) -> int:
    return _staged(core, cid, sender, Kind.INFO_CHANGED, _string(topic) + _string(avatar))


def rules_changed(core: Core, cid: int, sender: int, slow_mode_s: int, history: int, denied: Mapping[int, int]) -> int:
    denials = [bytes((role,)) + varint(rights) for role, rights in sorted(denied.items())]
    payload = varint(slow_mode_s) + varint(history) + varint(len(denials)) + b"".join(denials)
    return _staged(core, cid, sender, Kind.RULES_CHANGED, payload)


def retention_changed(core: Core, cid: int, sender: int, days: int, kept: int) -> int:
    return _staged(core, cid, sender, Kind.RETENTION_CHANGED, varint(days) + varint(kept))


def member_muted(core: Core, cid: int, sender: int, user: int, until_s: int) -> int:
    return _staged(core, cid, sender, Kind.MEMBER_MUTED, varint(user) + varint(until_s))


def member_banned(core: Core, cid: int, sender: int, user: int, until_s: int) -> int:
    return _staged(core, cid, sender, Kind.MEMBER_BANNED, varint(user) + varint(until_s))


def ban_lifted(core: Core, cid: int, sender: int, user: int) -> int:
    return _staged(core, cid, sender, Kind.BAN_LIFTED, varint(user))


def archived(core: Core, cid: int, sender: int, is_archived: bool) -> int:
    return _staged(core, cid, sender, Kind.ARCHIVED, bytes((is_archived,)))


def deleted(core: Core, cid: int, sender: int, title: str) -> int:
    return _staged(core, cid, sender, Kind.DELETED, _string(title))


def public_name_changed(core: Core, cid: int, sender: int, name: str) -> int:
    return _staged(core, cid, sender, Kind.PUBLIC_NAME_CHANGED, _string(name))


def case_changed(core: Core, cid: int, sender: int, case: CaseRow) -> int:
    """In the case and in the group of its desk: cid."""
    payload = varint(case.cid) + bytes((case.state,)) + varint(case.agent) + varint(case.customer)
    return _staged(core, cid, sender, Kind.CASE_CHANGED, payload)


def case_rated(core: Core, cid: int, sender: int, case: CaseRow) -> int:
    return _staged(core, cid, sender, Kind.CASE_RATED, varint(case.cid) + bytes((case.stars,)))
