"""ROW records: upserts of whole rows by column name, applied in journal order."""

from collections.abc import Iterable
from functools import lru_cache

import apsw

from chatd.errors import StoreCorruptError
from chatd.storage.interface import ROW_TABLES, parse_row
from chatd.storage.journal_codec import RowTuple

# Ids of deleted rows are not given out again.
_RAISE_HIGHEST = "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"


def apply_rows(main: apsw.Connection, rows: Iterable[RowTuple]) -> None:
    """Within the caller's transaction. Raises StoreCorruptError for what interface.row_record would not make."""
    highest: dict[str, int] = {}
    for pos, payload in rows:
        try:
            table, values, deleted = parse_row(payload)
        except ValueError as error:
            raise StoreCorruptError(f"journal record {pos} cannot be folded: {error}") from error
        if deleted:
            key = ROW_TABLES[table].key
            main.execute(deletion(table), tuple(values[column] for column in key))
            continue
        if "changed_pos" in ROW_TABLES[table].derived:
            values["changed_pos"] = pos
        main.execute(upsert(table, tuple(values)), tuple(values.values()))
        if "id" in values:
            highest[table] = max(highest.get(table, 0), values["id"])
    main.executemany(_RAISE_HIGHEST, [(f"highest_{table}", value) for table, value in highest.items()])


@lru_cache(maxsize=256)
def upsert(table: str, columns: tuple[str, ...]) -> str:
    """Names come from ROW_TABLES only, parse_row has checked that."""
    key = ROW_TABLES[table].key
    assigned = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    action = f"UPDATE SET {assigned}" if assigned else "NOTHING"
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table}({', '.join(columns)}) VALUES({marks}) ON CONFLICT({', '.join(key)}) DO {action}"


@lru_cache(maxsize=16)
def deletion(table: str) -> str:
    condition = " AND ".join(f"{column} = ?" for column in ROW_TABLES[table].key)
    return f"DELETE FROM {table} WHERE {condition}"  # noqa: S608
