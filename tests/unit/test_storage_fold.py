"""Folding puts every record in its place once, whatever was folded before and wherever it was interrupted."""

import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from support.journal_batches import TS0, Traffic, event_batch

from chatd.errors import StorageError, StoreCorruptError, StoreLockedError
from chatd.storage import journal_codec as codec
from chatd.storage.interface import StoredSend, row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.directory import segment_numbers
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

SMALL = StoreSettings(segment_bytes=64 * 1024, reserve_bytes=64 * 1024, slack_bytes=64 * 1024)
FOLD = FoldSettings(reserve_bytes=64 * 1024, slack_bytes=64 * 1024, segment_age_s=0, checkpoint_interval_s=0)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


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


def conversation_rows(count: int, devices: int = 0) -> tuple[int, bytes]:
    rows = [row_record("conversation", {"id": cid, "kind": 2}) for cid in range(1, count + 1)]
    rows += [row_record("device", {"id": device, "uid": device}) for device in range(1, devices + 1)]
    return len(rows), b"".join(codec.encode_row(row) for row in rows)


def append(store: SqliteStore, *records: bytes) -> None:
    store.append(store.next_pos, len(records), b"".join(records))


def fold_all(folder: SqliteFolder) -> int:
    records = 0
    while (result := folder.fold_once()).records:
        records += result.records
    return records


def test_folded_events_equal_the_model(tmp_path: Path, store: SqliteStore, folder: SqliteFolder) -> None:
    traffic = Traffic(seed=1, pos=31)
    store.append(1, *conversation_rows(20, 10))
    for _ in range(40):
        store.append(*traffic.batch(traffic.random.randint(1, 60)))
        if traffic.random.random() < 0.3:
            folder.fold_once()
    fold_all(folder)
    assert store.folded_pos() == store.next_pos - 1
    reader = store.reader()
    with reader.view() as view:
        for cid, head in traffic.heads.items():
            events = view.events(cid, 1, head + 5, 10_000, 10**9)
            model = [traffic.events[cid, seq] for seq in range(1, head + 1)]
            assert [tuple(event) for event in events] == [(*e[:4], e[6], *e[9:]) for e in model]
            first, last = sorted(traffic.random.choices(range(1, head + 4), k=2))
            assert view.events(cid, first, last, 10_000, 10**9) == events[first - 1 : last]
            assert view.message_count_at(cid, last) == min(last, head)
            conversation = view.conversation(cid)
            assert conversation is not None
            assert (conversation.head_seq, conversation.message_count) == (head, head)
        for (device, cseq), (cid, seq) in traffic.idempotency.items():
            stored = traffic.events.get((cid, seq))
            expected = StoredSend(cid, seq, stored[2] if stored else 0, stored[8] % 2**64 if stored else 0)
            assert view.stored_send(device, cseq) == expected
        assert {d: view.device(d).cseq_max for d in traffic.cseqs} == traffic.cseqs  # type: ignore[union-attr]
    reader.close()
    assert check_store(tmp_path, codec.decode_batch).findings == []


def test_a_portion_is_bounded_and_says_that_more_wait(tmp_path: Path, store: SqliteStore) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    for _ in range(10):
        store.append(store.next_pos, 50, event_batch(store.next_pos, 50, before=1))
    folder = SqliteFolder.open(tmp_path, Portion, FOLD._replace(portion_records=120))
    assert folder.fold_once() == (101, 101, True)
    assert folder.fold_once() == (100, 201, True)
    assert fold_all(folder) == 300
    assert folder.fold_once() == (0, 501, False)
    folder.close()


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


