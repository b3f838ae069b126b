# The second door: connections without a socket.
#
# TLS is done by trio tasks, simulation and fuzzing have no sockets at all. They open a connection here, feed it
# received bytes and take bytes to send; between the two stands the same session machine, with the same limits. The
# queue waits in the record until take() empties it, "readable" is said once per filling, and a queue that nobody takes
# is a slow reader like any other.

# The owner is told once that there is something to take.
cdef void door_tell(engine_t* e, conn_t* c) noexcept nogil:
    if c.queue_count == 0:
        if c.state == CONN_CLOSING:
            c.flags |= CONN_SHUT
        return
    if c.flags & CONN_READABLE_TOLD:
        return
    c.flags |= CONN_READABLE_TOLD | CONN_BLOCKED
    wheel_arm(&e.slab, &e.wheel, c, stall_deadline_ms(e, c))
    if upcall_new(e, UPCALL_READABLE, conn_handle(c), NULL, 0) == NULL:
        conn_doom_no_memory(e, c)

# Move up to n bytes of output to p; returns how many.
cdef size_t door_take(engine_t* e, conn_t* c, uint8_t* p, size_t n) noexcept nogil:
    cdef size_t at = 0, size
    cdef frame_t* frame
    while at < n and c.queue_count:
        frame = queue_at(c, 0)[0]
        size = min(n - at, <size_t>(frame.bytes - c.queue_offset))
        memcpy(p + at, frame_data(frame) + c.queue_offset, size)
        queue_advance(e, c, size)
        at += size
    if c.queue_count == 0:
        c.flags &= ~(CONN_READABLE_TOLD | CONN_BLOCKED)
        if c.flags & CONN_LAGGING:
            lag_check(e, c)
    return at
