# Window and LAG: how many DELIVERs a client may leave unacknowledged, and what happens to the rest.
#
# The client acknowledges by count, in the order in which we sent; the ring of (cid, seq) says what a count means. When
# the window or the soft limit of the queue is exhausted, the connection is LAGGING: further pushes are not queued but
# noted (first and last seq per conversation), which bounds the memory that a stuck reader pins whatever is sent to it.
# When it has drained, LAG names what was left out and pushing goes on; the store still has all of it. Beyond
# LAG_ENTRIES conversations LAG(0) sends the client to SYNC. Never a silent drop, never a push behind a gap.

cdef enum:
    UNACKED_ROOM_MIN = 8


cdef inline unacked_t* unacked_at(conn_t* c, uint32_t index) noexcept nogil:
    return &c.unacked[(c.unacked_head + index) & (c.unacked_room - 1)]

cdef bint unacked_grow(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint32_t room = c.unacked_room * 2 if c.unacked_room else UNACKED_ROOM_MIN
    cdef unacked_t* larger = <unacked_t*>pool_alloc(&e.pool, room * sizeof(unacked_t))
    cdef uint32_t first
    if larger == NULL:
        return False
    if c.unacked_room:
        first = c.unacked_room - c.unacked_head
        memcpy(larger, c.unacked + c.unacked_head, first * sizeof(unacked_t))
        memcpy(larger + first, c.unacked, c.unacked_head * sizeof(unacked_t))
        pool_free(&e.pool, c.unacked, c.unacked_room * sizeof(unacked_t))
    c.unacked = larger
    c.unacked_room = room
    c.unacked_head = 0
    return True

cdef void unacked_give_back(engine_t* e, conn_t* c) noexcept nogil:
    pool_free(&e.pool, c.unacked, c.unacked_room * sizeof(unacked_t))
    c.unacked = NULL
    c.unacked_room = c.unacked_head = c.unacked_count = c.unacked_bytes = 0

cdef inline bint window_has_room(const conn_t* c, uint32_t n) noexcept nogil:
    if c.unacked_count == 0:
        return True
    return c.unacked_count < c.window_frames and c.unacked_bytes + n <= c.window_bytes

# Queue a DELIVER and enter it in the window. False: the connection is doomed.
cdef inline bint window_push(engine_t* e, conn_t* c, frame_t* frame) noexcept nogil:
    cdef unacked_t* entry
    if c.unacked_count == c.unacked_room and not unacked_grow(e, c):
        conn_doom_no_memory(e, c)
        return False
    if not queue_push(e, c, frame):
        return False
    entry = unacked_at(c, c.unacked_count)
    entry.cid = frame.cid
    entry.seq = frame.seq
    entry.bytes = frame.bytes
    entry.flags = frame.flags
    c.unacked_count += 1
    c.unacked_bytes += frame.bytes
    c.queue_delivers += 1
    c.deliver_count += 1
    if frame.flags & FRAME_TRACED:
        ledger_put(e, HOP_QUEUED, frame.cid, frame.seq, c.user, 1)
    return True

# Push a committed event to one recipient, or note that it has to be pulled.
cdef inline void conn_deliver(engine_t* e, conn_t* c, frame_t* frame) noexcept nogil:
    if not c.flags & CONN_LAGGING:
        if c.queue_bytes < e.settings.queue_soft_bytes and window_has_room(c, frame.bytes):
            if window_push(e, c, frame):
                e.count[COUNT_DELIVERS] += 1
            return
        lag_start(e, c)
    lag_note(e, c, frame.cid, frame.seq, frame.flags)


cdef void lag_start(engine_t* e, conn_t* c) noexcept nogil:
    if c.flags & CONN_LAGGING or c.flags & CONN_DOOMED:
        return
    if conn_extra(&e.pool, c) != NULL:
        c.extra.lag = <lag_t*>pool_alloc_zeroed(&e.pool, sizeof(lag_t))
    if c.extra == NULL or c.extra.lag == NULL:
        conn_doom_no_memory(e, c)
        return
    c.flags |= CONN_LAGGING
    e.count[COUNT_LAGS] += 1

cdef void lag_note(engine_t* e, conn_t* c, uint64_t cid, uint64_t seq, uint32_t frame_flags) noexcept nogil:
    cdef uint32_t index
    cdef lag_t* lag
    cdef lag_entry_t* entry
    if not c.flags & CONN_LAGGING:
        return
    lag = c.extra.lag
    e.count[COUNT_DELIVERS_LAGGED] += 1
    if frame_flags & FRAME_TRACED:
        ledger_put(e, HOP_LAGGED, cid, seq, c.user, 1)
    for index in range(lag.count):
        entry = &lag.entries[index]
        if entry.cid == cid:
            if seq < entry.from_seq:
                entry.from_seq = seq
            if seq > entry.to_seq:
                entry.to_seq = seq
            return
    if lag.count == LAG_ENTRIES:
        lag.overflow = True
        return
    entry = &lag.entries[lag.count]
    lag.count += 1
    entry.cid = cid
    entry.from_seq = entry.to_seq = seq

# Everything that this connection missed is unknown (LINK_H_LOST): LAG(0) as soon as it has drained.
cdef void lag_everything(engine_t* e, conn_t* c) noexcept nogil:
    lag_start(e, c)
    if c.flags & CONN_LAGGING:
        c.extra.lag.overflow = True

# After progress of any kind: tell what was left out and push again, once it has drained.
cdef void lag_check(engine_t* e, conn_t* c) noexcept nogil:
    cdef lag_t* lag
    cdef uint32_t index
    if not c.flags & CONN_LAGGING or not conn_is_live(c) or c.queue_bytes > e.settings.queue_drained_bytes:
        return
    if 2 * c.unacked_count > c.window_frames or 2 * <uint64_t>c.unacked_bytes > c.window_bytes:
        return
    lag = c.extra.lag
    c.extra.lag = NULL
    c.flags &= ~CONN_LAGGING
    if chatd_sabotage(SABOTAGE_NO_LAG):
        pass
    elif lag.overflow:
        send_lag(e, c, 0, 0, 0)
    else:
        for index in range(lag.count):
            send_lag(e, c, lag.entries[index].cid, lag.entries[index].from_seq, lag.entries[index].to_seq)
    pool_free(&e.pool, lag, sizeof(lag_t))
    extra_settle(e, c)

# Under memory pressure: take pushes that were not written yet out of the queue again and note them instead.
cdef void lag_drop_queued(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint32_t index, kept, keep_first
    cdef frame_t* frame
    cdef unacked_t entry
    if c.queue_delivers == 0:
        return
    lag_start(e, c)
    if not c.flags & CONN_LAGGING:
        return
    # The tail of the window is exactly the DELIVERs in the queue; those that stay are entered again.
    for index in range(c.queue_delivers):
        c.unacked_count -= 1
        c.unacked_bytes -= unacked_at(c, c.unacked_count).bytes
    kept = 0
    keep_first = 1 if c.queue_offset else 0
    for index in range(c.queue_count):
        frame = queue_at(c, index)[0]
        if frame.flags & FRAME_DELIVER and not frame.flags & FRAME_HISTORY and index >= keep_first:
            lag_note(e, c, frame.cid, frame.seq, frame.flags)
            c.queue_delivers -= 1
            c.deliver_count -= 1
            c.queue_bytes -= frame.bytes + FRAME_REF_BYTES
            frame_release(e, frame)
            continue
        if frame.flags & FRAME_DELIVER:
            entry.cid = frame.cid
            entry.seq = frame.seq
            entry.bytes = frame.bytes
            entry.flags = frame.flags
            unacked_at(c, c.unacked_count)[0] = entry
            c.unacked_count += 1
            c.unacked_bytes += frame.bytes
        queue_at(c, kept)[0] = frame
        kept += 1
    c.queue_count = kept
    if kept == 0:
        queue_give_back(e, c)
    if c.unacked_count == 0:
        unacked_give_back(e, c)
    lag_check(e, c)


# ACK(count): how many DELIVERs of this connection have been received in all. False: more than were sent, or fewer than
# before.
cdef bint window_ack(engine_t* e, conn_t* c, uint64_t count) noexcept nogil:
    cdef uint64_t acked = c.deliver_count - c.unacked_count
    cdef unacked_t* entry
    cdef uint64_t run_cid = 0, run_seq = 0
    if count < acked or count > c.deliver_count - c.queue_delivers:
        return False
    while acked < count:
        entry = unacked_at(c, 0)
        if entry.cid != run_cid:
            if run_cid:
                position_note(e, c.user, run_cid, run_seq, 0)
            run_cid = entry.cid
            run_seq = 0
        if entry.seq > run_seq:
            run_seq = entry.seq
        if entry.flags & FRAME_TRACED:
            ledger_put(e, HOP_ACKED, entry.cid, entry.seq, c.user, 1)
        c.unacked_bytes -= entry.bytes
        c.unacked_head = (c.unacked_head + 1) & (c.unacked_room - 1)
        c.unacked_count -= 1
        acked += 1
    if run_cid:
        position_note(e, c.user, run_cid, run_seq, 0)
    if c.unacked_count == 0:
        unacked_give_back(e, c)
    lag_check(e, c)
    return True

# The connection ends: what it had not acknowledged is of interest to nobody but the ledger.
cdef void window_drop(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint32_t index
    cdef uint32_t written = 0
    cdef unacked_t* entry
    # Dropped before, with DELIVERs still in the queue: a closing connection when the engine is disposed.
    if c.unacked_count > c.queue_delivers:
        written = c.unacked_count - c.queue_delivers
    for index in range(written):
        entry = unacked_at(c, index)
        if entry.flags & FRAME_TRACED:
            ledger_put(e, HOP_DROPPED, entry.cid, entry.seq, c.user, 1)
    unacked_give_back(e, c)
    if c.flags & CONN_LAGGING:
        pool_free(&e.pool, c.extra.lag, sizeof(lag_t))
        c.extra.lag = NULL
        c.flags &= ~CONN_LAGGING
