"""Serves REQUEST: looks the method up, who may call it and what its parameters are."""

import logging
from typing import TYPE_CHECKING, Any

from chatd.hub.calls import Call
from chatd.hub.flags import UserFlag
from chatd.hub.frames import CallError
from chatd.services import params
from chatd.services.caller import Caller, Result
from chatd.services.method import Permission
from chatd.services.methods import METHODS
from chatd.storage.interface import UserRow
from chatd.wire.schema import ErrorCode
from chatd.wire.schema import Method as Code

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)


def permission_of(row: UserRow) -> Permission:
    if row.flags & UserFlag.ADMIN:
        return Permission.ADMIN
    return Permission.GUEST if row.flags & UserFlag.GUEST else Permission.USER


class Registry:
    """One for one hub: chatd.hub.calls.RequestHandler."""

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
