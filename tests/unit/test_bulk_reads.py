"""What is read for many at once: the same answers as one by one, and on PostgreSQL a few round trips, however many."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import trio
from support import fakeshard
from support.hub_rig import ON_POSTGRESQL, NativeDoor, Rig, either_core, running
from support.journal_batches import Traffic
from support.stores import StorePlace

from chatd.hub.loading import _READS, Question
from chatd.hub.rows import Name
from chatd.storage import journal_codec as codec
from chatd.storage.interface import View, row_record
from chatd.storage.postgresql.reader import PostgresView
from chatd.wire.schema import EXTENSION_PULL_RANGES, FLAG_EXT, Method, Op
from chatd.wire.varint import encode as varint

__all__ = ["either_core"]

CONVERSATIONS, DEVICES = 40, 15
MANY = 60
ROUND_TRIPS_MAX = 24
"""For any one operation on MANY things. One by one they would be MANY at least."""


@pytest.fixture
def view(place: StorePlace) -> Iterator[View]:
    """Conversations with members, mutes, direct keys and events, devices with their users, some links and names."""
    traffic = Traffic(seed=8, conversations=CONVERSATIONS, devices=DEVICES)
    rows = [row_record("user", {"id": user, "name": f"u{user}"}) for user in range(1, DEVICES + 1)]
    rows += [row_record("device", {"id": device, "uid": device}) for device in range(1, DEVICES + 1)]
    for cid in range(1, CONVERSATIONS + 1):
        rows.append(row_record("conversation", {"id": cid, "kind": 2, "direct_key": f"key{cid}"}))
        rows.append(row_record("restriction", {"cid": cid, "uid": 1 + cid % 3, "muted_until_s": cid}))
        rows.append(row_record("invitation", {"id": cid, "cid": cid, "token": b"token%d" % cid}))
        rows.append(row_record("draft", {"uid": 1 + cid % 3, "cid": cid, "content": b"d"}))
    members = [codec.encode_member(cid, 1 + cid % DEVICES, 1, 0, 2) for cid in range(1, CONVERSATIONS + 1)]
    records = [*(codec.encode_row(row) for row in rows), *members]
    store, folder = place.open(), place.folder()
    store.append(1, len(records), b"".join(records))
    traffic.pos = store.next_pos
    for _ in range(10):
        store.append(*traffic.batch(100))
        folder.fold_once()
    reader = store.reader()
    with reader.view() as view:
        yield view
    reader.close()
    folder.close()
    store.close()


KEYS: dict[str, list[Any]] = {
    "user": [*range(DEVICES + 3)],
    "device": [*range(DEVICES + 3)],
    "conversation": [*range(CONVERSATIONS + 3)],
    "event": [(cid, seq) for cid in range(CONVERSATIONS + 2) for seq in (0, 1, 5, 99)],
    "read_count": [(cid, 1, seq) for cid in range(CONVERSATIONS + 2) for seq in (0, 3, 99)],
    "idempotency": [Question(device, cseq, 0) for device in range(DEVICES + 2) for cseq in (1, 2, 30, 999)],
    "row": [
        *(Name("user", user) for user in range(DEVICES + 3)),
        *(Name("user", f"u{user}", unique=True) for user in range(DEVICES + 3)),
        *(Name("conversation", f"key{cid}", unique=True) for cid in range(CONVERSATIONS + 3)),
        *(Name("invitation", b"token%d" % cid, unique=True) for cid in range(CONVERSATIONS + 3)),
        *(Name("restriction", (cid, user)) for cid in range(CONVERSATIONS) for user in range(3)),
        *(Name("draft", (user,), group=True) for user in range(5)),
    ],
}


@pytest.mark.parametrize("kind", KEYS)
def test_many_are_answered_as_each_alone(view: View, kind: str, trips: list[str]) -> None:
    read = _READS[kind]
    together = view.each(read, KEYS[kind])
    asked = len(trips)
    assert together == [read(view, key) for key in KEYS[kind]]
    assert any(together)
    assert asked <= 3 * len({(key.table, key.unique) for key in KEYS[kind] if isinstance(key, Name)} or {0})
    assert view.each(read, []) == []


@pytest.mark.parametrize(("events_max", "bytes_max"), [(1000, 1 << 20), (17, 1 << 20), (1000, 9000), (1000, 1)])
def test_ranges_share_one_limit(view: View, events_max: int, bytes_max: int) -> None:
    ranges = [(cid, 2, 2 + cid % 7) for cid in range(1, CONVERSATIONS + 3)] + [(1, 5, 4)]
    expected, left = list[list[Any]](), bytes_max
    for cid, first, last in ranges:
        expected.append([])
        for row in view.events(cid, first, last, 1000, 1 << 30):
            left -= len(row.body)
            if sum(map(len, expected)) < events_max and (left >= 0 or not any(expected)):
                expected[-1].append(row)
    assert view.event_ranges(ranges, events_max, bytes_max) == expected
    assert any(expected)


# ---------------------------------------------------------------- round trips of whole operations


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a view of PostgreSQL sends."""
    sent: list[str] = []
    fetch: Callable[..., Any] = PostgresView._fetch

    def counted(self: PostgresView, statement: str, *bindings: Any) -> Any:
        sent.append(statement)
        return fetch(self, statement, *bindings)

    monkeypatch.setattr(PostgresView, "_fetch", counted)
    return sent


