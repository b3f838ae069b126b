"""A full disk refuses batches and recovers; a failed write or fsync ends the writer, and is never tried again."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from support.faultvfs import FULL, IOERR_FSYNC, IOERR_READ, IOERR_WRITE, FaultVfs
from support.journal_batches import event_batch

from chatd.errors import StorageError, StoreFailedError, StoreFullError
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

RESERVE = {"reserve_bytes": 64 * 1024, "slack_bytes": 64 * 1024}
MIB = 1024 * 1024


@pytest.fixture
def vfs() -> Iterator[FaultVfs]:
    with FaultVfs("storage_errors") as vfs:
        yield vfs


@pytest.fixture
def store(tmp_path: Path, vfs: FaultVfs) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path, StoreSettings(segment_bytes=64 * 1024, vfs=vfs.name, **RESERVE))
    store.append(1, 1, codec.encode_row(row_record("conversation", {"id": 1})))
    yield store
    store.close()


def fill(store: SqliteStore, batches: int = 1) -> None:
    for _ in range(batches):
        store.append(store.next_pos, 20, event_batch(store.next_pos, 20, before=1))


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_batch_that_does_not_fit_leaves_nothing_behind(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs, after: int
) -> None:
    fill(store, 2)
    before = store.next_pos
    vfs.fail("write", "-wal", FULL, after=after)
    with pytest.raises(StoreFullError):
        fill(store)
    assert store.next_pos == before
    fill(store, 2)
    store.close()
    again = SqliteStore.open(tmp_path, StoreSettings(**RESERVE))
    assert again.next_pos == before + 40
    assert sum(batch.record_count for batch in again.replay(0)) == again.next_pos - 1
    again.close()


def test_an_urgent_batch_uses_the_reserve(store: SqliteStore, vfs: FaultVfs) -> None:
    vfs.fail("write", "-wal", FULL)
    store.append(store.next_pos, 20, event_batch(store.next_pos, 20, before=1), urgent=True)
    assert store.next_pos == 22


def test_a_segment_that_cannot_be_created_for_space_is_a_full_disk(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs
) -> None:
    while (tmp_path / "journal-00000001.db-wal").stat().st_size < 64 * 1024:
        fill(store)
    vfs.fail("write", "journal-00000002.db", FULL)
    with pytest.raises(StoreFullError, match="cannot create"):
        fill(store)
    assert not (tmp_path / "journal-00000002.db").exists()
    fill(store, 2)


@pytest.mark.parametrize(("operation", "code"), [("sync", IOERR_FSYNC), ("write", IOERR_WRITE)])
def test_an_io_error_ends_the_writer_and_is_not_retried(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs, operation: str, code: int
) -> None:
    fill(store, 2)
    before = store.next_pos
    vfs.fail(operation, "-wal", code)  # type: ignore[arg-type]
    with pytest.raises(StoreFailedError, match="SQLITE_IOERR"):
        fill(store)
    vfs.fail("write", "-wal", FULL)
    vfs.fail("sync", "-wal", FULL)
    with pytest.raises(StoreFailedError, match="failed before"):
        fill(store)
    assert "SQLITE_FULL" not in vfs.fired, "the file was touched again"
    vfs.forget_failures()
    store.close()
    again = SqliteStore.open(tmp_path, StoreSettings(**RESERVE))
    assert again.next_pos in {before, before + 20}, "what was not acknowledged may be there or not"
    fill(again)
    again.close()


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_after_the_power_has_gone_in_the_middle_of_a_commit_nothing_is_done(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs, operation: str
) -> None:
    fill(store, 2)
    before = store.next_pos
    vfs.journal.start(tmp_path)
    vfs.cut_power(operation, "-wal")  # type: ignore[arg-type]
    with pytest.raises(StoreFailedError, match="SQLITE_IOERR"):
        fill(store)
    assert vfs.powerless
    store.close()
    with pytest.raises(StorageError):
        SqliteStore.open(tmp_path, StoreSettings(vfs=vfs.name, **RESERVE))
    kinds = {entry.kind for entry in vfs.journal.entries}
    assert kinds == ({"write"} if operation == "sync" else set()), "what came later was remembered"
    for name, data in vfs.journal.disk_after(len(vfs.journal.entries), "none", Random(1)).items():
        (tmp_path / name).write_bytes(data)
    assert bool(vfs.journal.lost_bytes) == (operation == "sync")
    vfs.power_returns()
    again = SqliteStore.open(tmp_path, StoreSettings(vfs=vfs.name, **RESERVE))
    assert again.next_pos == before
    again.close()


def test_a_batch_that_was_not_synced_is_shown_to_nobody_before_it_is(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs
) -> None:
    fill(store, 2)
    durable = store.next_pos
    vfs.fail("sync", "-wal", IOERR_FSYNC)
    with pytest.raises(StoreFailedError):
        fill(store)
    store.close()
    reading = SqliteStore.open(tmp_path, StoreSettings(read_only=True, **RESERVE))
    assert reading.next_pos == durable
    assert [batch.pos for batch in reading.replay(0)] == [1, 2, 22], "all that was acknowledged, and no more"
    folder = SqliteFolder.open(tmp_path, Portion, FoldSettings(**RESERVE))
    assert folder.fold_once().folded_pos == durable - 1
    assert not folder.fold_once().records
    reading.close()
    again = SqliteStore.open(tmp_path, StoreSettings(**RESERVE))
    assert again.next_pos == durable + 20, "synced by the open"
    assert folder.fold_once().folded_pos == durable + 19
    folder.close()
    again.close()


def test_an_acknowledged_last_batch_stays_readable_when_the_disk_writes_no_more(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs
) -> None:
    fill(store, 2)
    vfs.fail("write", "-wal", IOERR_WRITE)
    with pytest.raises(StoreFailedError):
        fill(store)
    store.close()
    reading = SqliteStore.open(tmp_path, StoreSettings(read_only=True, **RESERVE))
    assert [batch.pos for batch in reading.replay(0)] == [1, 2, 22]
    reading.close()


@pytest.mark.parametrize("operation", ["write", "sync", "read"])
def test_a_fold_that_fails_changes_nothing_and_is_repeated_by_the_next(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs, operation: str
) -> None:
    fill(store, 5)
    settings = FoldSettings(vfs=vfs.name, checkpoint_interval_s=0, **RESERVE)
    folder = SqliteFolder.open(tmp_path, Portion, settings)
    codes = {"write": IOERR_WRITE, "sync": IOERR_FSYNC, "read": IOERR_READ}
    vfs.fail(operation, "chatd.db-wal", codes[operation])  # type: ignore[arg-type]
    with pytest.raises(StoreFailedError):
        folder.fold_once()
    folder.close()
    again = SqliteFolder.open(tmp_path, Portion, FoldSettings(**RESERVE))
    while again.fold_once().records:
        pass
    again.close()
    assert store.folded_pos() == store.next_pos - 1
    assert check_store(tmp_path, codec.decode_batch).findings == []


def test_a_full_disk_stops_the_fold_until_there_is_space(tmp_path: Path, store: SqliteStore, vfs: FaultVfs) -> None:
    fill(store, 5)
    folder = SqliteFolder.open(tmp_path, Portion, FoldSettings(vfs=vfs.name, **RESERVE))
    vfs.fail("write", "chatd.db-wal", FULL)
    with pytest.raises(StoreFullError):
        folder.fold_once()
    assert folder.fold_once().records == 101
    folder.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if shutil.which("mount") is None:
        pytest.skip("needs mount(8)")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_really_full_disk_refuses_serves_and_recovers(small_disk: Path) -> None:
    settings = StoreSettings(segment_bytes=MIB, reserve_bytes=MIB, slack_bytes=MIB)
    store = SqliteStore.open(small_disk, settings)
    store.append(1, 1, codec.encode_row(row_record("conversation", {"id": 1})))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * MIB))
    with pytest.raises(StoreFullError):
        fill(store, 5000)
    assert store.full
    with pytest.raises(StoreFullError):
        fill(store)
    store.append(store.next_pos, 1, event_batch(store.next_pos, 1, before=1), urgent=True)
    assert sum(batch.record_count for batch in store.replay(0)) == store.next_pos - 1
    folder = SqliteFolder.open(small_disk, Portion, FoldSettings(portion_records=100, reserve_bytes=0))
    assert folder.fold_once().records > 0
    folder.close()
    ballast.unlink()
    fill(store)
    assert not store.full
    assert (small_disk / "reserve").stat().st_blocks * 512 >= MIB
    store.close()
    assert check_store(small_disk, codec.decode_batch).findings == []


def test_a_batch_whose_sync_failed_does_not_come_back_behind_a_new_segment(
    tmp_path: Path, store: SqliteStore, vfs: FaultVfs
) -> None:
    """The folder keeps the WAL index of the segment alive, and that does not count the batch that lies behind."""
    fill(store)
    folder = SqliteFolder.open(tmp_path, Portion, FoldSettings(vfs=vfs.name, **RESERVE))
    folder.fold_once()
    before = store.next_pos
    vfs.fail("sync", "-wal", IOERR_FSYNC)
    with pytest.raises(StoreFailedError):
        fill(store)
    store.close()
    again = SqliteStore.open(tmp_path, StoreSettings(segment_bytes=1, vfs=vfs.name, **RESERVE))
    assert again.next_pos == before
    fill(again, 2)
    again.close()
    folder.close()
    for index in tmp_path.glob("*-shm"):
        index.unlink()
    last = SqliteStore.open(tmp_path, StoreSettings(**RESERVE))
    assert last.next_pos == before + 40
    last.close()
