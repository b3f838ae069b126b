# RECALL, and what becomes of everything that hung on a message whose content goes. Within its window the author may,
# and a moderator always. The place in the log stays as a tombstone; edits carry content, too, and become tombstones
# with it. The event RECALL tells who and when.
"""Recalled and expired messages."""

from typing import TYPE_CHECKING

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.hub.redactions import RECALLED
from chatd.services.messages.parts import Effect, age_s, fields_of, has_right, target_of
from chatd.wire.schema import ErrorCode, Right

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

HANGS_ON = ("edit", "reaction", "mention")
"""Tables of rows that belong to a message, by (cid, seq)."""


def judge(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    row = target_of(hub, send, fields_of(send.kind, send.payload)["target"])
    if not has_right(hub, send.cid, send.user, Right.MODERATE):
        if row.sender != send.user:
            raise CallError(ErrorCode.FORBIDDEN, "you can recall your own messages only")
        if age_s(hub, row) > hub.settings.recall_window_s:
            raise CallError(ErrorCode.EXPIRED, f"a message can be recalled for {hub.settings.recall_window_s} s only")
    return (erasure(hub, send.cid, row.seq, RECALLED),)


def erasure(hub: "Hub", cid: int, target: int, reason: int) -> Effect:
    """Looks up all that goes with a message now (MissingRows); staging it later cannot fail."""
    rows = [(table, row) for table in HANGS_ON for row in hub.rows.find_group(table, cid, target)]
    for table in ("pin", "expiry"):
        found = hub.rows.find(table, (cid, target))
        if found is not None:
            rows.append((table, found))
    edits = [row.seq for table, row in rows if table == "edit"]

    def stage(seq: int) -> None:
        hub.redactions.stage(cid, [target, *edits], reason)
        for table, row in rows:
            hub.rows.remove(table, row)

    return stage
