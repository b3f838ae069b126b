# Publishing: what became durable goes to everybody who may see it; what was refused never happened.
#
# One mechanism pushes events: read a record of the tail, find the recipients, write one COMMITTED record per shard that
# has any. It serves the links that are in step, right after the commit, and each link that is not: its ring was full,
# or its shard outlived the hub that committed the events. Such a link goes on from pushed_pos when there is room, and
# comes into step again by reaching committed_pos. Recipients are found anew each time, from the intervals that contain
# the event's seq and the sessions whose sync position lies before it; so lateness never shows anything to the wrong
# one. A link whose next position has left the tail gets LOST, and its sessions pull.
# Nothing here allocates per event; the scratch for recipients grows with the largest conversation seen.

cdef enum:
    HUB_CATCH_UP_MAX = 4096         # events for one link in one call
    HUB_LOOK_AHEAD = 256            # conversations asked for at once when a catch-up meets one that is not loaded
    HUB_PREFETCH = 4

cdef extern from * nogil:
    """
    static inline unsigned chatd_lowest_bit(uint64_t bits) { return (unsigned)__builtin_ctzll(bits); }
    """
    unsigned int chatd_lowest_bit(uint64_t bits) noexcept


# -- recipients --------------------------------------------------------------------------------------------------------

# Make room for `count` recipients in all. False: no memory.
cdef bint hub_recipients_room(hub_t* h, uint64_t count) noexcept nogil:
    cdef uint32_t room = h.recipient_room if h.recipient_room else 64
    cdef void* grown
    if count <= h.recipient_room:
        return True
    while room < count:
        room *= 2
    grown = realloc(h.recipients, room * sizeof(uint64_t))
    if grown == NULL:
        return False
    h.recipients = <uint64_t*>grown
    grown = realloc(h.recipients_unsorted, room * sizeof(uint64_t))
    if grown == NULL:
        return False
    h.recipients_unsorted = <uint64_t*>grown
    grown = realloc(h.recipient_shards, room)
    if grown == NULL:
        return False
    h.recipient_shards = <uint8_t*>grown
    h.recipient_room = room
    return True

# The sessions of one user that get this event, behind the `n` that are found already. False: no memory.
cdef inline bint hub_recipients_add(hub_t* h, const hub_user_t* u, const journal_event* event, uint64_t pos,
                                    uint64_t mask, uint32_t* n, uint32_t* count, uint64_t* shards) noexcept nogil:
    cdef hub_device_t* d = u.online
    if not hub_recipients_room(h, <uint64_t>n[0] + u.online_count):
        return False
    while d != NULL:
        if d.device == event.device or d.registered_pos >= pos or not (mask >> d.shard) & 1:
            d = d.next_of_user
            continue
        if not (shards[0] >> d.shard) & 1:
            shards[0] |= <uint64_t>1 << d.shard
            count[d.shard] = 0
        count[d.shard] += 1
        h.recipients_unsorted[n[0]] = d.handle
        h.recipient_shards[n[0]] = <uint8_t>d.shard
        n[0] += 1
        d = d.next_of_user
    return True

# Of a large conversation: those who are there.
cdef bint hub_recipients_present(hub_t* h, const hub_audience_t* a, const journal_event* event, uint64_t pos,
                                 uint64_t mask, uint32_t* n, uint32_t* count, uint64_t* shards) noexcept nogil:
    cdef uint32_t i
    cdef const hub_present_t* entry
    for i in range(a.count):
        if i + 2 * HUB_PREFETCH < a.count:
            chatd_prefetch(a.entries[i + 2 * HUB_PREFETCH].user)
        if i + HUB_PREFETCH < a.count:
            chatd_prefetch(a.entries[i + HUB_PREFETCH].user.online)
        entry = &a.entries[i]
        if hub_spans(entry.join_seq, entry.leave_seq, event.seq) and not hub_recipients_add(
                h, entry.user, event, pos, mask, n, count, shards):
            return False
    return True

