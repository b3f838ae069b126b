# Uplink: this shard's end of the link to the hub.
#
# A link is never reset, only replaced. On a fresh one the shard says what it has routed (RECEIVED), re-attaches every
# live session, says READY, and then hands over what has no answer yet, in the original order; only then does it take
# part in normal traffic. A hundred thousand sessions do not fit into the ring at once, so this is a state machine that
# goes on whenever there is room. Whatever waits for room (LOGIN, CLOSED, SENDs, positions) is written by uplink_pump,
# once per tick. What the hub writes is checked like anything else that another process wrote; a contradiction drops
# the link.

cdef enum uplink_stage:
    UPLINK_NONE = 0
    UPLINK_RECEIVED = 1                # RECEIVED must be written
    UPLINK_ATTACHING = 2               # REATTACH for slots from attach_slot on
    UPLINK_READY_DUE = 3               # READY must be written
    UPLINK_READY = 4

cdef enum:
    UPLINK_RECORDS_PER_TICK = 4096
    UPLINK_RECIPIENTS_PER_TICK = 16384

cdef inline bint uplink_is_ready(const engine_t* e) noexcept nogil:
    return e.hub.stage == UPLINK_READY


# -- to the hub --------------------------------------------------------------------------------------------------------

# The connection has a LOGIN or CLOSED record to hand over.
cdef void uplink_due(engine_t* e, conn_t* c) noexcept nogil:
    if not c.flags & CONN_DUE_LISTED:
        c.flags |= CONN_DUE_LISTED
        slot_list_put(&e.due, c.slot)

cdef bint uplink_write_received(engine_t* e, uint8_t record_type) noexcept nogil:
    cdef uint8_t* at = ring_reserve(e.hub.ring_out, sizeof(link_received))
    cdef link_received* record = <link_received*>at
    if at == NULL:
        return False
    memset(at, 0, sizeof(link_received))
    record.type = record_type
    record.pos = e.routed_pos
    ring_commit(e.hub.ring_out, sizeof(link_received))
    return True

cdef bint uplink_write_login(engine_t* e, conn_t* c, uint8_t flags) noexcept nogil:
    cdef uint8_t* at = ring_reserve(e.hub.ring_out, sizeof(link_login))
    cdef link_login* record = <link_login*>at
    if at == NULL:
        return False
    memset(at, 0, sizeof(link_login))
    record.type = LINK_S_LOGIN
    record.flags = flags
    record.frame_bytes_max = c.frame_bytes_max
    record.handle = conn_handle(c)
    record.user = c.user
    record.device = c.device
    record.token_epoch = c.token_epoch
    if flags & LINK_LOGIN_REATTACH:
        record.session_epoch = c.session_epoch
    elif c.preauth != NULL:  # uncovered: who registers has it
        record.session_epoch = c.preauth.ticket_epoch
    record.features = c.features
    ring_commit(e.hub.ring_out, sizeof(link_login))
    c.flags |= CONN_ATTACHED
    return True

