# The judge: what the core cannot know about a SEND. A kind and each extension has one function that checks and says
# what has to be staged beside the event; nothing is staged before all of them have agreed.
"""The verdict on a judged SEND."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend, Verdict
from chatd.services.messages import (
    bodies,
    commands,
    edits,
    forwards,
    lifetimes,
    mentions,
    pins,
    reactions,
    recalls,
    streams,
)
from chatd.services.messages.parts import Effect
from chatd.wire.errors import WireError
from chatd.wire.frame import encode_extensions
from chatd.wire.layout import decode_fields
from chatd.wire.schema import (
    EXTENSION_SEND_EXPIRES,
    EXTENSION_SEND_FORWARDED,
    EXTENSION_SEND_MENTIONS,
    EXTENSION_SEND_STREAM,
    EXTENSIONS,
    KINDS,
    SEND_JUDGED_TAGS,
    ErrorCode,
    Kind,
    Op,
)

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

KindJudge = Callable[["Hub", JudgedSend], tuple[Effect, ...]]
ExtensionJudge = Callable[["Hub", JudgedSend, dict[str, Any]], tuple[bytes, tuple[Effect, ...]]]
"""hub, send, fields → the extension to store and what is staged with the event."""


KIND_JUDGES: dict[int, KindJudge] = {
    Kind.EDIT: edits.judge,
    Kind.RECALL: recalls.judge,
    Kind.REACTION: reactions.judge,
    Kind.PIN: pins.judge,
    Kind.COMMAND: commands.judge_command,
    Kind.COMMAND_RESULT: commands.judge_result,
}
EXTENSION_JUDGES: dict[int, ExtensionJudge] = {
    EXTENSION_SEND_FORWARDED: forwards.judge,
    EXTENSION_SEND_MENTIONS: mentions.judge,
    EXTENSION_SEND_EXPIRES: lifetimes.judge,
}
assert set(EXTENSION_JUDGES) | {EXTENSION_SEND_STREAM} == SEND_JUDGED_TAGS


def judge(hub: "Hub", send: JudgedSend) -> Verdict:
    """chatd.hub.judging.Judge"""
    effects: tuple[Effect, ...] = ()
    came = send
    if EXTENSION_SEND_STREAM in send.extensions:
        send, effects = streams.ended(hub, send, _fields(EXTENSION_SEND_STREAM, send.extensions[EXTENSION_SEND_STREAM]))
    if KINDS[send.kind].judged:
        effects += KIND_JUDGES.get(send.kind, bodies.judge)(hub, send)
    stored = dict(send.extensions)
    for tag in sorted(EXTENSION_JUDGES.keys() & send.extensions.keys()):
        if not KINDS[send.kind].message:
            raise CallError(ErrorCode.BAD_REQUEST, f"extension {tag} belongs to messages only")
        stored[tag], more = EXTENSION_JUDGES[tag](hub, send, _fields(tag, send.extensions[tag]))
        effects += more
    if send is came and stored == came.extensions:
        return Verdict(effects)
    content = encode_extensions(tuple(sorted(stored.items()))) + send.payload
    return Verdict(effects, content, has_ext=True, kind=send.kind)


def _fields(tag: int, content: bytes) -> dict[str, Any]:
    try:
        return dict(decode_fields(EXTENSIONS[Op.SEND, tag], content))
    except WireError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"extension {tag} is malformed: {error}") from None
