"""The fold on SQLite: segments, checkpoints and locks. What both stores promise is in test_stores.py."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.journal_batches import event_batch

from chatd.errors import StorageError, StoreCorruptError, StoreLockedError
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.directory import segment_numbers
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

SMALL = StoreSettings(segment_bytes=64 * 1024, reserve_bytes=64 * 1024, slack_bytes=64 * 1024)
FOLD = FoldSettings(reserve_bytes=64 * 1024, slack_bytes=64 * 1024, segment_age_s=0, checkpoint_interval_s=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path, SMALL)
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path, store: SqliteStore) -> Iterator[SqliteFolder]:
    folder = SqliteFolder.open(tmp_path, Portion, FOLD)
    yield folder
    folder.close()


def append(store: SqliteStore, *records: bytes) -> None:
    store.append(store.next_pos, len(records), b"".join(records))


def fold_all(folder: SqliteFolder) -> int:
    records = 0
    while (result := folder.fold_once()).records:
        records += result.records
    return records


def test_segments_go_when_folded_and_old_but_never_the_one_in_use(tmp_path: Path, store: SqliteStore) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    for _ in range(60):
        store.append(store.next_pos, 50, event_batch(store.next_pos, 50, before=1))
    assert len(segment_numbers(tmp_path)) > 4
    young = SqliteFolder.open(tmp_path, Portion, FOLD._replace(segment_age_s=3600))
    fold_all(young)
    young.settle()
    young.close()
    assert len(segment_numbers(tmp_path)) > 4
    folder = SqliteFolder.open(tmp_path, Portion, FOLD)
    folder.settle()
    assert len(segment_numbers(tmp_path)) == 1
    folder.close()
    next_pos = store.next_pos
    assert store.first_pos() > 1
    store.close()
    again = SqliteStore.open(tmp_path, SMALL)
    assert again.next_pos == next_pos
    assert list(again.replay(next_pos - 1)) == []
    with pytest.raises(StoreCorruptError, match="are missing"):
        list(again.replay(0))
    again.close()


def test_a_segment_is_kept_while_a_reader_holds_the_checkpoint_back(
    tmp_path: Path, store: SqliteStore, folder: SqliteFolder
) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    fold_all(folder)
    reader = store.reader()
    with reader.view():
        for _ in range(30):
            store.append(store.next_pos, 50, event_batch(store.next_pos, 50, before=1))
        fold_all(folder)
        folder.settle()
        assert segment_numbers(tmp_path)[0] == 1
    folder.settle()
    assert segment_numbers(tmp_path)[0] > 1
    reader.close()


def test_one_folder_at_a_time_and_only_where_a_store_is(tmp_path: Path, folder: SqliteFolder) -> None:
    with pytest.raises(StoreLockedError, match="its folder"):
        SqliteFolder.open(tmp_path, Portion, FOLD)
    with pytest.raises(StorageError, match="no store"):
        SqliteFolder.open(tmp_path / "nowhere", Portion, FOLD)


def test_fold_costs_are_counted_by_stage(store: SqliteStore, folder: SqliteFolder) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    before = time.thread_time_ns()
    fold_all(folder)
    assert 0 < sum(folder.cost_ns.values()) <= time.thread_time_ns() - before
