"""How far chatd's folder is behind its journal: records that are on disk, but not in their place yet.

A durable rate that only holds while the backlog grows is a burst, not a rate.
"""

from contextlib import suppress
from pathlib import Path

import apsw

from chatd.storage.sqlite.directory import segment_in_use, segment_numbers, segment_path


def backlog_of(data: Path) -> int:
    """Records in the journal beyond folded_pos; reads both while the server runs."""
    # The one above the segment in use is being made ready, and may have no table yet.
    segments = [segment_path(data, n) for n in segment_numbers(data) if n <= segment_in_use(data)]
    folded = _number(data / "chatd.db", "SELECT value FROM meta WHERE key = 'folded_pos'")
    for segment in reversed(segments):
        end = 0
        # A segment comes and goes while this looks: it may have no table yet, or no file any more.
        with suppress(apsw.SQLError, apsw.CantOpenError):
            end = _number(segment, "SELECT pos + count - 1 FROM batch ORDER BY pos DESC LIMIT 1")
        if end:
            return max(0, end - folded)
    return 0


def flatness(curve: list[tuple[float, int]]) -> float:
    """Records per second by which the backlog grew over the second half of (s, records): least squares. A backlog that
    breathes with the folder's portions is near 0; one that only grows is not."""
    half = curve[len(curve) // 2 :] if len(curve) >= 4 else curve
    middle_s = sum(at for at, _ in half) / len(half)
    middle = sum(count for _, count in half) / len(half)
    spread = sum((at - middle_s) ** 2 for at, _ in half)
    return sum((at - middle_s) * (count - middle) for at, count in half) / spread if spread else 0.0


def _number(path: Path, query: str) -> int:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(1000)
        row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0
    finally:
        connection.close()
