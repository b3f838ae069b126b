# Bulk: those whom one frame reaches together with many others wait for their turn.
#
# Facts: an event for 15,000 sockets is 15,000 system calls, 50 ms and more. Written in one tick, nobody else's message
# moves meanwhile, and a channel makes every conversation of two wait. Consequence: whoever gets a frame as one of more
# than BULK_RECIPIENTS goes onto a second list, of which a tick writes BULK_WRITES; sockets and rings are looked at in
# between. Whoever gets something of his own is flushed in that same tick, with what waited before it, so queues keep
# their order. A second frame for all that comes meanwhile leaves in the same write.
# Price: a look at sockets and rings after every BULK_WRITES writes, 1-2 % of them.

cdef enum:
    BULK_RECIPIENTS = 64
    BULK_WRITES = 32


cdef inline void bulk_put(engine_t* e, conn_t* c) noexcept nogil:
    cdef slot_ring_t* ring = &e.bulk
    if c.flags & CONN_BULK:
        return
    chatd_require(ring.count < ring.room)
    c.flags |= CONN_BULK
    ring.slots[(ring.begin + ring.count) % ring.room] = c.slot
    ring.count += 1

# The one that has waited longest. A slot that only waited for this is freed at the end of the tick.
cdef inline conn_t* bulk_take(engine_t* e) noexcept nogil:
    cdef slot_ring_t* ring = &e.bulk
    cdef conn_t* c = slab_at(&e.slab, ring.slots[ring.begin])
    ring.begin = (ring.begin + 1) % ring.room
    ring.count -= 1
    c.flags &= ~CONN_BULK
    if c.flags & CONN_FREE_DUE and not c.flags & CONN_DUE_LISTED:
        slot_list_put(&e.gone, c.slot)
    return c
