"""The disk as a power cut would leave it, from the system calls of a live server.

A server of its own processes works under load while strace notes every write, truncation, sync and unlinking of its
store, and every SEND_ACK that left for a client, in one order. Then the disk is rebuilt as it could have been at any
moment of that run (support.faultvfs says what survives), a store is opened on it, everything is folded, and every event
that had been acknowledged by then must be there, at its place and with its content; `chatd check` must find nothing.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chatd.errors import StorageError
from chatd.storage import journal_codec as codec
from chatd.storage.portion import Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
from chatd.testing import ChatdServer
from chatd.wire.framer import Framer
from chatd.wire.schema import Op
from support.ack_oracle import frames, tag
from support.faultvfs import DiskJournal, Keep
from support.inside import changed
from support.live import ready
from support.processes import children
from support.strace import DISK, Call, parsed, traced
from support.traced_load import tagged_load

KEEPS: tuple[Keep, ...] = ("none", "all", "random", "torn")
RESERVE = {"reserve_bytes": 4096, "slack_bytes": 4096}


class Acked(NamedTuple):
    cid: int
    seq: int
    payload: bytes


class Recording(NamedTuple):
    """journal: its marks are the Acked."""

    journal: DiskJournal
    operations: dict[str, int]

    @property
    def places(self) -> int:
        return len(self.journal.entries) + 1


async def record(directory: Path, sends: int, pause_s: float = 0.0) -> Recording:
    """A run of `sends` SENDs. pause_s: after each round of a window, so that folds and checkpoints fit in between."""
    journal = DiskJournal()
    with changed(SMALL_STORE="1"), ChatdServer.start(directory, "--shards", "2", inline=False) as server:
        await ready(server)
        with traced([server.pid, *children(server.pid)], directory / "trace", DISK):
            journal.start(server.data)
            await tagged_load(server, sends, pause_s)
        journal.base = {name: content for name, content in journal.base.items() if is_stored(name)}
        recorder = Recorder(journal, server.data)
        with (directory / "trace").open(encoding="ascii") as lines:
            for call in parsed(lines):
                recorder.note(call)
    (directory / "trace").unlink()
    kinds = [entry.kind for entry in journal.entries]
    return Recording(journal, {kind: kinds.count(kind) for kind in sorted(set(kinds))})


def is_stored(name: str) -> bool:
    """Part of the store. Shared memory never survives; the reserve is made anew."""
    return name.endswith((".db", "-wal")) or name in ("lock", "folder.lock")


class Recorder:
    """System calls become entries of the journal, in their order."""

    def __init__(self, journal: DiskJournal, data: Path) -> None:
        self.journal, self.data = journal, data
        self._streams: dict[str, tuple[Framer, list[int]]] = {}

    def note(self, call: Call) -> None:
        """What removes takes effect when it begins, what adds when it has returned."""
        path = Path(call.target)
        if call.name == "sendto" and call.begun:
            self._note_acks(call)
        elif path.parent == self.data and is_stored(path.name) and call.begun == (call.name in ("unlink", "unlinkat")):
            if call.name == "pwrite64" and call.result > 0:
                self.journal.add("write", path.name, call.offset, call.data[: call.result])
            elif call.name == "ftruncate" and call.result == 0:
                self.journal.add("truncate", path.name, call.offset)
            elif call.name in ("fdatasync", "fsync") and call.result == 0:
                self.journal.add("sync", path.name)
            elif call.begun:
                self.journal.add("delete", path.name)
            else:
                assert not call.name.startswith("rename"), f"{path.name} is renamed: teach this recorder how"

    def _note_acks(self, call: Call) -> None:
        framer, devices = self._streams.setdefault(call.target, (Framer(), []))
        for frame in frames(framer, call.data):
            if frame.op == Op.WELCOME:
                devices.append(frame["device"])
            elif frame.op == Op.SEND_ACK:
                self.journal.mark(Acked(frame["cid"], frame["seq"], tag(devices[-1], frame["cseq"])))


def violation(recording: Recording, cut: int, keep: Keep, seed: int, directory: Path) -> str | None:
    """What is wrong after this cut; None when the server keeps its word."""
    for name, content in recording.journal.disk_after(cut, keep, random.Random(seed)).items():
        (directory / name).write_bytes(content)
    acked = recording.journal.marks_before(cut)
    try:
        with_everything_folded(directory)
        findings = check_store(directory, codec.decode_batch).findings
        found = events(directory, {event.cid for event in acked})
    except StorageError as error:
        return f"REFUSED: {error}"
    for event in acked:
        if found.get((event.cid, event.seq)) != event.payload:
            return f"LOST: {event.cid}:{event.seq} was acknowledged and is {found.get((event.cid, event.seq))!r}"
    return f"CHECK: {findings[0]}" if findings else None


def with_everything_folded(directory: Path) -> None:
    """Recover as hub and folder do, and fold all there is."""
    SqliteStore.open(directory, StoreSettings(**RESERVE)).close()
    folder = SqliteFolder.open(directory, Portion, FoldSettings(**RESERVE))
    try:
        while folder.fold_once().records:
            pass
    finally:
        folder.close()


def events(directory: Path, cids: set[int]) -> dict[tuple[int, int], bytes]:
    store = SqliteStore.open(directory, StoreSettings(**RESERVE))
    reader = store.reader()
    try:
        with reader.view() as view:
            return {(cid, e.seq): e.body for cid in cids for e in view.events(cid, 1, 10**9, 10**6, 10**9)}
    finally:
        reader.close()
        store.close()


def cuts(recording: Recording, count: int, seed: int) -> Iterator[int]:
    """`count` places, spread evenly with a seeded jitter: all parts of the run get their share."""
    rng = random.Random(seed)
    for index in range(count):
        yield min(recording.places - 1, int((index + rng.random()) * recording.places / count))
