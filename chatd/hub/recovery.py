# Recovery: what a hub does before it serves, and until its shards have told it what they have seen. Replay gives the
# core tail, heads and windows back, and this side the rows and memberships that are not folded. It goes back further
# than the folded position where segments still exist: shards may not have routed what the folder folded while there
# was no hub, and they get it pushed from the tail when they attach. So the tail lets go of nothing until every linked
# shard has attached, or the hold ends.
"""Replay at start, and when the tail may let go for the first time."""

import logging
import time
from typing import TYPE_CHECKING

from chatd.clock import Clock
from chatd.hub.core import Core
from chatd.storage.interface import parse_row

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

REPLAY_FOLDED_RECORDS_MAX = 200_000
HOLD_S = 5.0
"""For shards that do not come back."""
HOLD_MIN_S = 1.0
"""Links of a new hub are set up one after the other: one attached shard does not mean that there are no others."""


def recover(hub: "Hub") -> None:
    """Rebuild memory from the journal. Raises StorageError: the hub must not start."""
    started = time.monotonic()
    folded_pos = hub.store.folded_pos()
    oldest = max(hub.store.first_pos(), hub.store.next_pos - REPLAY_FOLDED_RECORDS_MAX)
    count = 0
    for first_pos, batch_count, blob in hub.store.replay(min(folded_pos, max(0, oldest - 1))):
        rows, members, redactions = hub.core.replay(first_pos, batch_count, blob)
        for pos, packed in rows:
            if pos > folded_pos:
                table, values, deleted = parse_row(packed)
                hub.rows.replayed(pos, table, values, deleted)
        for member in members:
            if member[5] > folded_pos:
                hub.memberships.replayed(*member)
        for redaction in redactions:
            if redaction[2] > folded_pos:
                hub.redactions.replayed(*redaction)
        count += batch_count
    if not count:
        hub.core.replay(hub.store.next_pos, 0, b"")
    hub.on_folded(folded_pos)
    log.info(
        "recovered: %d records replayed, %d folded, next position %d, %.0f ms",
        count,
        folded_pos,
        hub.store.next_pos,
        (time.monotonic() - started) * 1000,
    )


class FreeGate:
    """Passes folded positions on to the core, but not before the shards had a chance to say what they miss."""

    def __init__(self, core: Core, clock: Clock) -> None:
        self._core = core
        self._clock = clock
        self._started = clock.monotonic_s()
        self._linked: set[int] = set()
        self._attached: set[int] = set()
        self._folded_pos = self._freed_pos = 0

    def on_linked(self, shard: int) -> None:
        self._linked.add(shard)
        self._attached.discard(shard)

    def on_attached(self, shard: int, pos: int) -> None:
        self._attached.add(shard)
        self.pass_on()

    def on_unlinked(self, shard: int) -> None:
        self._linked.discard(shard)

    def on_folded(self, folded_pos: int) -> None:
        self._folded_pos = max(self._folded_pos, folded_pos)
        self.pass_on()

    def pass_on(self) -> None:
        """Called by every turn: while a full tail refuses every SEND, no position comes after one that was held."""
        if self._folded_pos <= self._freed_pos:
            return
        all_attached = self._linked and self._linked <= self._attached
        held_s = self._clock.monotonic_s() - self._started
        if held_s >= (HOLD_MIN_S if all_attached else HOLD_S):
            self._core.freed(self._folded_pos)
            self._freed_pos = self._folded_pos
