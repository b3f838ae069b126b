# Scheduled messages: a SEND that the server makes later in the user's name. It is judged when it is scheduled, so that
# its author hears of what is wrong, and again when it is due. Event and removal of the row are one batch: it is sent
# once, whatever restarts in between. When it cannot be sent any more, the user's devices are told.
"""Methods about scheduled messages, and what happens when one is due."""

import secrets
from typing import TYPE_CHECKING, Any

from chatd.hub import reads
from chatd.hub.frames import CallError, notice
from chatd.hub.judging import JudgedSend, Verdict
from chatd.services.caller import Caller, Result, now_ms
from chatd.services.messages import bodies
from chatd.services.messages.judge import judge
from chatd.storage.journal_codec import EVENT_EXT, EVENT_MESSAGE
from chatd.storage.message_rows import ScheduledRow
from chatd.wire.errors import WireError
from chatd.wire.frame import decode_extensions
from chatd.wire.layout import Reader, decode_fields
from chatd.wire.schema import (
    EXTENSION_SEND_REPLY_TO,
    EXTENSIONS,
    KINDS,
    SEND_BODY_BYTES_MAX,
    ErrorCode,
    NoticeTopic,
    Op,
)
from chatd.wire.varint import encode as varint

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

AHEAD_MAX_MS = 366 * 24 * 3600 * 1000


async def schedule(caller: Caller, cid: int, kind: int, payload: bytes, due_ms: int, extensions: bytes) -> Result:
    """MESSAGE_SCHEDULE"""
    if not now_ms() < due_ms <= now_ms() + AHEAD_MAX_MS:
        raise CallError(ErrorCode.BAD_REQUEST, "a message is scheduled for a time in the next 366 days")
    if len(payload) + len(extensions) > SEND_BODY_BYTES_MAX:
        raise CallError(ErrorCode.TOO_LARGE, f"a message has at most {SEND_BODY_BYTES_MAX} bytes")
    block = varint(len(extensions)) + extensions if extensions else b""
    row = ScheduledRow(caller.user, secrets.randbits(52) + 1, cid, due_ms, kind, int(bool(extensions)), block + payload)

    def apply() -> Result:
        examined(caller.hub, row)
        most = caller.hub.settings.scheduled_max
        if len(caller.rows.find_group("scheduled", caller.user)) >= most:
            raise CallError(ErrorCode.LIMIT_REACHED, f"you have {most} scheduled messages, which is the limit")
        caller.rows.stage("scheduled", row)
        caller.hub.timers.expect("scheduled", due_ms)
        return {1: row.number}

    return await caller.change(apply)


async def list_own(caller: Caller) -> Result:
    """SCHEDULED_LIST"""
    rows = await caller.hub.lookup(lambda: caller.rows.find_group("scheduled", caller.user))
    listed = sorted(rows, key=lambda row: (row.due_ms, row.number))
    return {1: [[row.number, row.cid, row.due_ms, row.kind, _send_of(row).payload[:PREVIEW_BYTES]] for row in listed]}


PREVIEW_BYTES = 256
"""Of each payload in a list: a hundred of them fit into a frame."""


async def cancel(caller: Caller, number: int) -> Result:
    """SCHEDULED_CANCEL"""

    def apply() -> Result:
        row = caller.rows.find("scheduled", (caller.user, number))
        if row is None:
            raise CallError(ErrorCode.NOT_FOUND, "there is no such scheduled message; it may have been sent")
        caller.rows.remove("scheduled", row)
        return {}

    return await caller.change(apply)


# ---------------------------------------------------------------- when it is due


def fire(hub: "Hub", row: ScheduledRow) -> None:
    """In a turn."""
    if hub.rows.find("scheduled", (row.uid, row.number)) is None:
        return
    verdict = examined(hub, row)
    content = row.content if verdict.content is None else verdict.content
    flags = EVENT_MESSAGE | (EVENT_EXT if row.has_ext else 0)
    seq = hub.core.stage_event(row.cid, row.uid, row.kind, content, flags)
    for effect in verdict.effects:
        effect(seq)
    hub.rows.remove("scheduled", row)


def abandon(hub: "Hub", row: ScheduledRow, refusal: CallError) -> None:
    if hub.rows.find("scheduled", (row.uid, row.number)) is not None:
        hub.rows.remove("scheduled", row)
        content = {1: row.number, 2: row.cid, 3: int(refusal.code), 4: refusal.text}
        hub.core.notify(row.uid, notice(NoticeTopic.SCHEDULE_FAILED, content), 0)


def examined(hub: "Hub", row: ScheduledRow) -> Verdict:
    """What SEND would have checked. CallError, or Missing."""
    rule = KINDS.get(row.kind)
    if rule is None or not rule.message or not rule.client:
        raise CallError(ErrorCode.UNSUPPORTED, f"kind {row.kind} cannot be scheduled: it is no message")
    if not reads.is_member(reads.intervals(hub.core, row.cid, row.uid)):
        raise reads.not_found()
    if not reads.may_write(hub, row.cid, row.uid):
        raise CallError(ErrorCode.FORBIDDEN, "you may not write there")
    send = _send_of(row)
    if EXTENSION_SEND_REPLY_TO in send.extensions:
        _check_reply(hub, send)
    bodies.check(hub, send.kind, send.payload)
    return judge(hub, send)


def _send_of(row: ScheduledRow) -> JudgedSend:
    reader = Reader(row.content)
    try:
        extensions = dict(decode_extensions(Op.SEND, reader)) if row.has_ext else {}
    except WireError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"the extensions are malformed: {error}") from None
    unknown = [tag for tag in extensions if tag & 1]
    if unknown:
        raise CallError(ErrorCode.UNSUPPORTED, f"extension {unknown[0]} is not understood")
    return JudgedSend(0, 0, row.uid, row.cid, row.kind, extensions, row.content[reader.offset :])


def _check_reply(hub: "Hub", send: JudgedSend) -> None:
    layout = EXTENSIONS[Op.SEND, EXTENSION_SEND_REPLY_TO]
    try:
        seq: Any = decode_fields(layout, send.extensions[EXTENSION_SEND_REPLY_TO])["seq"]
    except WireError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"extension 2 is malformed: {error}") from None
    if hub.events.find(send.cid, seq, send.user) is None:
        raise CallError(ErrorCode.NOT_FOUND, "there is no such message for you to reply to")
