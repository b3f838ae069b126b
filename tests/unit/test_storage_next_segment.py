"""A busy journal goes on in a segment that was filled with zeros before; a crash loses none of it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.journal_batches import event_batch

from chatd.storage.sqlite import journal
from chatd.storage.sqlite.directory import segment_in_use, segment_numbers, segment_path
from chatd.storage.sqlite.segment import wal_path
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

SEGMENT_BYTES = 512 * 1024
SETTINGS = StoreSettings(segment_bytes=SEGMENT_BYTES, reserve_bytes=64 * 1024, slack_bytes=64 * 1024)


@pytest.fixture(autouse=True)
def prepare_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PREPARE_AT_BYTES", 64 * 1024)


def append(store: SqliteStore, count: int = 50) -> None:
    store.append(store.next_pos, count, event_batch(store.next_pos, count))


def append_until(store: SqliteStore, reached: Callable[[], bool]) -> None:
    """Slowly enough for the thread that fills the next segment."""
    deadline_s = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline_s
        append(store)
        time.sleep(0.001)


def wal_size(directory: Path, number: int) -> int:
    return wal_path(segment_path(directory, number)).stat().st_size


def assert_replays(store: SqliteStore) -> None:
    batches = list(store.replay(0))
    assert [batch.pos for batch in batches] == list(range(1, store.next_pos, 50))
    assert all(batch.blob == event_batch(batch.pos, 50) for batch in batches)


def test_batches_go_over_zeros_once_they_are_there(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path, SETTINGS)
    append_until(store, lambda: segment_in_use(tmp_path) == 2)
    assert wal_size(tmp_path, 1) < SEGMENT_BYTES  # it was left early
    filled = wal_size(tmp_path, 2)
    assert filled >= SEGMENT_BYTES
    for _ in range(10):
        append(store)
    assert wal_size(tmp_path, 2) == filled
    append_until(store, lambda: segment_in_use(tmp_path) == 3)
    assert_replays(store)
    store.close()
    assert segment_numbers(tmp_path) == [1, 2, 3]  # what was made ready is gone
    again = SqliteStore.open(tmp_path, SETTINGS)
    append(again)
    assert_replays(again)
    again.close()


def test_a_crash_leaves_a_prepared_segment_that_the_next_start_removes(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path, SETTINGS)
    append_until(store, lambda: segment_in_use(tmp_path) == 2)
    append_until(store, lambda: segment_numbers(tmp_path)[-1] == 3)
    assert segment_in_use(tmp_path) == 2
    prepared, store._journal._next = store._journal._next, None
    assert prepared is not None
    connection = prepared.take()
    assert connection is not None
    connection.close()
    store.close()
    assert segment_numbers(tmp_path) == [1, 2, 3]
    again = SqliteStore.open(tmp_path, SETTINGS)
    assert segment_numbers(tmp_path) == [1, 2]
    append(again)
    assert_replays(again)
    again.close()


def test_nothing_is_prepared_where_the_disk_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PREPARE_FREE_SEGMENTS", 1 << 40)
    store = SqliteStore.open(tmp_path, SETTINGS)
    append_until(store, lambda: segment_in_use(tmp_path) == 2)
    assert wal_size(tmp_path, 1) >= SEGMENT_BYTES
    assert wal_size(tmp_path, 2) < SEGMENT_BYTES
    assert_replays(store)
    store.close()
