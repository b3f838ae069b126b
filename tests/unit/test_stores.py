"""What both stores promise: every test runs on SQLite and on PostgreSQL.

Appending and replaying in one order; folding that puts every record in its place once, whatever was folded before and
wherever it was interrupted; views of one moment; a check that names what is wrong.
"""

import random
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.journal_batches import TS0, Traffic, event_batch
from support.stores import StorePlace

from chatd.errors import InternalError, StoreCorruptError, StoreFailedError, StoreLockedError
from chatd.storage import journal_codec as codec
from chatd.storage.counters import IDS_SKIPPED
from chatd.storage.interface import Folder, HighestIds, Store, StoredSend, row_record
from chatd.storage.portion import Portion
from chatd.storage.stores import begin_new_log


@pytest.fixture
def store(place: StorePlace) -> Iterator[Store]:
    store = place.open()
    yield store
    store.close()


@pytest.fixture
def folder(place: StorePlace, store: Store) -> Iterator[Folder]:
    folder = place.folder()
    yield folder
    folder.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def conversation_rows(count: int, devices: int = 0) -> tuple[int, bytes]:
    rows = [row_record("conversation", {"id": cid, "kind": 2}) for cid in range(1, count + 1)]
    rows += [row_record("device", {"id": device, "uid": device}) for device in range(1, devices + 1)]
    return len(rows), b"".join(codec.encode_row(row) for row in rows)


def append(store: Store, *records: bytes) -> None:
    store.append(store.next_pos, len(records), b"".join(records))


def fold_all(folder: Folder) -> int:
    records = 0
    while (result := folder.fold_once()).records:
        records += result.records
    return records


def test_folded_events_equal_the_model(place: StorePlace, store: Store, folder: Folder) -> None:
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
            since_ms = model[head // 2][2] - 1 if model else 0
            spoke = {event[3]: event[2] for event in model if event[2] > since_ms and event[10] & 1}
            assert dict(view.speakers(cid, head, since_ms)) == spoke
        for (device, cseq), (cid, seq) in traffic.idempotency.items():
            stored = traffic.events.get((cid, seq))
            expected = StoredSend(cid, seq, stored[2] if stored else 0, stored[8] % 2**64 if stored else 0)
            assert view.stored_send(device, cseq) == expected
        assert {d: view.device(d).cseq_max for d in traffic.cseqs} == traffic.cseqs  # type: ignore[union-attr]
    reader.close()
    assert place.check().findings == []


def test_a_portion_is_bounded_and_says_that_more_wait(place: StorePlace, store: Store) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    for _ in range(10):
        store.append(store.next_pos, 50, event_batch(store.next_pos, 50, before=1))
    folder = place.folder(portion_records=120)
    assert folder.fold_once() == (101, 101, True)
    assert folder.fold_once() == (100, 201, True)
    assert fold_all(folder) == 300
    assert folder.fold_once() == (0, 501, False)
    folder.close()


def test_rows_are_upserted_by_column_and_deleted_by_key(store: Store, folder: Folder) -> None:
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
        assert alice == (1, "alice", "Alice", None, 1, 0, 0, "", "")
        assert view.users([1, 2]) == [alice]
        assert view.users_by_name(["bob", "alice", ""]) == [alice]
        assert view.request_result(1, b"k") == b"r"
        assert view.api_key_by_hash(b"h" * 32) == view.api_key(4)
        direct = view.direct_conversation("1:2")
        assert direct is not None
        assert (direct.id, direct.changed_pos) == (3, 7)
        assert view.counts() == (1, 0, 1, 0)
    reader.close()
    assert store.highest_ids() == HighestIds(2, 0, 4, 3), "the id of a deleted user is not given out again"


def test_answers_to_requests_are_forgotten_after_a_week(place: StorePlace, store: Store) -> None:
    """The oldest first, at most so many in one fold."""
    now, week_ms = now_ms(), 7 * 86_400_000
    ages = {b"new": 0, b"young": week_ms - 60_000, b"old": week_ms + 60_000, b"older": week_ms + 120_000}
    append(store, *(
        codec.encode_row(row_record("request_key", {"uid": 1, "key": key, "result": b"r", "created_ms": now - age}))
        for key, age in ages.items()
    ))  # fmt: skip
    with closing(place.folder(request_keys_forgotten=1)) as folder:
        for left in ({b"new", b"young", b"old"}, {b"new", b"young"}, {b"new", b"young"}):
            folder.fold_once()
            with closing(store.reader()) as reader, reader.view() as view:
                assert {key for key in ages if view.request_result(1, key)} == left
            append(store, codec.encode_row(row_record("user", {"id": 1, "name": "ann"})))


def test_memberships_carry_positions_and_what_changed(store: Store, folder: Folder) -> None:
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


def test_pages_of_events_are_bounded_by_number_and_bytes(store: Store, folder: Folder) -> None:
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
def test_a_redacted_event_keeps_its_place_and_loses_its_content(store: Store, folder: Folder, folds: int) -> None:
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


def test_a_stored_send_wins_over_a_skip_of_the_same_number(store: Store, folder: Folder) -> None:
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


def test_sends_that_overtook_each_other_are_found(place: StorePlace, store: Store, folder: Folder) -> None:
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
    assert place.check().findings == []


def test_an_event_that_exists_already_stops_the_fold_and_changes_nothing(store: Store, folder: Folder) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    append(store, codec.encode_event((1, 1, TS0, 7, 1, 1, 1, 1, 0, b"first", 1)))
    fold_all(folder)
    append(store, codec.encode_event((1, 1, TS0, 7, 1, 2, 1, 1, 0, b"second", 1)))
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match="contradict"):
            folder.fold_once()
    assert store.folded_pos() == 2


