# Calls: SYNC, PULL, SUBSCRIBE, UNSUBSCRIBE, REQUEST and STREAM_START, which the hub answers.
#
# A call is checked for its layout and written straight into the ring; it is not kept, because unlike a SEND it is not
# idempotent for sure. What is kept is its op and the number an ERROR would have to name: when the hub is replaced,
# every call it had not finished is answered with ERROR UNAVAILABLE instead of silence. That list also bounds what a
# session may have outstanding; more is ERROR BUSY.

cdef inline calls_t* conn_calls(const conn_t* c) noexcept nogil:
    return c.extra.calls if c.extra != NULL else NULL

cdef void calls_drop(engine_t* e, conn_t* c) noexcept nogil:
    if conn_calls(c) != NULL:
        pool_free(&e.pool, c.extra.calls, sizeof(calls_t))
        c.extra.calls = NULL
        extra_settle(e, c)

# The entry of a finished call goes away; with the last one the list.
cdef void calls_remove(engine_t* e, conn_t* c, uint32_t index) noexcept nogil:
    cdef calls_t* calls = c.extra.calls
    calls.count -= 1
    if calls.entries[index].is_pull:
        calls.pulls -= 1
    # In order: the oldest is settled first, and errors for a lost hub come as the calls came.
    memmove(&calls.entries[index], &calls.entries[index + 1], (calls.count - index) * sizeof(call_entry_t))
    if calls.count == 0:
        calls_drop(e, c)

# Which op a final answer belongs to: the last frame of a FRAMES record with DONE. 0: it is no final answer.
cdef uint8_t calls_answered_op(uint8_t op, const uint8_t* body, size_t n, uint64_t* ref) noexcept nogil:
    cdef cur_t cur
    cdef uint8_t refused
    rd_init(&cur, body, n)
    ref[0] = 0
    if op == OP_SYNC_PAGE:
        return OP_SYNC
    if op == OP_ERROR:
        rd_u16be(&cur)
        refused = rd_u8(&cur)
        ref[0] = rd_varint(&cur)
        return refused
    if op == OP_CHUNK or op == OP_PULL_END:
        op = OP_PULL
    elif op == OP_REPLY:
        op = OP_REQUEST
    elif op != OP_SUBSCRIBE and op != OP_UNSUBSCRIBE and op != OP_STREAM_START:
        return 0
    ref[0] = rd_varint(&cur)
    return op

# Take the call that this answer settles off the list, which is not empty: the exact one, or else the oldest of that op.
cdef void calls_finish(engine_t* e, conn_t* c, uint8_t op, uint64_t ref) noexcept nogil:
    cdef calls_t* calls = conn_calls(c)
    cdef uint32_t index, found = MAP_NONE
    for index in range(calls.count):
        if calls.entries[index].op != op:
            continue
        if calls.entries[index].ref == ref:
            found = index
            break
        if found == <uint32_t>MAP_NONE:
            found = index
    if found == <uint32_t>MAP_NONE:
        found = 0
    calls_remove(e, c, found)

# The hub is gone: what it had not answered will not be answered.
cdef void calls_fail(engine_t* e, conn_t* c) noexcept nogil:
    cdef calls_t* calls = conn_calls(c)
    cdef uint32_t index
    if calls == NULL:
        return
    for index in range(calls.count):
        send_error(e, c, ERR_UNAVAILABLE, calls.entries[index].op, calls.entries[index].ref,
                   retry_after_default_ms(ERR_UNAVAILABLE))
    calls_drop(e, c)


