# Session: bytes become frames, frames become calls, by one table.
#
# `wire_ops` (generated from the schema) says who may send an op, in which state, with which flags; `op_handlers` says
# what happens then. Nothing else decides what is legal, so socket, second door and every state see the same rules.
# Frames are handled in place, in the scratch window they were read into; only a frame that is not complete yet is
# copied (parked), and the bytes behind a throttle. A parked buffer grows with received bytes, never with a declared
# length.

ctypedef void (*op_handler_t)(engine_t* e, conn_t* c, uint8_t flags, cur_t* body) noexcept nogil

cdef op_handler_t op_handlers[256]

cdef enum:
    STATE_BEFORE = 1                # bits of wire_op_rule.states
    STATE_LIVE = 2
    SIDE_CLIENT = 1                 # bit of wire_op_rule.sides
    PARK_BYTES_MAX = SCRATCH_BYTES + FRAME_BYTES_MAX

cdef void op_handlers_init() noexcept:
    memset(op_handlers, 0, sizeof(op_handlers))
    op_handlers[OP_PING] = on_ping
    op_handlers[OP_PONG] = on_pong
    op_handlers[OP_BYE] = on_bye
    op_handlers[OP_HELLO] = on_hello
    op_handlers[OP_AUTH] = on_auth
    op_handlers[OP_RESUME] = on_resume
    op_handlers[OP_REAUTH] = on_reauth
    op_handlers[OP_SEND] = on_send
    op_handlers[OP_SKIP] = on_skip
    op_handlers[OP_ACK] = on_ack
    op_handlers[OP_READ] = on_read
    op_handlers[OP_EPHEMERAL] = on_ephemeral
    op_handlers[OP_SYNC] = on_sync
    op_handlers[OP_PULL] = on_pull
    op_handlers[OP_SUBSCRIBE] = on_subscribe
    op_handlers[OP_UNSUBSCRIBE] = on_unsubscribe
    op_handlers[OP_REQUEST] = on_request
    op_handlers[OP_STREAM_START] = on_stream_start
    op_handlers[OP_STREAM_DELTA] = on_stream_delta
    op_handlers[OP_STREAM_END] = on_stream_end

op_handlers_init()


# -- one frame ---------------------------------------------------------------------------------------------------------

# An op that this server does not know, or does not know from clients.
cdef void frame_unknown(engine_t* e, conn_t* c, uint8_t op) noexcept nogil:
    if not op & OP_MUST_UNDERSTAND and not wire_ops[op].known:
        return
    send_error(e, c, ERR_UNSUPPORTED, op, 0, 0)
    if conn_is_before_login(c):
        conn_doom(e, c, CLOSE_UNSUPPORTED)

cdef void frame_dispatch(engine_t* e, conn_t* c, uint8_t op, uint8_t flags, const uint8_t* body,
                         size_t n) noexcept nogil:
    cdef const wire_op_rule* rule = &wire_ops[op]
    cdef cur_t cur
    e.count[COUNT_FRAMES_IN] += 1
    if not rule.known:
        frame_unknown(e, c, op)
        return
    if not rule.sides & SIDE_CLIENT or flags & ~rule.flags or (n == 0 and not rule.empty):
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    if not rule.states & (STATE_LIVE if c.state == CONN_LIVE else STATE_BEFORE):
        if c.state == CONN_LIVE:
            send_error(e, c, ERR_NOT_ALLOWED_NOW, op, 0, 0)
        else:
            conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    if op_handlers[op] == NULL:
        frame_unknown(e, c, op)
        return
    rd_init(&cur, body, n)
    op_handlers[op](e, c, flags, &cur)

