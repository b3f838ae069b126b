"""What search finds of an event: its text. One place for the indexer and for the hub."""

from chatd.hub.frames import payload_of
from chatd.storage.interface import EventRow
from chatd.storage.journal_codec import EVENT_TOMBSTONE
from chatd.wire.schema import Kind

TEXT_KINDS = frozenset({Kind.TEXT, Kind.MARKDOWN})


def searchable(event: EventRow) -> tuple[int, str] | None:
    """See storage.search.indexer.Searchable."""
    if event.kind not in TEXT_KINDS or event.flags & EVENT_TOMBSTONE:
        return None
    return event.seq, payload_of(event).decode(errors="replace")
