# Conversations: opening, creating, describing. A new conversation is put into the core with no event, then its
# members and its first event are staged in the same batch: it exists with all of them or not at all. Members join at
# the seq of the creation, so they read the log from 1. A direct conversation has a canonical key of its two users and
# is unique by it: opening it twice, or by both at the same moment, gives one. Nobody leaves it and it has no roles.
"""Methods about conversations: opening, creating, listing, describing."""

from typing import Any

from chatd.hub import reads
from chatd.hub.flags import Relation, UserFlag
from chatd.hub.frames import CallError
from chatd.hub.rights import denied_words
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, half_known, too_fast
from chatd.services import events, joining, relations, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.relations import direct_key
from chatd.services.seats import first_role, managed_seat, seat
from chatd.storage.interface import ConversationRow, MembershipRow, View
from chatd.wire.schema import ConversationKind, ErrorCode, Right, Role

WORLD_KEY = "world"
"""direct_key of the one conversation of kind WORLD."""


async def open_direct(caller: Caller, user: int) -> Result:
    """DIRECT_OPEN"""
    key = direct_key(caller.user, user)

    def existing() -> ConversationRow | None:
        users.existing(caller.rows, [user])
        row: ConversationRow | None = caller.rows.find("conversation", key, unique=True)
        if row is None:
            relations.check_reachable(caller, [user])
        return row

    found = await caller.hub.lookup(existing)
    if found is not None:
        return {1: found.id}
    await joining.check_conversation_counts(caller, [caller.user, user])

    def apply() -> Result:
        meanwhile = existing()
        if meanwhile is not None:
            return {1: meanwhile.id}
        is_blocked = relations.between(caller, caller.user, user).state & Relation.BLOCKED
        both = sorted({caller.user, user})
        cid = stage_conversation(caller, ConversationKind.DIRECT, "", key)
        for member in both:
            caller.hub.memberships.stage(cid, member, Role.MEMBER, 1)
        events.created(caller.core, cid, caller.user, ConversationKind.DIRECT, "")
        if is_blocked:
            relations.stage_silence(caller, cid, user, relations.FOR_EVER_S)
        return {1: cid}

    return await caller.change(apply)


async def create(caller: Caller, kind: int, title: str, named: list[int]) -> Result:
    """CONVERSATION_CREATE"""
    others = [user for user in named if user != caller.user]
    is_world = kind == ConversationKind.WORLD
    if is_world and not caller.row.flags & UserFlag.ADMIN:
        raise CallError(ErrorCode.FORBIDDEN, "the world room is made by an administrator of the server")
    joining.check_room(caller, kind, len(others) + 1)
    await joining.check_conversation_counts(caller, [caller.user, *others], owner=caller.user)

    def apply() -> Result:
        rows = users.existing(caller.rows, others)
        relations.check_reachable(caller, others)
        if is_world and caller.rows.find("conversation", WORLD_KEY, unique=True) is not None:
            raise CallError(ErrorCode.LIMIT_REACHED, "there is one world room, and it is there already")
        cid = stage_conversation(caller, ConversationKind(kind), title, WORLD_KEY if is_world else None)
        caller.hub.memberships.stage(cid, caller.user, Role.OWNER, 1)
        for member in others:
            caller.hub.memberships.stage(cid, member, first_role(rows[member]), 1)
        head_seq = events.created(caller.core, cid, caller.user, kind, title)
        for role in (Role.MEMBER, Role.GUEST):
            given = [member for member in others if first_role(rows[member]) == role]
            if given:
                head_seq = events.members_added(caller.core, cid, caller.user, role, given)
        return {1: cid, 2: head_seq}

    return await caller.change(apply)


async def get(caller: Caller, cid: int) -> Result:
    """CONVERSATION_GET"""

    def find() -> Result:
        found = seat(caller, cid)
        row = found.row
        return {
            1: cid,
            2: row.kind,
            3: row.title,
            4: found.head_seq,
            5: found.member_count,
            6: found.role,
            7: found.own[2],
        }

    result: Result = await caller.hub.lookup(find)
    return result


async def list_own(caller: Caller, after: int, limit: int) -> Result:
    """CONVERSATION_LIST: conversations of which the caller is a member. A page is empty only at the end."""
    while True:
        listed, looked_at = await _page(caller, after, limit)
        if listed or not looked_at:
            return {1: listed, 2: bool(looked_at)}
        after = looked_at


async def _page(caller: Caller, after: int, limit: int) -> tuple[list[list[Any]], int]:
    """Some of the next ones, and up to which cid was looked, 0: to the end."""
    hub = caller.hub

    def read(view: View) -> tuple[int, list[int], dict[int, list[MembershipRow]], dict[int, int]]:
        cids = view.conversation_ids(caller.user, after)
        page = cids[: 2 * limit]
        rows = view.each(lambda view, cid: view.membership(cid, caller.user), page)
        counts = view.each(lambda view, cid: view.member_count(cid), page)
        return view.folded_pos, cids, dict(zip(page, rows, strict=True)), dict(zip(page, counts, strict=True))

    for _ in range(SNAPSHOTS_PER_PAGE_MAX):
        folded_pos, cids, rows, counts = await hub.loader.read(read)
        unfolded = {entry.cid for entry in hub.memberships.of_user(caller.user) if entry.cid > after}
        candidates = sorted({*cids, *unfolded})
        halves = half_known(caller.core, candidates)
        if halves:
            await hub.loader.load("conversation", halves)
        elif folded_pos >= hub.rows.floor_pos:
            break
    else:
        raise too_fast()
    # Nothing awaits from here on: the rows and what is not folded are of one moment.
    listed: list[list[Any]] = []
    looked_at = after
    for cid in candidates:
        if len(listed) == limit or (cid in cids and cid not in rows):
            return listed, looked_at
        entry = _listing(caller, cid, rows.get(cid, []), counts.get(cid, 0))
        if entry is not None:
            listed.append(entry)
        looked_at = cid
    return listed, 0


def _listing(caller: Caller, cid: int, rows: list[MembershipRow], member_count: int) -> list[Any] | None:
    core = caller.core
    state, intervals = core.conversation(cid), core.intervals(cid, caller.user)
    unfolded = caller.rows.unfolded_row("conversation", cid)
    if state is not None and intervals:
        if not reads.is_member(intervals):
            return None
        title = unfolded.title if unfolded is not None else rows[-1].title if rows else ""
        return [cid, state[0], title, state[2], state[6], intervals[-1][1]]
    if not rows or rows[-1].leave_seq:
        return None
    newest = rows[-1]
    title = newest.title if unfolded is None else unfolded.title
    return [cid, newest.kind, title, newest.head_seq, member_count, newest.role]


async def set_title(caller: Caller, cid: int, title: str) -> Result:
    """CONVERSATION_SET_TITLE"""

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.EDIT_INFO)
        seq = events.title_changed(caller.core, cid, caller.user, title)
        caller.rows.stage("conversation", found.row._replace(title=title))
        return {1: seq}

    return await caller.change(apply)


def stage_conversation(caller: Caller, kind: ConversationKind, title: str, key: str | None, history: int = 0) -> int:
    """The row and an empty place in the core; members and the first event follow in the same turn."""
    cid = caller.rows.next_id("conversation")
    row = ConversationRow(cid, kind, title, 0, caller.user, key, 0, 0, 0, 0, now_ms(), history=history)
    caller.core.put_conversation(cid, kind, 0, 0, 0, 0, 0, [], 0, denied_words(kind, None))
    caller.rows.stage("conversation", row)
    return cid
