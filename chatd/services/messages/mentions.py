"""MENTIONS: members whom a message calls. Kept as rows, so that their number is counted when somebody asks."""

from functools import partial
from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.services.messages.parts import Effect, has_right
from chatd.storage.message_rows import MentionRow
from chatd.wire.schema import EXTENSION_SEND_MENTIONS, ConversationKind, ErrorCode, Right

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

EVERYONE = 1
EVERYONE_ID = 0
"""uid of a row that calls everyone."""


def judge(hub: "Hub", send: JudgedSend, fields: dict[str, Any]) -> tuple[bytes, tuple[Effect, ...]]:
    flags, users = fields["flags"], [entry["user"] for entry in fields["users"]]
    if flags > EVERYONE or not (flags or users) or users != sorted(set(users)):
        text = "mentions name everyone (flags 1) or users, each once and ascending"
        raise CallError(ErrorCode.BAD_REQUEST, text)
    for user in users:
        found = hub.core.intervals(send.cid, user)
        if not found or found[-1][3]:
            raise CallError(ErrorCode.NOT_FOUND, f"user {user} is no member here")
    if flags and not has_right(hub, send.cid, send.user, Right.MENTION_ALL) and not _is_direct(hub, send.cid):
        raise CallError(ErrorCode.FORBIDDEN, "mentioning everyone needs the right mention_all here")
    called = [EVERYONE_ID] if flags else []
    return send.extensions[EXTENSION_SEND_MENTIONS], (partial(_stage, hub, send.cid, called + users),)


def _is_direct(hub: "Hub", cid: int) -> bool:
    state = hub.core.conversation(cid)
    return state is not None and state[0] == ConversationKind.DIRECT


def _stage(hub: "Hub", cid: int, users: list[int], seq: int) -> None:
    for user in users:
        hub.rows.stage("mention", MentionRow(cid, seq, user))
