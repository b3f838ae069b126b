# Conversations: opening, creating, describing. A new conversation is put into the core with no event, then its
# members and its first event are staged in the same batch: it exists with all of them or not at all. Members join at
# the seq of the creation, so they read the log from 1. A direct conversation has a canonical key of its two users and
# is unique by it: opening it twice, or by both at the same moment, gives one. Nobody leaves it and it has no roles.
"""Methods about conversations, and the rules that members.py shares."""

from typing import Any, NamedTuple

from chatd.hub import reads
from chatd.hub.core import Core, Interval
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, half_known, too_fast
from chatd.services import events, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.storage.interface import ConversationRow, MembershipRow, View
from chatd.wire.schema import ConversationKind, ErrorCode, Role


class Seat(NamedTuple):
    """A conversation as seen by one present member, in a turn."""

    row: ConversationRow
    head_seq: int
    present: dict[int, Interval]
    """Present members by user."""
    role: Role
    join_seq: int


def seat(caller: Caller, cid: int) -> Seat:
    """For turns. NOT_FOUND, byte-same, unless the caller is a present member."""
    own = reads.intervals(caller.core, cid, caller.user)
    if not reads.is_member(own):
        raise reads.not_found()
    row = caller.rows.find("conversation", cid)
    state, members = caller.core.conversation(cid), caller.core.members(cid)
    if state is None or members is None or row is None:
        raise MissingConversation(cid)
    present = {interval[0]: interval for interval in members if interval[3] == 0}
    return Seat(row, state[2], present, Role(own[-1][1]), own[-1][2])


def group_seat(caller: Caller, cid: int, least: Role) -> Seat:
    """As seat, in a group where the caller's role is at least `least`; else FORBIDDEN."""
    found = seat(caller, cid)
    if found.row.kind != ConversationKind.GROUP:
        raise CallError(ErrorCode.FORBIDDEN, "only a group has members to manage, roles and a title")
    if found.role < least:
        raise CallError(
            ErrorCode.FORBIDDEN, f"this needs the role {least.name.lower()} in the group; ask one who has it"
        )
    return found


# ---------------------------------------------------------------- methods


def direct_key(one: int, other: int) -> str:
    return f"{min(one, other)}:{max(one, other)}"


async def open_direct(caller: Caller, user: int) -> Result:
    """DIRECT_OPEN"""
    key = direct_key(caller.user, user)

    def existing() -> ConversationRow | None:
        users.existing(caller.rows, [user])
        row: ConversationRow | None = caller.rows.find("conversation", key, unique=True)
        return row

    found = await caller.hub.lookup(existing)
    if found is not None:
        return {1: found.id}
    await check_conversation_counts(caller, [caller.user, user])

    def apply() -> Result:
        meanwhile = existing()
        if meanwhile is not None:
            return {1: meanwhile.id}
        both = sorted({caller.user, user})
        cid = _stage_conversation(caller, ConversationKind.DIRECT, "", key)
        for member in both:
            caller.hub.memberships.stage(cid, member, Role.MEMBER, 1)
        events.created(caller.core, cid, caller.user, ConversationKind.DIRECT, "")
        return {1: cid}

    return await caller.change(apply)


async def create(caller: Caller, kind: int, title: str, named: list[int]) -> Result:
    """CONVERSATION_CREATE"""
    others = [user for user in named if user != caller.user]
    if len(others) + 1 > caller.hub.settings.group_members_max:
        raise too_many_members(caller)
    await check_conversation_counts(caller, [caller.user, *others], owner=caller.user)

    def apply() -> Result:
        users.existing(caller.rows, others)
        cid = _stage_conversation(caller, ConversationKind(kind), title, None)
        caller.hub.memberships.stage(cid, caller.user, Role.OWNER, 1)
        for member in others:
            caller.hub.memberships.stage(cid, member, Role.MEMBER, 1)
        head_seq = events.created(caller.core, cid, caller.user, kind, title)
        if others:
            head_seq = events.members_added(caller.core, cid, caller.user, Role.MEMBER, others)
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
            5: len(found.present),
            6: int(found.role),
            7: found.join_seq,
        }

    result: Result = await caller.hub.lookup(find)
    return result


async def list_own(caller: Caller, after: int, limit: int) -> Result:
    """CONVERSATION_LIST: conversations of which the caller is a present member."""
    hub = caller.hub

    def read(view: View) -> tuple[int, list[int], dict[int, list[MembershipRow]], dict[int, int]]:
        cids = view.conversation_ids(caller.user, after)
        rows = {cid: view.membership(cid, caller.user) for cid in cids[: 2 * limit]}
        counts = {cid: view.member_count(cid) for cid in rows}
        return view.folded_pos, cids, rows, counts

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
    for cid in candidates:
        if len(listed) == limit or (cid in cids and cid not in rows):
            return {1: listed, 2: True}
        entry = _listing(caller, cid, rows.get(cid, []), counts.get(cid, 0))
        if entry is not None:
            listed.append(entry)
    return {1: listed, 2: False}


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
        found = group_seat(caller, cid, Role.ADMIN)
        seq = events.title_changed(caller.core, cid, caller.user, title)
        caller.rows.stage("conversation", found.row._replace(title=title))
        return {1: seq}

    return await caller.change(apply)


# ---------------------------------------------------------------- shared


def too_many_members(caller: Caller) -> CallError:
    most = caller.hub.settings.group_members_max
    return CallError(ErrorCode.LIMIT_REACHED, f"a group has at most {most} members")


async def check_conversation_counts(caller: Caller, members: list[int], owner: int = 0) -> None:
    """LIMIT_REACHED when one of them has as many conversations as a user may have, or the owner as many groups."""
    settings = caller.hub.settings

    def read(view: View) -> tuple[dict[int, int], int]:
        return view.conversation_counts(members), view.owned_count(owner) if owner else 0

    counts, owned = await caller.hub.loader.read(read)
    for user in members:
        unfolded = sum(entry.leave_seq == 0 for entry in caller.hub.memberships.of_user(user))
        if counts.get(user, 0) + unfolded >= settings.user_conversations_max:
            text = f"user {user} is in {settings.user_conversations_max} conversations, which is the limit"
            raise CallError(ErrorCode.LIMIT_REACHED, text)
    if owner:
        owned += sum(entry.role == Role.OWNER for entry in caller.hub.memberships.of_user(owner))
        if owned >= settings.user_groups_owned_max:
            raise CallError(
                ErrorCode.LIMIT_REACHED, f"you own {settings.user_groups_owned_max} groups, which is the limit"
            )


def _stage_conversation(caller: Caller, kind: ConversationKind, title: str, key: str | None) -> int:
    """The row and an empty place in the core; members and the first event follow in the same turn."""
    cid = caller.rows.next_id("conversation")
    row = ConversationRow(cid, kind, title, 0, caller.user, key, 0, 0, 0, 0, now_ms())
    caller.core.put_conversation(cid, kind, 0, 0, 0, 0, 0, [])
    caller.rows.stage("conversation", row)
    return cid


def present_members(core: Core, cid: int) -> list[Interval]:
    members = core.members(cid)
    if members is None:
        raise MissingConversation(cid)
    return [interval for interval in members if interval[3] == 0]