def test_rows_are_upserted_by_column_and_deleted_by_key(store: SqliteStore, folder: SqliteFolder) -> None:
    append(
        store,
        codec.encode_row(row_record("user", {"id": 1, "name": "alice", "flags": 1})),
        codec.encode_row(row_record("user", {"id": 2, "name": "bob"})),
        codec.encode_row(row_record("user", {"id": 1, "display_name": "Alice"})),
        codec.encode_row(row_record("user", {"id": 2}, deleted=True)),
        codec.encode_row(row_record("request_key", {"uid": 1, "key": b"k", "result": b"r", "created_ms": now_ms()})),
        codec.encode_row(row_record("api_key", {"id": 4, "uid": 1, "hash": b"h" * 32, "label": "ci"})),
        codec.encode_row(row_record("conversation", {"id": 3, "kind": 1, "direct_key": "1:2"})),
    )
    fold_all(folder)
    reader = store.reader()
    with reader.view() as view:
        alice = view.user_by_name("alice")
        assert alice == (1, "alice", "Alice", None, 1, 0, 0)
        assert view.users([1, 2]) == [alice]
        assert view.users_by_name(["bob", "alice", ""]) == [alice]
        assert view.request_result(1, b"k") == b"r"
        assert view.api_key_by_hash(b"h" * 32) == view.api_key(4)
        direct = view.direct_conversation("1:2")
        assert direct is not None
        assert (direct.id, direct.changed_pos) == (3, 7)
        assert view.counts() == (1, 0, 1, 0)
    reader.close()
    assert store.highest_ids() == (2, 0, 4, 3), "the id of a deleted user is not given out again"


def test_answers_to_requests_are_forgotten_after_a_week(store: SqliteStore, tmp_path: Path) -> None:
    """The oldest first, at most so many in one fold."""
    now, week_ms = now_ms(), 7 * 86_400_000
    ages = {b"new": 0, b"young": week_ms - 60_000, b"old": week_ms + 60_000, b"older": week_ms + 120_000}
    append(store, *(
        codec.encode_row(row_record("request_key", {"uid": 1, "key": key, "result": b"r", "created_ms": now - age}))
        for key, age in ages.items()
    ))  # fmt: skip
    with closing(SqliteFolder.open(tmp_path, Portion, FOLD._replace(request_keys_forgotten=1))) as folder:
        for left in ({b"new", b"young", b"old"}, {b"new", b"young"}, {b"new", b"young"}):
            folder.fold_once()
            with closing(store.reader()) as reader, reader.view() as view:
                assert {key for key in ages if view.request_result(1, key)} == left
            append(store, codec.encode_row(row_record("user", {"id": 1, "name": "ann"})))


def test_memberships_carry_positions_and_what_changed(store: SqliteStore, folder: SqliteFolder) -> None:
    store.append(1, *conversation_rows(3))
    append(
        store,
        codec.encode_event((1, 1, TS0, 7, 0, 0, 32, 0, 0, b"", 0)),
        codec.encode_member(1, 7, 1, 0, 3),
        codec.encode_member(1, 8, 1, 0, 1),
        codec.encode_event((2, 1, TS0, 7, 0, 0, 32, 0, 0, b"", 0)),
        codec.encode_member(2, 7, 1, 0, 3),
        codec.encode_position(1, 7, 1, 1, 0),
        codec.encode_event((1, 2, TS0, 7, 0, 0, 35, 0, 0, b"", 0)),
        codec.encode_member(1, 8, 1, 2, 1),
    )
    fold_all(folder)
    before = store.next_pos - 1
    append(store, codec.encode_event((1, 3, TS0 + 9, 7, 1, 1, 1, 1, 5, b"hi", 1)))
    fold_all(folder)
    reader = store.reader()
    with reader.view() as view:
        assert view.members(1) == [(7, 3, 1, 0, 3, 3, 1), (8, 1, 1, 2, 0, 0, 0)], "sending is reading"
        assert view.members_after(1, 0, 10) == [(7, 3, 1, 0, 3, 3, 1)]
        assert [row.cid for row in view.memberships(7, 0, 10)] == [1, 2]
        assert [row.cid for row in view.memberships(7, 1, 10)] == [2]
        changed = view.memberships_changed(7, before, 0, 10)
        assert [(row.cid, row.head_seq, row.message_count, row.changed_pos) for row in changed] == [
            (1, 3, 1, before + 1)
        ]
        assert view.memberships_changed(8, before, 0, 10) == []
        assert view.message_count_at(1, 2) == 0
        assert view.message_count_at(1, 99) == 1
    reader.close()


