"""What a client must not forget: its device, its cseq counter and unanswered sends, its positions.

Facts: the server recognises a repeated (device, cseq) and never stores it twice; it forgets nothing that it has
acknowledged; what the application has seen, it does not know. Consequence: exactly-once needs three things that survive
the client's process: the cseq before its SEND leaves, the unanswered sends themselves, and the positions the
application confirmed. Decision: one SQLite file, opened exclusively (two programs with one device would take each
other's session over for ever); the same code with ":memory:" when there is no path. A send is committed with a full
sync, so that a message shown as waiting survives power loss too; a position is committed without: power loss may bring
a few events twice, a crash of the process may not. Price: one fsync (0.2 to 5 ms) per queued send.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatd.client.errors import StateError

LAYOUT_VERSION = 2
SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE conversation(cid INTEGER PRIMARY KEY, position INTEGER NOT NULL, head INTEGER NOT NULL);
CREATE TABLE outbox(cseq INTEGER PRIMARY KEY, cid INTEGER NOT NULL, kind INTEGER NOT NULL, payload BLOB NOT NULL,
    skip INTEGER NOT NULL DEFAULT 0, extensions BLOB NOT NULL DEFAULT x'');
"""
UPGRADES = {1: "ALTER TABLE outbox ADD COLUMN extensions BLOB NOT NULL DEFAULT x''"}
"""By the layout they start from."""


@dataclass(slots=True)
class Place:
    """A conversation's row. position: confirmed by the application; head: known to exist."""

    position: int = 0
    head: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row of the outbox: a send without an answer. skip: it was withdrawn, SKIP goes out instead.

    extensions: the block of the SEND with its length in front; empty: none.
    """

    cseq: int
    cid: int
    kind: int
    payload: bytes
    skip: bool = False
    extensions: bytes = b""


class State:
    """The state file of one device. Not thread-safe; every call is one transaction.

    path: the file, made when absent; None: in memory. busy_timeout_s: how long to wait for another program's exclusive
    hold. Raises StateError when the file cannot be used.
    """

    def __init__(self, path: Path | str | None = None, busy_timeout_s: float = 5.0) -> None:
        self._name = str(path) if path is not None else ":memory:"
        try:
            if path is not None:
                Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                # Created before SQLite does, so that tickets and unsent messages are readable by the owner only.
                Path(path).touch(mode=0o600)
            self._db = sqlite3.connect(
                self._name, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            self._open()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StateError(
                    f"{self._name} is in use by another chatd client: stop that one or choose another --state"
                ) from None
            raise StateError(f"{self._name} cannot be used: {error}") from None
        except (sqlite3.DatabaseError, OSError) as error:
            raise StateError(f"{self._name} cannot be used: {error}; move it away to start afresh") from None

    def _open(self) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in SCHEMA.split(";")[:-1]:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={LAYOUT_VERSION}")
            elif version in UPGRADES:
                self._db.execute(UPGRADES[version])
                self._db.execute(f"PRAGMA user_version={version + 1}")
            elif version != LAYOUT_VERSION:
                raise StateError(f"{self._name} was written by another version of chatd (layout {version})")

    @contextmanager
    def _transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        if durable:
            self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------ small values

    def _get(self, key: str) -> object:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set(self, **values: object) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", list(values.items()))

    def _int(self, key: str) -> int:
        value = self._get(key)
        return value if isinstance(value, int) else 0

    def _bytes(self, key: str) -> bytes:
        value = self._get(key)
        return value if isinstance(value, bytes) else b""

    @property
    def user(self) -> int:
        return self._int("user")

    @property
    def device(self) -> int:
        return self._int("device")

    @property
    def log_epoch(self) -> int:
        return self._int("log_epoch")

    @property
    def ticket(self) -> bytes:
        return self._bytes("ticket")

    @property
    def cursor(self) -> bytes:
        return self._bytes("cursor")

    @property
    def cseq_next(self) -> int:
        return self._int("cseq_next") or 1

    @property
    def synced(self) -> bool:
        """A whole SYNC has been seen since this state began: an unknown conversation is a new one."""
        return bool(self._int("synced"))

    def set_session(self, user: int, device: int, log_epoch: int, ticket: bytes) -> None:
        """After WELCOME. Raises StateError when the file belongs to another user or device."""
        if (self.user or user) != user:
            raise StateError(
                f"{self._name} belongs to user {self.user}, but the server says user {user}: choose another --state"
            )
        with self._transaction():
            self._set(user=user, device=device, log_epoch=log_epoch, ticket=ticket)

    def set_ticket(self, ticket: bytes) -> None:
        with self._transaction():
            self._set(ticket=ticket)

    # ------------------------------------------------------------ positions

    def places(self) -> dict[int, Place]:
        rows = self._db.execute("SELECT cid, position, head FROM conversation")
        return {cid: Place(position, head) for cid, position, head in rows}

    def set_positions(self, positions: dict[int, int]) -> None:
        """Raise positions; they never go back."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO conversation VALUES(?1, ?2, ?2) ON CONFLICT(cid) DO UPDATE SET"
                " position = max(position, ?2), head = max(head, ?2)",
                list(positions.items()),
            )

    def set_heads(self, heads: dict[int, tuple[int, int]], cursor: bytes | None) -> None:
        """A page of SYNC in one transaction: {cid: (position, head)}; cursor only with the last page."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO conversation VALUES(?1, ?2, ?3) ON CONFLICT(cid) DO UPDATE SET"
                " position = max(position, ?2), head = max(head, ?3)",
                [(cid, position, head) for cid, (position, head) in heads.items()],
            )
            if cursor is not None:
                self._set(cursor=cursor, synced=1)

    def discard_positions(self, log_epoch: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM conversation")
            self._set(cursor=b"", synced=0, log_epoch=log_epoch)

    # ------------------------------------------------------------ outbox

    def outbox(self) -> list[Waiting]:
        rows = self._db.execute("SELECT cseq, cid, kind, payload, skip, extensions FROM outbox ORDER BY cseq")
        return [Waiting(cseq, cid, kind, payload, bool(skip), block) for cseq, cid, kind, payload, skip, block in rows]

    def add_send(self, cid: int, kind: int, payload: bytes, extensions: bytes = b"") -> Waiting:
        """Give a send the next cseq and keep it until its answer."""
        with self._transaction(durable=True) as db:
            cseq = self.cseq_next
            db.execute("INSERT INTO outbox VALUES(?, ?, ?, ?, 0, ?)", (cseq, cid, kind, payload, extensions))
            self._set(cseq_next=cseq + 1)
        return Waiting(cseq, cid, kind, payload, extensions=extensions)

    def withdraw_send(self, cseq: int) -> None:
        with self._transaction() as db:
            db.execute("UPDATE outbox SET skip = 1 WHERE cseq = ?", (cseq,))

    def settle_send(self, cseq: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE cseq = ?", (cseq,))

    def raise_cseq(self, cseq_stored: int) -> bool:
        """Never use a cseq at or below what the server has stored. True when ours was behind: state had been lost."""
        if self.cseq_next > cseq_stored:
            return False
        with self._transaction():
            self._set(cseq_next=cseq_stored + 1)
        return True
