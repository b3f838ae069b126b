# Listings: rows of a table in pages, from the main database and from what is not folded yet. The database gives a page
# and the overlay is merged over it; nothing awaits between the two. A row that the overlay has ended makes a page
# shorter, so pages are read until one has something or there are no more.
"""Pages of rows, ascending by key."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from chatd.hub.sync import SNAPSHOTS_PER_PAGE_MAX, too_fast
from chatd.services.caller import Caller
from chatd.storage.interface import View

Row = TypeVar("Row")


def _snapshot(read: Callable[[View, Any, int], list[Row]], after: Any, most: int, view: View) -> tuple[int, list[Row]]:
    """In a thread."""
    return view.folded_pos, read(view, after, most)


async def page(
    caller: Caller,
    read: Callable[[View, Any, int], list[Row]],
    unfolded: Callable[[], list[Row]],
    key: Callable[[Row], Any],
    is_listed: Callable[[Row], bool],
    after: Any,
    limit: int,
) -> tuple[list[Row], bool]:
    """At most `limit` rows beyond `after`, and whether there may be more. read(view, after, limit): from the database;
    unfolded: what the overlay has of this listing; key: what `after` is compared with.
    """
    rejected = 0
    while True:
        folded_pos, found = await caller.hub.loader.read(partial(_snapshot, read, after, limit + 1))
        if not caller.rows.is_current(folded_pos):
            rejected += 1
            if rejected == SNAPSHOTS_PER_PAGE_MAX:
                raise too_fast()
            continue
        is_cut = len(found) > limit
        last = key(found[-1]) if is_cut else None
        rows = {key(row): row for row in found}
        rows |= {key(row): row for row in unfolded() if key(row) > after and (last is None or key(row) <= last)}
        listed = [row for _, row in sorted(rows.items()) if is_listed(row)]
        if listed or not is_cut:
            return listed[:limit], is_cut or len(listed) > limit
        after = last