def test_a_batch_that_does_not_decode_stops_the_fold(store: Store, folder: Folder) -> None:
    store.append(1, 1, b"\x10\0\0\0\x63\0\0\0" + bytes(8))
    with pytest.raises(StoreCorruptError, match="unknown type 99"):
        folder.fold_once()


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
    "journal_sequence": "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 100000 AS TEXT) WHERE key = 'folded_pos'",
    "migration": "UPDATE migration SET sha256 = 'x'",
}


@pytest.mark.parametrize("check", BREAKAGES)
def test_check_names_what_is_wrong(place: StorePlace, store: Store, folder: Folder, check: str) -> None:
    traffic = Traffic(seed=2, conversations=3, devices=4, pos=8)
    store.append(1, *conversation_rows(3, 4))
    store.append(*traffic.batch(200))
    fold_all(folder)
    assert place.check().findings == []
    place.execute(BREAKAGES[check])
    findings = place.check().findings
    assert check in {finding.check for finding in findings}
    assert all(finding.text for finding in findings)


def test_check_finds_a_batch_that_does_not_decode(place: StorePlace, store: Store) -> None:
    store.append(1, 1, random.Random(3).randbytes(40))
    assert [finding.check for finding in place.check().findings] == ["journal_batch"]


def fill(store: Store, batches: int, count: int = 50) -> None:
    for _ in range(batches):
        store.append(store.next_pos, count, event_batch(store.next_pos, count))


@pytest.mark.parametrize(("after", "first"), [(0, 1), (49, 1), (50, 51), (77, 51), (1449, 1401), (1450, 1451)])
def test_replay_begins_with_the_batch_that_holds_the_next_record(store: Store, after: int, first: int) -> None:
    fill(store, 30)
    batches = list(store.replay(after))
    assert batches[0].pos == first
    assert batches[-1].pos == 1451


def test_replay_after_the_last_record_is_empty(store: Store) -> None:
    assert list(store.replay(0)) == []
    fill(store, 2)
    assert list(store.replay(100)) == []


def test_a_batch_out_of_order_is_a_bug_of_the_caller(store: Store) -> None:
    with pytest.raises(InternalError):
        store.append(2, 1, event_batch(2, 1))
    with pytest.raises(InternalError):
        store.append(1, 0, b"")


def test_highest_ids_come_from_rows_that_are_not_folded_yet(store: Store) -> None:
    rows = [("user", 3), ("user", 9), ("device", 4), ("conversation", 12)]
    blob = b"".join(codec.encode_row(row_record(table, {"id": number})) for table, number in rows)
    store.append(1, 5, event_batch(1, 1) + blob)
    assert store.highest_ids() == HighestIds(9, 4, 0, 12)


