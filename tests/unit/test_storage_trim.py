"""What the folder deletes below a floor, on both stores: in small steps, content at once, rows when they are old."""

import time
from collections.abc import Iterator

import pytest
from support.stores import StorePlace

from chatd.storage import journal_codec as codec
from chatd.storage import trim
from chatd.storage.interface import Folder, Store, row_record
from chatd.storage.message_rows import RetentionRow

DAY_MS = 86_400_000
EVENTS = 1300


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


def append(store: Store, *records: bytes) -> None:
    store.append(store.next_pos, len(records), b"".join(records))


def event(seq: int, ts_ms: int, cid: int = 1) -> bytes:
    """Each conversation has a device of its number."""
    return codec.encode_event((cid, seq, ts_ms, 7, cid, seq, 1, seq, seq, b"text %d" % seq, codec.EVENT_MESSAGE))


def filled(store: Store, folder: Folder, times: list[int]) -> None:
    """One conversation, folded in five pieces, and another one that keeps everything."""
    append(store, *(codec.encode_row(row_record("conversation", {"id": cid})) for cid in (1, 2)))
    append(store, *(codec.encode_row(row_record("device", {"id": device})) for device in (1, 2)))
    append(store, *(event(seq, times[0], 2) for seq in range(1, 41)))
    for first in range(0, len(times), 300):
        part = enumerate(times[first : first + 300], first + 1)
        append(store, *(event(seq, ts_ms) for seq, ts_ms in part))
        folder.fold_once()


def raise_floor(store: Store, folder: Folder, floor_seq: int) -> None:
    row = RetentionRow(1, 0, 1, floor_seq, floor_seq - 1, 0)
    append(store, codec.encode_row(row_record("retention", row._asdict())))
    folder.fold_once()


def bodies(store: Store, cid: int = 1) -> dict[int, bytes]:
    reader = store.reader()
    with reader.view() as view:
        found = {row.seq: row.body for row in view.events(cid, 1, 10_000, 10_000, 1 << 40)}
    reader.close()
    return found


def test_old_rows_go_step_by_step_and_others_stay(place: StorePlace, store: Store, folder: Folder) -> None:
    now_ms = time.time_ns() // 1_000_000
    filled(store, folder, [now_ms - 20 * DAY_MS + seq for seq in range(EVENTS)])
    others = bodies(store, 2)
    raise_floor(store, folder, 1001)
    counts = []
    while folder.trim():
        counts.append(sum(map(bool, bodies(store).values())))
        assert place.check().findings == []
    assert counts[:2] == [EVENTS - 500, EVENTS - 1000], "content first, 500 events at a time"
    assert bodies(store) == {seq: b"text %d" % seq for seq in range(1001, EVENTS + 1)}
    assert bodies(store, 2) == others
    assert place.check().findings == []
    raise_floor(store, folder, EVENTS + 1)
    while folder.trim():
        pass
    assert bodies(store) == {EVENTS: b""}, "the newest row says where the conversation is"
    append(store, event(EVENTS + 1, now_ms))
    folder.fold_once()
    assert place.check().findings == []
    assert bodies(store) == {EVENTS: b"", EVENTS + 1: b"text %d" % (EVENTS + 1)}


def test_rows_that_may_be_asked_for_by_a_repeat_stay_empty_until_they_are_old(
    place: StorePlace, store: Store, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = time.time_ns() // 1_000_000
    filled(store, folder, [now_ms - (8 if seq < 50 else 2) * DAY_MS for seq in range(100)])
    raise_floor(store, folder, 90)
    while folder.trim():
        pass
    assert bodies(store) == {seq: b"" if seq < 90 else b"text %d" % seq for seq in range(51, 101)}
    reader = store.reader()
    with reader.view() as view:
        stored = view.stored_send(1, 60)
        assert stored is not None
        assert (stored.seq, stored.digest) == (60, 60)
    reader.close()
    assert place.check().findings == []
    monkeypatch.setattr(trim, "SENDS_KNOWN_MS", DAY_MS)
    assert not folder.trim(), "it comes again when the oldest of them is old enough"
    place.execute("UPDATE retention SET due_ms = 0")
    while folder.trim():
        pass
    assert min(bodies(store)) == 90
    assert place.check().findings == []


def test_what_hangs_on_a_message_goes_with_it(place: StorePlace, store: Store, folder: Folder) -> None:
    filled(store, folder, [time.time_ns() // 1_000_000] * 100)
    rows = [
        ("edit", {"cid": 1, "target": seq, "seq": 99}) for seq in (5, 60)
    ] + [
        ("reaction", {"cid": 1, "target": seq, "uid": 7, "emoji": "x", "seq": 98}) for seq in (5, 60)
    ] + [
        ("pin", {"cid": cid, "target": seq, "uid": 7, "seq": 97}) for cid, seq in ((1, 5), (1, 60), (2, 5))
    ] + [
        ("mention", {"cid": 1, "seq": seq, "uid": 7}) for seq in (5, 60)
    ] + [
        ("expiry", {"cid": 1, "seq": seq, "due_ms": 1}) for seq in (5, 60)
    ]  # fmt: skip
    append(store, *(codec.encode_row(row_record(table, values)) for table, values in rows))
    raise_floor(store, folder, 50)
    while folder.trim():
        pass
    reader = store.reader()
    with reader.view() as view:
        for table in ("edit", "reaction", "pin", "mention", "expiry"):
            assert [row[1] for row in view.rows_of(table, 1)] == [60], table
        assert [row[1] for row in view.rows_of("pin", 2)] == [5]
    reader.close()
