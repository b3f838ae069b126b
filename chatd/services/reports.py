# Reports: what users bring before moderators. A report names an event that the reporter can read, or a user. Those who
# may moderate the conversation work on its reports; administrators of the server work on all of them, and they alone
# on those about a user anywhere. A resolved one stays in the database and leaves the list.
"""Methods about reports."""

from chatd.hub import reads
from chatd.hub.flags import UserFlag
from chatd.hub.frames import CallError
from chatd.services import listing, notices, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.seats import managed_seat, seat
from chatd.storage.interface import View
from chatd.storage.people_rows import ReportRow
from chatd.wire.schema import PULL_BYTES_MAX, ErrorCode, NoticeTopic, Right

REPORTS_PER_MIN = 10
REPORTS_BURST = 20


async def report(caller: Caller, cid: int, seq: int, user: int, reason: str) -> Result:
    """REPORT"""
    caller.hub.calls.charge("report", caller.user, REPORTS_PER_MIN / 60, REPORTS_BURST)
    if seq:
        user = await _sender(caller, cid, seq)
    if not user:
        raise CallError(ErrorCode.BAD_REQUEST, "a report names an event (cid, seq) or a user")

    def apply() -> Result:
        if cid:
            seat(caller, cid)
        users.existing(caller.rows, [user])
        ident = caller.rows.next_id("report")
        caller.rows.stage("report", ReportRow(ident, cid, seq, user, caller.user, reason, 1, 0, "", now_ms()))
        return {1: ident}

    result = await caller.change(apply)
    if cid:
        told = notices.entitled(caller, cid, Right.MODERATE)
        notices.tell(caller, told, NoticeTopic.REPORT, {1: result[1], 2: cid})
    return result


async def _sender(caller: Caller, cid: int, seq: int) -> int:
    """Who sent an event that the caller can read; NOT_FOUND for any other."""
    hub = caller.hub
    may = await hub.lookup(lambda: reads.readable(hub.core, hub.rows, cid, caller.user))
    if not any(start <= seq <= end for start, end in may.spans):
        raise CallError(ErrorCode.NOT_FOUND, "no such event for you")
    event = reads.tail_event(hub.core, cid, seq, caller.user)
    if event is not None:
        return event.sender
    rows = await hub.loader.read(lambda view: view.events(cid, seq, seq, 1, PULL_BYTES_MAX))
    return rows[0].sender if rows else 0


def _check_entitled(caller: Caller, cid: int) -> None:
    """For turns: administrators of the server, and who may moderate that conversation."""
    if caller.row.flags & UserFlag.ADMIN:
        return
    if not cid:
        raise CallError(ErrorCode.FORBIDDEN, "reports of all conversations are for administrators of the server")
    managed_seat(caller, cid, Right.MODERATE)


async def list_open(caller: Caller, cid: int, after: int, limit: int) -> Result:
    """REPORT_LIST"""
    await caller.hub.lookup(lambda: _check_entitled(caller, cid))

    def read(view: View, start: int, most: int) -> list[ReportRow]:
        return view.reports(cid, start, most)

    rows, more = await listing.page(
        caller,
        read,
        lambda: [row for row in caller.rows.unfolded("report") if not cid or row.cid == cid],
        lambda row: row.id,
        lambda row: row.state == 1,
        after,
        limit,
    )
    listed = [[row.id, row.cid, row.seq, row.uid, row.by_uid, row.reason, row.created_ms] for row in rows]
    return {1: listed, 2: more}


async def resolve(caller: Caller, report: int, note: str) -> Result:
    """REPORT_RESOLVE"""

    def apply() -> Result:
        row = caller.rows.find("report", report)
        if row is None:
            raise CallError(ErrorCode.NOT_FOUND, f"no such report: {report}")
        _check_entitled(caller, row.cid)
        caller.rows.stage("report", row._replace(state=0, resolved_by=caller.user, note=note))
        return {}

    return await caller.change(apply)