cdef bint uplink_write_closed(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint8_t* at = ring_reserve(e.hub.ring_out, sizeof(link_closed))
    cdef link_closed* record = <link_closed*>at
    if at == NULL:
        return False
    memset(at, 0, sizeof(link_closed))
    record.type = LINK_S_CLOSED
    record.reason = c.close_reason
    record.handle = conn_handle(c)
    record.user = c.user
    record.device = c.device
    record.session_epoch = c.session_epoch
    ring_commit(e.hub.ring_out, sizeof(link_closed))
    return True

cdef inline bint uplink_is_owed(const conn_t* c) noexcept nogil:
    return c.flags & CONN_CLOSED_DUE != 0 or (c.flags & CONN_LOGIN_DUE != 0 and c.state == CONN_REGISTERING)

# Write what the listed connections owe, as far as the ring takes it. Those that owe nothing leave the list, with or
# without a hub; a slot that only waited for this is freed.
cdef void uplink_pump_due(engine_t* e) noexcept nogil:
    cdef uint32_t index, kept = 0
    cdef conn_t* c
    cdef bint has_room = uplink_is_ready(e)
    for index in range(e.due.count):
        c = slab_at(&e.slab, e.due.slots[index])
        if has_room and c.flags & CONN_CLOSED_DUE:
            has_room = uplink_write_closed(e, c)
            if has_room:
                c.flags &= ~CONN_CLOSED_DUE
        elif has_room and uplink_is_owed(c):
            has_room = uplink_write_login(e, c, 0)
            if has_room:
                c.flags &= ~CONN_LOGIN_DUE
        if uplink_is_owed(c):
            e.due.slots[kept] = c.slot
            kept += 1
            continue
        c.flags &= ~CONN_DUE_LISTED
        if c.flags & CONN_FREE_DUE and not c.flags & CONN_BULK:
            slot_list_put(&e.gone, c.slot)
    e.due.count = kept

# Tell a fresh hub what the connection follows, from attach_entry on: the hub that granted it is gone, and only this one
# can take it back when the user is removed. False: the ring is full.
cdef bint uplink_pump_following(engine_t* e, conn_t* c) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef subscription_t* entry
    cdef topic_set_t* topic_set
    cdef uint8_t body[2 * VARINT_BYTES_MAX]
    cdef out_t o
    while e.hub.attach_entry != <uint32_t>SUBSCRIPTION_NONE:
        entry = &subs.entries[e.hub.attach_entry]
        topic_set = &subs.sets[entry.topic_set]
        wr_init(&o, body, sizeof(body))
        wr_varint(&o, topic_set.cid)
        wr_varint(&o, topic_set_followers(topic_set)[entry.place].topics)
        if not call_write(e, c, OP_SUBSCRIBE, 0, body, <size_t>(o.p - body), True):
            return False
        e.hub.attach_entry = entry.next
    return True

# Tell a fresh hub which SENDs wait to be retried: what is replayed to it must not overtake them. False: the ring is
# full. From the last one down, so that one which is settled meanwhile hides no other.
cdef bint uplink_pump_marks(engine_t* e, conn_t* c) noexcept nogil:
    cdef refused_t* refused = conn_refused(c)
    cdef uint32_t left = min(e.hub.attach_marks, refused.count) if refused != NULL else 0
    cdef link_mark* record
    cdef uint8_t* at
    while left:
        at = ring_reserve(e.hub.ring_out, sizeof(link_mark))
        if at == NULL:
            break
        memset(at, 0, sizeof(link_mark))
        left -= 1
        record = <link_mark*>at
        record.type = LINK_S_MARK
        record.handle = conn_handle(c)
        record.device = c.device
        record.cid = refused.sends[left].cid
        record.cseq = refused.sends[left].cseq
        ring_commit(e.hub.ring_out, sizeof(link_mark))
    e.hub.attach_marks = left
    return left == 0

# Re-attach sessions from attach_slot on; False: the ring is full.
cdef bint uplink_pump_attach(engine_t* e) noexcept nogil:
    cdef conn_t* c
    while e.hub.attach_slot < slab_slots(&e.slab):
        c = slab_at(&e.slab, e.hub.attach_slot)
        if e.hub.attach_logged:
            if not uplink_pump_marks(e, c) or not uplink_pump_following(e, c):
                return False
            e.hub.attach_logged = False
            e.hub.attach_slot += 1
            continue
        if (c.state == CONN_LIVE or c.state == CONN_REGISTERED) and not c.flags & CONN_DOOMED and c.session_epoch:
            if not uplink_write_login(e, c, LINK_LOGIN_REATTACH):
                return False
            e.hub.attach_logged = True
            e.hub.attach_entry = c.subscription_first
            e.hub.attach_marks = conn_refused(c).count if conn_refused(c) != NULL else 0
            continue
        if c.state == CONN_REGISTERING:
            # The hub that was asked is gone: ask this one.
            c.flags |= CONN_LOGIN_DUE
            uplink_due(e, c)
        e.hub.attach_slot += 1
    return True

# Write what waits, as far as there is room, and publish it.
cdef void uplink_pump(engine_t* e) noexcept nogil:
    cdef ring_t* ring = e.hub.ring_out
    if ring == NULL:
        uplink_pump_due(e)
        return
    if e.hub.stage == UPLINK_RECEIVED and uplink_write_received(e, LINK_S_RECEIVED):
        e.hub.stage = UPLINK_ATTACHING
    if e.hub.stage == UPLINK_ATTACHING and uplink_pump_attach(e):
        e.hub.stage = UPLINK_READY_DUE
    if e.hub.stage == UPLINK_READY_DUE and uplink_write_received(e, LINK_S_READY):
        e.hub.stage = UPLINK_READY
    if e.hub.stage == UPLINK_READY:
        uplink_pump_due(e)
        inflight_pump(e, ring)
        positions_pump(e, ring)
    ring_publish(ring)
    if ring.corrupt:
        uplink_drop(e)

# What the old hub knew of our sessions is void: nobody has to be told that they ended.
cdef void uplink_detach(engine_t* e) noexcept nogil:
    cdef uint32_t index
    cdef conn_t* c
    for index in range(slab_slots(&e.slab)):
        c = slab_at(&e.slab, index)
        c.flags &= ~(CONN_ATTACHED | CONN_CLOSED_DUE)
        if conn_is_live(c):
            calls_fail(e, c)
    inflight_rewind(&e.inflight)

# The link is broken: forget it, and ask for another one.
cdef void uplink_drop(engine_t* e) noexcept nogil:
    e.count[COUNT_LINKS_CORRUPT] += 1
    e.hub.ring_in = e.hub.ring_out = NULL
    e.hub.stage = UPLINK_NONE
    uplink_detach(e)
    e.hub.lost = True
    e.links_lost += 1


# -- from the hub ------------------------------------------------------------------------------------------------------

# One complete frame at p of at most n bytes; its size, 0 when there is none.
cdef inline size_t frame_at(const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t total
    if n < FRAME_HEADER_BYTES:
        return 0
    total = FRAME_HEADER_BYTES + ((<size_t>p[0] << 8) | p[1])
    return total if total <= n else 0

# A DELIVER among answers: it counts in the window whatever room is left, the hub was told how much there was.
cdef void frames_deliver(engine_t* e, conn_t* c, const uint8_t* p, size_t n) noexcept nogil:
    cdef frame_t* frame = frame_copy(e, p, n)
    cdef cur_t cur
    if frame == NULL:
        conn_doom_no_memory(e, c)
        return
    rd_init(&cur, p + FRAME_HEADER_BYTES, n - FRAME_HEADER_BYTES)
    frame.cid = rd_varint(&cur)
    frame.seq = rd_varint(&cur)
    frame.flags = FRAME_DELIVER | FRAME_HISTORY | FRAME_TRACED
    window_push(e, c, frame)
    frame_release(e, frame)

cdef bint on_frames(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_frames* record = <const link_frames*>p
    cdef conn_t* c
    cdef size_t at = sizeof(link_frames), size, last = 0
    cdef uint64_t ref
    cdef uint8_t op
    if n < sizeof(link_frames) or record.frames_bytes != n - sizeof(link_frames):
        return False
    c = slab_find(&e.slab, record.handle)
    while at < n:
        size = frame_at(p + at, n - at)
        if size == 0:
            return False
        last = at
        if c != NULL and conn_is_live(c):
            if p[at + 2] == OP_DELIVER:
                frames_deliver(e, c, p + at, size)
            else:
                conn_send(e, c, p + at, size)
        at += size
    if record.flags & LINK_FRAMES_DONE and c != NULL and conn_calls(c) != NULL:
        op = 0
        ref = 0
        if last:
            op = calls_answered_op(p[last + 2], p + last + FRAME_HEADER_BYTES, n - last - FRAME_HEADER_BYTES, &ref)
        calls_finish(e, c, op, ref)
    return True

cdef bint on_registered(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_registered* record = <const link_registered*>p
    cdef conn_t* c
    cdef upcall_t* up
    if n != sizeof(link_registered):
        return False
    c = slab_find(&e.slab, record.handle)
    if c == NULL or c.state != CONN_REGISTERING or c.flags & CONN_DOOMED:
        return True
    c.state = CONN_REGISTERED
    if record.error:
        # The directory has no such session: nothing to take back when this connection ends.
        c.flags &= ~CONN_ATTACHED
    else:
        c.user = record.user
        c.device = record.device
        c.session_epoch = record.session_epoch
    up = upcall_new(e, UPCALL_REGISTERED, record.handle, NULL, 0)
    if up == NULL:  # uncovered: it needs memory only as the 65th upcall of a poll
        conn_doom_no_memory(e, c)
        return True
    up.numbers[0] = record.error
    up.numbers[1] = record.retry_after_ms
    up.numbers[2] = record.user
    up.numbers[3] = record.device
    up.numbers[4] = record.session_epoch
    up.numbers[5] = record.previous_epoch
    up.numbers[6] = record.cseq_stored
    up.numbers[7] = record.pos
    up.numbers[8] = record.log_epoch
    return True

cdef bint on_kick(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_kick* record = <const link_kick*>p
    cdef conn_t* c
    if n != sizeof(link_kick) or record.reason >= WIRE_CLOSES_SIZE:
        return False
    c = slab_find(&e.slab, record.handle)
    if c != NULL and conn_is_open(c):
        c.close_retry_ms = record.retry_after_ms
        conn_doom(e, c, record.reason)
    return True

cdef bint on_grant(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_grant* record = <const link_grant*>p
    cdef conn_t* c
    cdef subscription_t* entry
    if n != sizeof(link_grant) or record.cid == 0:
        return False
    c = slab_find(&e.slab, record.handle)
    if c == NULL or not conn_is_live(c):
        return True
    if record.topics:
        if not subscription_put(e, c, record.cid, record.topics):
            conn_doom_no_memory(e, c)
        return True
    entry = subscription_find(e, c, record.cid)
    if entry != NULL:
        subscription_remove(e, c, <uint32_t>(entry - e.subscriptions.entries))
    return True

cdef bint on_topic(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_topic* record = <const link_topic*>p
    cdef topic_set_t* topic_set
    cdef frame_t* frame
    cdef conn_t* but
    if n < sizeof(link_topic):
        return False
    if (n - sizeof(link_topic) != record.frame_bytes
            or frame_at(p + sizeof(link_topic), record.frame_bytes) != record.frame_bytes):
        return False
    topic_set = topic_set_find(&e.subscriptions, record.cid)
    if topic_set == NULL or topic_set.count == 0:
        return True
    frame = frame_copy(e, p + sizeof(link_topic), record.frame_bytes)
    but = slab_find(&e.slab, record.but_handle)
    if frame != NULL:
        frame.cid = record.cid
        frame.flags = FRAME_EPHEMERAL
        ephemeral_fan_out(e, topic_set, frame, record.topics, but.slot if but != NULL else <uint32_t>SLOT_NONE)
        frame_release(e, frame)
    return True

cdef bint on_lost(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_received* record = <const link_received*>p
    cdef uint32_t slot
    cdef conn_t* c
    if n != sizeof(link_received):
        return False
    if record.pos > e.routed_pos:
        e.routed_pos = record.pos
    gate_clear(&e.gate)
    for slot in range(slab_slots(&e.slab)):
        c = slab_at(&e.slab, slot)
        if conn_is_live(c):
            lag_everything(e, c)
            lag_check(e, c)
        elif conn_is_registered(c):
            lag_everything(e, c)
    return True

cdef bint on_rpc(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_rpc* record = <const link_rpc*>p
    cdef upcall_t* up
    if n < sizeof(link_rpc) or record.body_bytes != n - sizeof(link_rpc):
        return False
    up = upcall_new(e, UPCALL_RPC, 0, p + sizeof(link_rpc), record.body_bytes)
    if up == NULL:
        e.count[COUNT_MEMORY_REFUSED] += 1
    else:
        up.numbers[0] = record.call
    return True

# False: no record that this version knows, or one that contradicts itself.
cdef bint uplink_record(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_answer* answer = <const link_answer*>p
    cdef const link_interest* interest = <const link_interest*>p
    cdef int record_type = p[0] if n else 0
    if record_type == LINK_H_COMMITTED:
        return on_committed(e, p, n)
    if record_type == LINK_H_ANSWER:
        if n < sizeof(link_answer) or frame_at(p + sizeof(link_answer), n - sizeof(link_answer)) != answer.frame_bytes:
            return False
        on_answer(e, answer.token, answer.handle, p + sizeof(link_answer), answer.frame_bytes)
        return True
    if record_type == LINK_H_FRAMES:
        return on_frames(e, p, n)
    if record_type == LINK_H_REGISTERED:
        return on_registered(e, p, n)
    if record_type == LINK_H_KICK:
        return on_kick(e, p, n)
    if record_type == LINK_H_INTEREST:
        if n != sizeof(link_interest) or interest.cid == 0:
            return False
        subscriptions_interest(e, interest.cid, interest.shards)
        return True
    if record_type == LINK_H_GRANT:
        return on_grant(e, p, n)
    if record_type == LINK_H_RPC:
        return on_rpc(e, p, n)
    if record_type == LINK_H_TOPIC:
        return on_topic(e, p, n)
    if record_type == LINK_H_LOST:
        return on_lost(e, p, n)
    return False

cdef void uplink_read(engine_t* e) noexcept nogil:
    cdef const uint8_t* p
    cdef size_t n
    cdef ring_status status
    cdef int budget
    for budget in range(UPLINK_RECORDS_PER_TICK):
        if e.hub.ring_in == NULL or upcalls_full(e) or e.spread_count >= UPLINK_RECIPIENTS_PER_TICK:
            return
        status = ring_peek(e.hub.ring_in, &p, &n)
        if status == RING_EMPTY:
            return
        if status == RING_CORRUPT or not uplink_record(e, p, n):
            uplink_drop(e)
            return
        e.found_work = True
        ring_release(e.hub.ring_in)
