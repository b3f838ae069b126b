"""The ack-after-fsync oracle at the level of the store.

A seeded run appends batches (and folds, checkpoints, unlinks) while every change of the disk is recorded. Then the
power is cut at many places and in several ways; each time a store is opened on what is left, and every batch whose
append had returned must be there: in the main database or in the journal, in order and byte for byte.

    PYTHONPATH=.:tests python -m support.powercut --cuts 2000 --seed 1
"""

import argparse
import random
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from chatd.errors import StorageError
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.lock_file import LockFile
from chatd.storage.portion import Portion
from chatd.storage.sqlite import segment_chain
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.directory import remove_database
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
from support.faultvfs import FaultVfs, Keep
from support.journal_batches import Traffic

RESERVE = {"reserve_bytes": 4096, "slack_bytes": 4096}
KEEPS: tuple[Keep, ...] = ("none", "all", "random", "torn")


class Run(NamedTuple):
    """batches: all of them by position. The marks of the disk journal are the highest acknowledged positions."""

    vfs: FaultVfs
    traffic: Traffic
    batches: dict[int, tuple[int, bytes]]


def record_run(directory: Path, vfs: FaultVfs, seed: int, batches: int) -> Run:
    rng = random.Random(seed)
    store = SqliteStore.open(directory, StoreSettings(segment_bytes=48 * 1024, vfs=vfs.name, **RESERVE))
    settings = FoldSettings(segment_age_s=-1, checkpoint_interval_s=0, portion_records=150, vfs=vfs.name, **RESERVE)
    folder = SqliteFolder.open(directory, Portion, settings)
    rows = [row_record("conversation", {"id": cid, "kind": 2}) for cid in range(1, 7)]
    rows += [row_record("device", {"id": device}) for device in range(1, 5)]
    setup = b"".join(codec.encode_row(row) for row in rows)
    traffic = Traffic(seed, conversations=6, devices=4, pos=len(rows) + 1)
    journal = vfs.journal
    journal.start(directory)
    original = LockFile.write

    def write_lock(lock: LockFile, text: str) -> None:
        original(lock, text)
        journal.add("replace", "lock", data=text.encode())

    def unlink(path: Path) -> None:
        remove_database(path)
        for name in (path.name, path.name + "-wal"):
            journal.add("delete", name)

    appended: dict[int, tuple[int, bytes]] = {}
    with patch.object(LockFile, "write", write_lock), patch.object(segment_chain, "remove_database", unlink):
        for index in range(batches):
            batch = (1, len(rows), setup) if index == 0 else traffic.batch(rng.randint(1, 30))
            appended[batch[0]] = batch[1:]
            store.append(*batch)
            journal.mark(store.next_pos - 1)
            if rng.random() < 0.2:
                folder.fold_once()
    journal.recording = False
    folder.close()
    store.close()
    return Run(vfs, traffic, appended)


def violation(run: Run, cut: int, keep: Keep, seed: int, directory: Path) -> str | None:
    """What is wrong after this cut; None when the store keeps its word."""
    for name, content in run.vfs.journal.disk_after(cut, keep, random.Random(seed)).items():
        (directory / name).write_bytes(content)
    acked = max(run.vfs.journal.marks_before(cut), default=0)
    try:
        store = SqliteStore.open(directory, StoreSettings(**RESERVE))
    except StorageError as error:
        return f"does not open: {error}"
    try:
        if store.next_pos <= acked:
            return f"acknowledged up to {acked}, found up to {store.next_pos - 1}"
        for batch in store.replay(store.folded_pos()):
            if run.batches[batch.pos] != batch[1:]:
                return f"the batch at {batch.pos} has other content"
        folder = SqliteFolder.open(directory, Portion, FoldSettings(**RESERVE))
        while folder.fold_once().records:
            pass
        folder.close()
        findings = check_store(directory, codec.decode_batch).findings
        if findings:
            return f"check: {findings[0]}"
        return wrong_event(run, store)
    finally:
        store.close()


def wrong_event(run: Run, store: SqliteStore) -> str | None:
    reader = store.reader()
    with reader.view() as view:
        for cid in range(1, run.traffic.conversations + 1):
            for event in view.events(cid, 1, 10**9, 10**6, 10**9):
                if run.traffic.events[cid, event.seq][9] != event.body:
                    return f"event {cid}:{event.seq} has another body"
    reader.close()
    return None


def violations(seed: int, cuts: int, batches: int, directory: Path) -> list[str]:
    """Cut at `cuts` random places of one run, every place in one of the ways of KEEPS."""
    found = []
    with FaultVfs(f"powercut{seed}") as vfs:
        (directory / "run").mkdir()
        run = record_run(directory / "run", vfs, seed, batches)
        rng = random.Random(seed + 1)
        for index in range(cuts):
            cut, keep = rng.randint(0, len(vfs.journal.entries)), KEEPS[index % len(KEEPS)]
            with tempfile.TemporaryDirectory(dir=directory) as image:
                text = violation(run, cut, keep, seed + index, Path(image))
            if text:
                found.append(f"seed {seed} cut {cut} keep {keep}: {text}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = violations(options.seed, options.cuts, 60, Path(directory))
    print("\n".join(found) or f"{options.cuts} cuts, every acknowledged batch was there")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