def test_what_was_appended_is_replayed_after_reopening(place: StorePlace, store: Store) -> None:
    fill(store, 30)
    store.close()
    with closing(place.open()) as again:
        assert again.next_pos == 1501
        assert again.log_epoch == store.log_epoch
        assert again.boot_count > store.boot_count
        batches = list(again.replay(0))
        assert [batch.pos for batch in batches] == list(range(1, 1501, 50))
        assert all(batch.blob == event_batch(batch.pos, 50) for batch in batches)


def test_one_writer_at_a_time(place: StorePlace, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.storage.postgresql.store.LOCK_WAIT_S", 0.2)
    with pytest.raises(StoreLockedError, match="is in use: another"):
        place.open()
    store.close()
    place.open().close()


def test_a_read_only_store_reads_and_writes_nothing(place: StorePlace, store: Store) -> None:
    fill(store, 3)
    store.close()
    reading = place.open(read_only=True)
    assert reading.boot_count > store.boot_count
    assert sum(batch.record_count for batch in reading.replay(0)) == 150
    with closing(reading.reader()) as reader, reader.view() as view:
        assert view.folded_pos == 0
    with pytest.raises(StoreFailedError, match="read-only"):
        fill(reading, 1)
    reading.close()
    with closing(place.open()) as again:
        assert again.next_pos == 151
        assert again.boot_count > reading.boot_count


def test_folded_batches_go_and_appending_goes_on(place: StorePlace, store: Store, folder: Folder) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    for _ in range(60):
        store.append(store.next_pos, 50, event_batch(store.next_pos, 50, before=1))
    fold_all(folder)
    folder.settle()
    assert store.first_pos() > 1
    with pytest.raises(StoreCorruptError, match="are missing"):
        list(store.replay(0))
    store.close()
    with closing(place.open()) as again:
        assert again.next_pos == 3002
        assert list(again.replay(3001)) == []
        again.append(3002, 50, event_batch(3002, 50, before=1))
        assert again.next_pos == 3052


def test_a_view_is_of_one_moment(store: Store, folder: Folder) -> None:
    append(store, codec.encode_row(row_record("conversation", {"id": 1})))
    store.append(2, 5, event_batch(2, 5, before=1))
    fold_all(folder)
    with closing(store.reader()) as reader:
        with reader.view() as view:
            assert len(view.events(1, 1, 99, 99, 10**6)) == 5
            store.append(7, 5, event_batch(7, 5, before=1))
            fold_all(folder)
            assert (view.folded_pos, len(view.events(1, 1, 99, 99, 10**6))) == (6, 5)
        with reader.view() as view:
            assert (view.folded_pos, len(view.events(1, 1, 99, 99, 10**6))) == (11, 10)


def test_a_new_log_gives_nothing_out_twice(place: StorePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a store went back, clients discard positions, and no id or session epoch comes again."""
    with closing(place.open()) as store, closing(place.folder()) as folder:
        store.append(1, *conversation_rows(3, 5))
        fold_all(folder)
        append(store, codec.encode_row(row_record("conversation", {"id": 4, "kind": 2})))
        store.append(store.next_pos, 5, event_batch(store.next_pos, 5, before=store.next_pos - 1))
        before = (store.log_epoch, store.boot_count, store.highest_ids(), store.next_pos)
    log_epoch = begin_new_log(place.where, place.directory, Portion)
    with closing(place.open()) as store, closing(place.folder()) as folder:
        assert store.log_epoch == log_epoch != before[0]
        assert store.boot_count > before[1] + 1000
        ids = store.highest_ids()
        assert (ids.device, ids.conversation) == (5 + IDS_SKIPPED, 4 + IDS_SKIPPED)
        assert (ids.user, ids.report) == (0, 0), "of which there are none, the first is still to come"
        assert store.next_pos == before[3]
        append(store, codec.encode_row(row_record("conversation", {"id": ids.conversation + 1, "kind": 2})))
        fold_all(folder)
        assert store.highest_ids().conversation == ids.conversation + 1
        with closing(store.reader()) as reader, reader.view() as view:
            assert len(view.events(1, 1, 99, 99, 10**6)) == 5
    assert place.check().findings == []
    monkeypatch.setattr("chatd.storage.postgresql.store.LOCK_WAIT_S", 0.2)
    with closing(place.open()), pytest.raises(StoreLockedError):
        begin_new_log(place.where, place.directory, Portion)
