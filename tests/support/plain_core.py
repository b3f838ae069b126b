"""A hub core without rings: tables, staging, tail and journal of the Core protocol in plain Python.

Upcalls are put in with push(); what would go to shards is kept in `sent`. SENDs, sessions and windows are not modelled:
those are tests of the native core.
"""

import os
from typing import Any

from chatd.hub import frames
from chatd.hub.redactions import shown
from chatd.hub.rights import DEFAULT, NOTHING_DENIED
from chatd.storage import journal_codec as codec
from chatd.storage.interface import EventRow

Interval = list[int]


class Conversation:
    def __init__(self, kind: int, flags: int) -> None:
        self.kind, self.flags = kind, flags
        self.head = self.count = self.ts = self.touched = 0
        self.slow_mode_s = 0
        self.denied: tuple[int, ...] = NOTHING_DENIED
        self.muted: dict[int, int] = {}
        self.members: dict[tuple[int, int], Interval] = {}
        self.loaded = False

    def copy(self) -> "Conversation":
        twin = Conversation(self.kind, self.flags)
        twin.__dict__.update(self.__dict__)
        twin.members = {key: list(interval) for key, interval in self.members.items()}
        twin.muted = dict(self.muted)
        return twin


class PlainCore:
    def __init__(self, next_pos: int = 1) -> None:
        self._wake, self._wake_end = os.pipe()
        self._upcalls: list[tuple[Any, ...]] = []
        self._blobs: list[bytes] = []
        self._undo: dict[int, Conversation | None] = {}
        self._staged_events: list[tuple[int, ...]] = []
        self._staged_redactions: list[tuple[int, int]] = []
        self._redacted: dict[int, set[int]] = {}
        self._conversations: dict[int, Conversation] = {}
        self._tail: dict[tuple[int, int], tuple[int, tuple[Any, ...]]] = {}
        self._next_pos = next_pos
        self._role_rights: tuple[int, ...] = DEFAULT.words
        self.now_ms = 0
        self.sent: list[tuple[Any, ...]] = []
        self.live: list[tuple[int, int, int, int, int]] = []
        self.refused: list[int] = []
        self.answers: list[tuple[Any, ...]] = []

    # ---------------------------------------------------------------- driven by tests

    def push(self, *upcall: Any) -> None:
        self._upcalls.append(upcall)
        os.write(self._wake_end, b"x")

    def forget(self, cid: int) -> None:
        """Evict a conversation, which must not have anything in the tail."""
        assert not any(key[0] == cid for key in self._tail)
        self._conversations.pop(cid, None)

    # ---------------------------------------------------------------- loop

    def fileno(self) -> int:
        return self._wake

    def timeout_ms(self) -> int:
        return -1

    def close(self) -> None:
        os.close(self._wake)
        os.close(self._wake_end)

    def poll(self, now_ms: int, tick_ms: int = -1) -> list[tuple[Any, ...]]:
        self.now_ms = now_ms
        upcalls, self._upcalls = self._upcalls, []
        if upcalls:
            os.read(self._wake, 65536)
        return upcalls

    @property
    def staged_count(self) -> int:
        return len(self._blobs)

    @property
    def staged_bytes(self) -> int:
        return sum(map(len, self._blobs))

    @property
    def committed_pos(self) -> int:
        return self._next_pos - 1

    def batch(self) -> tuple[int, int, bytes]:
        return self._next_pos, len(self._blobs), b"".join(self._blobs)

    def publish(self) -> None:
        self._next_pos += len(self._blobs)
        for cid, seq in self._staged_redactions:
            self._redacted.setdefault(cid, set()).add(seq)
        self._settle()

    def reject(self, code: int, retry_after_ms: int) -> None:
        self.refused.append(code)
        for cid, before in self._undo.items():
            if before is None:
                self._conversations.pop(cid, None)
            else:
                self._conversations[cid] = before
        for key in self._staged_events:
            del self._tail[key]
        self._settle()

    def _settle(self) -> None:
        self._blobs, self._undo, self._staged_events, self._staged_redactions = [], {}, [], []

    def _stage(self, cid: int, record: bytes) -> int:
        self._blobs.append(record)
        pos = self._next_pos + len(self._blobs) - 1
        if cid:
            self._conversations[cid].touched = pos
        return pos

    def _changing(self, cid: int) -> Conversation:
        conversation = self._conversations[cid]
        self._undo.setdefault(cid, conversation.copy())
        return conversation

    def stage_event(self, cid: int, sender: int, kind: int, content: bytes, flags: int) -> int:
        conversation = self._changing(cid)
        conversation.head += 1
        conversation.count += flags & codec.EVENT_MESSAGE
        conversation.ts = max(conversation.ts, self.now_ms)
        event = (
            cid, conversation.head, conversation.ts, sender, 0, 0, kind, conversation.count, 0, content, int(flags),
        )  # fmt: skip
        pos = self._stage(cid, codec.encode_event(event))
        self._tail[cid, conversation.head] = (pos, event)
        self._staged_events.append((cid, conversation.head))
        return conversation.head

    def stage_member(self, cid: int, user: int, role: int, join_seq: int, leave_seq: int) -> int:
        interval = self._changing(cid).members.setdefault((user, join_seq), [user, role, join_seq, 0, 0, 0, 0])
        interval[1], interval[3] = role, leave_seq
        return self._stage(cid, codec.encode_member(cid, user, join_seq, leave_seq, role))

    def stage_position(self, cid: int, user: int, delivered_seq: int, read_seq: int) -> int:
        conversation = self._changing(cid)
        interval = [entry for entry in conversation.members.values() if entry[0] == user][-1]
        interval[4:] = [delivered_seq, read_seq, conversation.count]
        return self._stage(cid, codec.encode_position(cid, user, delivered_seq, read_seq, conversation.count))

    def stage_row(self, row: bytes) -> int:
        return self._stage(0, codec.encode_row(row))

    def stage_redact(self, cid: int, seq: int, reason: int) -> int:
        self._staged_redactions.append((cid, seq))
        return self._stage(0, codec.encode_redact(cid, seq, reason))

    def change_rules(self, cid: int, flags: int, slow_mode_s: int, denied: Any) -> None:
        conversation = self._changing(cid)
        conversation.flags, conversation.slow_mode_s, conversation.denied = flags, slow_mode_s, tuple(denied)

    def change_mute(self, cid: int, user: int, until_s: int) -> None:
        self._changing(cid).muted[user] = until_s

    def put_role_rights(self, words: Any) -> None:
        self._role_rights = tuple(words)

    # ---------------------------------------------------------------- loading

    def put_conversation(
        self,
        cid: int,
        kind: int,
        flags: int,
        head_seq: int,
        message_count: int,
        last_ts: int,
        changed_pos: int,
        members: list[Any],
        slow_mode_s: int = 0,
        denied: Any = NOTHING_DENIED,
        muted: Any = (),
        spoke: Any = (),
    ) -> None:
        if cid not in self._conversations:
            self._undo.setdefault(cid, None)
        conversation = self._conversations.setdefault(cid, Conversation(kind, flags))
        conversation.kind, conversation.flags, conversation.loaded = kind, flags, True
        conversation.slow_mode_s, conversation.denied, conversation.muted = slow_mode_s, tuple(denied), dict(muted)
        conversation.head = max(conversation.head, head_seq)
        conversation.count = max(conversation.count, message_count)
        conversation.ts = max(conversation.ts, last_ts)
        conversation.touched = max(conversation.touched, changed_pos)
        for interval in members:
            conversation.members.setdefault((interval[0], interval[2]), list(interval))
        conversation.members = dict(sorted(conversation.members.items()))
        if not self._blobs:
            self._undo.clear()

    def no_conversation(self, cid: int) -> None:
        self.answers.append(("no_conversation", cid))

    def put_user(self, user: int, token_epoch: int, flags: int) -> None:
        self.answers.append(("put_user", user, token_epoch, flags))

    def put_device(self, device: int, user: int, cseq_max: int, flags: int) -> None:
        self.answers.append(("put_device", device, user, cseq_max, flags))

    def no_device(self, device: int) -> None:
        self.answers.append(("no_device", device))

    def answer_idempotency(self, *answer: Any) -> None:
        self.answers.append(("idempotency", *answer))

    def put_read_count(self, *answer: Any) -> None:
        self.answers.append(("read_count", *answer))

    # ---------------------------------------------------------------- to shards

    def link(self, shard: int, epoch: int, ring_in: Any, ring_out: Any) -> None: ...
    def unlink(self, shard: int) -> None: ...

    def frames(self, shard: int, handle: int, data: bytes, done: bool) -> bool:
        self.sent.append(("frames", shard, handle, data, done))
        return True

    def rpc(self, shard: int, call: int, payload: bytes) -> bool:
        self.sent.append(("rpc", shard, call, payload))
        return True

    def notify(self, user: int, frame: bytes, but_device: int) -> int:
        self.sent.append(("notify", user, frame, but_device))
        return 0

    def watch(self, user: int, on: bool) -> None: ...

    def streaming(self, cid: int, on: bool) -> None: ...

    def to_followers(self, cid: int, topics: int, frame: bytes, but_shard: int = 0, but_handle: int = 0) -> int:
        self.sent.append(("to_followers", cid, topics, frame, but_handle))
        return 0

    def revoke(self, user: int, cid: int) -> None:
        self.sent.append(("revoke", user, cid))

    def kick(self, shard: int, handle: int, reason: int) -> None:
        self.sent.append(("kick", shard, handle, reason))

    # ---------------------------------------------------------------- reading

    def conversation(self, cid: int) -> tuple[int, ...] | None:
        found = self._loaded(cid)
        if found is None:
            return None
        present = sum(interval[3] == 0 for interval in found.members.values())
        return (found.kind, found.flags, found.head, found.count, found.ts, found.touched, present)

    def touched_pos(self, cid: int) -> int:
        return self._conversations[cid].touched if cid in self._conversations else 0

    def _loaded(self, cid: int) -> Conversation | None:
        found = self._conversations.get(cid)
        return found if found is not None and found.loaded else None

    def members(self, cid: int) -> list[tuple[int, ...]] | None:
        found = self._loaded(cid)
        return None if found is None else [tuple(interval) for interval in found.members.values()]

    def intervals(self, cid: int, user: int) -> list[tuple[int, ...]] | None:
        found = self.members(cid)
        return None if found is None else [interval for interval in found if interval[0] == user]

    def present(self, cid: int, after: int, limit: int) -> list[tuple[int, ...]] | None:
        found = self.members(cid)
        return None if found is None else [one for one in found if one[0] > after and not one[3]][:limit]

    def receipt_counts(self, cid: int, seq: int, but_user: int) -> tuple[int, int, int] | None:
        found = self.members(cid)
        readers = {one[0] for one in found or () if one[2] <= seq <= (one[3] or seq)}
        there = [one for one in found or () if not one[3] and one[0] in readers and one[0] != but_user]
        counts = [sum(one[which] >= seq for one in there) for which in (4, 5)]
        return None if found is None else (len(there), counts[0], counts[1])

    def rights(self, cid: int, user: int) -> int | None:
        conversation, found = self._loaded(cid), self.intervals(cid, user)
        if conversation is None or not found or found[-1][3]:
            return None if conversation is None else 0
        return self._role_rights[found[-1][1]] & ~conversation.denied[found[-1][1]]

    def muted_until_s(self, cid: int, user: int) -> int:
        return self._conversations[cid].muted.get(user, 0)

    def sessions(self, user: int) -> list[tuple[int, int, int, int]]:
        return [(shard, handle, device, epoch) for owner, shard, handle, device, epoch in self.live if owner == user]

    def last_event(self, cid: int) -> tuple[Any, ...] | None:
        entry = self._tail.get((cid, self._conversations[cid].head)) if cid in self._conversations else None
        if entry is None:
            return None
        row = self._row(cid, entry[1][1])
        return (row.seq, row.sender, row.ts_ms, row.kind, frames.payload_of(row)[:96])

    def _row(self, cid: int, seq: int) -> EventRow:
        _, (_, _, ts_ms, sender, _, _, kind, _, _, content, flags) = self._tail[cid, seq]
        return shown(EventRow(cid, seq, ts_ms, sender, kind, content, flags), frozenset(self._redacted.get(cid, ())))

    def tail_floor(self, cid: int, head: int) -> int:
        seq = head + 1
        while (cid, seq - 1) in self._tail:
            seq -= 1
        return seq

    def tail_events(
        self,
        cid: int,
        from_seq: int,
        to_seq: int,
        events_max: int,
        bytes_max: int,
        frame_bytes_max: int,
        user: int,
        lite: bool,
    ) -> tuple[bytes, int]:
        out = b""
        for seq in range(from_seq, to_seq + 1):
            if (cid, seq) not in self._tail:
                return out, seq
            frame = frames.deliver_history(self._row(cid, seq), frame_bytes_max)
            if not events_max or len(out) + len(frame) > bytes_max:
                return out, seq
            if not any(i[2] <= seq <= (i[3] or seq) for i in self.intervals(cid, user) or ()):
                continue
            out += frame
            events_max -= 1
        return out, to_seq + 1

    def freed(self, folded_pos: int) -> None:
        self._tail = {key: entry for key, entry in self._tail.items() if entry[0] > folded_pos}

    def replay(self, pos: int, count: int, blob: bytes) -> tuple[list[Any], list[Any], list[Any]]:
        decoded = codec.decode_batch(pos, count, blob)
        for at, event in enumerate(decoded.events):
            conversation = self._conversations.setdefault(event[0], Conversation(0, 0))
            conversation.head, conversation.ts, conversation.count = event[1], event[2], event[7]
            conversation.touched = pos + count - 1
            self._tail[event[0], event[1]] = (pos + at, event)
        for cid, user, join_seq, leave_seq, role, _ in decoded.members:
            conversation = self._conversations.setdefault(cid, Conversation(0, 0))
            conversation.members[user, join_seq] = [user, role, join_seq, leave_seq, 0, 0, 0]
        for cid, user, delivered_seq, read_seq, read_count, _ in decoded.positions:
            newest = [entry for entry in self._conversations[cid].members.values() if entry[0] == user][-1]
            newest[4:] = [delivered_seq, read_seq, read_count]
        self._next_pos = pos + count
        for cid, seq, _ in decoded.redactions:
            self._redacted.setdefault(cid, set()).add(seq)
        return decoded.rows, decoded.members, decoded.redactions

    def ledger(self, cid: int, seq: int, user: int = 0) -> list[tuple[int, str, str]]:
        return []

    def counters(self) -> dict[str, int]:
        return {}
