# Receipts: who has got and read how much.
#
# A position is one max-register per user and conversation, merged over the user's devices; it never goes back, and read
# <= delivered <= head always holds. Shards coalesce, the hub coalesces once more: the first move is staged at once, the
# next ones of the same pair wait in `cooling` until the interval has passed, so a pair writes at most one record in it
# and nothing waits longer than that: with the shard's interval, less than the second that the contract gives. A read
# position needs the count of messages at its seq: known at the head and in the tail, asked of the main database
# otherwise (need_read_count).
# Others see what is durable, or a hub that dies would take receipts back: after the commit, one RECEIPT frame per
# conversation, encoded once per shard with followers; the reader's own devices get theirs directly. Conversations over
# receipt_members_max have counters only: what is delivered there and not read is remembered here and not written, or
# each event of a channel would be followed by a record of every subscriber.

cdef enum:
    HUB_RECEIPT_ROOM = 20 + 500 * 27    # cid, count, entries of three varints


cdef bint hub_stage_position(hub_t* h, hub_conversation_t* c, const hub_member_t* m) noexcept nogil:
    cdef journal_position* record
    cdef hub_undo_t* undo
    if not hub_undo_prepare(h):
        return False
    record = <journal_position*>tail_append_typed(&h.tail, JOURNAL_POSITION, 0, sizeof(journal_position))
    if record == NULL:
        return False
    record.cid = c.cid
    record.user = m.user
    record.delivered_seq = m.delivered_seq
    record.read_seq = m.read_seq
    record.read_count = m.read_count
    undo = hub_undo_add(h, UNDO_POSITION_STAGED)
    undo.conversation = c
    undo.a = m.user
    undo.c = c.touched_pos
    c.touched_pos = h.tail.next_pos - 1
    return True

# Remember the record staged last, whose receipt is due when it is durable.
cdef void hub_receipt_due(hub_t* h, hub_conversation_t* c, hub_member_t* m) noexcept nogil:
    cdef void* grown
    if m.changed or c.member_count > h.settings.receipt_members_max or hub_conversation_evictable(h, c):
        return
    grown = hub_grown(h.moved, h.moved_count, &h.moved_room, sizeof(hub_moved_t))
    if grown == NULL:
        return
    h.moved = <hub_moved_t*>grown
    memset(&h.moved[h.moved_count], 0, sizeof(hub_moved_t))
    h.moved[h.moved_count].conversation = c
    h.moved[h.moved_count].user = m.user
    h.moved[h.moved_count].pos = h.tail.next_pos - 1
    h.moved_count += 1
    if c.moved_first == 0:
        c.moved_first = h.moved_count
    else:
        h.moved[c.moved_last - 1].next = h.moved_count
    c.moved_last = h.moved_count
    m.changed = 1
    hub_move_settle(h, &h.moved[h.moved_count - 1], m)

# The record says what holds now: it is not written yet.
cdef void hub_move_settle(hub_t* h, hub_moved_t* moved, hub_member_t* m) noexcept nogil:
    cdef journal_position* record = <journal_position*>tail_record(&h.tail, moved.pos)
    record.delivered_seq = moved.delivered_seq = m.delivered_seq
    record.read_seq = moved.read_seq = m.read_seq
    record.read_count = m.read_count
    moved.read_moved |= m.read_moved
    m.read_moved = m.dirty = 0

# The end of a poll: a pair that moved several times has one record, with where it came to.
cdef void hub_positions_settle(hub_t* h) noexcept nogil:
    cdef uint32_t i
    cdef hub_member_t* m
    for i in range(h.moved_count):
        m = hub_member(h.moved[i].conversation, h.moved[i].user)
        if m != NULL:
            hub_move_settle(h, &h.moved[i], m)

# Stage now, or when the pair has cooled down. A failed allocation leaves it dirty for the next time.
cdef void hub_position_moved(hub_t* h, hub_conversation_t* c, hub_member_t* m) noexcept nogil:
    cdef hub_cooling_t* at
    if m.cooling:
        m.dirty = 1
        return
    if not hub_stage_position(h, c, m):
        h.count.memory_refusals += 1
        return
    hub_receipt_due(h, c, m)
    if h.cooling_count == HUB_COOLING_MAX:
        return
    m.cooling = 1
    c.cooling_count += 1
    at = &h.cooling[(h.cooling_begin + h.cooling_count) % HUB_COOLING_MAX]
    h.cooling_count += 1
    at.cid = c.cid
    at.user = m.user
    at.due_ms = h.tick_ms + h.settings.position_interval_ms

cdef void hub_cooling_tick(hub_t* h) noexcept nogil:
    cdef hub_cooling_t* at
    cdef hub_conversation_t* c
    cdef hub_member_t* m
    while h.cooling_count:
        at = &h.cooling[h.cooling_begin]
        if at.due_ms > h.tick_ms:
            return
        h.cooling_begin = (h.cooling_begin + 1) % HUB_COOLING_MAX
        h.cooling_count -= 1
        c = hub_conversation(h, at.cid)
        m = hub_member(c, at.user) if c != NULL else NULL
        if m == NULL or not m.cooling:
            continue
        m.cooling = 0
        c.cooling_count -= 1
        if m.dirty:
            m.dirty = 0
            hub_position_moved(h, c, m)

# The count of messages at seq. False: neither the head nor in the tail.
cdef bint hub_read_count(hub_t* h, const hub_conversation_t* c, uint64_t seq, uint64_t* read_count) noexcept nogil:
    cdef const journal_event* event
    if seq == c.head_seq:
        read_count[0] = c.message_count
        return True
    event = hub_event(h, c, seq)
    if event == NULL:
        return False
    read_count[0] = event.message_count
    return True