# How many bytes an answer may use: half of what the window and the queue have left, so that two fit.
cdef uint32_t call_bytes_room(engine_t* e, const conn_t* c) noexcept nogil:
    cdef uint64_t window_left = c.window_bytes - c.unacked_bytes if c.window_bytes > c.unacked_bytes else 0
    cdef uint64_t hard = e.settings.queue_hard_bytes
    cdef uint64_t queue_left = hard - c.queue_bytes if hard > c.queue_bytes else 0
    return <uint32_t>min(window_left, queue_left // 2)

cdef bint call_write(engine_t* e, conn_t* c, uint8_t op, uint8_t flags, const uint8_t* body, size_t n,
                     bint reattach) noexcept nogil:
    cdef ring_t* ring = e.hub.ring_out
    cdef uint8_t* at = ring_reserve(ring, sizeof(link_call) + n)
    cdef link_call* record = <link_call*>at
    if at == NULL:
        return False
    memset(at, 0, sizeof(link_call))
    record.type = LINK_S_CALL
    record.flags = flags
    record.op = op
    record.reattach = reattach
    record.body_bytes = <uint32_t>n
    record.handle = conn_handle(c)
    record.user = c.user
    record.device = c.device
    record.window_frames = c.window_frames - c.unacked_count if c.window_frames > c.unacked_count else 0
    record.window_bytes = call_bytes_room(e, c)
    record.frame_bytes_max = c.frame_bytes_max
    record.features = c.features
    memcpy(at + sizeof(link_call), body, n)
    ring_commit(ring, sizeof(link_call) + n)
    return True

# Pass a well-formed call on, or say why not.
cdef void call_enter(engine_t* e, conn_t* c, uint8_t op, uint8_t flags, const uint8_t* body, size_t n,
                     uint64_t ref) noexcept nogil:
    cdef bint is_pull = op == OP_PULL or op == OP_SYNC
    cdef uint64_t outstanding_max = e.settings.pulls_outstanding_max if is_pull else e.settings.requests_outstanding_max
    cdef uint64_t outstanding = 0
    cdef calls_t* calls = conn_calls(c)
    cdef int code = 0
    if calls != NULL:
        outstanding = calls.pulls if is_pull else calls.count - calls.pulls
    if not uplink_is_ready(e):
        code = ERR_UNAVAILABLE
    elif outstanding >= outstanding_max or (calls != NULL and calls.count == CALLS_MAX):
        code = ERR_BUSY
    elif calls == NULL:
        if conn_extra(&e.pool, c) != NULL:
            calls = c.extra.calls = <calls_t*>pool_alloc_zeroed(&e.pool, sizeof(calls_t))
        if calls == NULL:
            conn_doom_no_memory(e, c)
            return
    if code == 0 and not call_write(e, c, op, flags, body, n, False):
        code = ERR_BUSY
    if code == 0:
        e.count[COUNT_CALLS] += 1
        calls.entries[calls.count].ref = ref
        calls.entries[calls.count].op = op
        calls.entries[calls.count].is_pull = is_pull
        calls.count += 1
        calls.pulls += is_pull
        return
    if calls != NULL and calls.count == 0:
        calls_drop(e, c)
    e.count[COUNT_CALLS_REFUSED] += 1
    send_error(e, c, code, op, ref, retry_after_default_ms(code))


cdef void on_sync(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur), size
    rd_limited(cur, LIMIT_SYNC_CURSOR_BYTES_MAX, &size)
    rd_varint(cur)
    if rd_done(cur):
        call_enter(e, c, OP_SYNC, flags, body, n, 0)
    else:
        conn_doom(e, c, CLOSE_BAD_FRAME)

cdef void on_pull(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t cid = rd_varint(cur)
    cdef bint understood = True
    rd_varint(cur)
    rd_varint(cur)
    rd_varint(cur)
    if flags & FLAG_EXT:
        understood = rd_extensions(cur, EXTENSION_PULL_FOLDED)
    if not rd_done(cur):
        conn_doom(e, c, CLOSE_BAD_FRAME)
    elif not understood:
        send_error(e, c, ERR_UNSUPPORTED, OP_PULL, cid, 0)
    else:
        call_enter(e, c, OP_PULL, flags, body, n, cid)

cdef void on_subscribe(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t cid = rd_varint(cur)
    rd_varint(cur)
    if not rd_done(cur):
        conn_doom(e, c, CLOSE_BAD_FRAME)
    elif c.subscription_count >= e.settings.subscriptions_max:
        send_error(e, c, ERR_LIMIT_REACHED, OP_SUBSCRIBE, cid, 0)
    else:
        call_enter(e, c, OP_SUBSCRIBE, flags, body, n, cid)

cdef void on_unsubscribe(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t cid = rd_varint(cur)
    if rd_done(cur):
        call_enter(e, c, OP_UNSUBSCRIBE, flags, body, n, cid)
    else:
        conn_doom(e, c, CLOSE_BAD_FRAME)

cdef void on_request(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t request_id = rd_varint(cur)
    rd_varint(cur)
    if rd_ok(cur) and rd_left(cur):
        call_enter(e, c, OP_REQUEST, flags, body, n, request_id)
    else:
        conn_doom(e, c, CLOSE_BAD_FRAME)