# Is this frame within the agreed rates? If not, the connection is not read for a while.
cdef inline bint frame_charge(engine_t* e, conn_t* c, uint8_t op, size_t n) noexcept nogil:
    cdef settings_t* s = &e.settings
    cdef uint64_t bytes_tat_ns = c.bytes_tat_ns
    cdef uint64_t wait_ns = rate_charge(&c.bytes_tat_ns, e.now_ns, n, s.bytes_per_s, s.bytes_burst)
    cdef uint32_t now_ms = <uint32_t>e.now_ms
    if wait_ns == 0:
        if op == OP_PING or op == OP_PONG or (op == OP_ACK and now_ms - c.acked_ms >= s.ack_interval_ms):
            c.acked_ms = now_ms if op == OP_ACK else c.acked_ms
            return True
        wait_ns = rate_charge(&c.frames_tat_ns, e.now_ns, 1, s.frames_per_s, s.frames_burst)
        if wait_ns == 0:
            return True
        # It comes again and is charged then.
        c.bytes_tat_ns = bytes_tat_ns
    conn_throttle(e, c, e.now_ms + wait_ns // 1000000 + 1)
    return False

# Handle the complete frames among n bytes, until the connection is throttled or doomed; returns the bytes consumed.
cdef size_t conn_frames(engine_t* e, conn_t* c, const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t at = 0, total, length
    while n - at >= FRAME_HEADER_BYTES and conn_is_open(c) and not c.flags & CONN_THROTTLED:
        if c.state == CONN_PROXY:
            total = on_proxy_header(e, c, p + at, n - at)
            if total == 0:
                break
            at += total
            continue
        length = (<size_t>p[at] << 8) | p[at + 1]
        total = length + FRAME_HEADER_BYTES
        if c.state != CONN_LIVE and not preauth_allows(e, c, length):
            break
        if n - at < total:
            break
        if c.state == CONN_LIVE and not frame_charge(e, c, p[at + 2], total):
            break
        if p[at + 2] != OP_EPHEMERAL:
            burst_flush(e)
        frame_dispatch(e, c, p[at + 2], p[at + 3], p + at + FRAME_HEADER_BYTES, length)
        at += total
    burst_flush(e)
    return at

cdef bint preauth_allows(engine_t* e, conn_t* c, size_t length) noexcept nogil:
    if length <= e.settings.preauth_frame_bytes_max:
        return True
    conn_doom(e, c, CLOSE_BAD_FRAME)
    return False


# -- bytes that have to wait -------------------------------------------------------------------------------------------

cdef void park_give_back(engine_t* e, conn_t* c) noexcept nogil:
    if c.park != NULL:
        e.parked_bytes -= c.park.room
        pool_free(&e.pool, c.park, c.park.room)
        c.park = NULL

# Room for `need` parked bytes. False: the connection is doomed.
cdef bint park_reserve(engine_t* e, conn_t* c, size_t need) noexcept nogil:
    cdef size_t room = pool_room(sizeof(park_t) + need)
    cdef park_t* larger
    if c.park != NULL and room <= c.park.room:
        return True
    if (need > PARK_BYTES_MAX  # uncovered: a throttled connection is not read
            or e.parked_bytes + room > e.settings.parked_bytes_max):
        conn_doom(e, c, CLOSE_FLOOD)
        return False
    larger = <park_t*>pool_alloc(&e.pool, room)
    if larger == NULL:
        conn_doom_no_memory(e, c)
        return False
    if c.park == NULL:
        larger.bytes = 0
        larger.frame_ms = <uint32_t>e.now_ms
        conn_lowat(c, False)
    else:
        memcpy(larger, c.park, sizeof(park_t) + c.park.bytes)
    park_give_back(e, c)
    e.parked_bytes += room
    larger.room = <uint32_t>room
    c.park = larger
    return True

# Append to the parked bytes. False: the connection is doomed.
cdef bint park_append(engine_t* e, conn_t* c, const uint8_t* p, size_t n) noexcept nogil:
    if not park_reserve(e, c, n + (c.park.bytes if c.park != NULL else 0)):
        return False
    memcpy(park_data(c.park) + c.park.bytes, p, n)
    c.park.bytes += <uint32_t>n
    return True

# Forget the first n parked bytes; the rest is a new frame.
cdef void park_consume(engine_t* e, conn_t* c, size_t n) noexcept nogil:
    if n == 0:
        return
    c.park.bytes -= <uint32_t>n
    if c.park.bytes == 0:
        park_give_back(e, c)
        return
    memmove(park_data(c.park), park_data(c.park) + n, c.park.bytes)
    c.park.frame_ms = <uint32_t>e.now_ms

# How many bytes the parked frame still lacks: of its header first, then of its body.
cdef size_t park_lacks(const conn_t* c) noexcept nogil:
    cdef const uint8_t* data = park_data(c.park)
    cdef size_t total
    if c.state == CONN_PROXY:
        return proxy_lacks(data, c.park.bytes)
    if c.park.bytes < FRAME_HEADER_BYTES:
        return FRAME_HEADER_BYTES - c.park.bytes
    total = FRAME_HEADER_BYTES + ((<size_t>data[0] << 8) | data[1])
    return total - c.park.bytes if total > c.park.bytes else 0

# Complete the parked frame from p, and handle it; returns how many bytes of p went into it.
cdef size_t park_fill(engine_t* e, conn_t* c, const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t at = 0, step, consumed
    while c.park != NULL and conn_is_open(c):
        step = park_lacks(c)
        # Before login a frame is judged by its header, before the rest of it has come.
        if step == 0 or c.state != CONN_LIVE:
            consumed = conn_frames(e, c, park_data(c.park), c.park.bytes)
            park_consume(e, c, consumed)
            if consumed:
                continue
        if step == 0 or at == n or not conn_is_open(c):
            break
        step = min(step, n - at)
        if not park_append(e, c, p + at, step):
            break
        at += step
    return at

# Bytes from the peer. Returns how many were taken: all of them, unless `take_all` is false and a throttle began.
cdef size_t conn_receive(engine_t* e, conn_t* c, const uint8_t* p, size_t n, bint take_all) noexcept nogil:
    cdef size_t at = 0
    c.received_ms = <uint32_t>e.now_ms
    e.count[COUNT_BYTES_IN] += n
    if c.state != CONN_LIVE and c.preauth != NULL:
        c.preauth.received_bytes += <uint32_t>n
        if c.preauth.received_bytes > e.settings.preauth_bytes_max + FRAME_HEADER_BYTES:
            conn_doom(e, c, CLOSE_BAD_FRAME)
            return n
    if c.park != NULL:
        at = park_fill(e, c, p, n)
    if c.park == NULL and conn_is_open(c) and not c.flags & CONN_THROTTLED:
        at += conn_frames(e, c, p + at, n - at)
    if not conn_is_open(c):
        return n
    if c.flags & CONN_THROTTLED and not take_all:
        return at
    if at < n:
        park_append(e, c, p + at, n - at)
    if c.park != NULL:
        wheel_arm(&e.slab, &e.wheel, c, frame_deadline_ms(e, c))
    return n


# -- throttle ----------------------------------------------------------------------------------------------------------

# until_ms 0: until an answer frees a place.
cdef void conn_throttle(engine_t* e, conn_t* c, uint64_t until_ms) noexcept nogil:
    e.count[COUNT_THROTTLED] += 1
    c.flags |= CONN_THROTTLED
    c.resume_ms = 0
    if until_ms:
        # The one moment that would say "until an answer" is a millisecond later.
        c.resume_ms = max(<uint32_t>until_ms, <uint32_t>1)  # uncovered: the other one once in 49 days
        wheel_arm(&e.slab, &e.wheel, c, until_ms)
    conn_watch(e, c)

# Read again, beginning with what was parked.
cdef void conn_resume(engine_t* e, conn_t* c) noexcept nogil:
    cdef upcall_t* up
    c.flags &= ~CONN_THROTTLED
    c.resume_ms = 0
    if c.park != NULL:
        park_consume(e, c, conn_frames(e, c, park_data(c.park), c.park.bytes))
        if c.park != NULL:
            # Our throttle was no fault of the peer's: its frame starts to be late now.
            c.park.frame_ms = <uint32_t>e.now_ms
    if c.flags & CONN_THROTTLED or not conn_is_open(c):
        return
    conn_watch(e, c)
    if c.flags & CONN_FED_SHORT:
        c.flags &= ~CONN_FED_SHORT
        up = upcall_new(e, UPCALL_RESUMED, conn_handle(c), NULL, 0)
        if up == NULL:  # uncovered: it needs memory only as the 65th upcall of a poll
            conn_doom_no_memory(e, c)

# An answer freed a place: a throttle that waited for it ends.
cdef inline void conn_unthrottle(engine_t* e, conn_t* c) noexcept nogil:
    if c.flags & CONN_THROTTLED and c.resume_ms == 0 and conn_is_live(c):
        conn_resume(e, c)
