"""Numbers that a store gives out: log epochs, and the highest ids that exist."""

import secrets
import struct
from collections.abc import Iterable

from chatd.errors import StoreCorruptError
from chatd.storage.interface import Batch, HighestIds, parse_row
from chatd.storage.journal_codec import row_payloads

# In a log that may have gone back nobody knows which ids had been given out and how often the hub had been started. A
# client may still hold one: a message that waits for conversation 12 must not reach another one of that number.
IDS_SKIPPED = 1_000_000
BOOTS_SKIPPED = 1 << 16


def new_log_epoch() -> int:
    """Not 0, and below 2**62 so that it fits every integer on its way."""
    return secrets.randbelow(2**62 - 1) + 1


def raised(ids: HighestIds, unfolded: Iterable[Batch]) -> HighestIds:
    """The highest ids of the main database and of batches that are not folded yet."""
    highest = ids._asdict()
    for batch in unfolded:
        try:
            for _, payload in row_payloads(batch.pos, batch.blob):
                table, values, _ = parse_row(payload)
                if table in highest:
                    highest[table] = max(highest[table], values["id"])
        except (ValueError, struct.error) as error:
            raise StoreCorruptError(f"the journal batch at {batch.pos} is damaged: {error}") from error
    return HighestIds(**highest)
