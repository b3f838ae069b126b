"""What search finds of an event: its text, or the one it gives to another message. One place for indexer and hub."""

from chatd.hub.frames import expires_ms, payload_of
from chatd.storage.interface import EventRow
from chatd.storage.journal_codec import EVENT_TOMBSTONE
from chatd.wire import varint
from chatd.wire.schema import Kind

TEXT_KINDS = frozenset({Kind.TEXT, Kind.MARKDOWN})


def searchable(event: EventRow) -> tuple[int, str] | None:
    """See storage.search.indexer.Searchable."""
    if event.flags & EVENT_TOMBSTONE:
        return None
    if event.kind in TEXT_KINDS:
        return event.seq, payload_of(event).decode(errors="replace")
    if event.kind == Kind.EDIT:
        payload = payload_of(event)
        target, at = varint.decode(payload, 0)
        return target, payload[at:].decode(errors="replace")
    return None


def is_text(event: EventRow, now_ms: int = 0) -> bool:
    """A message with a text that may still be shown at that time; 0: whenever it expires."""
    shown = event.kind in TEXT_KINDS and not event.flags & EVENT_TOMBSTONE
    return shown and not 0 < expires_ms(event) <= now_ms
