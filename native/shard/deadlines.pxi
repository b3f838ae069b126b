# Deadlines: what is due when a connection's timer fires.
#
# One timer per connection, so one function works out the next moment at which anything could be due, and one looks at
# all of it. Heartbeats cost no wake-up: after login SO_RCVLOWAT is 5, a four-byte PING lies in the kernel, and the
# timer collects it once per interval. Bytes that are found are read like any others; silence of one and a half
# intervals closes.
# Clocks: everything here is CLOCK_MONOTONIC, but for the expiry of tokens, which is wall time by definition.

cdef enum:
    FAR_MS = 3600000                # look again after an hour at the latest

cdef inline uint64_t heartbeat_deadline_ms(const engine_t* e, const conn_t* c) noexcept nogil:
    return ms_near(e.now_ms, c.received_ms) + c.heartbeat_ms

cdef inline uint64_t silence_deadline_ms(const engine_t* e, const conn_t* c) noexcept nogil:
    return heartbeat_deadline_ms(e, c) + c.heartbeat_ms // 2

cdef inline uint64_t stall_deadline_ms(const engine_t* e, const conn_t* c) noexcept nogil:
    return ms_near(e.now_ms, c.progress_ms) + e.settings.stall_ms

cdef inline uint64_t linger_deadline_ms(const engine_t* e, const conn_t* c) noexcept nogil:
    return ms_near(e.now_ms, c.progress_ms) + e.settings.linger_ms

# When to look for a PING that lies in the kernel: one interval after the last look, half an interval after it was
# due, so that there is one PING to collect and never two (eight bytes would wake us); and at the end of the silence.
cdef inline uint64_t look_deadline_ms(const engine_t* e, const conn_t* c) noexcept nogil:
    if e.now_ms < heartbeat_deadline_ms(e, c):
        return heartbeat_deadline_ms(e, c)
    return silence_deadline_ms(e, c)


# When the parked frame must be complete: a fixed time, and more for long ones.
@cython.cdivision(True)
cdef uint64_t frame_deadline_ms(engine_t* e, const conn_t* c) noexcept nogil:
    cdef uint64_t length = c.park.bytes + park_lacks(c)
    cdef uint64_t allowed_ms = e.settings.frame_ms + length * 1000 // max(e.settings.frame_bytes_per_s, <uint64_t>1)
    return ms_near(e.now_ms, c.park.frame_ms) + allowed_ms

# When the wall clock will show expires_s, as far as we know now.
cdef uint64_t expiry_deadline_ms(engine_t* e, const conn_t* c) noexcept nogil:
    cdef uint64_t due_ms = <uint64_t>c.expires_s * 1000
    if c.flags & CONN_EXPIRY_TOLD:
        due_ms += e.settings.token_grace_ms
    return e.now_ms + (due_ms - e.wall_ms if due_ms > e.wall_ms else 0)

