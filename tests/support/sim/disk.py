"""The disk of a run: SQLite goes through a VFS that knows what is durable; what the store does beside it is noted."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from chatd.storage.lock_file import LockFile
from chatd.storage.sqlite import directory as directory_module
from chatd.storage.sqlite import folder, journal, segment, segment_chain
from chatd.storage.sqlite.directory import Reserve, remove_database
from support.faultvfs import FaultVfs, Keep

Hit = Callable[[], None]
"""Called when a fault has struck something."""

KEEPS: tuple[Keep, ...] = ("none", "all", "random", "torn")
ENOUGH_BYTES = 1 << 40


def ignore() -> None: ...


class SimDisk:
    """A directory (on tmpfs, if there is one) whose unsynced bytes may be lost. Close all files before power_loss."""

    def __init__(self, path: Path, content: dict[str, bytes]) -> None:
        self.path = path
        for name, data in content.items():
            (path / name).write_bytes(data)
        self.sync_ms = 0
        """How long a sync takes."""
        self.on_slow: Hit = ignore
        self.vfs = FaultVfs("simulated")
        self.vfs.journal.start(path)

    def fill(self, hit: Hit) -> None:
        """No file may grow from here on."""
        self.vfs.free_bytes, self.vfs.on_full = 0, hit

    def empty(self) -> None:
        self.vfs.free_bytes = None

    def slow_down(self, sync_ms: int, hit: Hit) -> None:
        self.sync_ms, self.on_slow = sync_ms, hit

    def quicken(self) -> None:
        self.sync_ms = 0

    def power_loss(self, rng: random.Random) -> tuple[Keep, int]:
        """What was not synced is gone, or there in part: which, and how many bytes are gone."""
        keep = rng.choice(KEEPS)
        record = self.vfs.journal
        content = record.disk_after(len(record.entries), keep, rng)
        for path in self.path.iterdir():
            if path.name not in content:
                path.unlink()
        for name, data in content.items():
            (self.path / name).write_bytes(data)
        record.start(self.path)
        self.vfs.power_returns()
        return keep, record.lost_bytes

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """The store's calls beside SQLite are recorded, too, while this is entered."""
        record, vfs = self.vfs.journal, self.vfs
        write, rewrite, give_back = LockFile.write, segment.rewrite_wal, Reserve.give_back
        cut_wal = segment.cut_wal

        def write_lock(lock: LockFile, text: str) -> None:
            write(lock, text)
            record.add("replace", lock._path.name, data=lock._path.read_bytes())

        def rewrite_wal(path: Path, begin: int = 0, end: int | None = None) -> None:
            rewrite(path, begin, end)
            wal = segment.wal_path(path)
            if wal.exists():
                record.add("write", wal.name, begin, wal.read_bytes()[begin:end])
                record.add("sync", wal.name)

        def cut(path: Path, size_bytes: int) -> None:
            cut_wal(path, size_bytes)
            wal = segment.wal_path(path)
            if wal.exists():
                record.add("truncate", wal.name, wal.stat().st_size)

        def unlink(path: Path) -> None:
            remove_database(path)
            for name in (path.name, path.name + "-wal"):
                record.add("delete", name)

        def free_bytes(reserve: Reserve) -> int:
            return ENOUGH_BYTES if vfs.free_bytes is None else vfs.free_bytes

        def give(reserve: Reserve) -> None:
            held = reserve._occupied()
            give_back(reserve)
            if vfs.free_bytes is not None:
                vfs.free_bytes += held

        with ExitStack() as stack:
            for owner, name, stand_in in (
                (LockFile, "write", write_lock),
                (segment, "rewrite_wal", rewrite_wal),
                (segment, "cut_wal", cut),
                (folder, "rewrite_wal", rewrite_wal),
                (segment_chain, "remove_database", unlink),
                (journal, "remove_database", unlink),
                (directory_module, "remove_database", unlink),
                (Reserve, "free_bytes", free_bytes),
                (Reserve, "give_back", give),
            ):
                stack.enter_context(patch.object(owner, name, stand_in))
            yield

    def close(self) -> None:
        self.vfs.unregister()
