"""What became durable goes to everybody who may see it. Mirrors native/hub/publish.pxi; the theory is there."""

from typing import NamedTuple

from chatd.hub.reference import links, receipts
from chatd.hub.reference.sends import ack, nak, undo_all
from chatd.hub.reference.sessions import attempt_all
from chatd.hub.reference.state import Conversation, State
from chatd.storage import journal_codec as journal

CATCH_UP_MAX = 4096
LOOK_AHEAD = 256


class Event(NamedTuple):
    cid: int
    seq: int
    ts_ms: int
    sender: int
    kind: int
    content: bytes
    flags: int
    device: int

    @property
    def row(self) -> tuple[int, int, int, int, int, bytes, int]:
        """What its DELIVER is made of."""
        return self[:7]


def event_at(hub: State, pos: int) -> Event | None:
    """The event at a position of the tail; None for other records."""
    record = hub.tail[pos]
    if record[4] != journal.EVENT:
        return None
    cid, seq, ts_ms, sender, device, _, kind, _, _, content, flags = journal.decode_batch(pos, 1, record).events[0]
    if (cid, seq) in hub.redacted:
        flags |= journal.EVENT_TOMBSTONE
    return Event(cid, seq, ts_ms, sender, kind, content, flags, device)


def recipients(
    hub: State, conversation: Conversation, event: Event, pos: int, shards: set[int]
) -> dict[int, list[int]]:
    """Handles by shard: sessions begun before pos, of members whose interval has seq, but for the sending device."""
    found: dict[int, list[int]] = {}
    for member in conversation.members:
        user = hub.users.get(member.user)
        if user is None or not member.has(event.seq):
            continue
        for device in user.online:
            if device.device != event.device and device.registered_pos < pos and device.shard in shards:
                found.setdefault(device.shard, []).append(device.handle)
    return found


def push(hub: State, event: Event, pos: int, shards: set[int]) -> set[int]:
    """Returns the shards that have the event now or need not have it."""
    conversation = hub.conversations.get(event.cid)
    if conversation is None or not conversation.loaded:
        return shards
    found = recipients(hub, conversation, event, pos, shards)
    frame = links.frame_deliver(event.row)
    return shards - {
        shard
        for shard in sorted(found)
        if not hub.links[shard].say_committed(pos, event.cid, event.seq, frame, found[shard])
    }


def is_behind(hub: State, link: links.Link) -> bool:
    return link.is_usable and link.ready and link.pushed_pos < hub.committed_pos


def is_blocked(hub: State, pos: int) -> bool:
    """The event at pos has a conversation that is not loaded: ask for it and for those behind it."""
    wanted = []
    for at in range(pos, min(pos + LOOK_AHEAD, hub.committed_pos + 1)):
        event = event_at(hub, at)
        if event is not None and not hub.conversation(event.cid).loaded:
            wanted.append(event.cid)
        if at == pos and not wanted:
            return False
    for cid in wanted:
        hub.ask(("conversation", cid))
    return True


def catch_up(hub: State, link: links.Link) -> None:
    """Push from the tail until the link is in step, its ring is full or enough was done."""
    if link.pushed_pos + 1 < hub.first_pos:
        link.say_lost(hub.committed_pos)
        link.pushed_pos = hub.committed_pos
        return
    for pos in range(link.pushed_pos + 1, min(hub.committed_pos, link.pushed_pos + CATCH_UP_MAX) + 1):
        event = event_at(hub, pos)
        if event is not None and (is_blocked(hub, pos) or not push(hub, event, pos, {link.shard})):
            return
        link.pushed_pos = pos


def flush_links(hub: State) -> None:
    for _, link in sorted(hub.links.items()):
        if link.is_usable:
            link.flush()
            if is_behind(hub, link):
                catch_up(hub, link)
        if link.up:
            link.ring_out.publish()


def publish(hub: State) -> None:
    in_step = {
        shard for shard, link in hub.links.items() if link.up and link.ready and link.pushed_pos == hub.committed_pos
    }
    first, hub.committed_pos = hub.committed_pos + 1, hub.next_pos - 1
    for pos in range(first, hub.next_pos):
        redact(hub, pos)
    for pos in range(first, hub.next_pos):
        event = event_at(hub, pos)
        if event is None:
            continue
        pushed = push(hub, event, pos, in_step)
        for shard in in_step - pushed:
            hub.links[shard].pushed_pos = pos - 1
        in_step = pushed
    for shard in in_step:
        hub.links[shard].pushed_pos = hub.committed_pos
    receipts.flush(hub)
    for answer in hub.answers:
        if answer.link.up:
            ack(answer)
    hub.answers.clear()
    hub.undo.clear()
    attempt_all(hub)
    flush_links(hub)


def redact(hub: State, pos: int) -> None:
    """If the record at pos is a redaction: what the tail has of that event shows as a tombstone from here on."""
    record = hub.tail[pos]
    if record[4] != journal.REDACT:
        return
    for cid, seq, _ in journal.decode_batch(pos, 1, record).redactions:
        conversation = hub.conversations.get(cid)
        if conversation is not None and seq in conversation.events:
            hub.redacted.add((cid, seq))


def reject(hub: State, code: int, retry_after_ms: int) -> None:
    """The store took nothing: every table is as before, and every sender hears it."""
    undo_all(hub)
    receipts.drop(hub)
    for pos in range(hub.committed_pos + 1, hub.next_pos):
        del hub.tail[pos]
    hub.next_pos = hub.committed_pos + 1
    for answer in hub.answers:
        if answer.link.up:
            sender = hub.devices.get(answer.device)
            nak(hub, sender, answer.link, answer.handle, answer.token, answer.cseq, answer.cid, code, retry_after_ms)
    hub.answers.clear()
    attempt_all(hub)
    flush_links(hub)


def free(hub: State, folded_pos: int) -> None:
    """Let go of what is folded and no link has still to read."""
    hub.folded_pos = max(hub.folded_pos, folded_pos)
    settings = hub.settings
    count = hub.next_pos - hub.first_pos
    keep = hub.folded_pos
    if count < settings.tail_records_max // 2 and hub.tail_bytes < settings.tail_bytes_max // 2:
        for _, link in sorted(hub.links.items()):
            if link.is_usable:
                keep = min(keep, link.pushed_pos if link.ready else hub.first_pos - 1)
    for pos in range(hub.first_pos, keep + 1):
        event = event_at(hub, pos)
        if event is not None:
            del hub.conversations[event.cid].events[event.seq]
            hub.redacted.discard((event.cid, event.seq))
        del hub.tail[pos]
    hub.first_pos = max(hub.first_pos, keep + 1)
