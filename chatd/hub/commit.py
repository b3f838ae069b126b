# Committing: what was staged since the last commit becomes durable as one batch, or never happened.
# One append, one fsync, on the hub's own thread (docs/internals/hub.md says why). Methods stage inside turns: short
# synchronous functions that the loop runs between poll and commit. Nothing else ever runs while something is staged, so
# every read in any task sees committed state only, and checks made in a turn still hold when its records are staged.
# A store far away must not hold the loop: its batch is in flight while tasks may run, and whatever looks at the core
# waits for `settled` first. What collects in the rings meanwhile is the next batch.
# - disk full: the store wrote nothing. The core undoes the batch and NAKs its sends with STORE_FULL; so do the turns.
#   The next batch simply tries again, which is how the hub recovers by itself when space returns.
# - any other failure: the process ends at once. An fsync is never retried, nothing of the batch is acknowledged.
# - the database went away: the hub ends with StoreLostError and nothing of the batch is answered; the next hub reads
#   whether it was stored, and shards repeat what they have no answer for.
"""Turns, batches and what happens when the store refuses one."""

import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, NoReturn, Protocol

import trio

from chatd.errors import StoreFailedError, StoreFullError
from chatd.hub.core import Core
from chatd.hub.frames import CallError
from chatd.hub.rows import Missing
from chatd.hub.settings import HubSettings
from chatd.storage.interface import Store
from chatd.wire.schema import ErrorCode

log = logging.getLogger(__name__)

TURNS_WAITING_MAX = 2000
TURNS_PER_BATCH_MAX = 500
STORE_FULL_RETRY_MS = 1000
READ_ONLY_RETRY_MS = 5000
REFUSAL_LOG_INTERVAL_S = 60.0
EXIT_STORE_FAILED = 74
"""EX_IOERR: the supervisor counts these; three in a minute mean read-only."""


class Overlay(Protocol):
    """What of the journal is kept in Python until it is folded: rows, memberships, redactions."""

    def check_room(self) -> None: ...
    def committed(self) -> None: ...
    def rejected(self) -> None: ...


class _Turn:
    """settled: called once, with the error if there is one, when what it staged is durable or refused."""

    __slots__ = ("apply", "error", "result", "settled", "urgent")

    def __init__(self, apply: Callable[[], Any], settled: Callable[[BaseException | None], None], urgent: bool) -> None:
        self.apply = apply
        self.urgent = urgent
        self.settled = settled
        self.result: Any = None
        self.error: BaseException | None = None


def abort_process(message: str) -> NoReturn:
    """End now: no clean-up that could write. The supervisor starts a new hub, which recovers from the journal."""
    log.critical("%s", message)
    logging.shutdown()
    os._exit(EXIT_STORE_FAILED)


class _Flight(NamedTuple):
    """A batch that was handed to the store, and what waits for it."""

    stored: Awaitable[None]
    turns: list[_Turn]
    pos: int


