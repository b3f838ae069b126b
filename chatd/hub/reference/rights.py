"""What a member may do, mute and slow mode. Mirrors native/hub/rights.pxi; the theory is there."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chatd.hub.reference.state import Conversation, Member, State
from chatd.wire.schema import KINDS, ErrorCode, Right

if TYPE_CHECKING:
    from chatd.hub.reference.sends import Sending

CLOSED = 2
MUTED_FOR_EVER = (1 << 32) - 1
ROLES = 16


def rights(hub: State, conversation: Conversation, member: Member) -> int:
    role = member.role % ROLES
    return hub.role_rights[role] & ~conversation.denied[role]


def write_fault(hub: State, conversation: Conversation, member: Member) -> int:
    """Why this member may not SEND here now, 0: it may."""
    if not rights(hub, conversation, member) & Right.WRITE or conversation.flags & CLOSED:
        return ErrorCode.FORBIDDEN
    if member.muted_until_s * 1000 > hub.now_ms:
        return ErrorCode.FORBIDDEN if member.muted_until_s == MUTED_FOR_EVER else ErrorCode.MUTED
    return 0


def is_slowed(conversation: Conversation, kind: int) -> bool:
    return bool(conversation.slow_mode_s) and KINDS[kind].message


def slow_mode_wait(hub: State, send: "Sending", conversation: Conversation) -> int:
    """Milliseconds that slow mode has this SEND wait, 0: it need not."""
    assert send.frame is not None
    member = conversation.member(send.user)
    assert member is not None
    if not is_slowed(conversation, send.frame["kind"]) or not member.spoke_s:
        return 0
    if rights(hub, conversation, member) & Right.NO_SLOW_MODE:
        return 0
    return max(0, (member.spoke_s + conversation.slow_mode_s) * 1000 - hub.now_ms)


def second_after(ms: int) -> int:
    return (ms + 999) // 1000


def note(hub: State, conversation: Conversation, user: int, ts_ms: int) -> None:
    """A message of the user has been staged."""
    hub.undo.append(restored(conversation, user, "spoke_s"))
    member = conversation.member(user)
    assert member is not None
    member.spoke_s = second_after(ts_ms)


def change_mute(hub: State, conversation: Conversation, user: int, until_s: int) -> None:
    member = conversation.member(user)
    if member is not None:
        hub.undo.append(restored(conversation, user, "muted_until_s"))
        member.muted_until_s = until_s


def change_rules(hub: State, conversation: Conversation, flags: int, slow_mode_s: int, denied: Sequence[int]) -> None:
    before = (conversation.flags, conversation.slow_mode_s, conversation.denied)

    def undo() -> None:
        conversation.flags, conversation.slow_mode_s, conversation.denied = before

    hub.undo.append(undo)
    conversation.flags, conversation.slow_mode_s, conversation.denied = flags, slow_mode_s, tuple(denied)


def restored(conversation: Conversation, user: int, name: str) -> Callable[[], None]:
    """The way back to what the newest interval of the user says now."""
    before = getattr(conversation.member(user), name)
    return lambda: setattr(conversation.member(user), name, before)
