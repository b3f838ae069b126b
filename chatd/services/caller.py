"""Who calls, and how a method changes something: in one turn, once per idempotency key, answered after the commit."""

import time
from collections.abc import Callable
from typing import Any

import msgpack

from chatd.hub.calls import Call
from chatd.hub.core import Core
from chatd.hub.frames import CallError
from chatd.hub.loop import Hub
from chatd.hub.rows import RequestKeyRow, Rows
from chatd.storage.interface import UserRow
from chatd.wire.schema import ErrorCode

Result = dict[int, Any]
"""Keys as in schema.toml."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Caller:
    """One REQUEST being answered. Handlers get it as their first argument."""

    def __init__(self, hub: Hub, call: Call, method: int, key: bytes | None, row: UserRow) -> None:
        self.hub = hub
        self.call = call
        self.user = call.user
        self.device = call.device
        self.row = row
        self._method = method
        self._key = key

    @property
    def core(self) -> Core:
        return self.hub.core

    @property
    def rows(self) -> Rows:
        return self.hub.rows

    async def change(
        self,
        apply: Callable[[], Result],
        *,
        urgent: bool = False,
        remembered: Callable[[Result], Result] = lambda result: result,
    ) -> Result:
        """Hub.change, once for the request's idempotency key: its result is stored in the same batch.

        A handler calls this once and returns what it returns. remembered: what of the result may lie in the database.
        """
        if self._key is None:
            result: Result = await self.hub.change(apply, urgent=urgent)
            return result
        key = self._key

        def once() -> Result:
            stored = self.rows.find("request_key", (self.user, key))
            if stored is not None:
                return self._stored(stored)
            result = apply()
            packed = msgpack.packb([self._method, remembered(result)])
            self.rows.stage("request_key", RequestKeyRow(self.user, key, packed, now_ms()))
            return result

        repeated: Result = await self.hub.change(once, urgent=urgent)
        return repeated

    def _stored(self, row: RequestKeyRow) -> Result:
        method, result = msgpack.unpackb(row.result, strict_map_key=False)
        if method != self._method:
            text = "this idempotency key was used for another method; make a fresh random one per request"
            raise CallError(ErrorCode.BAD_REQUEST, text)
        found: Result = result
        return found
