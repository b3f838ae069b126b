"""EDIT: the author says it anew. Both stay in the log; readers show the newest and that it was edited."""

from functools import partial
from typing import TYPE_CHECKING

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.services.messages import bodies
from chatd.services.messages.parts import Effect, age_s, fields_of, target_of
from chatd.storage.message_rows import EditRow
from chatd.wire.schema import ErrorCode

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

EDITS_MAX = 100
"""Of one message: a recall has to take all of them away."""


def judge(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    fields = fields_of(send.kind, send.payload)
    row = target_of(hub, send, fields["target"])
    if row.sender != send.user:
        raise CallError(ErrorCode.FORBIDDEN, "only its author can edit a message")
    if age_s(hub, row) > hub.settings.edit_window_s:
        raise CallError(ErrorCode.EXPIRED, f"a message can be edited for {hub.settings.edit_window_s} s only")
    bodies.check(hub, row.kind, fields["content"])
    if len(hub.rows.find_group("edit", send.cid, row.seq)) >= EDITS_MAX:
        raise CallError(ErrorCode.LIMIT_REACHED, f"a message can be edited {EDITS_MAX} times")
    return (partial(_stage, hub, send.cid, row.seq),)


def _stage(hub: "Hub", cid: int, target: int, seq: int) -> None:
    hub.rows.stage("edit", EditRow(cid, target, seq))
