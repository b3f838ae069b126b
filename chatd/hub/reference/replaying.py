"""The tables as they were, from the journal. Mirrors native/hub/replay.pxi; the theory is there."""

from itertools import pairwise
from typing import Any

from chatd.hub.reference.publishing import redact
from chatd.hub.reference.rights import second_after
from chatd.hub.reference.state import Sent, State
from chatd.storage import journal_codec as journal


def replay(hub: State, pos: int, count: int, blob: bytes) -> tuple[list[Any], list[Any], list[Any]]:
    if hub.next_pos == hub.first_pos:
        hub.first_pos = hub.next_pos = pos
        hub.committed_pos = pos - 1
    if hub.staged_count or pos != hub.next_pos:
        raise ValueError(f"replay at {pos} where {hub.next_pos} comes next")
    decoded = journal.decode_batch(pos, count, blob)
    padded = [*(record.start for record in journal.records(pos, count, blob)), len(blob)]
    for start, end in pairwise(padded):
        _apply(hub, hub.append(blob[start:end]))
    hub.committed_pos = hub.next_pos - 1
    return decoded.rows, decoded.members, decoded.redactions


def _apply(hub: State, pos: int) -> None:
    record = hub.tail[pos]
    one = journal.decode_batch(pos, 1, record)
    owners = [row[0] for row in (one.events or one.idempotency) + one.members + one.positions]
    if 0 in owners:  # No table has a place for it.
        raise ValueError(f"journal record {pos} names a conversation or device 0")
    for event in one.events:
        _apply_event(hub, pos, event)
    for device, cseq, _, _ in one.idempotency if not one.events else []:
        hub.device(device).touched_pos = pos
        hub.device(device).put(Sent(cseq, 0, 0, 0, 0))
    for cid, user, join_seq, leave_seq, role, _ in one.members:
        hub.conversation(cid).touched_pos = pos
        hub.conversation(cid).set_interval(user, join_seq, leave_seq, role)
    for cid, user, delivered_seq, read_seq, read_count, _ in one.positions:
        hub.conversation(cid).touched_pos = pos
        hub.conversation(cid).early(user).raise_to(delivered_seq, read_seq, read_count)
    redact(hub, pos)


def _apply_event(hub: State, pos: int, event: journal.EventTuple) -> None:
    cid, seq, ts_ms, sender, device, cseq, _, message_count, digest, _, flags = event
    conversation = hub.conversation(cid)
    if conversation.events and seq != conversation.head_seq + 1:
        raise ValueError(f"journal record {pos} contradicts the ones before it")
    conversation.events[seq] = pos
    conversation.head_seq, conversation.message_count, conversation.last_ts = seq, message_count, ts_ms
    conversation.touched_pos = pos
    if flags & journal.EVENT_MESSAGE:
        conversation.early(sender).raise_to(seq, seq, message_count)
        conversation.early(sender).spoke_s = second_after(ts_ms)
    if device:
        hub.device(device).touched_pos = pos
        hub.device(device).put(Sent(cseq, cid, seq, ts_ms, digest % (1 << 64)))
