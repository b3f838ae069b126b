"""Verifying passwords: argon2id on one thread, so that guessing cannot starve the loop."""

import argon2
import trio

# The same cost as the hub's hashes (chatd.services.passwords): 19 ms and 19 MiB.
TIME_COST, MEMORY_KIB, PARALLELISM = 2, 19 * 1024, 1


class PasswordBusyError(Exception):
    """The queue is full: AUTH_BUSY."""


class PasswordVerifier:
    """One verification at a time; queue_max wait, more are refused.

    A user that does not exist costs the same: the password is verified against a hash of nobody's, so neither the
    answer nor its time tells whether there is such a user.
    """

    def __init__(self, queue_max: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._limiter = trio.CapacityLimiter(1)
        self._queue_max = queue_max
        self._nobody: str | None = None

    async def verify(self, password_hash: str | None, password: bytes) -> bool:
        """Whether it matches. None: there is no such user or no password; takes as long and says False."""
        if self._limiter.statistics().tasks_waiting >= self._queue_max:
            raise PasswordBusyError
        return await trio.to_thread.run_sync(self._verify, password_hash, password, limiter=self._limiter)

    def _verify(self, password_hash: str | None, password: bytes) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash(b"nobody has this password")
        try:
            matches = self._hasher.verify(password_hash or self._nobody, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(matches) and password_hash is not None
