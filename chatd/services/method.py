"""What a REQUEST method is: handler, parameters and who may call it. The tables are in chatd.services.methods."""

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import NamedTuple

from chatd.services import params
from chatd.services.caller import Result
from chatd.services.params import Param

PAGE_MAX = 200
MEMBERS_PAGE_MAX = 500
MEMBERS_PER_REQUEST_MAX = 500


class Permission(IntEnum):
    """Kinds of accounts; each includes those before it."""

    GUEST = 1
    USER = 2
    ADMIN = 3


class Method(NamedTuple):
    handler: Callable[..., Awaitable[Result]]
    """handler(caller, **params) → result. Raises CallError."""
    params: tuple[Param, ...]
    permission: Permission


Table = dict[int, Method]
"""Methods by their code in schema.toml."""

GUEST, USER, ADMIN = Permission
CID = Param(1, "cid", params.identifier)


def page(first: int, most: int = PAGE_MAX) -> tuple[Param, Param]:
    """The two parameters of a listing, from key `first` on: after (0 at first) and limit."""
    return Param(first, "after", params.after, 0), Param(first + 1, "limit", params.limit(most), most)