def test_pages_of_events_are_bounded_by_number_and_bytes(store: SqliteStore, folder: SqliteFolder) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    bodies = [100, 100, 500, 1]
    append(
        store,
        *(codec.encode_event((1, i + 1, TS0, 7, 1, i + 1, 1, i + 1, 0, bytes(n), 1)) for i, n in enumerate(bodies)),
    )
    fold_all(folder)
    reader = store.reader()
    with reader.view() as view:
        assert [event.seq for event in view.events(1, 1, 4, 2, 10**6)] == [1, 2]
        assert [event.seq for event in view.events(1, 1, 4, 10, 250)] == [1, 2]
        assert [event.seq for event in view.events(1, 3, 4, 10, 250)] == [3]
        assert [event.seq for event in view.events(1, 2, 3, 10, 10**6)] == [2, 3]
        assert view.events(2, 1, 9, 10, 10) == []
    reader.close()


@pytest.mark.parametrize("folds", [1, 2])
def test_a_redacted_event_keeps_its_place_and_loses_its_content(
    store: SqliteStore, folder: SqliteFolder, folds: int
) -> None:
    """Whether the event was folded before, or comes with the same portion."""
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    bodies = (b"gone", b"kept")
    append(store, *(codec.encode_event((1, i, TS0, 7, 1, i, 1, i, 5, body, 3)) for i, body in enumerate(bodies, 1)))
    if folds == 2:
        fold_all(folder)
    append(store, codec.encode_redact(1, 1, 1))
    fold_all(folder)
    reader = store.reader()
    with reader.view() as view:
        assert view.events(1, 1, 2, 9, 999) == [(1, 1, TS0, 7, 1, b"", 7), (1, 2, TS0, 7, 1, b"kept", 3)]
        assert view.stored_send(1, 1) == (1, 1, TS0, 5), "a repeat is still recognised"
    reader.close()


def test_a_stored_send_wins_over_a_skip_of_the_same_number(store: SqliteStore, folder: SqliteFolder) -> None:
    append(store, *(codec.encode_row(row_record(t, {"id": 1})) for t in ("conversation", "device")))
    append(store, codec.encode_skip(1, 1), codec.encode_skip(1, 2))
    fold_all(folder)
    append(store, codec.encode_event((1, 1, TS0, 7, 1, 1, 1, 1, -1, b"x", 1)), codec.encode_skip(1, 1))
    fold_all(folder)
    reader = store.reader()
    with reader.view() as view:
        assert view.stored_send(1, 1) == (1, 1, TS0, 2**64 - 1)
        assert view.stored_send(1, 2) == (0, 0, 0, 0)
        assert view.stored_send(1, 3) is None
    reader.close()


def test_sends_that_overtook_each_other_are_found(tmp_path: Path, store: SqliteStore, folder: SqliteFolder) -> None:
    """Within a fold and across folds, with numbers that never come, and more of them than one run takes."""
    append(store, *(codec.encode_row(row_record(t, {"id": 1})) for t in ("conversation", "device")))
    order = random.Random(5).sample(range(1, 1000), 600)
    for start in range(0, 600, 200):
        events = enumerate(order[start : start + 200], start + 1)
        append(store, *(codec.encode_event((1, seq, TS0, 1, 1, cseq, 1, seq, cseq, b"x", 1)) for seq, cseq in events))
        fold_all(folder)
    append(
        store, *(codec.encode_event((1, seq, TS0, 1, 1, seq + 1000, 1, seq, 0, b"x", 1)) for seq in range(601, 1201))
    )
    fold_all(folder)
    reader = store.reader()
    with reader.view() as view:
        for cseq in range(1, 1000):
            stored = StoredSend(1, order.index(cseq) + 1, TS0, cseq) if cseq in order else None
            assert view.stored_send(1, cseq) == stored
        assert [view.stored_send(1, seq + 1000).seq for seq in range(601, 1201)] == list(range(601, 1201))  # type: ignore[union-attr]
        assert view.stored_send(1, 2201) is None
    reader.close()
    assert check_store(tmp_path, codec.decode_batch).findings == []


