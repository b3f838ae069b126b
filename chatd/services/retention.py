"""How long a conversation keeps its events: set by those who manage it, told to its members."""

from chatd.hub import floors
from chatd.services import events
from chatd.services.caller import Caller, Result
from chatd.services.seats import managed_seat, seat
from chatd.wire.schema import Right

DAYS_MAX = 36_500
EVENTS_MAX = 10**9


async def put(caller: Caller, cid: int, days: int | None, kept: int | None) -> Result:
    """RETENTION_SET"""

    def apply() -> Result:
        managed_seat(caller, cid, Right.MANAGE)
        row = floors.row_of(caller.rows, cid)
        changed = row._replace(days=row.days if days is None else days, events=row.events if kept is None else kept)
        floors.stage(caller.rows, changed._replace(due_ms=0))
        return {1: events.retention_changed(caller.core, cid, caller.user, changed.days, changed.events)}

    result = await caller.change(apply)
    caller.hub.retention.expect(caller.core.committed_pos)
    return result


async def get(caller: Caller, cid: int) -> Result:
    """RETENTION_GET"""
    settings = caller.hub.settings

    def find() -> Result:
        seat(caller, cid)
        row = floors.row_of(caller.rows, cid)
        common = {3: settings.retention_days, 4: settings.retention_events}
        return {1: row.days, 2: row.events, **common, 5: max(1, row.floor_seq)}

    result: Result = await caller.hub.lookup(find)
    return result
