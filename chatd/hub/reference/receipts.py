"""Positions and RECEIPT frames. Mirrors native/hub/receipts.pxi; the theory is there."""

from chatd.hub.reference import links
from chatd.hub.reference.state import Conversation, Member, Moved, Need, State
from chatd.storage import journal_codec as journal
from chatd.wire.schema import Feature, Topic

ENTRIES_MAX = 500


def stage(hub: State, conversation: Conversation, member: Member) -> None:
    user, touched = member.user, conversation.touched_pos
    conversation.touched_pos = hub.append(
        journal.encode_position(conversation.cid, user, member.delivered_seq, member.read_seq, member.read_count)
    )

    def undo() -> None:
        """Positions never go back: what memory has beyond the disk is staged again later."""
        conversation.touched_pos = touched
        newest = conversation.member(user)
        if newest is not None:
            newest.dirty = newest.cooling

    hub.undo.append(undo)


def moved(hub: State, conversation: Conversation, member: Member) -> None:
    """Stage now, or when the pair has cooled down."""
    if member.cooling:
        member.dirty = True
        return
    stage(hub, conversation, member)
    due(hub, conversation, member)
    if len(hub.cooling) < (hub.cooling.maxlen or 0):
        member.cooling = True
        hub.cooling.append((conversation.cid, member.user, hub.tick_ms + hub.settings.position_interval_ms))


def cool(hub: State) -> None:
    while hub.cooling and hub.cooling[0][2] <= hub.tick_ms:
        cid, user, _ = hub.cooling.popleft()
        conversation = hub.conversations.get(cid)
        member = conversation.member(user) if conversation is not None else None
        if conversation is None or member is None or not member.cooling:
            continue
        member.cooling = False
        if member.dirty:
            member.dirty = False
            moved(hub, conversation, member)


def due(hub: State, conversation: Conversation, member: Member) -> None:
    """The receipt of the record staged last is due when it is durable."""
    if not member.changed and conversation.member_count <= hub.settings.receipt_members_max:
        entry = hub.moved.setdefault(conversation.cid, {})[member.user] = Moved(hub.next_pos - 1)
        member.changed = True
        settle_move(hub, conversation.cid, entry, member)


def settle_move(hub: State, cid: int, entry: Moved, member: Member) -> None:
    """The record says what holds now: it is not written yet."""
    entry.delivered_seq, entry.read_seq = member.delivered_seq, member.read_seq
    entry.read_moved |= member.read_moved
    member.read_moved = member.dirty = False
    hub.tail[entry.pos] = journal.encode_position(
        cid, member.user, member.delivered_seq, member.read_seq, member.read_count
    )


def settle(hub: State) -> None:
    """The end of a poll: a pair that moved several times has one record, with where it came to."""
    for cid, moves in hub.moved.items():
        for user, entry in moves.items():
            member = hub.conversations[cid].member(user)
            if member is not None:
                settle_move(hub, cid, entry, member)


def count_at(hub: State, conversation: Conversation, seq: int) -> int | None:
    """The count of messages at seq; None: neither the head nor in the tail."""
    if seq == conversation.head_seq:
        return conversation.message_count
    pos = conversation.events.get(seq)
    return None if pos is None else journal.decode_batch(pos, 1, hub.tail[pos]).events[0][7]


def merge(hub: State, conversation: Conversation, member: Member, delivered_seq: int, read_seq: int) -> None:
    """What a shard or a method says. Beyond head or the end of membership is cut off."""
    last = min(conversation.head_seq, member.leave_seq or conversation.head_seq)
    before = (member.read_seq, member.delivered_seq)
    read_seq = min(read_seq, last)
    delivered_seq = min(max(delivered_seq, read_seq), last)
    count = count_at(hub, conversation, read_seq) if read_seq > member.read_seq else 0
    if count is None:
        hub.upcalls.append(("need_read_count", conversation.cid, member.user, read_seq))
        read_seq = count = 0
    member.raise_to(delivered_seq, read_seq, count)
    if (member.read_seq, member.delivered_seq) != before:
        member.read_moved |= member.read_seq > before[0]
        if member.read_seq > before[0] or conversation.member_count <= hub.settings.receipt_members_max:
            moved(hub, conversation, member)


def on_position(hub: State, record: bytes) -> Need | None:
    """Returns what it has to wait for."""
    _, user, cid, delivered_seq, read_seq = links.POSITION.unpack(record)
    conversation = hub.conversations.get(cid)
    if cid and (conversation is None or not conversation.loaded):
        return ("conversation", cid)
    member = conversation.member(user) if conversation is not None else None
    if conversation is not None and member is not None:
        merge(hub, conversation, member, delivered_seq, read_seq)
    return None


def flush(hub: State) -> None:
    """After the commit: a frame per conversation for the shards that follow, one per move for the reader's devices."""
    for cid, moves in hub.moved.items():
        conversation = hub.conversations[cid]
        members = [(conversation.member(user), entry) for user, entry in moves.items()]
        known = [(member, entry) for member, entry in members if member is not None]
        entries = [(member.user, entry.delivered_seq, entry.read_seq) for member, entry in known]
        for first in range(0, len(entries), ENTRIES_MAX):
            frame = links.frame_receipt(cid, entries[first : first + ENTRIES_MAX])
            for shard in range(64):
                if conversation.shards >> shard & 1:
                    hub.links[shard].say_topic(cid, Topic.RECEIPTS, frame)
        for member, entry in known:
            member.changed = False
            if entry.read_moved:
                tell_reader(hub, cid, member.user, entry)
    hub.moved.clear()


def drop(hub: State) -> None:
    """The batch was refused: nobody hears of it, and what memory has beyond the disk is staged again."""
    for cid, moves in hub.moved.items():
        for user, entry in moves.items():
            member = hub.conversations[cid].member(user)
            if member is not None:
                member.changed = False
                member.read_moved |= entry.read_moved
    hub.moved.clear()


def tell_reader(hub: State, cid: int, uid: int, entry: Moved) -> None:
    frame = links.frame_receipt(cid, [(uid, entry.delivered_seq, entry.read_seq)])
    user = hub.users.get(uid)
    for device in user.online if user is not None else []:
        if device.features & Feature.RECEIPTS:
            hub.links[device.shard].say_frames(device.handle, frame, done=False)


def put_read_count(hub: State, cid: int, user: int, read_seq: int, read_count: int) -> None:
    conversation = hub.conversations.get(cid)
    member = conversation.member(user) if conversation is not None else None
    if conversation is None or member is None or not member.read_seq < read_seq <= conversation.head_seq:
        return
    member.raise_to(0, read_seq, read_count)
    member.read_moved = True
    moved(hub, conversation, member)
