# Floors: what retention has taken away. A floor is a row of `retention`; it is staged like every row, so it survives
# with the journal, and from its commit on nobody reads below it: the folder deletes later and in its own time. Most
# servers and conversations have none, and that there are none anywhere is one row to remember (cid 0), as with what
# users hide for themselves.
"""Below which seq a conversation has nothing any more."""

from collections.abc import Iterable

from chatd.hub.rows import Rows
from chatd.storage.message_rows import RetentionRow
from chatd.storage.trim import NEVER_MS

ANYWHERE = 0


def row_of(rows: Rows, cid: int) -> RetentionRow:
    """The conversation's row; zeros when it has none. MissingRows: load first."""
    return rows_of(rows, [cid]).get(cid, RetentionRow(cid, 0, 0, 0, 0, 0))


def rows_of(rows: Rows, cids: Iterable[int]) -> dict[int, RetentionRow]:
    """Those of the conversations that have one."""
    if rows.find("retention", (ANYWHERE,)) is None:
        return {}
    return {row.cid: row for row in rows.find_all("retention", [(cid,) for cid in cids]).values()}


def floor_seq(rows: Rows, cid: int) -> int:
    """The first seq that is still there; 0: all are."""
    return row_of(rows, cid).floor_seq


def stage(rows: Rows, row: RetentionRow) -> None:
    """In a turn; the row of cid 0 has been looked for in it."""
    if rows.find("retention", (ANYWHERE,)) is None:
        rows.stage("retention", RetentionRow(ANYWHERE, 0, 0, 0, 0, NEVER_MS))
    rows.stage("retention", row)