# Sessions on the shards of `mask` that get this event, grouped by shard: begin[s] .. begin[s] + count[s] of recipients.
# The sending device is left out: its SEND_ACK says the same. False: no memory.
cdef bint hub_recipients(hub_t* h, hub_conversation_t* c, const journal_event* event, uint64_t pos, uint64_t mask,
                         uint32_t* begin, uint32_t* count, uint64_t* shards) noexcept nogil:
    cdef uint32_t i, n = 0, at = 0
    cdef const hub_member_t* m
    cdef const hub_user_t* u
    cdef uint64_t left
    shards[0] = 0
    hub_audience_make(h, c, event.seq)
    if c.audience != NULL and c.audience.from_seq <= event.seq:
        if not hub_recipients_present(h, c.audience, event, pos, mask, &n, count, shards):
            return False
    else:
        for i in range(c.interval_count):
            m = &c.members[i]
            if not hub_interval_has(m, event.seq) and not (chatd_sabotage(SABOTAGE_MEMBERSHIP_AT_JOIN_ONLY)
                                                           and m.join_seq <= event.seq):
                continue
            u = hub_user(h, m.user)
            if u != NULL and u.online_count and not hub_recipients_add(h, u, event, pos, mask, &n, count, shards):
                return False
    left = shards[0]
    while left:
        i = chatd_lowest_bit(left)
        left &= left - 1
        begin[i] = at
        at += count[i]
        count[i] = 0
    for i in range(n):
        k = h.recipient_shards[i]
        h.recipients[begin[k] + count[k]] = h.recipients_unsorted[i]
        count[k] += 1
    return True


# -- one event ---------------------------------------------------------------------------------------------------------

# Length of the extension block that stored content begins with, its length prefix included.
cdef size_t hub_ext_bytes(const uint8_t* content, size_t content_bytes) noexcept nogil:
    cdef cur_t c
    cdef uint64_t n
    rd_init(&c, content, content_bytes)
    n = rd_varint(&c)
    rd_bytes(&c, n)
    return content_bytes - rd_left(&c)

# A DELIVER frame into a buffer; returns its size, 0 when it does not fit. stored: JOURNAL_EVENT_* of the content.
# frame_bytes_max: a larger body becomes a stub, which says the length of the payload alone.
cdef size_t hub_frame_deliver(uint8_t* frame, size_t room, uint64_t cid, uint64_t seq, uint64_t sender, uint64_t ts_ms,
                              uint64_t kind, uint8_t stored, const uint8_t* content, size_t content_bytes,
                              uint8_t flags, size_t frame_bytes_max) noexcept nogil:
    cdef out_t o
    cdef size_t head
    if stored & JOURNAL_EVENT_TOMBSTONE:
        flags |= FLAG_DELIVER_TOMBSTONE
        stored = 0
        content_bytes = 0
    hub_frame_begin(frame, room, &o)
    wr_varint(&o, cid)
    wr_varint(&o, seq)
    wr_varint(&o, sender)
    hub_wr_time40(&o, ts_ms)
    wr_varint(&o, kind)
    head = <size_t>(o.p - frame) - FRAME_HEADER_BYTES
    if head + content_bytes > frame_bytes_max:
        wr_varint(&o, content_bytes - (hub_ext_bytes(content, content_bytes) if stored & JOURNAL_EVENT_EXT else 0))
        flags |= FLAG_DELIVER_STUB
    else:
        wr_bytes(&o, content, content_bytes)
        if stored & JOURNAL_EVENT_EXT:
            flags |= FLAG_EXT
    return hub_frame_end(frame, &o, OP_DELIVER, flags)

cdef inline size_t hub_event_frame(uint8_t* frame, const journal_event* event, uint8_t flags,
                                   size_t frame_bytes_max) noexcept nogil:
    return hub_frame_deliver(frame, HUB_FRAME_ROOM, event.cid, event.seq, event.sender, event.ts_ms, event.kind,
                             event.head.flags, <const uint8_t*>event + sizeof(journal_event), event.payload_bytes,
                             flags, frame_bytes_max)

