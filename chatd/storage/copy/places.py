"""What `chatd store` does: open both ends of a copy, say how a store stands, take a move back."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from chatd.errors import ConfigError
from chatd.storage.copy.copier import Copier
from chatd.storage.copy.files import FilesEnd, FilesSource, unmark
from chatd.storage.copy.files_target import FilesTarget, withdraw
from chatd.storage.copy.interface import Portions, Source, Target
from chatd.storage.interface import Decoder
from chatd.storage.lock_file import WRITER_LOCK, LockFile, prepare_directory
from chatd.storage.moved import (
    COPY_LOCK,
    COPYING,
    GONE,
    INCOMING,
    MOVING,
    Move,
    kind_of,
    read_move,
    shown,
    write_move,
)
from chatd.storage.stores import POSTGRESQL_MARK


@contextmanager
def opened_copier(origin: str, to: str, portion: Portions, decode: Decoder, **options: Any) -> Iterator[Copier]:
    """origin, to: a data directory and a DSN, either way. options: of Copier. ConfigError, StoreLockedError."""
    if kind_of(origin) == kind_of(to):
        raise ConfigError(
            "a copy goes from a data directory to a PostgreSQL database or back; between two databases pg_dump copies, "
            "between two directories `chatd backup` and `chatd restore`"
        )
    with ExitStack() as stack:
        if kind_of(origin) == "sqlite":
            home, move = Path(origin).absolute(), Move("sqlite", to, MOVING)
        else:
            home, move = Path(to).absolute(), Move(origin, "sqlite", MOVING)
            prepare_directory(home)
        stack.enter_context(closing(LockFile(home, COPY_LOCK, "copier")))
        if kind_of(origin) == "sqlite":
            source: Source = stack.enter_context(closing(FilesSource(home, portion)))
            target: Target = stack.enter_context(closing(_database().DatabaseTarget(to, portion)))
        else:
            source = stack.enter_context(closing(_database().DatabaseSource(origin, portion)))
            target = stack.enter_context(closing(FilesTarget(home, portion)))
        yield Copier(source, target, move, home, decode, **options)


def _database() -> Any:
    """Imported when it is needed: it brings the library."""
    from chatd.storage.copy import database

    return database


def status(place: str) -> dict[str, Any]:
    """How the store of a data directory or a database stands. StorageError, ConfigError: there is none."""
    home = Path(place) if kind_of(place) == "sqlite" else None
    found: dict[str, Any] = {"store": shown(place)}
    if home is not None:
        move = read_move(home)
        if move is not None:
            found["move"] = {**move._asdict(), "origin": shown(move.origin), "to": shown(move.to)}
        found["incoming"] = (home / INCOMING).exists()
        if not (home / "chatd.db").exists():
            return found
    with closing(FilesEnd(home) if home else _database().DatabaseEnd(place)) as end, end.view() as view:
        found |= {"log_epoch": int(view.meta("log_epoch") or 0), "folded": view.folded_pos}
        for key in (COPYING, GONE):
            mark = view.meta(key)
            if mark is not None:
                found[key] = json.loads(mark) if isinstance(mark, str) else mark
        found |= view.counts()._asdict()
    return found


def unfence(home: Path, *, discard: bool) -> Move:
    """Take a move back: the old store is the store again, the copy one that is not finished. No server may run.

    discard: even when something was written to the new store. ConfigError, StoreLockedError.
    """
    move = read_move(home)
    if move is None or not move.fences:
        raise ConfigError(f"the store of {home} was not moved: there is nothing to take back")
    with closing(LockFile(home, COPY_LOCK, "copier")):
        if kind_of(move.to) == "postgresql":
            _database().withdraw(move.to, _refusing(move, discard))
            unmark(home)
        else:
            withdraw(home, _refusing(move, discard))
            _database().unmark(move.origin)
        with closing(LockFile(home, WRITER_LOCK, "hub")) as lock:
            lock.write(str(move.segment) if kind_of(move.origin) == "sqlite" else POSTGRESQL_MARK)
        write_move(home, None)
    return move


def _refusing(move: Move, discard: bool) -> Callable[[int], None]:
    def check(end_pos: int) -> None:
        """Told where the new store ends."""
        if end_pos > move.position and not discard:
            raise ConfigError(
                f"{end_pos - move.position} records were written to {shown(move.to)} since; copy it back instead, or "
                "lose them with --discard"
            )

    return check
