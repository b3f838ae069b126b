# Public names: a conversation that has one can be found by everybody, and joined by everybody, at once or after being
# accepted. A name is a row of its own, because it can change hands; the conversation says which one it has. Names are
# compared casefolded. Nothing but what PUBLIC_FIND gives is shown of a conversation to who is not in it.
"""Methods about public names: setting, finding, joining."""

from chatd.hub.flags import ConversationFlag
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.services import events, join_requests, joining, listing
from chatd.services.caller import Caller, Result
from chatd.services.seats import managed_seat
from chatd.storage.interface import ConversationRow, View
from chatd.storage.people_rows import PublicNameRow
from chatd.wire.schema import ErrorCode, Right


def stage_free(caller: Caller, name: str) -> None:
    caller.rows.stage("public_name", PublicNameRow(name, 0))


async def set_name(caller: Caller, cid: int, name: str, ask: bool) -> Result:
    """PUBLIC_NAME_SET"""
    wanted = name.casefold()

    def apply() -> Result:
        row = managed_seat(caller, cid, Right.MANAGE).row
        taken = caller.rows.find("public_name", wanted) if wanted else None
        if taken is not None and taken.cid not in (0, cid):
            raise CallError(ErrorCode.BAD_REQUEST, f"the public name {wanted!r} is taken; choose another one")
        if row.public_name and row.public_name != wanted:
            stage_free(caller, row.public_name)
        if wanted:
            caller.rows.stage("public_name", PublicNameRow(wanted, cid))
        flags = row.flags | ConversationFlag.ASK if ask else row.flags & ~ConversationFlag.ASK
        caller.rows.stage("conversation", row._replace(public_name=wanted, flags=int(flags)))
        return {1: events.public_name_changed(caller.core, cid, caller.user, wanted)}

    return await caller.change(apply)


async def find(caller: Caller, begin: str, after: str, limit: int) -> Result:
    """PUBLIC_FIND"""
    prefix = begin.casefold()

    def read(view: View, start: str, most: int) -> list[PublicNameRow]:
        return view.public_names(prefix, start, most)

    rows, more = await listing.page(
        caller,
        read,
        lambda: [row for row in caller.rows.unfolded("public_name") if row.name.startswith(prefix)],
        lambda row: row.name,
        lambda row: row.cid != 0,
        after,
        limit,
    )

    def describe() -> list[list[object]]:
        found = caller.rows.find_all("conversation", [row.cid for row in rows])
        return [_shown(caller, row.name, found[row.cid]) for row in rows if row.cid in found]

    return {1: await caller.hub.lookup(describe), 2: more}


def _shown(caller: Caller, name: str, row: ConversationRow) -> list[object]:
    return [name, row.id, row.kind, row.title, row.topic, loaded_count(caller, row.id)]


def loaded_count(caller: Caller, cid: int) -> int:
    """How many members a conversation has; asks for it when it is not in memory."""
    state = caller.core.conversation(cid)
    if state is None:
        raise MissingConversation(cid)
    return state[6]


async def join(caller: Caller, name: str, text: str) -> Result:
    """PUBLIC_JOIN"""
    await joining.check_conversation_counts(caller, [caller.user])

    def apply() -> Result:
        taken = caller.rows.find("public_name", name.casefold())
        row = caller.rows.find("conversation", taken.cid) if taken is not None and taken.cid else None
        if row is None:
            raise CallError(ErrorCode.NOT_FOUND, f"nothing has the public name {name!r}")
        loaded_count(caller, row.id)
        if row.flags & ConversationFlag.ASK:
            return join_requests.stage(caller, row, text)
        return {1: row.id, 2: joining.stage_own_join(caller, row, caller.user, 0)}

    return join_requests.told(caller, await caller.change(apply))
