"""Stores to be copied: random ones with rows in every table, and what is in one, read without chatd.storage.copy."""

import json
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from chatd._native import Portion, decode_batch
from chatd.storage import journal_codec as codec
from chatd.storage.copy.copier import Result
from chatd.storage.copy.places import opened_copier
from chatd.storage.interface import COLUMN_TYPES, ROW_TABLES, Folder, Store, row_record
from chatd.storage.stores import open_folder, open_store, opened_reader
from support.journal_batches import Traffic

CONVERSATIONS, DEVICES = 20, 10
PATIENCE_S = 60.0
KILLED = 9
RUNS = {"event", "event_run", "send_run", "late_send"}
OF_EACH_STORE = {"meta", "migration", "batch"}
OF_EACH_FOLD = {"changed_pos", "erased_seq"}
"""Columns that depend on where a fold ended."""


class Writer:
    """Writes to a store, and folds it, everything that a journal can say: a model of hub and folder."""

    def __init__(self, where: str, directory: Path, seed: int) -> None:
        self.where, self.directory = where, directory
        self.random = Random(seed)
        self.traffic = Traffic(seed, CONVERSATIONS, DEVICES)
        self.store: Store | None = None
        self.folder: Folder | None = None
        self.open()
        self.rows(lambda: [
            *(row_record("conversation", {"id": cid, "kind": 2}) for cid in range(1, CONVERSATIONS + 1)),
            *(row_record("device", {"id": device, "uid": device}) for device in range(1, DEVICES + 1)),
        ])  # fmt: skip

    def open(self) -> None:
        self.store = open_store(self.where, self.directory)
        self.folder = open_folder(self.where, self.directory, Portion)

    def close(self) -> None:
        for held in (self.folder, self.store):
            if held is not None:
                held.close()
        self.folder = self.store = None

    def moved(self, where: str, directory: Path) -> None:
        self.where, self.directory = where, directory
        self.open()

    def write(self, batches: int = 5) -> None:
        """Messages, skips, memberships, positions, redactions, and rows of every table."""
        assert self.store is not None
        for _ in range(batches):
            self.traffic.pos = self.store.next_pos
            self.store.append(*self.traffic.batch(self.random.randint(1, 40)))
            self.rows(lambda: [self._row(table) for table in ROW_TABLES])
            self._append([*self._members(), *self._redactions()])

    def fold(self) -> None:
        assert self.folder is not None
        while self.folder.fold_once().records:
            pass

    def rows(self, make: Callable[[], list[bytes]]) -> None:
        self._append([codec.encode_row(row) for row in make()])

    def _append(self, records: list[bytes]) -> None:
        assert self.store is not None
        if records:
            self.store.append(self.store.next_pos, len(records), b"".join(records))

    def _members(self) -> list[bytes]:
        draw = self.random
        found: list[bytes] = []
        for cid, head in draw.sample(sorted(self.traffic.heads.items()), min(3, len(self.traffic.heads))):
            user, join = draw.randint(100, 140), draw.randint(1, head)
            found.append(codec.encode_member(cid, user, join, draw.choice((0, head)), draw.randint(1, 5)))
            found.append(codec.encode_position(cid, user, head, draw.randint(0, head), draw.randint(0, head)))
        return found

    def _redactions(self) -> list[bytes]:
        some = self.random.sample(sorted(self.traffic.heads.items()), min(2, len(self.traffic.heads)))
        return [codec.encode_redact(cid, self.random.randint(1, head), 1) for cid, head in some]

    def _row(self, table: str) -> bytes:
        known = ROW_TABLES[table]
        values = {column: self._value(table, column) for column in known.key}
        if table in {"pin", "draft", "relation"} and self.random.random() < 0.2:
            return row_record(table, values, deleted=True)
        columns = self.random.sample(sorted(known.columns), self.random.randint(0, len(known.columns)))
        columns += {"request_key": ["created_ms"], "invitation": ["token"]}.get(table, [])
        return row_record(table, values | {column: self._value(table, column) for column in columns})

    def _value(self, table: str, column: str) -> Any:
        """Names that are unique are never the same twice."""
        draw = self.random
        if table == "request_key" and column in {"key", "created_ms"}:
            return draw.randbytes(16) if column == "key" else (1 << 42) + draw.getrandbits(20)
        if (table, column) in {("user", "name"), ("invitation", "token"), ("conversation", "direct_key")}:
            return draw.randbytes(8) if column == "token" else f"{draw.getrandbits(60):x}"
        if column == "id":
            return draw.randint(1, CONVERSATIONS)
        kinds = COLUMN_TYPES.get(column, (int,))
        if int in kinds:
            return draw.choice((0, 1, draw.randint(0, 60), draw.getrandbits(62)))
        if bytes in kinds:
            return draw.randbytes(32 if column == "hash" else draw.choice((0, 1, 20, 3000)))
        if str in kinds:
            return draw.choice(("", "a", "B", "ä", "的", "z\N{COMBINING DIAERESIS}", "👍", f"{draw.getrandbits(20):x}"))
        return None


def content(where: str, directory: Path) -> dict[str, Any]:
    """What is in a store, whatever folds cut it into: rows by table, events by place, what became of every send."""
    found: dict[str, Any] = {}
    with opened_reader(where, directory) as reader, reader.view() as view:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if where == "sqlite":
            sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        rows: Callable[..., Any] = view.rows  # type: ignore[attr-defined]
        for table in sorted(row[0] for row in rows(sql)):
            if table in RUNS | OF_EACH_STORE:
                continue
            columns = [column for column in columns_of(table) if column not in OF_EACH_FOLD]
            selected = rows(f'SELECT {", ".join(columns)} FROM "{table}"')
            found[table] = sorted((tuple(row) for row in selected), key=repr)
        wanted = [column for column in columns_of("event") if column != "id"]
        found["event"] = sorted(tuple(row) for row in rows(f"SELECT {', '.join(wanted)} FROM event"))
        runs = rows("SELECT cid, sum(last_seq - first_seq + 1) FROM event_run GROUP BY cid ORDER BY cid")
        found["runs"] = [(cid, int(count)) for cid, count in runs]
        sends: dict[tuple[int, int], tuple[int, int]] = {}
        for device, cseq, cid, seq in rows("SELECT device, cseq, cid, seq FROM send"):
            sends[device, cseq] = max((seq, cid), sends.get((device, cseq), (0, 0)))
        found["send"] = sends
        highest = rows("SELECT key, value FROM meta WHERE key LIKE 'highest_%' OR key IN ('log_epoch', 'folded_pos')")
        found["meta"] = {key: int(value) for key, value in highest}
    return found


def columns_of(table: str) -> list[str]:
    from chatd.storage.copy.tables import tables

    return next(list(one.columns) for one in tables() if one.name == table)


def copy(origin: str, to: str, at: Callable[[str], None] = lambda point: None, *, switch: bool = True) -> Result:
    with opened_copier(origin, to, Portion, decode_batch, at=at) as copier:
        return copier.run(switch=switch, within_s=PATIENCE_S)


def copy_killed(origin: str, to: str, point: str) -> int:
    """A copier in a process of its own, which ends at this point as by kill -9. Returns its exit status."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["support.copies", "chatd.storage.copy.database"])
    child = context.Process(target=_killed, args=(origin, to, point))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode is not None, f"a copier hangs before {point}"
    return child.exitcode


def _killed(origin: str, to: str, point: str) -> None:
    copy(origin, to, lambda name: os._exit(KILLED) if name == point else None)


def mark_of(directory: Path) -> Any:
    return json.loads((directory / "moved").read_text())