cdef uint64_t conn_next_deadline_ms(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint64_t due = e.now_ms + FAR_MS
    if c.state == CONN_CLOSING:
        return linger_deadline_ms(e, c)
    if c.state == CONN_LIVE:
        due = min(due, look_deadline_ms(e, c))
        if c.expires_s:
            due = min(due, expiry_deadline_ms(e, c))
    elif c.preauth != NULL:
        due = min(due, c.preauth.accepted_ms
                  + (e.settings.login_ms if c.preauth.received_bytes else e.settings.first_byte_ms))
    if c.flags & CONN_THROTTLED:
        if c.resume_ms:
            due = min(due, ms_near(e.now_ms, c.resume_ms))
    elif c.park != NULL:
        due = min(due, frame_deadline_ms(e, c))
    if c.flags & CONN_BLOCKED:
        due = min(due, stall_deadline_ms(e, c))
    return due

# ERROR TOKEN_EXPIRED announces the grace period, its end closes.
cdef void check_expiry(engine_t* e, conn_t* c) noexcept nogil:
    if c.expires_s == 0 or expiry_deadline_ms(e, c) > e.now_ms:
        return
    if c.flags & CONN_EXPIRY_TOLD:
        conn_doom(e, c, CLOSE_TOKEN_EXPIRED)
        return
    c.flags |= CONN_EXPIRY_TOLD
    send_error(e, c, ERR_TOKEN_EXPIRED, OP_REAUTH, 0, e.settings.token_grace_ms)

# Nothing has been heard for an interval, as far as we know: look into the kernel's buffer.
cdef void check_silence(engine_t* e, conn_t* c) noexcept nogil:
    if e.now_ms < heartbeat_deadline_ms(e, c):
        return
    if c.flags & CONN_THROTTLED:
        # We are the ones who do not listen.
        c.received_ms = <uint32_t>e.now_ms
        return
    if c.fd >= 0:
        e.count[COUNT_PROBES] += 1
        conn_read(e, c)
    if conn_is_open(c) and silence_deadline_ms(e, c) <= e.now_ms:
        conn_doom(e, c, CLOSE_HEARTBEAT_TIMEOUT)
    elif conn_is_open(c) and c.park == NULL:
        conn_lowat(c, True)


# Far over its rates for a long time? What waits to be read would take flood_factor * flood_ms at the agreed rate.
@cython.cdivision(True)
cdef void check_flood(engine_t* e, conn_t* c) noexcept nogil:
    cdef settings_t* s = &e.settings
    cdef uint64_t parked = c.park.bytes if c.park != NULL else 0
    cdef uint64_t waiting = parked + conn_unread_bytes(c)
    cdef uint64_t allowance = s.bytes_per_s * s.flood_factor * s.flood_ms // 1000
    cdef uint64_t frame_allowance = s.frames_per_s * s.flood_factor * s.flood_ms // 1000
    # Before anything is parked: a small frame.
    cdef uint64_t frame_bytes = 64
    if parked >= FRAME_HEADER_BYTES:
        frame_bytes = FRAME_HEADER_BYTES + ((<uint64_t>park_data(c.park)[0] << 8) | park_data(c.park)[1])
    if (s.bytes_per_s and waiting >= allowance) or (s.frames_per_s and waiting // frame_bytes >= frame_allowance):
        if conn_extra(&e.pool, c) == NULL:
            conn_doom_no_memory(e, c)
        elif c.extra.flood_ms == 0:
            c.extra.flood_ms = e.now_ms
        elif e.now_ms - c.extra.flood_ms >= s.flood_ms:
            conn_doom(e, c, CLOSE_FLOOD)
    elif c.extra != NULL:
        c.extra.flood_ms = 0
        extra_settle(e, c)

cdef void check_throttle(engine_t* e, conn_t* c) noexcept nogil:
    if c.flags & CONN_THROTTLED:
        if c.resume_ms and ms_near(e.now_ms, c.resume_ms) <= e.now_ms:
            check_flood(e, c)
            if conn_is_open(c):
                conn_resume(e, c)
    elif c.park != NULL and frame_deadline_ms(e, c) <= e.now_ms:
        conn_doom(e, c, CLOSE_SLOW_FRAME)

cdef void check_login(engine_t* e, conn_t* c) noexcept nogil:
    if c.preauth.received_bytes == 0:
        if e.now_ms - c.preauth.accepted_ms >= e.settings.first_byte_ms:
            conn_doom(e, c, CLOSE_FIRST_BYTE_TIMEOUT)
    elif e.now_ms - c.preauth.accepted_ms >= e.settings.login_ms:
        conn_doom(e, c, CLOSE_AUTH_TIMEOUT)

cdef void on_deadline(engine_t* e, conn_t* c) noexcept nogil:
    if c.state == CONN_CLOSING:
        if linger_deadline_ms(e, c) <= e.now_ms:
            conn_gone(e, c)
            return
    elif c.state == CONN_LIVE:
        check_silence(e, c)
        if conn_is_open(c):
            check_expiry(e, c)
    elif c.preauth != NULL:
        check_login(e, c)
    if conn_is_open(c):
        check_throttle(e, c)
    if conn_is_open(c) and c.flags & CONN_BLOCKED and stall_deadline_ms(e, c) <= e.now_ms:
        conn_doom(e, c, CLOSE_SLOW)
    if c.state != CONN_GONE and not c.flags & CONN_DOOMED:
        wheel_arm(&e.slab, &e.wheel, c, conn_next_deadline_ms(e, c))

cdef void deadlines_run(engine_t* e) noexcept nogil:
    cdef bint done = False
    cdef uint32_t slot
    cdef conn_t* c
    while not done:
        slot = wheel_advance(&e.slab, &e.wheel, e.now_ms, &done)
        while slot != <uint32_t>SLOT_NONE:
            e.found_work = True
            c = slab_at(&e.slab, slot)
            slot = wheel_pop(c)
            on_deadline(e, c)
    inflight_expire(e)
    if e.accept_resume_ms and e.now_ms >= e.accept_resume_ms:
        accept_resume(e)
    if e.drain_start_ms:
        drain_step(e)

cdef inline uint64_t earlier_ms(uint64_t a, uint64_t b) noexcept nogil:
    if a == 0 or b == 0:
        return a | b
    return min(a, b)

# The next moment at which deadlines_run has something to do; 0: never.
cdef uint64_t deadlines_next_ms(engine_t* e) noexcept nogil:
    cdef uint64_t due = wheel_next_tick(&e.wheel) << WHEEL_TICK_BITS
    due = earlier_ms(due, inflight_deadline_ms(e))
    due = earlier_ms(due, e.accept_resume_ms)
    if e.hub.ring_out != NULL:
        due = earlier_ms(due, e.positions.due_ms)
        # The ring was full: nobody tells when there is room again.
        if e.due.count or e.hub.stage != UPLINK_READY or e.inflight.first_waiting != <uint32_t>INFLIGHT_NONE:
            due = earlier_ms(due, e.now_ms + 1)
    if e.drain_start_ms:
        due = earlier_ms(due, e.now_ms + DRAIN_STEP_MS)
    return due