# One COMMITTED record. False: no room above the reserve, or control waits; the link falls behind here.
cdef bint hub_say_committed(hub_t* h, hub_link_t* link, const journal_event* event, uint64_t pos, size_t frame_bytes,
                            const uint64_t* handles, uint32_t count) noexcept nogil:
    cdef size_t n = sizeof(link_committed) + frame_bytes + count * sizeof(uint64_t)
    cdef link_committed* record
    if link.outbox_begin != link.outbox_end:
        return False
    if n > link.ring_out.record_bytes_max:
        hub_say_lost(h, <uint32_t>(link - &h.links[0]), pos)
        return True
    # Twice the record: a skip to the ring's start may take as much again.
    if ring_free_bytes(link.ring_out) < hub_ring_reserve(h, link) + 2 * (n + RING_RECORD_HEADER_BYTES + 8):
        return False
    record = <link_committed*>ring_reserve(link.ring_out, n)
    if record == NULL:
        return False
    memset(record, 0, sizeof(link_committed))
    record.type = LINK_H_COMMITTED
    record.frame_bytes = <uint32_t>frame_bytes
    record.pos = pos
    record.cid = event.cid
    record.seq = event.seq
    record.recipient_count = count
    memcpy(<uint8_t*>record + sizeof(link_committed), h.frame, frame_bytes)
    memcpy(<uint8_t*>record + sizeof(link_committed) + frame_bytes, handles, count * sizeof(uint64_t))
    ring_commit(link.ring_out, n)
    link.unpublished = True
    return True

# Push the event at pos to the shards of `mask`. Returns those that have it now or need not have it.
cdef uint64_t hub_push_event(hub_t* h, const journal_event* event, uint64_t pos, uint64_t mask,
                             hub_hop_kind hop) noexcept nogil:
    cdef hub_conversation_t* c = hub_conversation(h, event.cid)
    cdef uint32_t begin[HUB_SHARDS_MAX]
    cdef uint32_t count[HUB_SHARDS_MAX]
    cdef uint64_t shards = 0, left
    cdef uint32_t shard
    cdef size_t frame_bytes
    if c == NULL or not c.loaded:
        return mask
    if not hub_recipients(h, c, event, pos, mask, begin, count, &shards):
        h.count.memory_refusals += 1
        return 0
    if shards == 0:
        return mask
    frame_bytes = hub_event_frame(h.frame, event, 0, FRAME_BODY_BYTES_MAX)
    left = shards
    while left:
        shard = chatd_lowest_bit(left)
        left &= left - 1
        if not hub_say_committed(h, &h.links[shard], event, pos, frame_bytes, h.recipients + begin[shard],
                                 count[shard]):
            mask &= ~(<uint64_t>1 << shard)
            continue
        h.count.deliveries += count[shard]
        hub_hop(h, hop, event.cid, event.seq, count[shard], shard)
    h.count.events_pushed += 1
    return mask


# -- links that are behind ---------------------------------------------------------------------------------------------

cdef inline bint hub_is_behind(hub_t* h, const hub_link_t* link) noexcept nogil:
    return link.up and link.ready and not link.lost and link.pushed_pos < h.tail.committed_pos

# Ask for the conversations of the next events that are not loaded. True: there is one at pos itself, wait.
cdef bint hub_look_ahead(hub_t* h, uint64_t pos) noexcept nogil:
    cdef uint64_t at, end = pos + HUB_LOOK_AHEAD
    cdef const journal_event* event
    cdef hub_conversation_t* c
    cdef bint blocked = False
    if end > h.tail.committed_pos + 1:
        end = h.tail.committed_pos + 1
    for at in range(pos, end):
        event = <const journal_event*>tail_record(&h.tail, at)
        if event.head.type != JOURNAL_EVENT:
            continue
        c = hub_conversation(h, event.cid)
        if c == NULL or not c.loaded:
            blocked = blocked or at == pos
            hub_need(h, NEED_CONVERSATION, event.cid, 0)
        if at == pos and not blocked:
            return False
    return blocked

