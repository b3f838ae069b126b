# Service desks: a desk is a group with a name for customers, its members are the agents. A case is the one conversation
# of a customer with a desk; it waits, an agent has it, or it is closed, and it is opened again for the next question.
# Who may read it follows from its state: the customer always, an agent from taking it until it goes on or is closed.
# Each change is an event twice, in the case for the customer and in the group for the agents; the row is for the queue.
"""Methods about service desks and their cases."""

from typing import Any

from chatd.hub import reads
from chatd.hub.flags import ConversationFlag
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.services import events, joining, listing, members, relations, rules, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.conversations import stage_conversation
from chatd.services.joining import HISTORY_ALL
from chatd.services.seats import first_role, is_deleted, present
from chatd.storage.interface import ConversationRow, View
from chatd.storage.people_rows import CaseRow, DeskRow
from chatd.wire.schema import CaseState, ConversationKind, ErrorCode, Right, Role

# ---------------------------------------------------------------- desks


async def set_desk(caller: Caller, name: str, cid: int) -> Result:
    """DESK_SET"""

    def apply() -> Result:
        if cid and not _is_group(caller.rows.find("conversation", cid)):
            raise CallError(ErrorCode.NOT_FOUND, f"there is no group {cid}: a desk is the group of its agents")
        before = caller.rows.find("desk", name)
        if cid and before is not None and before.cid not in (0, cid):
            raise CallError(ErrorCode.BAD_REQUEST, f"the desk {name!r} is group {before.cid}; end that one first")
        caller.rows.stage("desk", DeskRow(name, cid))
        return {}

    return await caller.change(apply)


def _is_group(row: ConversationRow | None) -> bool:
    return row is not None and row.kind == ConversationKind.GROUP and not is_deleted(row)


async def list_desks(caller: Caller, after: str, limit: int) -> Result:
    """DESK_LIST"""
    rows, more = await listing.page(
        caller,
        lambda view, start, most: view.desks(start, most),
        lambda: caller.rows.unfolded("desk"),
        lambda row: row.name,
        lambda row: row.cid != 0,
        after,
        limit,
    )
    groups = await caller.hub.lookup(lambda: caller.rows.find_all("conversation", {row.cid for row in rows}))
    return {1: [[row.name, row.cid, groups[row.cid].title] for row in rows if _is_group(groups[row.cid])], 2: more}


def is_agent(caller: Caller, desk: int, user: int) -> bool:
    """A present member of the group who may write there."""
    rights = caller.core.rights(desk, user)
    if rights is None:
        raise MissingConversation(desk)
    return bool(rights & Right.WRITE)


# ---------------------------------------------------------------- cases


async def open_case(caller: Caller, name: str, subject: str, customer: int) -> Result:
    """CASE_OPEN"""
    who = customer or caller.user

    def found() -> tuple[DeskRow, ConversationRow | None]:
        desk = caller.rows.find("desk", name)
        if desk is None or not desk.cid or not _is_group(caller.rows.find("conversation", desk.cid)):
            raise CallError(ErrorCode.NOT_FOUND, f"there is no service desk {name!r}; DESK_LIST has those that are")
        may = is_agent(caller, desk.cid, caller.user)
        if who != caller.user:
            if not may:
                raise CallError(ErrorCode.FORBIDDEN, "only agents of the desk open a case for somebody else")
            users.existing(caller.rows, [who])
            relations.check_reachable(caller, [who])
        return desk, caller.rows.find("conversation", f"case:{desk.cid}:{who}", unique=True)

    _, made = await caller.hub.lookup(found)
    if made is None:
        await joining.check_conversation_counts(caller, [who])

    def apply() -> Result:
        desk, row = found()
        if row is None:
            cid = _stage_made(caller, desk.cid, who, subject)
            return {1: cid, 2: _stage_state(caller, _case(caller, cid), CaseState.OPEN)}
        case = _case(caller, row.id)
        if case.state != CaseState.CLOSED:
            return {1: row.id, 2: 0}
        if subject not in ("", row.title):
            caller.rows.stage("conversation", row._replace(title=subject))
            events.title_changed(caller.core, row.id, caller.user, subject)
        return {1: row.id, 2: _stage_state(caller, case, CaseState.OPEN)}

    return await caller.change(apply)


def _stage_made(caller: Caller, desk: int, customer: int, subject: str) -> int:
    key = f"case:{desk}:{customer}"
    account = users.existing(caller.rows, [customer])[customer]
    cid = stage_conversation(caller, ConversationKind.SERVICE, subject, key, HISTORY_ALL)
    caller.hub.memberships.stage(cid, customer, first_role(account), 1)
    events.created(caller.core, cid, caller.user, ConversationKind.SERVICE, subject)
    caller.rows.stage("service_case", CaseRow(cid, desk, customer, CaseState.CLOSED, 0, now_ms(), 0))
    return cid


def _case(caller: Caller, cid: int) -> CaseRow:
    row: CaseRow | None = caller.rows.find("service_case", cid)
    if row is None:
        raise reads.not_found()
    if caller.core.conversation(row.desk) is None:
        raise MissingConversation(row.desk)
    if caller.core.intervals(cid, row.customer) is None:
        raise MissingConversation(cid)
    return row


