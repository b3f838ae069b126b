# Requests to join: where who comes has to be accepted. One request of a user for a conversation waits at a time; those
# who may invite are told and answer it. Accepting is a join like any other, with the checks of that moment.
"""Asking to join, and the methods of those who accept."""

from chatd.hub.frames import CallError
from chatd.services import joining, listing, notices, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.seats import managed_seat, present
from chatd.storage.interface import ConversationRow, View
from chatd.storage.people_rows import JoinRequestRow
from chatd.wire.schema import ErrorCode, NoticeTopic, Right

WAITING_MAX = 1000
"""Requests of one conversation that wait and are not folded yet: a bound on what a moment can bring."""
ASKED = -2
"""Key of a result inside the server: which conversation was asked. Never sent."""


def stage(caller: Caller, row: ConversationRow, text: str) -> Result:
    """The caller asks; a member already, or waiting already, changes nothing. For turns."""
    if present(caller, row.id, caller.user) is not None:
        return {1: row.id, 2: 0}
    joining.check_bans(caller, row.id, [caller.user])
    waiting = caller.rows.find("join_request", (row.id, caller.user))
    if waiting is not None and waiting.state:
        return {1: 0, 2: 0}
    if len(caller.rows.unfolded_of("join_request", row.id)) >= WAITING_MAX:
        raise CallError(ErrorCode.BUSY, "too many ask to join this conversation at once; try again later", 5000)
    caller.rows.stage("join_request", JoinRequestRow(row.id, caller.user, 1, text, now_ms()))
    return {1: 0, 2: 0, ASKED: row.id}


def told(caller: Caller, result: Result) -> Result:
    """After the commit: those who may accept hear of a new request."""
    cid = result.pop(ASKED, 0)
    if cid:
        content = {1: cid, 2: caller.user}
        notices.tell(caller, notices.entitled(caller, cid, Right.INVITE), NoticeTopic.JOIN_REQUEST, content)
    return result


async def list_waiting(caller: Caller, cid: int, after: int, limit: int) -> Result:
    """JOIN_REQUEST_LIST"""
    await caller.hub.lookup(lambda: managed_seat(caller, cid, Right.INVITE))

    def read(view: View, start: int, most: int) -> list[JoinRequestRow]:
        return view.join_requests(cid, start, most)

    rows, more = await listing.page(
        caller,
        read,
        lambda: caller.rows.unfolded_of("join_request", cid),
        lambda row: row.uid,
        lambda row: row.state == 1,
        after,
        limit,
    )
    known = await caller.hub.lookup(lambda: caller.rows.find_all("user", [row.uid for row in rows]))
    listed = [[row.uid, users.shown_name(known.get(row.uid)), row.text, row.created_ms] for row in rows]
    return {1: listed, 2: more}


async def answer(caller: Caller, cid: int, user: int, accept: bool) -> Result:
    """JOIN_REQUEST_ANSWER"""
    await caller.hub.lookup(lambda: managed_seat(caller, cid, Right.INVITE))
    if accept:
        await joining.check_conversation_counts(caller, [user])

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.INVITE)
        waiting = caller.rows.find("join_request", (cid, user))
        if waiting is None or not waiting.state:
            raise CallError(ErrorCode.NOT_FOUND, f"user {user} does not ask to join this conversation")
        seq = joining.stage_own_join(caller, found.row, user, caller.user) if accept else 0
        caller.rows.stage("join_request", waiting._replace(state=0))
        return {1: seq}

    return await caller.change(apply)