# Push from the tail until the link is in step, its ring is full or enough was done.
cdef void hub_catch_up(hub_t* h, uint32_t shard) noexcept nogil:
    cdef hub_link_t* link = &h.links[shard]
    cdef uint64_t bit = <uint64_t>1 << shard
    cdef const journal_event* event
    cdef int budget = HUB_CATCH_UP_MAX
    if link.pushed_pos + 1 < h.tail.first_pos:
        hub_say_lost(h, shard, h.tail.committed_pos)
        link.pushed_pos = h.tail.committed_pos
        return
    while link.pushed_pos < h.tail.committed_pos and budget > 0:
        budget -= 1
        event = <const journal_event*>tail_record(&h.tail, link.pushed_pos + 1)
        if event.head.type == JOURNAL_EVENT:
            if hub_look_ahead(h, link.pushed_pos + 1):
                return
            if hub_push_event(h, event, link.pushed_pos + 1, bit, HOP_REPLAYED) == 0:
                return
            h.count.catch_up_events += 1
        link.pushed_pos += 1

cdef void hub_links_flush(hub_t* h) noexcept nogil:
    cdef uint32_t shard
    for shard in range(<uint32_t>h.settings.shards_max):
        if not h.links[shard].up or h.links[shard].lost:
            continue
        if h.links[shard].outbox_begin != h.links[shard].outbox_end:
            hub_outbox_flush(&h.links[shard])
        if hub_is_behind(h, &h.links[shard]):
            hub_catch_up(h, shard)
        if h.links[shard].ring_out.corrupt:
            hub_link_give_up(h, &h.links[shard])
    hub_links_publish(h)


# -- after the commit --------------------------------------------------------------------------------------------------

cdef void hub_answers_give(hub_t* h) noexcept nogil:
    cdef uint32_t i
    cdef hub_answer_t* a
    for i in range(h.answer_count):
        a = &h.answers[i]
        if h.links[a.shard].generation == a.generation:
            hub_ack(h, a)
    h.answer_count = 0

# The content of an event goes: what the tail still has of it shows as a tombstone from here on.
cdef void hub_redact(hub_t* h, const journal_redact* redact) noexcept nogil:
    cdef hub_conversation_t* c = hub_conversation(h, redact.cid)
    cdef journal_event* event = <journal_event*>hub_event(h, c, redact.seq) if c != NULL else NULL
    if event != NULL:
        event.head.flags |= JOURNAL_EVENT_TOMBSTONE

# Before anything of the batch is pushed: an event may be of the same batch as its redaction.
cdef void hub_redact_staged(hub_t* h) noexcept nogil:
    cdef uint64_t pos
    cdef const uint8_t* record
    for pos in range(h.tail.committed_pos + 1, h.tail.next_pos if h.redactions_staged else 0):
        record = tail_record(&h.tail, pos)
        if (<const journal_head*>record).type == JOURNAL_REDACT:
            hub_redact(h, <const journal_redact*>record)
    h.redactions_staged = 0

cdef void hub_publish(hub_t* h) noexcept nogil:
    cdef uint64_t pos, first = h.tail.committed_pos + 1, in_step = 0, pushed
    cdef uint32_t shard
    cdef const journal_event* event
    for shard in range(<uint32_t>h.settings.shards_max):
        if h.links[shard].up and h.links[shard].ready and h.links[shard].pushed_pos == h.tail.committed_pos:
            in_step |= <uint64_t>1 << shard
    hub_redact_staged(h)
    tail_commit(&h.tail)
    for pos in range(first, h.tail.next_pos):
        event = <const journal_event*>tail_record(&h.tail, pos)
        if event.head.type != JOURNAL_EVENT:
            continue
        hub_hop(h, HOP_COMMITTED, event.cid, event.seq, pos, 0)
        if in_step == 0:
            continue
        pushed = hub_push_event(h, event, pos, in_step, HOP_PUSHED)
        if pushed != in_step:
            hub_fall_behind(h, in_step & ~pushed, pos - 1)
            in_step = pushed
    hub_fall_behind(h, in_step, h.tail.committed_pos)
    hub_receipts_flush(h)
    hub_answers_give(h)
    h.undo_count = 0
    h.count.batches += 1
    hub_logins_try(h)
    hub_links_flush(h)

