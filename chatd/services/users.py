"""Users as others see them: by exact name or by id. There is no other search (security.md, enumeration)."""

from typing import Any

from chatd.hub.flags import UserFlag
from chatd.hub.frames import CallError
from chatd.hub.rows import Rows
from chatd.services.caller import Caller, Result
from chatd.storage.interface import UserRow
from chatd.wire.schema import ErrorCode


def no_such_user() -> CallError:
    return CallError(ErrorCode.NOT_FOUND, "no such user")


def listed(row: UserRow) -> list[Any]:
    return [row.id, row.name, row.display_name]


def shown_name(row: UserRow | None) -> str:
    return "" if row is None else row.display_name or row.name


def existing(rows: Rows, users: list[int]) -> dict[int, UserRow]:
    """All of them, or NOT_FOUND. For use in turns."""
    found: dict[int, UserRow] = rows.find_all("user", users)
    if len(found) < len(users):
        missing = next(user for user in users if user not in found)
        raise CallError(ErrorCode.NOT_FOUND, f"no such user: {missing}")
    return found


def unused_name(rows: Rows, name: str) -> None:
    if rows.find("user", name, unique=True) is not None:
        raise CallError(ErrorCode.BAD_REQUEST, f"the name {name!r} is taken; choose another one")


def stage_user(
    rows: Rows, name: str, display_name: str, password_hash: str | None, flags: UserFlag, created_ms: int
) -> UserRow:
    """A new user in this batch. The name, unless empty, has been checked with unused_name in the same turn."""
    row = UserRow(rows.next_id("user"), name, display_name, password_hash, int(flags), 0, created_ms)
    rows.stage("user", row)
    return row


async def resolve(caller: Caller, names: list[str]) -> Result:
    """USER_RESOLVE"""
    settings = caller.hub.settings
    caller.hub.calls.charge("resolve", caller.user, settings.resolves_per_min / 60, settings.resolves_burst)
    found = await caller.hub.lookup(lambda: caller.rows.find_all("user", names, unique=True))
    return {1: [listed(row) for row in found.values()]}


async def get(caller: Caller, users: list[int]) -> Result:
    """USER_GET"""
    found = await caller.hub.lookup(lambda: caller.rows.find_all("user", users))
    return {1: [listed(row) for row in found.values()]}
