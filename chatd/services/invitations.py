# Invitations: 128 random bits that let whoever has them into a conversation, until a time, so many times, until
# revoked. The bits are all the authority there is, so nothing tells a wrong link from one that never was: NOT_FOUND.
# A link that was good says what became of it: EXPIRED, or LIMIT_REACHED. The checks stand in the turn that joins, so a
# link that is revoked or used up lets nobody in, whatever is under way.
"""Methods about invitation links."""

import secrets
import time

from chatd.hub.flags import InvitationFlag
from chatd.hub.frames import CallError
from chatd.services import join_requests, joining, listing
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.public_names import loaded_count
from chatd.services.seats import is_deleted, managed_seat
from chatd.storage.interface import ConversationRow, View
from chatd.storage.people_rows import InvitationRow
from chatd.wire.schema import ErrorCode, Right

TOKEN_BYTES = 16
INVITATIONS_MAX = 200
"""Not revoked ones of one conversation."""


async def create(caller: Caller, cid: int, expires_s: int, uses_max: int, ask: bool) -> Result:
    """INVITE_CREATE"""
    if expires_s and expires_s <= time.time():
        raise CallError(ErrorCode.BAD_REQUEST, "parameter 2 (expires_s) must be a time to come, or 0")
    await caller.hub.lookup(lambda: managed_seat(caller, cid, Right.INVITE))
    if len((await _page(caller, cid, 0, INVITATIONS_MAX))[0]) >= INVITATIONS_MAX:
        text = f"this conversation has {INVITATIONS_MAX} invitations, which is the limit; revoke some"
        raise CallError(ErrorCode.LIMIT_REACHED, text)
    token = secrets.token_bytes(TOKEN_BYTES)

    def apply() -> Result:
        managed_seat(caller, cid, Right.INVITE)
        flags = InvitationFlag.ASK if ask else InvitationFlag(0)
        ident = caller.rows.next_id("invitation")
        row = InvitationRow(ident, token, cid, caller.user, expires_s, uses_max, 0, int(flags), now_ms())
        caller.rows.stage("invitation", row)
        return {1: token, 2: ident}

    return await caller.change(apply)


async def _page(caller: Caller, cid: int, after: int, limit: int) -> tuple[list[InvitationRow], bool]:
    def read(view: View, start: int, most: int) -> list[InvitationRow]:
        return view.invitations(cid, start, most)

    return await listing.page(
        caller,
        read,
        lambda: caller.rows.unfolded_of("invitation", cid),
        lambda row: row.id,
        lambda row: not row.flags & InvitationFlag.REVOKED,
        after,
        limit,
    )


async def list_open(caller: Caller, cid: int, after: int, limit: int) -> Result:
    """INVITE_LIST"""
    await caller.hub.lookup(lambda: managed_seat(caller, cid, Right.INVITE))
    rows, more = await _page(caller, cid, after, limit)
    listed = [
        [
            row.id,
            row.token,
            row.by_uid,
            row.expires_s,
            row.uses_max,
            row.uses,
            bool(row.flags & InvitationFlag.ASK),
            row.created_ms,
        ]
        for row in rows
    ]
    return {1: listed, 2: more}


async def revoke(caller: Caller, cid: int, invitation: int) -> Result:
    """INVITE_REVOKE"""

    def apply() -> Result:
        managed_seat(caller, cid, Right.INVITE)
        row = caller.rows.find("invitation", invitation)
        if row is None or row.cid != cid:
            raise CallError(ErrorCode.NOT_FOUND, f"this conversation has no invitation {invitation}")
        caller.rows.stage("invitation", row._replace(flags=row.flags | InvitationFlag.REVOKED))
        return {}

    return await caller.change(apply, urgent=True)


def _good(caller: Caller, token: bytes) -> tuple[InvitationRow, ConversationRow]:
    """The invitation as it is now, and its conversation, loaded. For turns."""
    row = caller.rows.find("invitation", token, unique=True)
    conversation = None if row is None else caller.rows.find("conversation", row.cid)
    if row is None or conversation is None or row.flags & InvitationFlag.REVOKED or is_deleted(conversation):
        raise CallError(ErrorCode.NOT_FOUND, "no such invitation; ask for a new one")
    if row.expires_s and row.expires_s <= time.time():
        raise CallError(ErrorCode.EXPIRED, "this invitation has expired; ask for a new one")
    if row.uses_max and row.uses >= row.uses_max:
        raise CallError(ErrorCode.LIMIT_REACHED, "this invitation has been used up; ask for a new one")
    loaded_count(caller, row.cid)
    return row, conversation


async def look(caller: Caller, token: bytes) -> Result:
    """INVITE_LOOK"""

    def find() -> Result:
        row, conversation = _good(caller, token)
        count = loaded_count(caller, row.cid)
        is_asked = bool(row.flags & InvitationFlag.ASK)
        return {1: conversation.kind, 2: conversation.title, 3: conversation.topic, 4: count, 5: is_asked}

    result: Result = await caller.hub.lookup(find)
    return result


async def join(caller: Caller, token: bytes, text: str) -> Result:
    """INVITE_JOIN"""
    await joining.check_conversation_counts(caller, [caller.user])

    def apply() -> Result:
        row, conversation = _good(caller, token)
        if row.flags & InvitationFlag.ASK:
            result = join_requests.stage(caller, conversation, text)
            used = join_requests.ASKED in result
        else:
            result = {1: row.cid, 2: joining.stage_own_join(caller, conversation, caller.user, row.by_uid)}
            used = result[2] > 0
        if used:
            caller.rows.stage("invitation", row._replace(uses=row.uses + 1))
        return result

    return join_requests.told(caller, await caller.change(apply))
