"""A SQLite VFS over the real one that fails calls on demand and remembers what a power loss would leave.

    with FaultVfs("faults") as vfs:
        store = SqliteStore.open(path, StoreSettings(vfs=vfs.name))
        vfs.fail("sync", "-wal", IOERR_FSYNC)            # the next sync of a file whose name ends in -wal
        vfs.cut_power("write", "-wal", after=3)          # or the power goes, and every call fails from there on
        image = vfs.journal.disk_after(cut, keep="none")  # {file name: bytes} had the power gone at that call

A power loss keeps what was synced and, of what was written since the last sync of that file, nothing, everything, a
random part, or everything with the last write torn at a 512-byte sector. Shared-memory files never survive. Creating a
file is taken to be durable with its first sync, unlinking at once: the store syncs the directory after that. After a
sync that failed no later one makes durable what it should have, unless the pages are written again: Linux calls them
clean.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import apsw

SECTOR_BYTES, PAGE_BYTES = 512, 4096
FULL = apsw.SQLITE_FULL
IOERR_FSYNC = apsw.SQLITE_IOERR_FSYNC
IOERR_WRITE = apsw.SQLITE_IOERR_WRITE
IOERR_READ = apsw.SQLITE_IOERR_READ

Operation = Literal["read", "write", "sync", "truncate", "open"]
Keep = Literal["none", "all", "random", "torn"]


class Entry(NamedTuple):
    """One call: kind is write, truncate, sync, failed_sync, delete, replace (whole content, durable) or mark (data: the
    test's).
    """

    kind: str
    file: str
    offset: int
    data: Any


class DiskJournal:
    """Every change in order, and the disk before the first of them."""

    def __init__(self) -> None:
        self.base: dict[str, bytes] = {}
        self.entries: list[Entry] = []
        self.recording = False
        self.lost_bytes = 0
        """By the last disk_after: written, but never synced, and gone."""

    def start(self, directory: Path) -> None:
        """Everything in the directory now counts as durable."""
        files = [path for path in directory.iterdir() if path.is_file() and not path.name.endswith("-shm")]
        self.base = {path.name: path.read_bytes() for path in files}
        self.entries.clear()
        self.recording = True

    def add(self, kind: str, file: str, offset: int = 0, data: Any = None) -> None:
        if self.recording:
            self.entries.append(Entry(kind, file, offset, data))

    def mark(self, data: Any) -> None:
        """Something the test wants to know the place of: an acknowledgement, for instance."""
        self.add("mark", "", 0, data)

    def marks_before(self, cut: int) -> list[Any]:
        return [entry.data for entry in self.entries[:cut] if entry.kind == "mark"]

    def disk_after(self, cut: int, keep: Keep, rng: random.Random) -> dict[str, bytes]:
        """What the files hold when the power went before entry `cut`."""
        durable = {name: bytearray(data) for name, data in self.base.items()}
        pending: dict[str, list[Entry]] = {}
        clean: dict[str, list[Entry]] = {}
        for entry in self.entries[:cut]:
            if entry.kind == "sync":
                changes = pending.pop(entry.file, [])
                for change in (*written_again(clean.get(entry.file, []), changes), *changes):
                    apply(durable, change)
            elif entry.kind == "failed_sync":
                clean.setdefault(entry.file, []).extend(pending.pop(entry.file, []))
            elif entry.kind == "delete":
                for state in (durable, pending, clean):
                    state.pop(entry.file, None)  # type: ignore[attr-defined]
            elif entry.kind == "replace":
                durable[entry.file] = bytearray(entry.data)
            elif entry.kind != "mark":
                pending.setdefault(entry.file, []).append(entry)
        self.lost_bytes = 0
        for changes in (*clean.values(), *pending.values()):
            kept = surviving(changes, keep, rng)
            self.lost_bytes += written(changes) - written(kept)
            for change in kept:
                apply(durable, change)
        return {name: bytes(data) for name, data in durable.items()}


def surviving(changes: list[Entry], keep: Keep, rng: random.Random) -> list[Entry]:
    if keep == "none" or not changes:
        return []
    if keep == "random":
        return [change for change in changes if rng.random() < 0.5]
    if keep == "torn" and changes[-1].kind == "write":
        sectors = rng.randint(0, (len(changes[-1].data) - 1) // SECTOR_BYTES)
        return [*changes[:-1], changes[-1]._replace(data=changes[-1].data[: sectors * SECTOR_BYTES])]
    return changes


def written(changes: list[Entry]) -> int:
    return sum(len(change.data) for change in changes if change.kind == "write")


def written_again(clean: list[Entry], changes: list[Entry]) -> list[Entry]:
    """Those of the changes that a failed sync left behind whose pages are dirty anew; they are taken out of `clean`."""
    dirty = {page for change in changes for page in pages(change)}
    again = [change for change in clean if not dirty.isdisjoint(pages(change))]
    clean[:] = [change for change in clean if dirty.isdisjoint(pages(change))]
    return again


def pages(change: Entry) -> range:
    size = len(change.data) if change.kind == "write" else 1
    return range(change.offset // PAGE_BYTES, (change.offset + size - 1) // PAGE_BYTES + 1)


def apply(disk: dict[str, bytearray], change: Entry) -> None:
    content = disk.setdefault(change.file, bytearray())
    if change.kind == "truncate":
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
    else:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data


class Rule(NamedTuple):
    """then: called when it strikes."""

    operation: Operation
    suffix: str
    code: int
    ends_power: bool
    then: Callable[[], None]


class FaultVfs(apsw.VFS):
    """Register it by entering; its name goes to the store's settings. Close all connections before leaving."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.journal = DiskJournal()
        self.fired: dict[str, int] = {}
        """Failures by the name of their code, as far as they came about."""
        self.free_bytes: int | None = None
        """Room for files to grow; None: as much as the real disk has."""
        self.on_full: Callable[[], None] = lambda: None
        self.powerless = False
        self.checks = False
        """Whether a call has to ask begin()."""
        self._rules: list[tuple[Rule, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unregister()

    def fail(
        self, operation: Operation, suffix: str, code: int, *, after: int = 0, then: Callable[[], None] = lambda: None
    ) -> None:
        """Fail one call of that operation on a file whose name ends in suffix, after letting `after` of them pass."""
        self._rules.append((Rule(operation, suffix, code, False, then), after))
        self.checks = True

    def cut_power(self, operation: Operation, suffix: str, *, after: int = 0) -> None:
        """As `fail`, and nothing that comes later is done or remembered, until power_returns."""
        self._rules.append((Rule(operation, suffix, IOERR_WRITE, True, lambda: None), after))
        self.checks = True

    def power_returns(self) -> None:
        """The disk's content has to be put in place first."""
        self.powerless = False
        self.forget_failures()

    def begin(self, operation: Operation, file: str) -> None:
        """Raise if a rule is due; called while there are any."""
        if self.powerless:
            raise failure(IOERR_WRITE)
        for index, (rule, after) in enumerate(self._rules):
            if rule.operation == operation and file.endswith(rule.suffix):
                if after:
                    self._rules[index] = (rule, after - 1)
                    continue
                del self._rules[index]
                rule.then()
                if rule.ends_power:
                    self.powerless, self.journal.recording = True, False
                self.checks = bool(self._rules) or self.powerless
                raise self.failure(rule.code)

    def occupy(self, growth: int) -> None:
        """A file grows by so many bytes; FULL when there is no room for them."""
        if self.free_bytes is None or growth <= 0:
            return
        if growth > self.free_bytes:
            self.on_full()
            raise self.failure(FULL)
        self.free_bytes -= growth

    def failure(self, code: int) -> apsw.Error:
        name = str(apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes[code])
        self.fired[name] = self.fired.get(name, 0) + 1
        return failure(code)

    def forget_failures(self) -> None:
        self._rules.clear()
        self.checks = self.powerless

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FaultFile":  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        file = path.rpartition("/")[2]
        if self.checks:
            self.begin("open", file)
        return FaultFile(self, name, flags, file)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.journal.add("delete", filename.rpartition("/")[2])
        super().xDelete(filename, syncdir)


_read, _write = apsw.VFSFile.xRead, apsw.VFSFile.xWrite


class FaultFile(apsw.VFSFile):
    def __init__(self, vfs: FaultVfs, name: str | apsw.URIFilename | None, flags: list[int], file: str) -> None:
        self._vfs = vfs
        self._file = file
        super().__init__("", name, flags)

    @property
    def in_journal(self) -> bool:
        return self._file.startswith("journal-")

    # Reads and writes are most of what a database does: no call is made here that does not have to be.

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self._vfs.checks:
            self._vfs.begin("read", self._file)
        return _read(self, amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        vfs = self._vfs
        if vfs.checks:
            vfs.begin("write", self._file)
        if vfs.free_bytes is not None:
            vfs.occupy(offset + len(data) - self.xFileSize())
        _write(self, data, offset)
        if vfs.journal.recording:
            vfs.journal.entries.append(Entry("write", self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self._vfs.checks:
            self._vfs.begin("truncate", self._file)
        super().xTruncate(newsize)
        self._vfs.journal.add("truncate", self._file, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            if self._vfs.checks:
                self._vfs.begin("sync", self._file)
        except apsw.Error:
            self._vfs.journal.add("failed_sync", self._file)
            raise
        super().xSync(flags)
        self._vfs.journal.add("sync", self._file)


def failure(code: int) -> apsw.Error:
    error: apsw.Error = apsw.exception_for(code)
    with suppress(AttributeError):
        error.extendedresult = code
    return error
