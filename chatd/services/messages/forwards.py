"""FORWARDED: a message of elsewhere, word for word; the server vouches for who wrote it and when."""

from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError, payload_of
from chatd.hub.judging import JudgedSend
from chatd.services.messages.parts import Effect
from chatd.storage.journal_codec import EVENT_TOMBSTONE
from chatd.wire.layout import encode_fields
from chatd.wire.schema import EXTENSION_SEND_FORWARDED, EXTENSIONS, ErrorCode, Op
from chatd.wire.time40 import from_unix_ms

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

LAYOUT = EXTENSIONS[Op.SEND, EXTENSION_SEND_FORWARDED]


def judge(hub: "Hub", send: JudgedSend, fields: dict[str, Any]) -> tuple[bytes, tuple[Effect, ...]]:
    cid, seq = fields["cid"], fields["seq"]
    origin = hub.events.find(cid, seq, send.user) if cid and seq else None
    if origin is None or origin.flags & EVENT_TOMBSTONE:
        raise CallError(ErrorCode.NOT_FOUND, "there is no such message for you to forward")
    if (origin.kind, payload_of(origin)) != (send.kind, send.payload):
        raise CallError(ErrorCode.BAD_REQUEST, "a forwarded message has the kind and the payload of its origin")
    # Whoever reads it need not know the conversation it comes from, not even its number.
    place = (cid, seq) if cid == send.cid else (0, 0)
    values = {"cid": place[0], "seq": place[1], "sender": origin.sender, "time": from_unix_ms(origin.ts_ms)}
    return encode_fields(LAYOUT.fields, values), ()
