# How one has a conversation for oneself: muted, mentions only, archived, marked unread, parts deleted for oneself.
# Nobody else sees any of it, so it is no event: a row of the user, a NOTICE for the other devices, and a list that a
# device reads when it comes back. What is deleted for oneself is no longer readable (hub/reads.py), for this user
# alone.
"""Methods about a member's own settings."""

from enum import IntFlag

import msgpack

from chatd.hub import reads
from chatd.hub.frames import CallError
from chatd.services import listing, notices
from chatd.services.caller import Caller, Result, now_ms
from chatd.storage.interface import View
from chatd.storage.people_rows import OwnSettingRow
from chatd.wire.schema import ErrorCode, NoticeTopic

HIDDEN_MAX = 1000
"""Single events of one conversation; more are deleted by all up to a seq."""


class OwnFlag(IntFlag):
    """Column own_setting.flags, and OWN_LIST."""

    MENTIONS_ONLY = 1
    ARCHIVED = 2
    UNREAD = 4


def _row(caller: Caller, cid: int) -> OwnSettingRow:
    """For turns. NOT_FOUND when the caller has never been a member."""
    reads.intervals(caller.core, cid, caller.user)
    found: OwnSettingRow | None = caller.rows.find("own_setting", (caller.user, cid))
    return found or OwnSettingRow(caller.user, cid, 0, 0, 0, None, 0)


def _tell(caller: Caller, cid: int) -> None:
    notices.tell(caller, [caller.user], NoticeTopic.OWN_SETTING, {1: cid}, caller.device)


async def set_own(
    caller: Caller,
    cid: int,
    muted_until_s: int | None,
    mentions_only: bool | None,
    archived: bool | None,
    unread: bool | None,
) -> Result:
    """OWN_SET"""
    given = {OwnFlag.MENTIONS_ONLY: mentions_only, OwnFlag.ARCHIVED: archived, OwnFlag.UNREAD: unread}

    def apply() -> Result:
        row = _row(caller, cid)
        flags = OwnFlag(row.flags)
        for flag, wanted in given.items():
            if wanted is not None:
                flags = flags | flag if wanted else flags & ~flag
        muted = row.muted_until_s if muted_until_s is None else muted_until_s
        caller.rows.stage("own_setting", row._replace(muted_until_s=muted, flags=int(flags), changed_ms=now_ms()))
        return {}

    result = await caller.change(apply)
    _tell(caller, cid)
    return result


async def hide(caller: Caller, cid: int, upto: int, seqs: list[int]) -> Result:
    """OWN_HIDE"""

    def apply() -> Result:
        row = _row(caller, cid)
        head_seq = max(interval[3] or _head(caller, cid) for interval in reads.intervals(caller.core, cid, caller.user))
        if max([upto, *seqs]) > head_seq:
            raise CallError(ErrorCode.BAD_REQUEST, f"the last event you can read there is {head_seq}")
        anywhere = caller.rows.find("own_setting", (caller.user, reads.ANYWHERE))
        hidden_seq = max(row.hidden_seq, upto)
        hidden = sorted({seq for seq in [*reads.hidden_seqs(row), *seqs] if seq > hidden_seq})
        if len(hidden) > HIDDEN_MAX:
            text = f"{HIDDEN_MAX} single events are deleted there, which is the limit; delete all up to a seq"
            raise CallError(ErrorCode.LIMIT_REACHED, text)
        packed = msgpack.packb(hidden) if hidden else None
        if anywhere is None:
            caller.rows.stage("own_setting", OwnSettingRow(caller.user, reads.ANYWHERE, 0, 0, 0, None, now_ms()))
        caller.rows.stage("own_setting", row._replace(hidden_seq=hidden_seq, hidden=packed, changed_ms=now_ms()))
        return {}

    result = await caller.change(apply)
    _tell(caller, cid)
    return result


def _head(caller: Caller, cid: int) -> int:
    state = caller.core.conversation(cid)
    assert state is not None, cid
    return state[2]


async def list_own(caller: Caller, after: int, limit: int, since_ms: int) -> Result:
    """OWN_LIST"""

    def read(view: View, start: int, most: int) -> list[OwnSettingRow]:
        return view.own_settings(caller.user, start, most)

    rows, more = await listing.page(
        caller,
        read,
        lambda: [row for row in caller.rows.unfolded_of("own_setting", caller.user) if row.cid != reads.ANYWHERE],
        lambda row: row.cid,
        lambda row: row.changed_ms > since_ms,
        after,
        limit,
    )
    listed = [
        [row.cid, row.muted_until_s, row.flags, row.hidden_seq, reads.hidden_seqs(row), row.changed_ms] for row in rows
    ]
    return {1: listed, 2: more}