def _agents_case(caller: Caller, cid: int) -> CaseRow:
    """For agents; to others there is no such conversation."""
    case = _case(caller, cid)
    if not is_agent(caller, case.desk, caller.user):
        raise reads.not_found()
    return case


def _stage_state(caller: Caller, case: CaseRow, state: CaseState, agent: int = 0) -> int:
    """The case goes on to that state; who comes or leaves is staged around it. The seq of the event in the case."""
    row = caller.rows.find("conversation", case.cid)
    changed = case._replace(state=int(state), agent=agent, since_ms=now_ms())
    caller.rows.stage("service_case", changed)
    flags = row.flags | ConversationFlag.CLOSED if state == CaseState.CLOSED else row.flags & ~ConversationFlag.CLOSED
    if flags != row.flags:
        rules.stage(caller, row._replace(flags=int(flags)))
    events.case_changed(caller.core, case.desk, caller.user, changed)
    return events.case_changed(caller.core, case.cid, caller.user, changed)


def _left(caller: Caller, case: CaseRow, seq: int) -> list[int]:
    """The agent who had the case has left with the event at seq."""
    interval = present(caller, case.cid, case.agent) if case.agent else None
    if interval is None:
        return []
    members.close(caller, case.cid, interval, seq)
    return [case.agent]


async def assign(caller: Caller, cid: int, agent: int, expected: int | None) -> Result:
    """CASE_ASSIGN"""
    await caller.hub.lookup(lambda: _agents_case(caller, cid))
    if agent:
        await joining.check_conversation_counts(caller, [agent])

    def apply() -> Result:
        case = _agents_case(caller, cid)
        if case.state == CaseState.CLOSED:
            raise CallError(ErrorCode.FORBIDDEN, "this case is closed; open it again first")
        if agent == case.agent:
            return {1: 0}
        if expected is not None and expected != case.agent:
            has_it = f"user {case.agent} has" if case.agent else "nobody has"
            raise CallError(ErrorCode.FORBIDDEN, f"{has_it} this case now")
        if agent and (agent == case.customer or not is_agent(caller, case.desk, agent)):
            raise CallError(ErrorCode.FORBIDDEN, f"user {agent} is no agent of this desk, or the customer")
        if not agent:
            seq = _stage_state(caller, case, CaseState.OPEN)
            return {1: seq, members.REMOVED: _left(caller, case, seq)}
        state = caller.core.conversation(cid)
        assert state is not None, cid
        seq = state[2] + 1
        joining.stage_interval(caller, caller.rows.find("conversation", cid), agent, Role.MODERATOR, seq)
        staged = _stage_state(caller, case, CaseState.ASSIGNED, agent)
        assert staged == seq, (staged, seq)
        joining.stage_read(caller, cid, [agent], seq)
        return {1: seq, members.REMOVED: _left(caller, case, seq)}

    return members.unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def close(caller: Caller, cid: int, closed: bool) -> Result:
    """CASE_CLOSE"""

    def apply() -> Result:
        case = _case(caller, cid)
        if caller.user != case.customer:
            case = _agents_case(caller, cid)
        if closed == (case.state == CaseState.CLOSED):
            return {1: 0}
        seq = _stage_state(caller, case, CaseState.CLOSED if closed else CaseState.OPEN)
        return {1: seq, members.REMOVED: _left(caller, case, seq)}

    return members.unsubscribe(caller, cid, await caller.change(apply, urgent=True))


async def rate(caller: Caller, cid: int, stars: int) -> Result:
    """CASE_RATE"""

    def apply() -> Result:
        case = _case(caller, cid)
        if caller.user != case.customer:
            _agents_case(caller, cid)
            raise CallError(ErrorCode.FORBIDDEN, "the customer rates a case")
        if case.state != CaseState.CLOSED:
            raise CallError(ErrorCode.FORBIDDEN, "a case is rated when it is closed")
        rated = case._replace(stars=stars)
        caller.rows.stage("service_case", rated)
        events.case_rated(caller.core, case.desk, caller.user, rated)
        return {1: events.case_rated(caller.core, cid, caller.user, rated)}

    return await caller.change(apply)


async def list_cases(caller: Caller, desk: int, state: int, after: int, limit: int) -> Result:
    """CASE_LIST"""

    def check() -> None:
        if not is_agent(caller, desk, caller.user):
            raise reads.not_found()

    def read(view: View, start: int, most: int) -> list[CaseRow]:
        return view.service_cases(desk, state, start, most)

    await caller.hub.lookup(check)
    rows, more = await listing.page(
        caller,
        read,
        lambda: caller.rows.unfolded_of("service_case", desk),
        lambda row: row.cid,
        lambda row: state in (0, row.state),
        after,
        limit,
    )

    def shown() -> list[list[Any]]:
        titles = caller.rows.find_all("conversation", [row.cid for row in rows])
        names = caller.rows.find_all("user", {row.customer for row in rows})
        return [
            [
                row.cid, row.customer, users.shown_name(names.get(row.customer)),
                row.state, row.agent, row.since_ms, row.stars, titles[row.cid].title,
            ]
            for row in rows
        ]  # fmt: skip

    return {1: await caller.hub.lookup(shown), 2: more}
