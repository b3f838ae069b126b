"""The one table of REQUEST methods: code → handler, parameters, permission. schema.toml has the wire's side of it."""

import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from chatd.hub.calls import Call
from chatd.hub.flags import UserFlag
from chatd.hub.frames import CallError
from chatd.services import admin, api_keys, conversations, devices, members, params, passwords, users, why
from chatd.services.caller import Caller, Result
from chatd.services.params import Param
from chatd.storage.interface import UserRow
from chatd.wire.schema import ConversationKind, ErrorCode, Role
from chatd.wire.schema import Method as Code

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

USERS_PER_REQUEST_MAX = 100
PAGE_MAX = 200
MEMBERS_PAGE_MAX = 500
MEMBERS_PER_REQUEST_MAX = 500


class Permission(IntEnum):
    """Each includes those before it."""

    GUEST = 1
    USER = 2
    ADMIN = 3


class Method(NamedTuple):
    handler: Callable[..., Awaitable[Result]]
    """handler(caller, **params) → result. Raises CallError."""
    params: tuple[Param, ...]
    permission: Permission


_CID = Param(1, "cid", params.identifier)
_GUEST, _USER, _ADMIN = Permission

METHODS: dict[int, Method] = {
    Code.USER_RESOLVE: Method(users.resolve, (Param(1, "names", params.names(USERS_PER_REQUEST_MAX)),), _USER),
    Code.USER_GET: Method(users.get, (Param(1, "users", params.identifiers(USERS_PER_REQUEST_MAX)),), _GUEST),
    Code.DIRECT_OPEN: Method(conversations.open_direct, (Param(1, "user", params.identifier),), _GUEST),
    Code.CONVERSATION_CREATE: Method(
        conversations.create,
        (
            Param(1, "kind", params.one_of(ConversationKind.GROUP)),
            Param(2, "title", params.title),
            Param(3, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX), ()),
        ),
        _USER,
    ),
    Code.CONVERSATION_GET: Method(conversations.get, (_CID,), _GUEST),
    Code.CONVERSATION_LIST: Method(
        conversations.list_own,
        (Param(1, "after", params.after, 0), Param(2, "limit", params.limit(PAGE_MAX), PAGE_MAX)),
        _GUEST,
    ),
    Code.CONVERSATION_SET_TITLE: Method(conversations.set_title, (_CID, Param(2, "title", params.title)), _USER),
    Code.MEMBER_LIST: Method(
        members.list_members,
        (
            _CID,
            Param(2, "after", params.after, 0),
            Param(3, "limit", params.limit(MEMBERS_PAGE_MAX), MEMBERS_PAGE_MAX),
        ),
        _GUEST,
    ),
    Code.MEMBER_ADD: Method(
        members.add,
        (
            _CID,
            Param(2, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX)),
            Param(3, "role", params.one_of(Role.MEMBER, Role.ADMIN), int(Role.MEMBER)),
        ),
        _USER,
    ),
    Code.MEMBER_REMOVE: Method(
        members.remove, (_CID, Param(2, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX))), _USER
    ),
    Code.MEMBER_LEAVE: Method(members.leave, (_CID,), _GUEST),
    Code.MEMBER_SET_ROLE: Method(
        members.set_role,
        (_CID, Param(2, "user", params.identifier), Param(3, "role", params.one_of(*Role))),
        _USER,
    ),
    Code.DEVICE_LIST: Method(devices.list_own, (), _GUEST),
    Code.DEVICE_REVOKE: Method(devices.revoke, (Param(1, "device", params.identifier),), _GUEST),
    Code.DEVICE_KEY_CREATE: Method(devices.create_key, (Param(1, "label", params.label, ""),), _USER),
    Code.PASSWORD_SET: Method(
        passwords.set_password,
        (Param(1, "old", params.password, None), Param(2, "new", params.password)),
        _USER,
    ),
    Code.ADMIN_USER_CREATE: Method(
        admin.create_user,
        (
            Param(1, "name", params.user_name),
            Param(2, "display_name", params.display_name, ""),
            Param(3, "password", params.password, None),
            Param(4, "admin", params.boolean, False),
        ),
        _ADMIN,
    ),
    Code.ADMIN_USER_LIST: Method(
        admin.list_users,
        (Param(1, "after", params.after, 0), Param(2, "limit", params.limit(PAGE_MAX), PAGE_MAX)),
        _ADMIN,
    ),
    Code.ADMIN_USER_REVOKE: Method(admin.revoke_user, (Param(1, "user", params.identifier),), _ADMIN),
    Code.ADMIN_API_KEY_CREATE: Method(
        api_keys.create,
        (
            Param(1, "user", params.identifier),
            Param(2, "label", params.label, ""),
            Param(3, "acts_as_others", params.boolean, False),
        ),
        _ADMIN,
    ),
    Code.ADMIN_API_KEY_REVOKE: Method(api_keys.revoke, (Param(1, "key_id", params.identifier),), _ADMIN),
    Code.ADMIN_WHY: Method(
        why.why,
        (_CID, Param(2, "seq", params.identifier), Param(3, "user", params.identifier)),
        _ADMIN,
    ),
    Code.ADMIN_STATS: Method(admin.stats, (), _ADMIN),
}


def permission_of(row: UserRow) -> Permission:
    if row.flags & UserFlag.ADMIN:
        return Permission.ADMIN
    return Permission.GUEST if row.flags & UserFlag.GUEST else Permission.USER


class Registry:
    """Serves REQUEST for one hub: chatd.hub.calls.RequestHandler."""

    def __init__(self) -> None:
        self.hub: Hub | None = None

    async def __call__(self, call: Call, code: int, given: dict[int, Any]) -> Result:
        assert self.hub is not None
        hub = self.hub
        method = METHODS.get(code)
        if method is None:
            raise CallError(ErrorCode.UNSUPPORTED, f"method {code} is unknown to this server")
        row = await hub.lookup(lambda: hub.rows.find("user", call.user))
        if row is None or permission_of(row) < method.permission:
            raise CallError(ErrorCode.FORBIDDEN, f"{Code(code).name} is not for this kind of account")
        arguments = params.checked(given, method.params)
        if method.permission == Permission.ADMIN:
            log.info("administrator %d (%s) calls %s", call.user, row.name, Code(code).name)
        return await method.handler(Caller(hub, call, code, params.request_key(given), row), **arguments)
