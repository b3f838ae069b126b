"""The tables of a store as data: what is copied is what the migrations made, so that a new table is never forgotten.

All SQL here is understood by both stores; placeholders are numbered as in sql_view.py.
"""

from functools import cache
from typing import Any, NamedTuple

import apsw

from chatd.storage.sqlite.migrate import load_migrations, migrate

Key = tuple[Any, ...]
Row = tuple[Any, ...]

NOT_COPIED = {"meta", "migration"}
"""What each store has of its own."""
RUNS = ("event", "event_run", "send_run", "late_send")
"""How these are cut into rows depends on when they were folded: they are copied as they are and compared by meaning.
Nothing in them is unique but their keys, and they hardly change: a copy that goes on keeps them and compares.
"""
OWN_COLUMNS = {
    "conversation": {"changed_pos"},
    "position": {"changed_pos"},
    "retention": {"due_ms", "erased_seq"},
}
"""What depends on where one fold ended and the next began, or on the time: never on it what anybody is told."""
BELOW_FLOOR = {"edit": "target", "reaction": "target", "pin": "target", "mention": "seq", "expiry": "seq"}
"""What hangs on an event goes with it, some time after the floor of its conversation has passed it."""
FORGOTTEN = {"request_key": "created_ms"}
"""Rows that a folder deletes when they are old."""


class Table(NamedTuple):
    """columns: in the order of the schema. key: the primary one. key_types: of its columns, as PostgreSQL has them."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    key_types: tuple[str, ...]

    @property
    def quoted(self) -> str:
        return f'"{self.name}"'

    def key_of(self, row: Row) -> Key:
        return tuple(row[self.columns.index(column)] for column in self.key)

    def span(self, after: Key | None, last: Key | None) -> tuple[str, Row]:
        """The condition for keys beyond `after` up to `last`, and its bindings. None: no bound."""
        conditions: list[str] = []
        bindings: Row = ()
        for comparison, key in ((">", after), ("<=", last)):
            if key is not None:
                marks = ", ".join(f"?{len(bindings) + number + 1}" for number in range(len(key)))
                conditions.append(f"({', '.join(self.key)}) {comparison} ({marks})")
                bindings += key
        return " AND ".join(conditions) or "TRUE", bindings

    def page(self, after: Key | None, last: Key | None, limit: int) -> tuple[str, Row]:
        """Rows of a span by key."""
        condition, bindings = self.span(after, last)
        return f"{self._select(self.columns)} WHERE {condition} ORDER BY {', '.join(self.key)} LIMIT {limit}", bindings

    def compared(self, after: Key | None, limit: int, oldest_ms: int) -> tuple[str, Row]:
        """As page, but only what two stores of one position must have in common."""
        condition, bindings = self.span(after, None)
        condition += f" AND {self._lasting(oldest_ms)}"
        columns = self.compared_columns
        return f"{self._select(columns)} WHERE {condition} ORDER BY {', '.join(self.key)} LIMIT {limit}", bindings

    def found(self, oldest_ms: int) -> str:
        """As compared, the row of one key."""
        condition = " AND ".join(f"{column} = ?{number + 1}" for number, column in enumerate(self.key))
        return f"{self._select(self.compared_columns)} WHERE {condition} AND {self._lasting(oldest_ms)}"

    def found_many(self, oldest_ms: int) -> str:
        """As found, of many keys for PostgreSQL: an array for each column of the key."""
        arrays = ", ".join(f"?{number + 1}::{kind}[]" for number, kind in enumerate(self.key_types))
        matches = " AND ".join(f"t.{column} = wanted.{column}" for column in self.key)
        wanted = f"unnest({arrays}) AS wanted({', '.join(self.key)})"
        return f"{self._select(self.compared_columns)} JOIN {wanted} ON {matches} WHERE {self._lasting(oldest_ms)}"

    @property
    def compared_columns(self) -> tuple[str, ...]:
        """The key first."""
        own = OWN_COLUMNS.get(self.name, set())
        return (*self.key, *(column for column in self.columns if column not in own and column not in self.key))

    @property
    def insert(self) -> str:
        marks = ", ".join(f"?{number + 1}" for number in range(len(self.columns)))
        return f"INSERT INTO {self.quoted}({', '.join(self.columns)}) VALUES({marks})"

    def _select(self, columns: tuple[str, ...]) -> str:
        return f"SELECT {', '.join(f't.{column}' for column in columns)} FROM {self.quoted} t"  # noqa: S608

    def _lasting(self, oldest_ms: int) -> str:
        if self.name in FORGOTTEN:
            return f"t.{FORGOTTEN[self.name]} >= {oldest_ms}"
        if self.name in BELOW_FLOOR:
            seq = BELOW_FLOOR[self.name]
            return f"NOT EXISTS (SELECT 1 FROM retention k WHERE k.cid = t.cid AND k.floor_seq > t.{seq})"  # noqa: S608
        return "TRUE"


@cache
def tables() -> tuple[Table, ...]:
    """All that are copied. Derived from the migrations of this version."""
    connection = apsw.Connection(":memory:")
    migrate(connection, load_migrations())
    names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    found = [str(row[0]) for row in connection.execute(names)]
    return tuple(_table(connection, name) for name in found if name not in NOT_COPIED)


def table(name: str) -> Table:
    return next(one for one in tables() if one.name == name)


def _table(connection: apsw.Connection, name: str) -> Table:
    types = {"INTEGER": "bigint", "TEXT": "text", "BLOB": "bytea"}
    sql = "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid"
    found: list[Any] = connection.execute(sql, (name,)).fetchall()
    key = sorted((pk, column, kind) for column, kind, pk in found if pk)
    return Table(
        name,
        tuple(column for column, _, _ in found),
        tuple(column for _, column, _ in key),
        tuple(types[kind] for _, _, kind in key),
    )