# Sabotage: everything is as after the commit, but for the acks.
cdef void hub_publish_early(hub_t* h) noexcept nogil:
    cdef uint32_t answer_count = h.answer_count
    h.answer_count = 0
    hub_publish(h)
    h.answer_count = answer_count

# The links of `mask` have everything up to pos.
cdef void hub_fall_behind(hub_t* h, uint64_t mask, uint64_t pos) noexcept nogil:
    cdef uint32_t shard
    while mask:
        shard = chatd_lowest_bit(mask)
        mask &= mask - 1
        h.links[shard].pushed_pos = pos


# -- or not ------------------------------------------------------------------------------------------------------------

cdef void hub_undo_one(hub_t* h, hub_undo_t* u) noexcept nogil:
    cdef hub_conversation_t* c = u.conversation
    cdef hub_device_t* d = u.device
    cdef hub_member_t* m
    if u.kind == UNDO_EVENT:
        c.event_count -= 1
        if not chatd_sabotage(SABOTAGE_SEQ_NOT_TAKEN_BACK):
            c.head_seq = u.a
        c.message_count = u.b
        c.last_ts = u.c
        c.touched_pos = u.d
    elif u.kind == UNDO_POSITIONS:
        m = hub_member(c, u.a)
        m.delivered_seq = u.b
        m.read_seq = u.c
        m.read_count = u.d
    elif u.kind == UNDO_SENT:
        if d.window[u.a & (d.window_room - 1)].cseq == u.a:
            d.window[u.a & (d.window_room - 1)] = u.sent
        d.window_floor = u.b
        d.cseq_max = u.c
        d.touched_pos = u.d
    elif u.kind == UNDO_MARK:
        if d.handle != 0 and d.session_epoch == u.c:
            hub_mark(d, u.a, u.b)
    elif u.kind == UNDO_INTERVAL_NEW:
        hub_audience_drop(h, c)
        hub_interval_remove(c, u.a, u.b)
        c.touched_pos = u.c
    elif u.kind == UNDO_INTERVAL:
        hub_audience_drop(h, c)
        hub_interval_set(c, u.a, u.b, u.c, <uint32_t>u.d)
        c.touched_pos = u.e
    elif u.kind == UNDO_SPOKE or u.kind == UNDO_MUTE or u.kind == UNDO_RULES:
        hub_rights_undo(u)
    else:
        # Positions never go back: what memory has beyond the disk is staged again when it has cooled down.
        m = hub_member(c, u.a)
        c.touched_pos = u.c
        if m != NULL:
            m.dirty = m.cooling

cdef void hub_undo_to(hub_t* h, uint32_t count) noexcept nogil:
    while h.undo_count > count:
        h.undo_count -= 1
        hub_undo_one(h, &h.undo[h.undo_count])

# The store took nothing: every table is as before the first staged record, and every sender hears it.
cdef void hub_reject(hub_t* h, uint16_t code, uint64_t retry_after_ms) noexcept nogil:
    cdef uint32_t i
    cdef hub_answer_t* a
    hub_undo_to(h, 0)
    hub_receipts_drop(h)
    tail_truncate(&h.tail)
    h.redactions_staged = 0
    for i in range(h.answer_count):
        a = &h.answers[i]
        if h.links[a.shard].generation == a.generation:
            hub_nak(h, hub_device(h, a.device), a.shard, a.handle, a.token, a.cseq, a.cid, code, retry_after_ms,
                    NULL, 0)
    h.answer_count = 0
    h.count.rejects += 1
    hub_logins_try(h)
    hub_links_flush(h)
