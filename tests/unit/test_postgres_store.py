"""What only a database does to a store: sessions end, connections run out, answers come late."""

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trio
from support.journal_batches import event_batch
from support.postgres import Postgres
from support.stores import PostgresPlace

from chatd.errors import ConfigError, StoreLockedError, StoreLostError
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.postgresql import reader as reader_module
from chatd.storage.postgresql import store as store_module
from chatd.storage.postgresql.connection import connect, database_name, shown
from chatd.storage.postgresql.reader import PostgresReader
from chatd.storage.postgresql.store import PostgresStore
from chatd.storage.stores import open_store

END_SESSION = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE application_name = 'chatd {}' AND datname = '{}'"
)


@pytest.fixture
def place(tmp_path: Path, postgres: Postgres) -> PostgresPlace:
    return PostgresPlace(tmp_path, postgres)


@pytest.fixture
def store(place: PostgresPlace) -> Iterator[PostgresStore]:
    store = place.open()
    store.append(1, 1, codec.encode_row(row_record("conversation", {"id": 1})))
    store.append(2, 20, event_batch(2, 20, before=1))
    yield store
    store.close()


def end_sessions(place: PostgresPlace, role: str) -> None:
    place.server.sql(END_SESSION.format(role, place.where.rpartition("/")[2]))


async def test_the_end_of_the_session_ends_the_store(place: PostgresPlace, store: PostgresStore) -> None:
    end_sessions(place, "hub")
    with pytest.raises(StoreLostError, match="has ended"), trio.fail_after(10):
        await store.lost()
    with pytest.raises(StoreLostError):
        store.append(22, 1, event_batch(22, 1, before=1))
    store.close()
    with closing(place.open()) as again:
        assert again.next_pos == 22


async def test_a_server_that_does_not_answer_is_lost(
    place: PostgresPlace, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT_S", 0.2)
    pids = place.server.backends("chatd hub")
    for pid in pids:
        place.server.signal(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreLostError, match="in time"), trio.fail_after(10):
            await store.begin_append(22, 1, event_batch(22, 1, before=1))
    finally:
        for pid in pids:
            place.server.signal(pid, signal.SIGCONT)
    store.close()
    # The old session may have stored the batch all the same: who opens next waits for its end, and reads.
    with closing(place.open()) as again:
        assert again.next_pos in {22, 23}
        assert sum(batch.record_count for batch in again.replay(0)) == again.next_pos - 1


def test_a_reader_takes_another_connection_when_its_own_has_ended(place: PostgresPlace, store: PostgresStore) -> None:
    with closing(store.reader()) as reader:
        with reader.view() as view:
            assert view.folded_pos == 0
        end_sessions(place, "reader")
        with reader.view() as view:
            assert view.folded_pos == 0

        def lose() -> None:
            with reader.view() as view:
                end_sessions(place, "reader")
                view.counts()

        with pytest.raises(StoreLostError):
            lose()
        with reader.view() as view:
            assert view.counts().events == 0


def test_readers_are_bounded_and_waited_for_a_moment(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "POOL_WAIT_S", 0.1)
    with closing(store.reader()) as reader, ExitStack() as views:
        for _ in range(4):
            views.enter_context(reader.view())
        with pytest.raises(StoreLostError, match=r"all 4 connections to .* are in use"):
            views.enter_context(reader.view())
    monkeypatch.setattr(reader_module, "POOL_WAIT_S", 10)
    with closing(PostgresReader(store._bridge, store._dsn, 1)) as reader:
        entered: queue.Queue[int] = queue.Queue()

        def enter() -> None:
            with reader.view() as view:
                entered.put(view.folded_pos)

        with reader.view():
            thread = threading.Thread(target=enter)
            thread.start()
            assert entered.empty()
        thread.join(10)
        assert entered.get_nowait() == 0


def test_a_server_with_no_connection_to_give_is_lost_for_readers_only(
    place: PostgresPlace, store: PostgresStore
) -> None:
    name = place.where.rpartition("/")[2]
    with closing(store.reader()) as reader:
        place.server.sql(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        with pytest.raises(StoreLostError, match="too many connections"), reader.view():
            pass
        store.append(22, 1, event_batch(22, 1, before=1))
        place.server.sql(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        with reader.view() as view:
            assert view.folded_pos == 0


def test_the_fold_goes_on_with_another_connection(place: PostgresPlace, store: PostgresStore) -> None:
    with closing(place.folder()) as folder:
        end_sessions(place, "folder")
        assert folder.fold_once() == (21, 21, False)
        with pytest.raises(StoreLostError, match="another folder still works"):
            place.folder()


def test_whoever_comes_second_is_told_who_was_first(
    place: PostgresPlace, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_S", 0.2)
    with pytest.raises(StoreLockedError, match=r"another chatd writes to it \(127\.0\.0\.1, server process \d+\)"):
        place.open()


def test_an_unreachable_server_is_named_without_the_password() -> None:
    with pytest.raises(StoreLostError, match=r"cannot connect to postgresql://127\.0\.0\.1:1/x") as lost:
        PostgresStore.open("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(lost.value)
    assert shown("postgresql://me:secret@a,b:2/x?sslmode=require") == "postgresql://a,b:2/x?sslmode=require"


async def test_a_session_that_ends_before_its_first_question_is_a_lost_one(
    place: PostgresPlace, store: PostgresStore
) -> None:
    async def ask() -> None:
        connection = await connect(place.where, "short")
        end_sessions(place, "short")
        await database_name(connection)

    with pytest.raises(StoreLostError, match="cannot open the PostgreSQL database"):
        await store._bridge.call(ask)


def test_a_directory_keeps_the_kind_of_store_it_was_made_with(place: PostgresPlace, tmp_path: Path) -> None:
    ours, files = tmp_path / "ours", tmp_path / "files"
    open_store(place.where, ours).close()
    with pytest.raises(ConfigError, match="keeps its store in PostgreSQL"):
        open_store("sqlite", ours)
    open_store(place.where, ours).close()
    open_store("sqlite", files).close()
    with pytest.raises(ConfigError, match="holds a store in files"):
        open_store(place.where, files)
