"""The folder's loop says how far it is, survives a full disk and a pipe that nobody reads, and stops when told."""

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.journal_batches import event_batch

from chatd.errors import StoreFullError
from chatd.storage import fold_loop
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

RESERVE = {"reserve_bytes": 4096, "slack_bytes": 4096}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path, StoreSettings(**RESERVE))
    store.append(1, 1, codec.encode_row(row_record("conversation", {"id": 1})))
    store.append(2, 50, event_batch(2, 50, before=1))
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path, store: SqliteStore) -> Iterator[SqliteFolder]:
    folder = SqliteFolder.open(tmp_path, Portion, FoldSettings(portion_records=1, **RESERVE))
    yield folder
    folder.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def run(folder: SqliteFolder, pipe: int) -> tuple[threading.Event, threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=fold_loop.fold_until, args=(stop, folder, pipe), kwargs={"interval_s": 0.01})
    thread.start()
    return stop, thread


def told(pipe: int) -> int:
    position: int = struct.unpack("<Q", os.read(pipe, 8))[0]
    return position


def test_positions_are_told_as_they_are_folded(folder: SqliteFolder, store: SqliteStore, pipe: tuple[int, int]) -> None:
    stop, thread = run(folder, pipe[1])
    assert [told(pipe[0]), told(pipe[0])] == [1, 51]
    store.append(52, 1, event_batch(52, 1, before=1))
    assert told(pipe[0]) == 52
    stop.set()
    thread.join()
    assert store.folded_pos() == 52


def test_a_full_pipe_does_not_hold_the_fold_up(folder: SqliteFolder, pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    written = 0
    while fold_loop.tell(pipe[1], 7):
        written += 1
    stop, thread = run(folder, pipe[1])
    for _ in range(written):
        assert told(pipe[0]) == 7
    assert told(pipe[0]) in {1, 51}
    stop.set()
    thread.join()


def test_a_full_disk_is_waited_for(
    folder: SqliteFolder, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_loop, "RETRY_S", 0.001)
    fold_once, failures = folder.fold_once, [StoreFullError("full"), StoreFullError("full")]

    def full_twice() -> object:
        if failures:
            raise failures.pop()
        return fold_once()

    monkeypatch.setattr(folder, "fold_once", full_twice)
    stop, thread = run(folder, pipe[1])
    assert told(pipe[0]) == 1
    stop.set()
    thread.join()
    assert not failures


def test_only_the_first_portion_is_folded_with_low_priority(
    folder: SqliteFolder, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold_once, seen = folder.fold_once, []

    def watched() -> object:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return fold_once()

    monkeypatch.setattr(folder, "fold_once", watched)
    stop, thread = run(folder, pipe[1])
    assert [told(pipe[0]), told(pipe[0])] == [1, 51]
    stop.set()
    thread.join()
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert seen[:2] == [min(19, usual + fold_loop.POLITE_NICE), usual]


def test_a_pipe_without_a_reader_ends_the_loop(folder: SqliteFolder) -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        fold_loop.fold_until(threading.Event(), folder, write)
    os.close(write)
