# Replay: the tables as they were, from the batches of the journal that the main database does not have yet.
#
# Each record is put into the tail and applied to its table, which may hold nothing else about that conversation or
# device yet: `loaded` stays false until Python brings the rest from the main database, and what was replayed wins over
# that.

cdef enum:
    HUB_EARLY_SEQ = 0x4000000000000000      # join_seq of a stand-in: beyond every seq

# The user's newest interval. While intervals are still in the main database a stand-in that contains no seq keeps the
# positions; hub_early_settle hands them over. NULL: no memory.
cdef hub_member_t* hub_member_early(hub_conversation_t* c, uint64_t user) noexcept nogil:
    cdef hub_member_t* m = hub_member(c, user)
    if m != NULL:
        return m
    return hub_interval_set(c, user, <uint64_t>HUB_EARLY_SEQ, 1, 0)

# All intervals are there: positions of stand-ins go to them.
cdef void hub_early_settle(hub_conversation_t* c) noexcept nogil:
    cdef uint32_t i, kept = 0
    cdef hub_member_t* m
    for i in range(c.interval_count):
        m = &c.members[i]
        if m.join_seq != <uint64_t>HUB_EARLY_SEQ:
            c.members[kept] = m[0]
            kept += 1
        elif kept > 0 and c.members[kept - 1].user == m.user:
            c.members[kept - 1].spoke_s = m.spoke_s
            hub_positions_raise(&c.members[kept - 1], m.delivered_seq, m.read_seq, m.read_count)
    c.interval_count = kept

cdef bint hub_replay_event(hub_t* h, const journal_event* event, uint64_t pos) noexcept nogil:
    cdef hub_conversation_t* c = hub_conversation_need(h, event.cid)
    cdef hub_device_t* d
    cdef hub_sent_t sent
    cdef hub_sent_t replaced
    cdef hub_member_t* m
    if c == NULL or (c.event_count and event.seq != c.head_seq + 1) or not hub_event_push(c, pos):
        return False
    c.head_seq = event.seq
    c.message_count = event.message_count
    c.last_ts = event.ts_ms
    c.touched_pos = pos
    if event.head.flags & JOURNAL_EVENT_MESSAGE:
        m = hub_member_early(c, event.sender)
        if m == NULL:
            return False
        hub_positions_raise(m, event.seq, event.seq, event.message_count)
        m.spoke_s = hub_second_after(event.ts_ms)
    if event.device == 0:
        return True
    sent.cseq = event.cseq
    sent.cid = event.cid
    sent.seq = event.seq
    sent.ts_ms = event.ts_ms
    sent.digest = event.digest
    d = hub_device_need(h, event.device)
    if d == NULL:
        return False
    d.touched_pos = pos
    return hub_window_put(d, &sent, &replaced)

cdef bint hub_replay_skip(hub_t* h, const journal_skip* skip, uint64_t pos) noexcept nogil:
    cdef hub_device_t* d = hub_device_need(h, skip.device)
    cdef hub_sent_t sent
    cdef hub_sent_t replaced
    memset(&sent, 0, sizeof(sent))
    sent.cseq = skip.cseq
    if d == NULL:
        return False
    d.touched_pos = pos
    return hub_window_put(d, &sent, &replaced)

cdef bint hub_replay_member(hub_t* h, const journal_member* member, uint64_t pos) noexcept nogil:
    cdef hub_conversation_t* c = hub_conversation_need(h, member.cid)
    if c == NULL:
        return False
    c.touched_pos = pos
    return hub_interval_set(c, member.user, member.join_seq, member.leave_seq, member.role) != NULL

cdef bint hub_replay_position(hub_t* h, const journal_position* position, uint64_t pos) noexcept nogil:
    cdef hub_conversation_t* c = hub_conversation_need(h, position.cid)
    cdef hub_member_t* m
    if c == NULL:
        return False
    c.touched_pos = pos
    m = hub_member_early(c, position.user)
    if m == NULL:
        return False
    hub_positions_raise(m, position.delivered_seq, position.read_seq, position.read_count)
    return True

# One record at p, checked by journal_check. False: no memory, or records that contradict each other.
cdef bint hub_replay_record(hub_t* h, const uint8_t* p) noexcept nogil:
    cdef const journal_head* head = <const journal_head*>p
    cdef uint64_t pos = h.tail.next_pos
    cdef uint8_t* record = tail_append(&h.tail, head.bytes)
    if record == NULL:
        return False
    memcpy(record, p, head.bytes)
    if head.type == JOURNAL_EVENT:
        return hub_replay_event(h, <const journal_event*>record, pos)
    if head.type == JOURNAL_SKIP:
        return hub_replay_skip(h, <const journal_skip*>record, pos)
    if head.type == JOURNAL_MEMBER:
        return hub_replay_member(h, <const journal_member*>record, pos)
    if head.type == JOURNAL_POSITION:
        return hub_replay_position(h, <const journal_position*>record, pos)
    if head.type == JOURNAL_REDACT:
        hub_redact(h, <const journal_redact*>record)
    return True

# One batch; what of it is for Python, as decode_batch gives it.
cdef tuple hub_replay(hub_t* h, uint64_t pos, uint64_t count, bytes blob):
    cdef const uint8_t* p = <const uint8_t*>blob
    cdef uint64_t i
    if h.tail.next_pos == h.tail.first_pos:
        h.tail.first_pos = h.tail.next_pos = pos
        h.tail.committed_pos = pos - 1
    if tail_staged_count(&h.tail) or pos != h.tail.next_pos:
        raise ValueError(f"replay at {pos} where {h.tail.next_pos} comes next")
    decoded = decode_batch(pos, count, blob)
    for i in range(count):
        if not hub_replay_record(h, p):
            raise ValueError(f"journal record {pos + i} contradicts the ones before it, or memory is short")
        p += (<const journal_head*>p).bytes
    tail_commit(&h.tail)
    return decoded[5], decoded[3], decoded[6]
