"""REACTION: an emoji added to a message, or taken back."""

import unicodedata
from functools import partial
from typing import TYPE_CHECKING

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.services.messages.parts import Effect, fields_of, target_of
from chatd.storage.message_rows import ReactionRow
from chatd.wire.schema import ErrorCode

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

REACTIONS_OF_A_USER_MAX = 8
REACTIONS_MAX = 2000
"""Of one message, all users together."""


def judge(hub: "Hub", send: JudgedSend) -> tuple[Effect, ...]:
    fields = fields_of(send.kind, send.payload)
    emoji, added = fields["emoji"], fields["added"]
    if not emoji or added > 1 or any(unicodedata.category(character)[0] in "CZ" for character in _visible(emoji)):
        raise CallError(ErrorCode.BAD_REQUEST, "a reaction is an emoji without spaces, and added (1) or taken back (0)")
    row = target_of(hub, send, fields["target"])
    present = hub.rows.find_group("reaction", send.cid, row.seq)
    mine = [reaction for reaction in present if reaction.uid == send.user]
    same = next((reaction for reaction in mine if reaction.emoji == emoji), None)
    if not added:
        if same is None:
            raise CallError(ErrorCode.NOT_FOUND, "you have not reacted so")
        return (partial(_take_back, hub, same),)
    if same is not None:
        raise CallError(ErrorCode.BAD_REQUEST, "you have reacted so already")
    if len(mine) >= REACTIONS_OF_A_USER_MAX or len(present) >= REACTIONS_MAX:
        text = f"a message takes {REACTIONS_OF_A_USER_MAX} reactions of a user and {REACTIONS_MAX} in all"
        raise CallError(ErrorCode.LIMIT_REACHED, text)
    return (partial(_add, hub, send, row.seq, emoji),)


def _visible(emoji: str) -> str:
    """Without the joiners and selectors that emoji are made with."""
    return emoji.replace("\u200d", "").replace("\ufe0f", "")


def _add(hub: "Hub", send: JudgedSend, target: int, emoji: str, seq: int) -> None:
    hub.rows.stage("reaction", ReactionRow(send.cid, target, send.user, emoji, seq))


def _take_back(hub: "Hub", reaction: ReactionRow, seq: int) -> None:
    hub.rows.remove("reaction", reaction)
