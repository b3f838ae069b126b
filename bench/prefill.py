"""A store with a past, written through the store's own interface before the server starts: minutes instead of hours.

Users, devices, direct conversations and events as the hub would have written them, folded by the server's own folder.
The server that starts on it cannot tell the difference.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.shapes import Shape
from chatd import _native
from chatd.init import initialise
from chatd.storage import journal_codec
from chatd.storage.interface import row_record
from chatd.storage.sqlite.folder import SqliteFolder
from chatd.storage.sqlite.store import SqliteStore
from chatd.wire.schema import ConversationKind, Kind

BATCH_RECORDS = 10_000
FIRST_MS = 1_760_000_000_000
FIRST_USER = 2  # `chatd init` makes user 1, the administrator
MEMBER_ROLE = 1
BODY = b"one of many messages that were sent long before anybody looked  "


@dataclass(frozen=True)
class ColdSet:
    """devices: one per user, all of them connect. conversations: of two users. events: in all, evenly spread."""

    devices: int
    conversations: int
    events: int

    def members(self) -> list[tuple[int, int]]:
        """Users by number. No two conversations have the same pair."""
        turns = -(-self.conversations // self.devices)
        pairs = ((one, (one + 1 + turn) % self.devices) for turn in range(turns) for one in range(self.devices))
        return list(islice(pairs, self.conversations))

    def shape(self) -> Shape:
        """Every device sends to the conversations that it opened, in turn; the other one receives."""
        publish: list[list[int]] = [[] for _ in range(self.devices)]
        subscribe: list[list[int]] = [[] for _ in range(self.devices)]
        members = self.members()
        for channel, (first, second) in enumerate(members):
            publish[first].append(channel)
            subscribe[second].append(channel)
        name = f"{self.devices} devices, {self.conversations} conversations"
        return Shape(name, [tuple(own) for own in publish], [tuple(own) for own in subscribe], [*members])


def fill(data: Path, cold: ColdSet) -> None:
    """Make the data directory of a server. The user of number n is bench-n."""
    initialise(data)
    store = SqliteStore.open(data)
    try:
        for records in _batches(_records(cold)):
            store.append(store.next_pos, len(records), b"".join(records))
    finally:
        store.close()
    folder = SqliteFolder.open(data, _native.Portion)
    try:
        while folder.fold_once().records:
            pass
    finally:
        folder.close()


def user_of(number: int) -> int:
    return FIRST_USER + number


def device_of(number: int) -> int:
    return 1 + number


def conversation_of(channel: int) -> int:
    return 1 + channel


def _batches(records: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(records, BATCH_RECORDS)):
        yield batch


def _records(cold: ColdSet) -> Iterator[bytes]:
    for number in range(cold.devices):
        name = f"bench-{number}"
        user = {"id": user_of(number), "name": name, "display_name": name, "created_ms": FIRST_MS}
        device = {"id": device_of(number), "uid": user_of(number), "label": "bench", "created_ms": FIRST_MS}
        yield journal_codec.encode_row(row_record("user", user))
        yield journal_codec.encode_row(row_record("device", device))
    members = cold.members()
    for channel, pair in enumerate(members):
        cid, users = conversation_of(channel), sorted(map(user_of, pair))
        row = {
            "id": cid,
            "kind": int(ConversationKind.DIRECT),
            "direct_key": f"{users[0]}:{users[1]}",
            "created_ms": FIRST_MS,
        }
        yield journal_codec.encode_row(row_record("conversation", row))
        for member in users:
            yield journal_codec.encode_member(cid, member, 1, 0, MEMBER_ROLE)
    yield from _events(cold, members)


def _events(cold: ColdSet, members: list[tuple[int, int]]) -> Iterator[bytes]:
    """Round after round, so that what belongs together lies apart, as in a journal of months."""
    pack = struct.Struct("<IBBHQQQQQQQqII").pack
    pad = -(80 + len(BODY)) % journal_codec.ALIGNMENT
    tail = BODY + bytes(pad)
    cseqs = [0] * cold.devices
    for index in range(cold.events):
        round_number, channel = divmod(index, len(members))
        number = members[channel][0]
        cseqs[number] += 1
        yield (
            pack(
                80 + len(BODY) + pad,
                journal_codec.EVENT,
                journal_codec.EVENT_MESSAGE,
                pad,
                conversation_of(channel),
                round_number + 1,
                user_of(number),
                device_of(number),
                cseqs[number],
                FIRST_MS + index // 100,
                round_number + 1,
                index,
                int(Kind.TEXT),
                len(BODY),
            )
            + tail
        )
