# Order after a refusal: what was refused for now must not be overtaken.
#
# The contract (docs/contract.md, 5 iii): after a retryable NAK of cseq k, later SENDs of the connection to that
# conversation get OUT_OF_ORDER until k is retried or skipped. OUT_OF_ORDER is itself such a NAK, so every refused cseq
# is remembered and a SEND passes only if none below it is open in its conversation. The hub keeps the same gate for
# what it refuses; this one is for what never reached it (RATE_LIMITED, BUSY, UNAVAILABLE). But a hub forgets its gate
# when it dies, and what is replayed to the next one would pass; so the shard remembers the hub's refusals too, until
# they are answered for good, and tells a fresh hub of all of them (uplink.pxi). The list exists only while something is
# open, and a client that keeps refused_sends_max of them open is closed: its outbox starts over in order.

cdef enum:
    REFUSED_ROOM_MIN = 8


cdef inline refused_t* conn_refused(const conn_t* c) noexcept nogil:
    return c.extra.refused if c.extra != NULL else NULL

# May cseq go to cid now, as far as this connection's refusals are concerned?
cdef inline bint order_allows(const conn_t* c, uint64_t cseq, uint64_t cid) noexcept nogil:
    cdef const refused_t* refused = conn_refused(c)
    cdef uint32_t index
    if refused == NULL:
        return True
    for index in range(refused.count):
        if refused.sends[index].ours and refused.sends[index].cid == cid and refused.sends[index].cseq < cseq:
            return False
    return True

cdef void order_drop(engine_t* e, conn_t* c) noexcept nogil:
    cdef refused_t* refused = conn_refused(c)
    if refused != NULL:
        pool_free(&e.pool, refused.sends, refused.room * sizeof(refused_send_t))
        pool_free(&e.pool, refused, sizeof(refused_t))
        c.extra.refused = NULL
        extra_settle(e, c)

# cseq was retried or skipped: from here on it is the hub's matter.
cdef inline void order_retry(const conn_t* c, uint64_t cseq) noexcept nogil:
    cdef refused_t* refused = conn_refused(c)
    cdef uint32_t index
    if refused == NULL:
        return
    for index in range(refused.count):
        if refused.sends[index].cseq == cseq:
            refused.sends[index].ours = False

# cseq is stored, skipped or refused for good.
cdef void order_settle(engine_t* e, conn_t* c, uint64_t cseq) noexcept nogil:
    cdef refused_t* refused = conn_refused(c)
    cdef uint32_t index
    if refused == NULL:
        return
    for index in range(refused.count):
        if refused.sends[index].cseq == cseq:
            refused.count -= 1
            refused.sends[index] = refused.sends[refused.count]
            break
    if refused.count == 0:
        order_drop(e, c)

# Remember a refusal, ours or the hub's. False: the connection is doomed.
cdef bint order_note(engine_t* e, conn_t* c, uint64_t cseq, uint64_t cid, bint ours) noexcept nogil:
    cdef refused_t* refused = conn_refused(c)
    cdef uint32_t index
    cdef void* block
    if refused == NULL:
        if conn_extra(&e.pool, c) != NULL:
            refused = c.extra.refused = <refused_t*>pool_alloc_zeroed(&e.pool, sizeof(refused_t))
        if refused == NULL:
            conn_doom_no_memory(e, c)
            return False
    for index in range(refused.count):
        if refused.sends[index].cseq == cseq:
            refused.sends[index].cid = cid
            refused.sends[index].ours = ours
            return True
    if refused.count >= e.settings.refused_sends_max:
        conn_doom(e, c, CLOSE_FLOOD)
        return False
    if refused.count == refused.room:
        block = pool_double(&e.pool, refused.sends, &refused.room, sizeof(refused_send_t), REFUSED_ROOM_MIN)
        if block == NULL:
            conn_doom_no_memory(e, c)
            return False
        refused.sends = <refused_send_t*>block
    refused.sends[refused.count].cid = cid
    refused.sends[refused.count].cseq = cseq
    refused.sends[refused.count].ours = ours
    refused.count += 1
    return True

# NAK a SEND or SKIP. A retryable refusal of a SEND closes the gate of its conversation.
cdef void refuse_send(engine_t* e, conn_t* c, uint64_t cseq, uint64_t cid, int code, uint64_t retry_ms) noexcept nogil:
    if cid and error_is_retryable(code) and not order_note(e, c, cseq, cid, True):
        return
    send_nak(e, c, cseq, cid, code, retry_ms if retry_ms else retry_after_default_ms(code))
