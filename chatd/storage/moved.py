"""Whether the store of a data directory is being moved to another kind of store, or has been: one file beside it.

While a copier moves it, the file only asks: whoever writes to the store or folds it lets go, and the copier takes their
locks. Should the copier end, the kernel gives the locks back and the request means nothing any more, so a server goes
on where it was. Once everything is verified the old store is fenced (GONE in its meta), and the file says where a
server goes on.
(docs/internals/postgresql.md, Moving.)
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chatd.errors import ConfigError, StoreLostError
from chatd.storage.lock_file import is_in_use
from chatd.storage.sqlite.directory import sync_directory

FILE_NAME = "moved"
COPY_LOCK = "copy.lock"
INCOMING = "incoming"
"""Where a copy into a data directory grows until it is complete."""
COPYING, GONE = "copying", "moved"
"""Keys of meta in a store that nobody serves from: a copy that is not complete; one whose data have gone elsewhere."""
MOVING, VERIFIED, DONE = "moving", "verified", "done"
"""The copier asks; the old store is fenced, the new one is not ready; the new one may be served."""


def refuse_marked(name: str, marks: dict[str, str]) -> None:
    """ConfigError for a store with one of these in its meta. marks: key → JSON."""
    if COPYING in marks:
        raise ConfigError(f"{name} holds a copy that is not finished: `chatd store copy` goes on with it")
    if GONE in marks:
        to = shown(json.loads(marks[GONE])["to"])
        raise ConfigError(f"the store in {name} has moved to {to}: serve that one. `chatd store unfence` takes it back")


class Move(NamedTuple):
    """origin, to: the old store and the new one, as the setting `store` has them. position: the last record of the old
    one. segment: of its journal, which was in use.
    """

    origin: str
    to: str
    state: str
    position: int = 0
    segment: int = 0

    @property
    def fences(self) -> bool:
        return self.state != MOVING


def kind_of(where: str) -> str:
    """Of what the setting `store` says."""
    return "postgresql" if where.startswith(("postgresql://", "postgres://")) else "sqlite"


def shown(where: str) -> str:
    """For messages: a DSN without its password."""
    return re.sub("//.*@", "//", where)


def read_move(directory: Path) -> Move | None:
    try:
        return Move(**json.loads((directory / FILE_NAME).read_text("utf-8")))
    except FileNotFoundError:
        return None


def write_move(directory: Path, move: Move | None) -> None:
    """Durable when it returns; whoever reads sees the old one or the new one. A DSN may have a password: for this user
    only. None: there was no move.
    """
    if move is None:
        with suppress(FileNotFoundError):
            (directory / FILE_NAME).unlink()
    else:
        scratch = directory / f".{FILE_NAME}.new"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(move._asdict()).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        scratch.replace(directory / FILE_NAME)
    sync_directory(directory)


def leaves(where: str, directory: Path) -> bool:
    """Has whoever works on this store of a directory to let go of it?"""
    move = read_move(directory)
    return move is not None and kind_of(move.origin) == kind_of(where) and (move.fences or _is_asked(directory))


def followed(where: str, directory: Path) -> str:
    """Where the store is now that a running server began with as `where`. StoreLostError while it is being moved."""
    move = read_move(directory)
    if move is None:
        return where
    if move.state == VERIFIED or (move.state == MOVING and _is_asked(directory)):
        raise StoreLostError(f"the store is being moved to {shown(move.to)} by `chatd store copy`")
    now = move.to if move.state == DONE else move.origin
    # The same kind is the same store, perhaps by another address.
    return where if kind_of(where) == kind_of(now) else now


def refuse_moved(where: str, directory: Path) -> None:
    """ConfigError when this store of a directory is not to be served: it has moved, or is not complete."""
    move = read_move(directory)
    if move is not None and move.fences and kind_of(move.origin) == kind_of(where):
        there = "`store` left out" if kind_of(move.to) == "sqlite" else f"--store {shown(move.to)}"
        raise ConfigError(
            f"the store of {directory} has moved: start with {there}, and change CHATD_STORE or the configuration so. "
            "`chatd store unfence` takes it back"
        )
    if kind_of(where) == "sqlite" and (directory / INCOMING).exists():
        raise ConfigError(
            f"{directory} holds a copy that is not finished: `chatd store copy` goes on with it; or remove "
            f"{directory / INCOMING}"
        )


def _is_asked(directory: Path) -> bool:
    """A copier that has ended asks for nothing."""
    return is_in_use(directory, COPY_LOCK)
