# Passwords: argon2id, about 19 ms of one core and 19 MiB per hash.
# Shards verify at login. The hub hashes only when a password is set, in a thread, one at a time: hashing must not
# starve the loop, and a queue of it must not grow without end.
"""Setting and changing passwords."""

from collections.abc import Callable
from typing import TypeVar

import argon2
import trio

from chatd.hub.frames import CallError
from chatd.services.caller import Caller, Result
from chatd.wire.schema import ErrorCode

HASHES_WAITING_MAX = 64
Answer = TypeVar("Answer")

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_limiter = trio.CapacityLimiter(1)


async def _in_turn(function: Callable[[], Answer]) -> Answer:
    if _limiter.statistics().tasks_waiting >= HASHES_WAITING_MAX:
        raise CallError(ErrorCode.AUTH_BUSY, "too many passwords are being checked; try again later", 1000)
    return await trio.to_thread.run_sync(function, limiter=_limiter)


async def hashed(password: str) -> str:
    """CallError AUTH_BUSY when 64 are waiting."""
    return await _in_turn(lambda: _hasher.hash(password))


async def verified(password_hash: str, password: str) -> bool:
    def verify() -> bool:
        try:
            return _hasher.verify(password_hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    return await _in_turn(verify)


async def set_password(caller: Caller, old: str | None, new: str) -> Result:
    """PASSWORD_SET"""
    before = caller.row.password_hash
    if before is not None and not (old is not None and await verified(before, old)):
        raise CallError(ErrorCode.FORBIDDEN, "the old password is not the right one")
    new_hash = await hashed(new)

    def apply() -> Result:
        row = caller.rows.find("user", caller.user)
        if row.password_hash != before:
            raise CallError(ErrorCode.FORBIDDEN, "the password was changed meanwhile; try again with the new one")
        caller.rows.stage("user", row._replace(password_hash=new_hash))
        return {}

    return await caller.change(apply)
