# How a user stands to another one: a row for each direction. Being contacts is the same in both; asking is "asked" in
# one and "asked me" in the other; blocking is in one alone, and the other side cannot see it: what it asks looks as if
# it were asked. A block reaches into the direct conversation of the two as a mute without end, so the hub's core
# refuses SENDs there by itself.
"""Contacts, requests, blocks and who may write first."""

from typing import Any

from chatd.hub.flags import Relation, UserFlag
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.services import listing, notices, presence, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.storage.interface import View
from chatd.storage.people_rows import RelationRow, RestrictionRow
from chatd.wire.schema import ErrorCode, NoticeTopic

RELATIONS_MAX = 5000
FOR_EVER_S = (1 << 32) - 1


NOT_BLOCKED = Relation.CONTACT | Relation.ASKED | Relation.ASKED_ME


def direct_key(one: int, other: int) -> str:
    return f"{min(one, other)}:{max(one, other)}"


def between(caller: Caller, user: int, other: int) -> RelationRow:
    """For turns, like everything here that is not a method."""
    return caller.rows.find("relation", (user, other)) or RelationRow(user, other, 0, "", 0)


def check_reachable(caller: Caller, others: list[int]) -> None:
    """May the caller write to them, or add them to a conversation? FORBIDDEN or CONTACTS_ONLY names the first one who
    does not want it.
    """
    wanted = [other for other in others if other != caller.user]
    rows = users.existing(caller.rows, wanted)
    towards = caller.rows.find_all("relation", [(other, caller.user) for other in wanted])
    for other in wanted:
        relation = towards.get((other, caller.user))
        state = 0 if relation is None else relation.state
        if state & Relation.BLOCKED:
            raise CallError(ErrorCode.FORBIDDEN, f"user {other} cannot be reached by you")
        if rows[other].flags & UserFlag.CONTACTS_ONLY and not state & Relation.CONTACT:
            text = f"user {other} hears from contacts only; ask with CONTACT_REQUEST"
            raise CallError(ErrorCode.CONTACTS_ONLY, text)


def _change(caller: Caller, row: RelationRow, state: int, text: str = "") -> int:
    if state != row.state:
        caller.rows.stage("relation", row._replace(state=int(state), text=text, changed_ms=now_ms()))
    return int(state)


def stage_silence(caller: Caller, cid: int, user: int, until_s: int) -> None:
    """The user may not write in that direct conversation until then."""
    caller.rows.stage("restriction", RestrictionRow(cid, user, until_s, 0, caller.user, "", now_ms()))
    caller.core.change_mute(cid, user, until_s)


async def _changed(caller: Caller, other: int, apply: Any) -> Result:
    """Take the turn, then tell both users' devices. apply() → (state of the caller's row, of the other's)."""

    def turn() -> Result:
        users.existing(caller.rows, [other])
        if other == caller.user:
            raise CallError(ErrorCode.BAD_REQUEST, "parameter 1 (user) must be another user")
        mine, theirs = apply()
        return {1: mine, 2: theirs}

    result = await caller.change(turn)
    mine, theirs = result[1], result.pop(2)
    notices.tell(caller, [caller.user], NoticeTopic.RELATION, {1: other, 2: mine}, caller.device)
    if theirs is not None:
        notices.tell(caller, [other], NoticeTopic.RELATION, {1: caller.user, 2: theirs})
    return {1: mine}


# ---------------------------------------------------------------- methods


async def ask(caller: Caller, user: int, text: str) -> Result:
    """CONTACT_REQUEST"""
    count = len(await caller.hub.loader.read(lambda view: view.relations(caller.user, 0, RELATIONS_MAX)))
    if count >= RELATIONS_MAX:
        raise CallError(ErrorCode.LIMIT_REACHED, f"you know {RELATIONS_MAX} users, which is the limit")

    def apply() -> tuple[int, int | None]:
        mine, theirs = between(caller, caller.user, user), between(caller, user, caller.user)
        if mine.state & Relation.BLOCKED:
            raise CallError(ErrorCode.FORBIDDEN, f"you have blocked user {user}")
        if mine.state & Relation.CONTACT:
            return mine.state, None
        if theirs.state & Relation.BLOCKED:
            return _change(caller, mine, mine.state | Relation.ASKED), None
        if mine.state & Relation.ASKED_ME:
            return _change(caller, mine, Relation.CONTACT), _change(caller, theirs, Relation.CONTACT)
        told = _change(caller, theirs, theirs.state | Relation.ASKED_ME, text)
        return _change(caller, mine, mine.state | Relation.ASKED), told

    return await _changed(caller, user, apply)


async def answer(caller: Caller, user: int, accept: bool) -> Result:
    """CONTACT_ANSWER"""

    def apply() -> tuple[int, int | None]:
        mine, theirs = between(caller, caller.user, user), between(caller, user, caller.user)
        if not mine.state & Relation.ASKED_ME:
            raise CallError(ErrorCode.NOT_FOUND, f"user {user} has not asked to be your contact")
        if accept:
            return _change(caller, mine, Relation.CONTACT), _change(caller, theirs, Relation.CONTACT)
        return _change(caller, mine, mine.state & ~Relation.ASKED_ME), _change(
            caller, theirs, theirs.state & ~Relation.ASKED
        )

    return await _changed(caller, user, apply)


async def remove(caller: Caller, user: int) -> Result:
    """CONTACT_REMOVE"""

    def apply() -> tuple[int, int | None]:
        mine, theirs = between(caller, caller.user, user), between(caller, user, caller.user)
        return _change(caller, mine, mine.state & ~NOT_BLOCKED), _change(caller, theirs, theirs.state & ~NOT_BLOCKED)

    return await _changed(caller, user, apply)


async def block(caller: Caller, user: int, blocked: bool) -> Result:
    """BLOCK. The user blocked is not told: the rows change, no NOTICE goes there."""

    def apply() -> tuple[int, int | None]:
        mine, theirs = between(caller, caller.user, user), between(caller, user, caller.user)
        direct = caller.rows.find("conversation", direct_key(caller.user, user), unique=True)
        if direct is not None and caller.core.conversation(direct.id) is None:
            raise MissingConversation(direct.id)
        if bool(mine.state & Relation.BLOCKED) == blocked:
            return mine.state, None
        if direct is not None:
            stage_silence(caller, direct.id, user, FOR_EVER_S if blocked else 0)
        if not blocked:
            return _change(caller, mine, mine.state & ~Relation.BLOCKED), None
        _change(caller, theirs, theirs.state & ~NOT_BLOCKED)
        return _change(caller, mine, Relation.BLOCKED), None

    result = await _changed(caller, user, apply)
    await presence.hide(caller)
    return result


async def list_own(caller: Caller, after: int, limit: int) -> Result:
    """RELATION_LIST"""

    def read(view: View, start: int, most: int) -> list[RelationRow]:
        return view.relations(caller.user, start, most)

    rows, more = await listing.page(
        caller,
        read,
        lambda: caller.rows.unfolded_of("relation", caller.user),
        lambda row: row.other,
        lambda row: row.state != 0,
        after,
        limit,
    )
    known = await caller.hub.lookup(lambda: caller.rows.find_all("user", [row.other for row in rows]))
    listed = [[row.other, row.state, row.changed_ms, row.text, users.shown_name(known.get(row.other))] for row in rows]
    return {1: listed, 2: more}
