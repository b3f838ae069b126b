# Commands: what a device is asked to do, and what became of it, as events of the device's own conversation. Nothing is
# told in another way: an offline device reads them when it comes back. What waits for its final result is a row with
# the time at which the server answers in the device's stead, so a deadline holds over restarts.
"""COMMAND and COMMAND_RESULT."""

import re
from functools import partial
from typing import TYPE_CHECKING

from chatd.hub.flags import DeviceFlag
from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.hub.rows import MissingConversation
from chatd.services.messages.parts import Effect, fields_of, has_right
from chatd.storage.interface import ConversationRow
from chatd.storage.people_rows import CommandRow
from chatd.wire.layout import encode_fields
from chatd.wire.schema import KINDS, CommandState, ConversationKind, ErrorCode, Kind, Right

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

NEVER_MS = 1 << 62
"""due_ms of a command without a deadline."""
THE_SERVER = 0
"""Sender of what nobody said."""
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_KEY = "device:"


def key_of(device: int) -> str:
    """direct_key of the conversation of a device."""
    return f"{_KEY}{device}"


def device_of(row: ConversationRow | None) -> int:
    """Whose conversation it is; 0: no device's."""
    if row is None or row.kind != ConversationKind.DEVICE or row.direct_key is None:
        return 0
    return int(row.direct_key.removeprefix(_KEY))


def judge_command(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    fields = fields_of(send.kind, send.payload)
    device = device_of(hub.rows.find("conversation", send.cid))
    if not device:
        raise CallError(ErrorCode.BAD_REQUEST, "commands go to the conversation of a device; see DEVICE_OPEN")
    owned = hub.rows.find("device", device)
    if owned is None or owned.flags & DeviceFlag.REVOKED:
        raise CallError(ErrorCode.NOT_FOUND, f"device {device} was revoked")
    if fields["device"] not in (0, device):
        raise CallError(ErrorCode.BAD_REQUEST, f"this is device {device}, not {fields['device']}")
    if not has_right(hub, send.cid, send.user, Right.COMMAND):
        raise CallError(ErrorCode.FORBIDDEN, "commands need the right command here; ask the device's user")
    if not _NAME.fullmatch(fields["name"]):
        raise CallError(ErrorCode.BAD_REQUEST, "a command's name has 1 to 64 of A-Z a-z 0-9 _ . : / -")
    if fields["expires_s"] > hub.settings.expiry_max_s:
        raise CallError(
            ErrorCode.BAD_REQUEST, f"a command waits for at most {hub.settings.expiry_max_s} s, or for ever"
        )
    if len(hub.rows.find_group("command", send.cid)) >= hub.settings.commands_max:
        text = f"{hub.settings.commands_max} commands wait for this device, which is the limit"
        raise CallError(ErrorCode.LIMIT_REACHED, text)
    return (partial(_stage, hub, send, fields["expires_s"]),)


def _stage(hub: "Hub", send: JudgedSend, expires_s: int, seq: int) -> None:
    state = hub.core.conversation(send.cid)
    assert state is not None
    due_ms = state[4] + 1000 * expires_s if expires_s else NEVER_MS
    hub.rows.stage("command", CommandRow(send.cid, seq, send.user, 0, due_ms))
    hub.timers.expect("command", due_ms)


def judge_result(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    fields = fields_of(send.kind, send.payload)
    seq, state = fields["command"], fields["state"]
    if send.device != device_of(hub.rows.find("conversation", send.cid)):
        raise CallError(ErrorCode.FORBIDDEN, "only the device itself answers its commands, in its conversation")
    if state not in (CommandState.ACCEPTED, CommandState.DONE, CommandState.FAILED):
        raise CallError(ErrorCode.BAD_REQUEST, "a device answers accepted (1), done (2) or failed (3)")
    row = hub.rows.find("command", (send.cid, seq))
    if row is None or row.due_ms <= hub.clock.wall_ms():
        raise _not_waiting(hub, send, seq)
    if state != CommandState.ACCEPTED:
        return (partial(_end, hub, row),)
    if row.accepted:
        raise CallError(ErrorCode.BAD_REQUEST, f"command {seq} was accepted already")
    return (partial(_accept, hub, row),)


def _not_waiting(hub: "Hub", send: JudgedSend, seq: int) -> CallError:
    event = hub.events.find(send.cid, seq, send.user) if seq else None
    if event is None or event.kind != Kind.COMMAND:
        return CallError(ErrorCode.NOT_FOUND, f"there is no command {seq} for you")
    return CallError(ErrorCode.EXPIRED, f"command {seq} has its final result already")


def _accept(hub: "Hub", row: CommandRow, seq: int) -> None:
    hub.rows.stage("command", row._replace(accepted=1))


def _end(hub: "Hub", row: CommandRow, seq: int) -> None:
    hub.rows.remove("command", row)


# ---------------------------------------------------------------- when it is due


def expire(hub: "Hub", row: CommandRow) -> None:
    """In a turn."""
    if hub.rows.find("command", (row.cid, row.seq)) is None:
        return
    if hub.core.rights(row.cid, row.uid) is None:
        raise MissingConversation(row.cid)
    layout = KINDS[Kind.COMMAND_RESULT].layout
    assert layout is not None
    result = {"command": row.seq, "state": int(CommandState.EXPIRED), "content": b""}
    hub.core.stage_event(row.cid, THE_SERVER, Kind.COMMAND_RESULT, encode_fields(layout.fields, result), 0)
    hub.rows.remove("command", row)


def abandon(hub: "Hub", row: CommandRow, refusal: CallError) -> None:
    if hub.rows.find("command", (row.cid, row.seq)) is not None:
        hub.rows.remove("command", row)
