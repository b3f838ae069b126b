# Timers: rows that have to be dealt with at a time by the wall clock. They are rows, so they survive a restart; what
# came due while there was no hub is dealt with at once when one starts. One task per table reads those of the next
# minute, and sleeps until the first of them or until an earlier one is made.
"""Rows with a due_ms, dealt with when it comes."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from chatd.hub.frames import CallError
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.wire.schema import RETRYABLE

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

HORIZON_MS = 60_000
ROWS_PER_READ_MAX = 500
RETRY_S = 1.0


class Timed(NamedTuple):
    """What becomes of a row that is due; each is called in a turn with the hub and the row, and removes it.

    abandon: `fire` was refused for good, or cannot be tried.
    """

    fire: Callable[["Hub", Any], None]
    abandon: Callable[["Hub", Any, CallError], None]


class Timers:
    """One per hub."""

    def __init__(self, hub: "Hub", timed: dict[str, Timed]) -> None:
        self._hub = hub
        self._timed = timed
        self._wake = {table: trio.Event() for table in timed}
        self._next_ms = dict.fromkeys(timed, 0)

    def expect(self, table: str, due_ms: int) -> None:
        """A row that is due then has been staged."""
        if due_ms < self._next_ms[table]:
            self._wake[table].set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for table in self._timed:
                nursery.start_soon(self._serve, table)

    async def _serve(self, table: str) -> None:
        while True:
            self._wake[table] = trio.Event()
            now_ms = self._hub.clock.wall_ms()
            self._next_ms[table] = now_ms + HORIZON_MS
            try:
                coming = await self._coming(table, now_ms + HORIZON_MS)
            except CallError as refusal:
                log.warning("what is due of %s cannot be read: %s", table, refusal.text)
                await trio.sleep(RETRY_S)
                continue
            due = [row for row in coming if row.due_ms <= now_ms]
            for row in due:
                await self._fire(table, row)
            if due:
                continue
            self._next_ms[table] = min((row.due_ms for row in coming), default=now_ms + HORIZON_MS)
            with trio.move_on_after((self._next_ms[table] - now_ms) / 1000):
                await self._wake[table].wait()

    async def _coming(self, table: str, until_ms: int) -> list[Any]:
        rows = self._hub.rows
        for _ in range(SNAPSHOTS_PER_PAGE_MAX):
            folded_pos, read = await self._hub.loader.read(
                lambda view: (view.folded_pos, view.due(table, until_ms, ROWS_PER_READ_MAX))
            )
            if rows.is_current(folded_pos):
                found = [row for row in rows.overlaid(table, read) if row.due_ms <= until_ms]
                return sorted(found, key=lambda row: row.due_ms)
        raise too_fast()

    async def _fire(self, table: str, row: Any) -> None:
        timed, hub = self._timed[table], self._hub
        try:
            try:
                await hub.change(lambda: timed.fire(hub, row))
            except CallError as refusal:
                if refusal.code in RETRYABLE:
                    raise
                text = refusal
                await hub.change(lambda: timed.abandon(hub, row, text))
        except CallError as refusal:
            log.warning("%s is due and cannot be done now: %s", table, refusal.text)
            await trio.sleep(RETRY_S)