def test_an_event_that_exists_already_stops_the_fold_and_changes_nothing(
    store: SqliteStore, folder: SqliteFolder
) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    append(store, codec.encode_event((1, 1, TS0, 7, 1, 1, 1, 1, 0, b"first", 1)))
    fold_all(folder)
    append(store, codec.encode_event((1, 1, TS0, 7, 1, 2, 1, 1, 0, b"second", 1)))
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match="contradict"):
            folder.fold_once()
    assert store.folded_pos() == 2


def test_a_batch_that_does_not_decode_stops_the_fold(store: SqliteStore, folder: SqliteFolder) -> None:
    store.append(1, 1, b"\x10\0\0\0\x63\0\0\0" + bytes(8))
    with pytest.raises(StoreCorruptError, match="unknown type 99"):
        folder.fold_once()


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


BREAKAGES = {
    "event_contiguous": "UPDATE event_run SET first_seq = 2, first_id = first_id + 1 WHERE cid = 1",
    "head_seq": "UPDATE conversation SET head_seq = head_seq + 1 WHERE id = 2",
    "head_counts": "UPDATE conversation SET message_count = message_count + 1 WHERE id = 2",
    "event_conversation": "DELETE FROM conversation WHERE id = 3",
    "event_order": "UPDATE event SET ts = ts - 100000 WHERE cid = 1 AND seq = 3",
    "event_run": "UPDATE event_run SET first_id = first_id + 1 WHERE cid = 2",
    "event_count": "INSERT INTO event SELECT id + 1, cid, seq, ts, sender, device, cseq, kind, message_count, digest, "
    "body, flags FROM event WHERE id = (SELECT max(id) FROM event)",
    "event_send": "UPDATE send_run SET sends = replace(sends, '[1,2]', '[0,0]')",
    "send_event": "UPDATE send_run SET sends = replace(sends, '[1,2]', '[1,3]')",
    "send_run": "UPDATE send_run SET last_cseq = last_cseq + 1 WHERE device = 3",
    "device_cseq_max": "UPDATE device SET cseq_max = 0 WHERE id = 4",
    "membership_interval": "INSERT INTO membership VALUES(1, 1, 5, 3, 1, 0)",
    "membership_overlap": "INSERT INTO membership VALUES(1, 1, 1, 0, 1, 0), (1, 1, 3, 0, 1, 0)",
    "position": "UPDATE position SET delivered_seq = 100000 WHERE cid = 1",
    "journal_sequence": "UPDATE meta SET value = value + 100000 WHERE key = 'folded_pos'",
    "migration": "UPDATE migration SET sha256 = 'x'",
}


@pytest.mark.parametrize("check", BREAKAGES)
def test_check_names_what_is_wrong(tmp_path: Path, store: SqliteStore, folder: SqliteFolder, check: str) -> None:
    traffic = Traffic(seed=2, conversations=3, devices=4, pos=8)
    store.append(1, *conversation_rows(3, 4))
    store.append(*traffic.batch(200))
    fold_all(folder)
    assert check_store(tmp_path).findings == []
    connection = apsw.Connection(str(tmp_path / "chatd.db"))
    connection.execute(BREAKAGES[check])
    connection.close()
    findings = check_store(tmp_path, codec.decode_batch).findings
    assert check in {finding.check for finding in findings}
    assert all(finding.text for finding in findings)


def test_check_finds_a_batch_that_does_not_decode(tmp_path: Path, store: SqliteStore) -> None:
    store.append(1, 1, random.Random(3).randbytes(40))
    assert [finding.check for finding in check_store(tmp_path, codec.decode_batch).findings] == ["journal_batch"]
