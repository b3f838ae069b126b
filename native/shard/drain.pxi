# Drain: leave without a storm.
#
# All clients reconnect when their worker leaves; at once they would overrun the others. So GOAWAY goes out connection
# by connection over the window, and each client comes back at a moment of its own within it. Clients of the lite
# profile do not know GOAWAY: they get BYE when their turn comes. Who logs in meanwhile is told right behind WELCOME.
# Who is still here a window after the last GOAWAY gets BYE.

cdef enum:
    DRAIN_STEP_MS = 10

cdef void drain_begin(engine_t* e, uint64_t window_ms) noexcept nogil:
    accept_pause(e)
    e.accept_resume_ms = 0
    if e.drain_start_ms == 0:
        e.drain_start_ms = e.now_ms if e.now_ms else 1
        e.drain_window_ms = window_ms
        e.drain_slot = 0

# How long the connection may still wait before it goes: a window, or until the last BYE.
cdef uint64_t drain_left_ms(const engine_t* e) noexcept nogil:
    cdef uint64_t elapsed_ms = e.now_ms - e.drain_start_ms
    return min(e.drain_window_ms, 2 * e.drain_window_ms - min(elapsed_ms, 2 * e.drain_window_ms))

cdef void drain_tell(engine_t* e, conn_t* c) noexcept nogil:
    if not conn_is_live(c) or c.flags & CONN_GOAWAY:
        return
    c.flags |= CONN_GOAWAY
    if c.features & FEATURE_LITE:
        c.close_retry_ms = <uint32_t>min(random_below(e, drain_left_ms(e) + 1), <uint64_t>UINT32_MAX)
        conn_doom(e, c, CLOSE_GOING_AWAY)
    else:
        send_goaway(e, c, drain_left_ms(e))


@cython.cdivision(True)
cdef void drain_step(engine_t* e) noexcept nogil:
    cdef uint64_t elapsed_ms = e.now_ms - e.drain_start_ms
    cdef uint64_t slots = slab_slots(&e.slab)
    cdef uint64_t until = slots
    if elapsed_ms < e.drain_window_ms:
        until = slots * elapsed_ms / e.drain_window_ms
    while e.drain_slot < until:
        drain_tell(e, slab_at(&e.slab, e.drain_slot))
        e.drain_slot += 1
    if elapsed_ms >= 2 * e.drain_window_ms:
        close_all(e, CLOSE_GOING_AWAY)

cdef void close_all(engine_t* e, int reason) noexcept nogil:
    cdef uint32_t slot
    cdef conn_t* c
    for slot in range(slab_slots(&e.slab)):
        c = slab_at(&e.slab, slot)
        if conn_is_open(c):
            conn_doom(e, c, reason)