class Committer:
    """Owns the moment of truth. `wake` ends the loop's sleep; `abort` ends the process."""

    def __init__(
        self,
        core: Core,
        store: Store,
        overlays: tuple[Overlay, ...],
        settings: HubSettings,
        abort: Callable[[str], NoReturn] = abort_process,
    ) -> None:
        self._core = core
        self._store = store
        self._overlays = overlays
        self._settings = settings
        self._abort = abort
        self._turns: deque[_Turn] = deque(maxlen=TURNS_WAITING_MAX)
        self._refusal_logged_s = -REFUSAL_LOG_INTERVAL_S
        self._flight: _Flight | None = None
        self._landed = trio.Event()
        self.wake: Callable[[], None] = lambda: None
        self.batch_count = 0
        self.refused_count = 0
        self.store_full = False

    async def turn(self, apply: Callable[[], Any], *, urgent: bool = False) -> Any:
        """Run apply in the next turn of the loop; return its result once everything it staged is durable.

        apply is synchronous, checks first and stages last: an exception after its first stage_* costs the whole batch.
        urgent: frees space or takes rights away, so it may use the store's reserve while the disk is full.
        Raises what apply raises (CallError, Missing), or CallError STORE_FULL, UNAVAILABLE, BUSY.
        """
        if self._settings.read_only:
            text = "the store failed three times in a minute and is read-only; an operator has to look at the disk"
            raise CallError(ErrorCode.UNAVAILABLE, text, READ_ONLY_RETRY_MS)
        if len(self._turns) >= TURNS_WAITING_MAX:
            raise CallError(ErrorCode.BUSY, "too many changes wait for the store; try again later", 500)
        done = trio.Event()
        turn = _Turn(apply, lambda error: done.set(), urgent)
        self._turns.append(turn)
        self.wake()
        await done.wait()
        if turn.error is not None:
            raise turn.error
        return turn.result

    def submit(self, apply: Callable[[], Any], settled: Callable[[BaseException | None], None]) -> bool:
        """As `turn`, for those who cannot wait: settled is told how it ended. False: too many turns wait."""
        if len(self._turns) >= TURNS_WAITING_MAX:
            return False
        self._turns.append(_Turn(apply, settled, urgent=False))
        self.wake()
        return True

    @property
    def has_turns(self) -> bool:
        return bool(self._turns)

    @property
    def in_flight(self) -> bool:
        """A batch is on its way: `land` has to be awaited before `run` is called again."""
        return self._flight is not None

    async def settled(self) -> None:
        """Wait until nothing is staged. Every task that looks at the core does so after each await of anything else."""
        while self._flight is not None:
            await self._landed.wait()

    def run(self) -> None:
        """What the core staged and the turns that wait, made durable or sent on its way. Called by the loop only."""
        turns = [self._turns.popleft() for _ in range(min(len(self._turns), TURNS_PER_BATCH_MAX))]
        for urgent in (False, True):
            chosen = [turn for turn in turns if turn.urgent == urgent]
            if self._flight is not None:
                self._turns.extendleft(reversed(chosen))
                return
            applied: list[_Turn] = []
            for turn in chosen:
                self._apply(turn, applied)
            self._commit(applied, urgent=urgent)

    async def land(self) -> None:
        """Wait for the batch in flight, then publish or refuse it, and let those run who waited for that.

        Raises StoreLostError; the batch stays in flight then, so that nobody sees what may not be stored.
        """
        flight = self._flight
        if flight is None:
            return
        try:
            await flight.stored
        except StoreFullError as error:
            self._flight = None
            self._full(flight.turns, error)
        except StoreFailedError as error:
            self._failed(flight.pos, error)
        else:
            self._flight = None
            self._committed(flight.turns)
        self._landed.set()
        self._landed = trio.Event()
        # Tasks of one moment run in any order: at the second pass all who waited have run.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    def _apply(self, turn: _Turn, applied: list[_Turn]) -> None:
        """Settle the turn, or add it to those that wait for the commit."""
        before = self._core.staged_count
        try:
            for overlay in self._overlays:
                overlay.check_room()
            turn.result = turn.apply()
        except (CallError, Missing) as refusal:
            turn.error = refusal
        except Exception as error:
            log.exception("a method failed in its turn; its caller gets INTERNAL")
            turn.error = CallError(
                ErrorCode.INTERNAL, "the server failed while changing this; it has been logged", 1000
            )
            turn.error.__cause__ = error
        if turn.error is None:
            applied.append(turn)
            return
        turn.settled(turn.error)
        if self._core.staged_count > before:
            log.error("a method failed after it had staged records: %r; the whole batch is refused", turn.error)
            self._refuse(applied, ErrorCode.INTERNAL, 1000, "another change of the same moment failed")
            applied.clear()

    def _commit(self, turns: list[_Turn], *, urgent: bool) -> None:
        """Also a turn that staged nothing waits here: it may have seen what another one of the batch staged."""
        if not self._core.staged_count:
            self._settle(turns)
            return
        if self._settings.read_only:
            self._refuse(turns, ErrorCode.UNAVAILABLE, READ_ONLY_RETRY_MS, "the store is read-only")
            return
        pos, count, blob = self._core.batch()
        try:
            stored = self._store.begin_append(pos, count, blob, urgent=urgent)
        except StoreFullError as error:
            self._full(turns, error)
            return
        except StoreFailedError as error:
            self._failed(pos, error)
        if stored is None:
            self._committed(turns)
        else:
            self._flight = _Flight(stored, turns, pos)

    def _full(self, turns: list[_Turn], error: StoreFullError) -> None:
        self.store_full = True
        self._refuse(turns, ErrorCode.STORE_FULL, STORE_FULL_RETRY_MS, str(error))

    def _failed(self, pos: int, error: StoreFailedError) -> NoReturn:
        self._abort(f"the store failed at position {pos}: {error}; restarting to recover from the journal")

    def _committed(self, turns: list[_Turn]) -> None:
        self._core.publish()
        for overlay in self._overlays:
            overlay.committed()
        self.batch_count += 1
        self.store_full = False
        self._settle(turns)

    def _settle(self, turns: list[_Turn]) -> None:
        for turn in turns:
            turn.settled(turn.error)

    def _refuse(self, turns: list[_Turn], code: ErrorCode, retry_after_ms: int, reason: str) -> None:
        self._core.reject(code, retry_after_ms)
        for overlay in self._overlays:
            overlay.rejected()
        self.refused_count += 1
        now = time.monotonic()
        if now - self._refusal_logged_s >= REFUSAL_LOG_INTERVAL_S:
            self._refusal_logged_s = now
            log.error("batch refused (%s): %s; writes get %s until this is over", self.refused_count, reason, code.name)
        for turn in turns:
            turn.error = CallError(code, "not stored: " + reason, retry_after_ms)
        self._settle(turns)
