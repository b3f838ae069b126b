"""What folds of every store that speaks SQL have in common: ROW records as upserts of whole rows by column name."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from chatd.errors import StoreCorruptError
from chatd.storage.interface import ROW_TABLES, parse_row


class Change(NamedTuple):
    """A statement, its bindings, and the table of a row with an id, whose highest one is remembered."""

    sql: str
    bindings: tuple[Any, ...]
    table: str = ""
    id: int = 0


def change_of(pos: int, payload: bytes) -> Change:
    """What one ROW record does. Raises StoreCorruptError for what interface.row_record would not make."""
    try:
        table, values, deleted = parse_row(payload)
    except ValueError as error:
        raise StoreCorruptError(f"journal record {pos} cannot be folded: {error}") from error
    if deleted:
        return Change(deletion(table), tuple(values[column] for column in ROW_TABLES[table].key))
    if "changed_pos" in ROW_TABLES[table].derived:
        values["changed_pos"] = pos
    sql = upsert(table, tuple(values))
    if "id" in values:
        return Change(sql, tuple(values.values()), table, values["id"])
    return Change(sql, tuple(values.values()))


@lru_cache(maxsize=256)
def upsert(table: str, columns: tuple[str, ...]) -> str:
    """Names come from ROW_TABLES only, parse_row has checked that."""
    key = ROW_TABLES[table].key
    assigned = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    action = f"UPDATE SET {assigned}" if assigned else "NOTHING"
    marks = ", ".join(f"?{number + 1}" for number in range(len(columns)))
    return f'INSERT INTO "{table}"({", ".join(columns)}) VALUES({marks}) ON CONFLICT({", ".join(key)}) DO {action}'


@lru_cache(maxsize=16)
def deletion(table: str) -> str:
    condition = " AND ".join(f"{column} = ?{number + 1}" for number, column in enumerate(ROW_TABLES[table].key))
    return f'DELETE FROM "{table}" WHERE {condition}'  # noqa: S608


def newest(records: Iterable[tuple[Any, ...]], *, key_columns: int) -> list[tuple[Any, ...]]:
    """The last record of each key, sorted by key."""
    return sorted({record[:key_columns]: record for record in records}.values())
