"""Numbers that a store gives out: log epochs, and the highest ids that exist."""

import secrets
import struct
from collections.abc import Iterable

from chatd.errors import StoreCorruptError
from chatd.storage.interface import Batch, HighestIds, parse_row
from chatd.storage.journal_codec import row_payloads


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
