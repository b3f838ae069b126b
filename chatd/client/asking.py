"""What the files with typed methods share: calling a method, and reading all pages of one."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from chatd.wire.schema import Method

PAGE = 200


class Asking:
    """`Client` says how a method is called."""

    async def request(
        self, method: int, params: Mapping[int, Any] | None = None, *, timeout_s: float = 30.0
    ) -> dict[int, Any]:
        """Call a method; params and result are maps with the integer keys of protocol/schema.toml."""
        raise NotImplementedError

    async def _rows(
        self, method: Method, params: dict[int, Any], limit: int = PAGE, *, key: int = 0, after: Any = 0
    ) -> AsyncIterator[list[Any]]:
        """All rows of a paged method: result is (rows, more). Its parameters `key` and `key` + 1 are (after, limit);
        key 0: the two after `params`. after: what the first page begins with.
        """
        key = key or len(params) + 1
        while True:
            result = await self.request(method, {**params, key: after, key + 1: limit})
            for row in result[1]:
                yield row
            if not result[2] or not result[1]:
                return
            after = result[1][-1][0]
