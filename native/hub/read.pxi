# Reads: what Python and clients may see of the tables, and DELIVER frames from the tail.
#
# Everything below a conversation's tail floor is in the main database, everything from it on is here, in one piece up
# to the head. Frames come out complete and flagged HISTORY, cut where the caller's room ends, so the caller only
# concatenates. What a user may not see is left out event by event: the interval decides, as everywhere.

cdef tuple hub_interval_tuple(const hub_conversation_t* c, uint32_t at):
    cdef const hub_member_t* m = &c.members[at]
    cdef const hub_member_t* newest = hub_member(c, m.user)
    return (m.user, m.role, m.join_seq, m.leave_seq, newest.delivered_seq, newest.read_seq, newest.read_count)

cdef list hub_intervals_of(const hub_conversation_t* c, uint64_t user):
    cdef uint32_t i
    cdef list found = []
    for i in range(hub_interval_at(c, user, 0) if user else 0, c.interval_count):
        if user and c.members[i].user != user:
            break
        found.append(hub_interval_tuple(c, i))
    return found

cdef list hub_present_of(const hub_conversation_t* c, uint64_t after, uint64_t limit):
    cdef uint32_t i
    cdef list found = []
    for i in range(hub_interval_at(c, after + 1, 0), c.interval_count):
        if c.members[i].leave_seq == 0:
            if <uint64_t>len(found) >= limit:
                break
            found.append(hub_interval_tuple(c, i))
    return found

# Present members but one user who may read seq: how many, of them received, of them read.
cdef tuple hub_receipt_counts(const hub_conversation_t* c, uint64_t seq, uint64_t but_user):
    cdef uint32_t i, members = 0, delivered = 0, read = 0
    cdef const hub_member_t* m
    cdef bint has = False
    for i in range(c.interval_count):
        m = &c.members[i]
        has = has or hub_interval_has(m, seq)
        if i + 1 < c.interval_count and c.members[i + 1].user == m.user:
            continue
        if has and m.leave_seq == 0 and m.user != but_user:
            members += 1
            delivered += m.delivered_seq >= seq
            read += m.read_seq >= seq
        has = False
    return (members, delivered, read)

# Frames of the events from_seq .. to_seq that the user may see, into `to` of `room` bytes. next_seq: the first event
# not looked at. Stops at a bound, and where the tail does not reach.
cdef size_t hub_tail_frames(hub_t* h, const hub_conversation_t* c, uint64_t user, uint64_t from_seq, uint64_t to_seq,
                            uint64_t events_max, uint8_t* to, size_t room, size_t frame_bytes_max,
                            uint64_t* next_seq) noexcept nogil:
    cdef const journal_event* event
    cdef size_t n, used = 0
    cdef uint64_t seq = from_seq
    while seq <= to_seq and events_max > 0:
        event = hub_event(h, c, seq)
        if event == NULL:
            break
        if hub_may_see(c, user, seq):
            n = hub_event_frame(h.frame, event, FLAG_DELIVER_HISTORY, frame_bytes_max)
            if used + n > room:
                break
            memcpy(to + used, h.frame, n)
            used += n
            events_max -= 1
        seq += 1
    next_seq[0] = seq
    return used

cdef bytes hub_encode_rows(hub_t* h, list rows, size_t frame_bytes_max):
    cdef list frames = []
    cdef uint64_t cid, seq, ts_ms, sender, kind
    cdef uint8_t flags
    cdef bytes content
    cdef size_t n
    for row in rows:
        cid, seq, ts_ms, sender, kind, content, flags = row
        n = hub_frame_deliver(h.frame, HUB_FRAME_ROOM, cid, seq, sender, ts_ms, kind, flags, <const uint8_t*>content,
                              <size_t>len(content), FLAG_DELIVER_HISTORY, frame_bytes_max)
        if n == 0:
            raise ValueError(f"event {cid}:{seq} cannot be encoded: a value is 2**63 or more")
        frames.append(h.frame[:n])
    return b"".join(frames)