# Merge what a shard or a method says of a user's positions. Beyond head or the end of membership is cut off.
cdef void hub_position_merge(hub_t* h, hub_conversation_t* c, hub_member_t* m, uint64_t delivered_seq,
                             uint64_t read_seq) noexcept nogil:
    cdef uint64_t last = c.head_seq, read_count = 0, read_before = m.read_seq, delivered_before = m.delivered_seq
    if m.leave_seq != 0 and m.leave_seq < last:
        last = m.leave_seq
    if read_seq > last:
        read_seq = last
    if delivered_seq < read_seq:
        delivered_seq = read_seq
    if delivered_seq > last:
        delivered_seq = last
    if read_seq > m.read_seq and not hub_read_count(h, c, read_seq, &read_count):
        hub_upcall(h, UP_NEED_READ_COUNT, 0, c.cid, m.user, read_seq, 0)
        read_seq = 0
    hub_positions_raise(m, delivered_seq, read_seq, read_count)
    if m.read_seq == read_before and m.delivered_seq == delivered_before:
        return
    h.count.positions += 1
    m.read_moved |= m.read_seq > read_before
    if m.read_seq == read_before and c.member_count > h.settings.receipt_members_max:
        return
    hub_position_moved(h, c, m)

cdef hub_outcome hub_on_position(hub_t* h, const uint8_t* record, hub_need_t* wait) noexcept nogil:
    cdef link_position position
    cdef hub_conversation_t* c
    cdef hub_member_t* m
    memcpy(&position, record, sizeof(position))
    c = hub_conversation(h, position.cid)
    if position.cid != 0 and (c == NULL or not c.loaded):
        wait.kind = NEED_CONVERSATION
        wait.key = position.cid
        return HUB_PARK
    m = hub_member(c, position.user) if c != NULL else NULL
    if m != NULL:
        hub_position_merge(h, c, m, position.delivered_seq, position.read_seq)
    return HUB_DONE


# -- what others see ---------------------------------------------------------------------------------------------------

# A RECEIPT frame of up to `most` moves of one conversation from index + 1 `at` on, into h.frame; `at` goes on behind
# them. 0: none of them is a member any more.
cdef size_t hub_frame_receipt(hub_t* h, const hub_conversation_t* c, uint32_t* at, uint32_t most) noexcept nogil:
    cdef out_t o
    cdef uint32_t i = at[0], count = 0
    cdef const hub_moved_t* moved
    while i != 0 and count < most:
        count += hub_member(c, h.moved[i - 1].user) != NULL
        i = h.moved[i - 1].next
    hub_frame_begin(h.frame, HUB_FRAME_ROOM, &o)
    wr_varint(&o, c.cid)
    wr_varint(&o, count)
    while at[0] != i:
        moved = &h.moved[at[0] - 1]
        at[0] = moved.next
        if hub_member(c, moved.user) != NULL:
            wr_varint(&o, moved.user)
            wr_varint(&o, moved.delivered_seq)
            wr_varint(&o, moved.read_seq)
    return hub_frame_end(h.frame, &o, OP_RECEIPT, 0) if count else 0

# The reader's own devices learn what another of them has read.
cdef void hub_receipt_to_self(hub_t* h, const hub_conversation_t* c, uint32_t at) noexcept nogil:
    cdef hub_user_t* u = hub_user(h, h.moved[at - 1].user)
    cdef hub_device_t* d = u.online if u != NULL else NULL
    cdef size_t n
    if d == NULL:
        return
    n = hub_frame_receipt(h, c, &at, 1)
    while d != NULL:
        if d.features & FEATURE_RECEIPTS:
            hub_say_frames(h, d.shard, d.handle, h.frame, n, False)
        d = d.next_of_user

cdef void hub_receipts_of(hub_t* h, hub_conversation_t* c) noexcept nogil:
    cdef uint32_t at = c.moved_first, shard
    cdef uint64_t left
    cdef size_t n
    cdef hub_member_t* m
    while at != 0 and c.shards != 0:
        n = hub_frame_receipt(h, c, &at, LIMIT_RECEIPT_ENTRIES_COUNT_MAX)
        left = c.shards if n else 0
        while left:
            shard = chatd_lowest_bit(left)
            left &= left - 1
            hub_say_topic(h, shard, c.cid, TOPIC_RECEIPTS, h.frame, n, 0)
            h.count.receipts += 1
    at = c.moved_first
    while at != 0:
        m = hub_member(c, h.moved[at - 1].user)
        # An interval that came and went with a refused batch has nothing to tell.
        if m != NULL:
            m.changed = 0
            if h.moved[at - 1].read_moved:
                hub_receipt_to_self(h, c, at)
        at = h.moved[at - 1].next
    c.moved_first = c.moved_last = 0

# Send what moved, conversation by conversation, in the order in which each moved first.
cdef void hub_receipts_flush(hub_t* h) noexcept nogil:
    cdef uint32_t i
    for i in range(h.moved_count):
        if h.moved[i].conversation.moved_first == i + 1:
            hub_receipts_of(h, h.moved[i].conversation)
    h.moved_count = 0

# The batch was refused: nobody hears of it, and what memory has beyond the disk is staged again.
cdef void hub_receipts_drop(hub_t* h) noexcept nogil:
    cdef uint32_t i
    cdef hub_member_t* m
    for i in range(h.moved_count):
        h.moved[i].conversation.moved_first = h.moved[i].conversation.moved_last = 0
        m = hub_member(h.moved[i].conversation, h.moved[i].user)
        if m != NULL:
            m.changed = 0
            m.read_moved |= h.moved[i].read_moved
    h.moved_count = 0
