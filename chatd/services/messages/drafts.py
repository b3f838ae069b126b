"""Drafts: what a user has begun to write in a conversation, the same on all devices."""

from chatd.hub import reads
from chatd.hub.frames import CallError, notice
from chatd.services.caller import Caller, Result, now_ms
from chatd.storage.message_rows import DraftRow
from chatd.wire.schema import ErrorCode, NoticeTopic


async def put(caller: Caller, cid: int, content: bytes) -> Result:
    """DRAFT_SET: empty content takes the draft away. The user's other devices are told after the commit."""

    def apply() -> Result:
        if not reads.is_member(reads.intervals(caller.core, cid, caller.user)):
            raise reads.not_found()
        present = {row.cid: row for row in caller.rows.find_group("draft", caller.user)}
        changed_ms = now_ms()
        if content:
            most = caller.hub.settings.drafts_max
            if cid not in present and len(present) >= most:
                raise CallError(ErrorCode.LIMIT_REACHED, f"you have drafts in {most} conversations, which is the limit")
            caller.rows.stage("draft", DraftRow(caller.user, cid, content, changed_ms))
        elif cid in present:
            caller.rows.remove("draft", present[cid])
        return {1: changed_ms}

    result = await caller.change(apply)
    caller.core.notify(caller.user, notice(NoticeTopic.DRAFT, {1: cid, 2: content, 3: result[1]}), caller.device)
    return result


async def list_own(caller: Caller, after: int, limit: int) -> Result:
    """DRAFT_LIST: what a device that was away reads."""
    rows = await caller.hub.lookup(lambda: caller.rows.find_group("draft", caller.user))
    page = [row for row in rows if row.cid > after]
    return {1: [[row.cid, row.content, row.changed_ms] for row in page[:limit]], 2: len(page) > limit}
