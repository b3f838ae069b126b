"""What the parts of the judge share: the fields of a payload, and the message that it is about."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.storage.interface import EventRow
from chatd.storage.journal_codec import EVENT_TOMBSTONE
from chatd.wire.errors import WireError
from chatd.wire.payload import decode_payload
from chatd.wire.schema import KINDS, ErrorCode, Right

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

Effect = Callable[[int], None]
"""Stages what belongs to an event; called with its seq, in the turn that stages it."""


def fields_of(kind: int, payload: bytes) -> dict[str, Any]:
    """The fields of a payload with a layout. BAD_REQUEST when it has another one."""
    try:
        fields = decode_payload(kind, payload)
    except WireError as error:
        raise CallError(ErrorCode.BAD_REQUEST, f"not a payload of this kind: {error}") from None
    assert fields is not None, kind
    return dict(fields)


def target_of(hub: "Hub", send: JudgedSend, seq: int) -> EventRow:
    """The message that this event is about. NOT_FOUND when the sender cannot read it, or nobody can any more."""
    row = hub.events.find(send.cid, seq, send.user) if seq else None
    if row is None:
        raise CallError(ErrorCode.NOT_FOUND, "there is no such message for you")
    if not KINDS[row.kind].message:
        raise CallError(ErrorCode.BAD_REQUEST, "that event is no message")
    if row.flags & EVENT_TOMBSTONE:
        raise CallError(ErrorCode.NOT_FOUND, "that message was recalled or has expired")
    return row


def age_s(hub: "Hub", row: EventRow) -> float:
    """How old an event is: by the monotonic clock as far back as the hub looks, else by the wall clock."""
    clock = hub.clock
    return hub.ages.age_ms(row.ts_ms, clock.wall_ms(), clock.monotonic_ms()) / 1000


def has_right(hub: "Hub", cid: int, user: int, right: Right) -> bool:
    return bool((hub.core.rights(cid, user) or 0) & right)
