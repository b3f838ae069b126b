# What a conversation says of itself and asks of its members: topic, avatar, slow mode, what roles may do here, how much
# those read who join later, archive and end. All of it stands in the row of the conversation; each change is an event,
# and what the hub's core has to know changes in the same turn.
"""Methods that describe, rule, archive and delete a conversation."""

from collections.abc import Mapping

from chatd.hub.flags import ConversationFlag
from chatd.hub.frames import CallError
from chatd.hub.rights import denied_words, packed_denials, unpacked_denials
from chatd.services import events, public_names
from chatd.services.caller import Caller, Result
from chatd.services.joining import HISTORY_ALL
from chatd.services.members import REMOVED, close, unsubscribe
from chatd.services.seats import Seat, managed_seat, seat
from chatd.storage.interface import ConversationRow
from chatd.wire.schema import ErrorCode, Right


async def get(caller: Caller, cid: int) -> Result:
    """CONVERSATION_RULES"""

    def find() -> Result:
        found = seat(caller, cid)
        row = found.row
        return {
            1: row.topic,
            2: row.avatar,
            3: row.slow_mode_s,
            4: row.history,
            5: denied_here(row),
            6: row.public_name,
            7: bool(row.flags & ConversationFlag.CLOSED),
            8: int(found.rights),
            9: caller.core.muted_until_s(cid, caller.user),
        }

    result: Result = await caller.hub.lookup(find)
    return result


def denied_here(row: ConversationRow) -> dict[int, int]:
    words = denied_words(row.kind, unpacked_denials(row.denied))
    return {role: rights for role, rights in enumerate(words) if rights}


async def set_info(caller: Caller, cid: int, topic: str | None, avatar: str | None) -> Result:
    """CONVERSATION_SET_INFO"""

    def apply() -> Result:
        row = managed_seat(caller, cid, Right.EDIT_INFO).row
        changed = row._replace(
            topic=row.topic if topic is None else topic, avatar=row.avatar if avatar is None else avatar
        )
        caller.rows.stage("conversation", changed)
        return {1: events.info_changed(caller.core, cid, caller.user, changed.topic, changed.avatar)}

    return await caller.change(apply)


async def set_rules(
    caller: Caller, cid: int, slow_mode_s: int | None, history: int | None, denied: Mapping[int, int] | None
) -> Result:
    """CONVERSATION_SET_RULES"""

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.MANAGE)
        row = found.row
        if denied is not None:
            _check_denied(caller, found, denied)
        changed = row._replace(
            slow_mode_s=row.slow_mode_s if slow_mode_s is None else slow_mode_s,
            history=row.history if history is None else min(history, HISTORY_ALL),
            denied=row.denied if denied is None else packed_denials(denied),
        )
        stage(caller, changed)
        told = denied_here(changed)
        return {1: events.rules_changed(caller.core, cid, caller.user, changed.slow_mode_s, changed.history, told)}

    return await caller.change(apply)


def _check_denied(caller: Caller, found: Seat, denied: Mapping[int, int]) -> None:
    roles = caller.hub.roles
    before = denied_here(found.row)
    for role in {*denied, *before}:
        if denied.get(role, 0) != before.get(role, 0) and roles.rank(role) >= roles.rank(found.role):
            name = roles.name(role)
            text = f"what the role {name} may do is changed by a higher role; nobody denies anything to the owner"
            raise CallError(ErrorCode.FORBIDDEN, text)


def stage(caller: Caller, row: ConversationRow) -> None:
    """The row, and what the core has to know of it."""
    caller.rows.stage("conversation", row)
    words = denied_words(row.kind, unpacked_denials(row.denied))
    caller.core.change_rules(row.id, row.flags, row.slow_mode_s, words)


async def archive(caller: Caller, cid: int, archived: bool) -> Result:
    """CONVERSATION_ARCHIVE"""

    def apply() -> Result:
        row = managed_seat(caller, cid, Right.MANAGE).row
        flags = row.flags | ConversationFlag.CLOSED if archived else row.flags & ~ConversationFlag.CLOSED
        if flags == row.flags:
            return {1: 0}
        stage(caller, row._replace(flags=int(flags)))
        return {1: events.archived(caller.core, cid, caller.user, archived)}

    return await caller.change(apply)


async def delete(caller: Caller, cid: int) -> Result:
    """CONVERSATION_DELETE: the event reaches everybody, and everybody has left with it."""

    def apply() -> Result:
        found = managed_seat(caller, cid, Right.DELETE)
        row = found.row
        members = caller.core.present(cid, 0, found.member_count) or []
        if row.public_name:
            public_names.stage_free(caller, row.public_name)
        flags = row.flags | ConversationFlag.CLOSED | ConversationFlag.DELETED
        stage(caller, row._replace(flags=int(flags), public_name=""))
        seq = events.deleted(caller.core, cid, caller.user, row.title)
        for interval in members:
            close(caller, cid, interval, seq)
        return {1: seq, REMOVED: [interval[0] for interval in members]}

    return unsubscribe(caller, cid, await caller.change(apply, urgent=True))
