"""PIN: messages that a conversation keeps at hand, a bounded number of them."""

from functools import partial
from typing import TYPE_CHECKING

from chatd.hub import floors
from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.services.messages.parts import Effect, fields_of, has_right, target_of
from chatd.storage.message_rows import PinRow
from chatd.wire.schema import ConversationKind, ErrorCode, Right

if TYPE_CHECKING:
    from chatd.hub.loop import Hub


def judge(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    fields = fields_of(send.kind, send.payload)
    state = hub.core.conversation(send.cid)
    if not (state and state[0] == ConversationKind.DIRECT) and not has_right(hub, send.cid, send.user, Right.PIN):
        raise CallError(ErrorCode.FORBIDDEN, "pinning needs the right pin here; ask one who has it")
    kept_seq = floors.floor_seq(hub.rows, send.cid)
    pinned = {row.target: row for row in hub.rows.find_group("pin", send.cid) if row.target >= kept_seq}
    if not fields["pinned"]:
        if fields["target"] not in pinned:
            raise CallError(ErrorCode.NOT_FOUND, "that message is not pinned")
        return (partial(_unpin, hub, pinned[fields["target"]]),)
    row = target_of(hub, send, fields["target"])
    if row.seq in pinned:
        raise CallError(ErrorCode.BAD_REQUEST, "that message is pinned already")
    if len(pinned) >= hub.settings.pins_max:
        raise CallError(ErrorCode.LIMIT_REACHED, f"a conversation has at most {hub.settings.pins_max} pins; unpin one")
    return (partial(_pin, hub, send, row.seq),)


def _pin(hub: "Hub", send: JudgedSend, target: int, seq: int) -> None:
    hub.rows.stage("pin", PinRow(send.cid, target, send.user, seq))


def _unpin(hub: "Hub", row: PinRow, seq: int) -> None:
    hub.rows.remove("pin", row)
