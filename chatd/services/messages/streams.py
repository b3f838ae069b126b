"""STREAM: a SEND that ends a live stream and takes its content. The streams that run are in chatd.hub.streams."""

from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.hub.streams import told
from chatd.services.messages.parts import Effect
from chatd.storage.people_rows import StreamRow
from chatd.wire.schema import EXTENSION_SEND_STREAM, ErrorCode, Kind

if TYPE_CHECKING:
    from chatd.hub.loop import Hub


def ended(hub: "Hub", send: JudgedSend, fields: dict[str, Any]) -> tuple[JudgedSend, tuple[Effect, ...]]:
    """The send with kind and content of the stream that it ends."""
    if send.payload or fields["flags"]:
        raise CallError(ErrorCode.BAD_REQUEST, "what ends a stream has neither payload nor flags of its own")
    stream = hub.streams.of(send.cid, fields["stream"], send.device)
    stream.active_s = hub.clock.monotonic_s()
    row, content = stream.row, bytes(stream.content)
    if send.kind not in (Kind.TEXT, row.kind):
        raise CallError(ErrorCode.BAD_REQUEST, f"the stream is one of kind {row.kind}")
    if fields["bytes"] > len(content):
        text = f"{len(content)} of {fields['bytes']} bytes are here; send the rest, then this again"
        raise CallError(ErrorCode.BUSY, text, 200)
    if fields["bytes"] not in (0, len(content)):
        raise CallError(ErrorCode.BAD_REQUEST, f"the stream has {len(content)} bytes, not {fields['bytes']}")
    if stream.pending:
        raise CallError(ErrorCode.BAD_REQUEST, "the text ends within a character; send the rest of it")
    extensions = {**send.extensions, EXTENSION_SEND_STREAM: told(row, 0, content)}
    send = send._replace(kind=row.kind, payload=content, extensions=extensions)
    return send, (lambda seq: hub.streams.finish(stream),)


def look_at(hub: "Hub", row: StreamRow) -> None:
    """In a turn, when the row is due."""
    hub.streams.look_at(row)


def abandon(hub: "Hub", row: StreamRow, refusal: CallError) -> None:
    """There is no such conversation any more."""
    hub.rows.remove("live_stream", row)
