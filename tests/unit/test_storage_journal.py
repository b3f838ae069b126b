"""The journal appends, replays and refuses what contradicts itself."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from support.journal_batches import event_batch

from chatd.errors import LocalProtocolError, StoreCorruptError, StoreFailedError, StoreLockedError
from chatd.storage.interface import parse_row, row_record
from chatd.storage.sqlite.directory import segment_numbers, segment_path
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

SMALL = StoreSettings(segment_bytes=64 * 1024, reserve_bytes=64 * 1024, slack_bytes=64 * 1024)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path, SMALL)
    yield store
    store.close()


def fill(store: SqliteStore, batches: int, count: int = 50) -> None:
    for _ in range(batches):
        store.append(store.next_pos, count, event_batch(store.next_pos, count))


def test_what_was_appended_is_replayed_after_reopening(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 30)
    assert len(segment_numbers(tmp_path)) > 2
    store.close()
    again = SqliteStore.open(tmp_path, SMALL)
    assert again.next_pos == 1501
    assert again.log_epoch == store.log_epoch
    assert again.boot_count > store.boot_count
    batches = list(again.replay(0))
    assert [batch.pos for batch in batches] == list(range(1, 1501, 50))
    assert all(batch.blob == event_batch(batch.pos, 50) for batch in batches)
    again.close()


def test_only_one_process_holds_the_directory(tmp_path: Path, store: SqliteStore) -> None:
    with pytest.raises(StoreLockedError, match="another process is its hub"):
        SqliteStore.open(tmp_path, SMALL)


def test_a_missing_segment_in_the_middle_is_refused(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 30)
    store.close()
    segment_path(tmp_path, 2).unlink()
    with pytest.raises(StoreCorruptError, match="begins at record"):
        SqliteStore.open(tmp_path, SMALL)


def test_missing_oldest_unfolded_records_are_refused(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 30)
    store.close()
    segment_path(tmp_path, 1).unlink()
    with pytest.raises(StoreCorruptError, match=r"journal records 1 \.\. \d+ are missing"):
        SqliteStore.open(tmp_path, SMALL)


def test_a_missing_newest_segment_is_refused(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 30)
    store.close()
    segment_path(tmp_path, segment_numbers(tmp_path)[-1]).unlink()
    with pytest.raises(StoreCorruptError, match="the journal was being written there"):
        SqliteStore.open(tmp_path, SMALL)


def test_a_lost_wal_is_refused_not_taken_for_an_empty_segment(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    segment_path(tmp_path, 1).with_name("journal-00000001.db-wal").unlink()
    with pytest.raises(StoreCorruptError, match="wal missing"):
        SqliteStore.open(tmp_path, SMALL)


def test_a_lost_journal_is_refused_unless_accepted_with_a_new_epoch(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    for path in tmp_path.glob("journal-*"):
        path.unlink()
    with pytest.raises(StoreCorruptError, match="no journal files"):
        SqliteStore.open(tmp_path, SMALL)
    again = SqliteStore.open(tmp_path, SMALL, accept_lost_journal=True)
    assert again.log_epoch != store.log_epoch
    again.close()


def test_a_missing_main_database_is_never_made_anew(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    (tmp_path / "chatd.db").unlink()
    with pytest.raises(StoreCorruptError, match="never made anew"):
        SqliteStore.open(tmp_path, SMALL)
    (tmp_path / "chatd.db").touch()
    with pytest.raises(StoreCorruptError, match="is empty"):
        SqliteStore.open(tmp_path, SMALL)


def test_a_damaged_main_database_is_refused_with_findings(tmp_path: Path, store: SqliteStore) -> None:
    store.close()
    for name in ("chatd.db-wal", "chatd.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with (tmp_path / "chatd.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 3))
    before = (tmp_path / "chatd.db").read_bytes()
    with pytest.raises(StoreCorruptError, match="damaged") as caught:
        SqliteStore.open(tmp_path, SMALL)
    assert caught.value.findings
    assert (tmp_path / "chatd.db").read_bytes() == before


def test_a_torn_last_batch_is_dropped(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    wal = tmp_path / "journal-00000001.db-wal"
    os.truncate(wal, wal.stat().st_size - 700)
    (tmp_path / "journal-00000001.db-shm").unlink(missing_ok=True)
    again = SqliteStore.open(tmp_path, SMALL)
    assert again.next_pos == 101
    fill(again, 2)
    assert sum(batch.record_count for batch in again.replay(0)) == 200
    again.close()


def test_a_wal_damaged_in_the_middle_is_refused(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 6)
    store.close()
    wal = tmp_path / "journal-00000001.db-wal"
    with wal.open("r+b") as file:
        file.seek(wal.stat().st_size // 3)
        file.write(b"rot")
    (tmp_path / "journal-00000001.db-shm").unlink(missing_ok=True)
    with pytest.raises(StoreCorruptError, match="committed batches lie behind"):
        SqliteStore.open(tmp_path, SMALL)


def test_a_segment_whose_creation_was_cut_short_is_removed(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    connection = apsw.Connection(str(segment_path(tmp_path, 2)))
    connection.pragma("journal_mode", "wal")
    connection.close()
    again = SqliteStore.open(tmp_path, SMALL)
    assert segment_numbers(tmp_path) == [1]
    assert again.next_pos == 151
    again.close()


def test_a_segment_of_another_directory_is_refused(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    other = SqliteStore.open(tmp_path / "other", SMALL)
    fill(other, 3)
    other.close()
    for path in (tmp_path / "other").glob("journal-*"):
        shutil.copy(path, tmp_path / path.name)
    with pytest.raises(StoreCorruptError, match="another data directory"):
        SqliteStore.open(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("event", {"cid": 1}),
        ("user", {"name": "without a key"}),
        ("user", {"id": 1, "nickname": "x"}),
        ("user", {"id": 1, "name": None}),
        ("user", {"id": 1, "flags": "1"}),
        ("user", {"id": 2**63}),
    ],
)
def test_rows_that_the_fold_would_refuse_cannot_be_made(table: str, values: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        row_record(table, values)


def test_rows_are_read_back_without_what_the_fold_derives() -> None:
    payload = row_record("conversation", {"id": 1, "title": "t", "head_seq": 5})
    assert parse_row(payload) == ("conversation", {"id": 1, "title": "t"}, False)
    assert parse_row(row_record("user", {"id": 1}, deleted=True)) == ("user", {"id": 1}, True)
    for broken in (b"", b"\xc1", b"\x92\xa4user\x05", b"\x91\xa4user", b"\x05"):
        with pytest.raises(ValueError, match="not a row record"):
            parse_row(broken)


def test_a_read_only_store_reads_and_writes_nothing(tmp_path: Path, store: SqliteStore) -> None:
    fill(store, 3)
    store.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
    reading = SqliteStore.open(tmp_path, SMALL._replace(read_only=True))
    assert reading.boot_count > store.boot_count
    assert sum(batch.record_count for batch in reading.replay(0)) == 150
    with reading.reader().view() as view:
        assert view.folded_pos == 0
    with pytest.raises(StoreFailedError, match="read-only"):
        fill(reading, 1)
    reading.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")} == before
    again = SqliteStore.open(tmp_path, SMALL)
    assert again.boot_count > reading.boot_count
    again.close()
