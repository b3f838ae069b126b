# The conversation of a device: made when somebody first needs it, one for each device. The device's user is an admin of
# it and nobody its owner: it cannot be deleted or given away. An administrator of the server who opens it joins it,
# so the user sees who is there. Others are added as in a group; the right COMMAND decides who may send commands.
"""Methods about the conversations of devices."""

from chatd.hub.flags import DeviceFlag, UserFlag
from chatd.hub.frames import CallError
from chatd.services import events, joining
from chatd.services.caller import Caller, Result
from chatd.services.conversations import stage_conversation
from chatd.services.messages.commands import NEVER_MS, key_of
from chatd.services.seats import present, seat
from chatd.storage.interface import ConversationRow, DeviceRow
from chatd.wire.schema import ConversationKind, ErrorCode, Role


async def open_device(caller: Caller, device: int) -> Result:
    """DEVICE_OPEN"""

    def found() -> tuple[DeviceRow, ConversationRow | None]:
        row = caller.rows.find("device", device)
        is_admin = caller.row.flags & UserFlag.ADMIN
        if row is None or row.flags & DeviceFlag.REVOKED or (row.uid != caller.user and not is_admin):
            raise CallError(ErrorCode.NOT_FOUND, "no such device of yours")
        return row, caller.rows.find("conversation", key_of(device), unique=True)

    owner, made = await caller.hub.lookup(found)
    if made is None:
        await joining.check_conversation_counts(caller, sorted({owner.uid, caller.user}))

    def apply() -> Result:
        row, conversation = found()
        if conversation is None:
            return {1: _stage_made(caller, row)}
        if present(caller, conversation.id, caller.user) is None:
            _stage_join(caller, conversation)
        return {1: conversation.id}

    return await caller.change(apply)


def _stage_made(caller: Caller, device: DeviceRow) -> int:
    cid = stage_conversation(caller, ConversationKind.DEVICE, device.label, key_of(device.id))
    for user in sorted({device.uid, caller.user}):
        caller.hub.memberships.stage(cid, user, Role.ADMIN, 1)
    events.created(caller.core, cid, caller.user, ConversationKind.DEVICE, device.label)
    return cid


def _stage_join(caller: Caller, conversation: ConversationRow) -> None:
    state = caller.core.conversation(conversation.id)
    assert state is not None, conversation.id
    seq = state[2] + 1
    joining.stage_interval(caller, conversation, caller.user, Role.ADMIN, seq)
    events.member_joined(caller.core, conversation.id, caller.user, caller.user)
    joining.stage_read(caller, conversation.id, [caller.user], seq)


async def list_commands(caller: Caller, cid: int) -> Result:
    """COMMAND_LIST"""

    def find() -> Result:
        first_seq = seat(caller, cid).own[2]
        rows = [row for row in caller.rows.find_group("command", cid) if row.seq >= first_seq]
        return {1: [[row.seq, row.uid, bool(row.accepted), row.due_ms % NEVER_MS] for row in rows]}

    result: Result = await caller.hub.lookup(find)
    return result