async def prepare(tmp_path: Path) -> tuple[int, list[int]]:
    """Bob, who is in MANY groups with four messages each, all of it folded."""
    async with running(tmp_path, user_groups_owned_max=MANY) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        cids = []
        for number in range(MANY):
            made = await rig.request(ann, Method.CONVERSATION_CREATE, {1: 2, 2: f"g{number}", 3: [bob]})
            cids.append(made[1])
            await rig.say(made[1], ann, *"abcd")
        await rig.fold()
    return bob, cids


async def sync(rig: Rig, bob: int, cids: list[int]) -> None:
    entries, _, more = await rig.sync(bob)
    assert [entry["cid"] for entry in entries] == cids
    assert {entry["preview"] for entry in entries} == {b"d"}
    assert not more


async def pull_ranges(rig: Rig, bob: int, cids: list[int]) -> None:
    """Three of each: a page has 200 events."""
    ranges = varint(MANY) + b"".join(map(varint, chain.from_iterable((cid, 4, 0) for cid in cids)))
    extension = varint(EXTENSION_PULL_RANGES) + varint(len(ranges)) + ranges
    body = 4 * varint(0) + varint(len(extension)) + extension
    ops = [frame.op for frame in await rig.call(bob, Op.PULL, body, FLAG_EXT)]
    assert (ops.count(Op.DELIVER), ops.count(Op.PULL_END)) == (3 * MANY, MANY + 1)


async def listing(rig: Rig, bob: int, cids: list[int]) -> None:
    found = await rig.request(bob, Method.CONVERSATION_LIST, {1: 0, 2: MANY})
    assert [row[0] for row in found[1]] == cids


async def logins(rig: Rig, bob: int, cids: list[int]) -> None:
    assert isinstance(rig.door, NativeDoor)
    del cids
    for number in range(MANY):
        rig.door.shard.login(1000 + number, bob, 5000 + number)
    with trio.fail_after(10):
        while sum(isinstance(record, fakeshard.Registered) for record in rig.door.inbox) < MANY:
            rig.door.inbox += rig.door.shard.read()
            await trio.sleep(0.001)


@pytest.mark.parametrize("either_core", [ON_POSTGRESQL], indirect=True)
@pytest.mark.parametrize("operation", [sync, pull_ranges, listing, logins])
async def test_an_operation_on_many_takes_few_round_trips(
    tmp_path: Path, either_core: None, trips: list[str], operation: Callable[..., Any]
) -> None:
    bob, cids = await prepare(tmp_path)
    async with running(tmp_path) as rig:
        await rig.rpc("device", bob, 0, "rig")
        trips.clear()
        await operation(rig, bob, cids)
    assert len(trips) <= ROUND_TRIPS_MAX, trips
