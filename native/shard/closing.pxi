# Closing: every connection ends once, with one reason, in one place.
#
# Any function may find out that a connection must end, in the middle of a loop over it or over its neighbours. So
# conn_doom only notes the reason; the teardown runs at the end of the tick, when nobody holds a pointer. The first
# reason wins. A peer that can still read gets BYE, then FIN, then up to linger_ms to read it: closing with unread
# input would send RST and destroy what is on its way. Descriptors are closed after that, when no event of the current
# batch can name them any more.

cdef extern from "<sys/socket.h>" nogil:
    int socket_shutdown "shutdown"(int fd, int how) noexcept
    const int SHUT_WR
    int setsockopt(int fd, int level, int name, const void* value, unsigned int n) noexcept
    const int SOL_SOCKET, SO_LINGER, SO_RCVLOWAT, SO_SNDBUF
    struct linger_t "linger":
        int l_onoff
        int l_linger


cdef void conn_doom(engine_t* e, conn_t* c, int reason) noexcept nogil:
    if c.flags & CONN_DOOMED or c.state >= CONN_CLOSING or c.state == CONN_FREE:
        if c.state == CONN_CLOSING:
            # The reason stands; but waiting for the peer to read BYE is over.
            conn_gone(e, c)
        return
    c.flags |= CONN_DOOMED
    c.close_reason = <uint8_t>reason
    slot_list_put(&e.doomed, c.slot)

cdef void conn_doom_no_memory(engine_t* e, conn_t* c) noexcept nogil:
    e.count[COUNT_MEMORY_REFUSED] += 1
    conn_doom(e, c, CLOSE_INTERNAL)

# Is there a point in saying BYE?
cdef bint closing_says_bye(const conn_t* c) noexcept nogil:
    cdef int reason = c.close_reason
    if reason in (CLOSE_NORMAL, CLOSE_PEER_CLOSED, CLOSE_PEER_RESET, CLOSE_PREAUTH_EVICTED, CLOSE_FIRST_BYTE_TIMEOUT,
                  CLOSE_PROXY_FAILED, CLOSE_TLS_FAILED):
        return False
    if c.state == CONN_PROXY:
        return False
    # Strangers that do not speak the protocol get no answer.
    if conn_is_before_login(c) and reason in (CLOSE_BAD_FRAME, CLOSE_FLOOD, CLOSE_SLOW_FRAME, CLOSE_SLOW):
        return False
    if reason == CLOSE_AUTH_TIMEOUT:
        return c.state >= CONN_AUTHENTICATING
    return True

# Free what only a working connection needs.
cdef void conn_strip(engine_t* e, conn_t* c) noexcept nogil:
    subscriptions_drop(e, c)
    inflight_drop(e, c)
    order_drop(e, c)
    window_drop(e, c)
    preauth_leave(e, c)
    park_give_back(e, c)
    calls_drop(e, c)
    pool_free(&e.pool, c.extra, sizeof(extra_t))
    c.extra = NULL

# Free the record of what is rare when nothing stands in it any more.
cdef void extra_settle(engine_t* e, conn_t* c) noexcept nogil:
    cdef extra_t* extra = c.extra
    if extra == NULL or extra.lag != NULL or extra.calls != NULL or extra.refused != NULL or extra.flood_ms:
        return
    pool_free(&e.pool, extra, sizeof(extra_t))
    c.extra = NULL

cdef void conn_teardown(engine_t* e, conn_t* c) noexcept nogil:
    cdef bint says_bye = closing_says_bye(c)
    cdef upcall_t* up
    cdef int reason = c.close_reason
    e.closes[reason] += 1
    if c.state == CONN_LIVE:
        e.slab.live_count -= 1
    if c.state >= CONN_AUTHENTICATING and c.state != CONN_LIVE and reason == CLOSE_AUTH_TIMEOUT:
        # We were the slow side.
        send_error(e, c, ERR_UNAVAILABLE, OP_AUTH, 0, retry_after_default_ms(ERR_UNAVAILABLE))
    conn_strip(e, c)
    if c.flags & CONN_ATTACHED:
        c.flags |= CONN_CLOSED_DUE
        uplink_due(e, c)
    c.flags &= ~(CONN_LOGIN_DUE | CONN_THROTTLED)
    # Of a flood Python must hear in any case: the device is refused for a while.
    if c.flags & CONN_DOOR or (c.flags & CONN_SESSION and (e.settings.report_closed or reason == CLOSE_FLOOD)):
        up = upcall_new(e, UPCALL_CLOSED, conn_handle(c), NULL, 0)
        if up != NULL:
            up.numbers[0] = c.user
            up.numbers[1] = c.device
            up.numbers[2] = <uint64_t>reason
    c.state = CONN_CLOSING
    if reason == CLOSE_SLOW:
        closing_trim(e, c)
    # Doomed connections refuse frames; BYE is the one exception.
    c.flags &= ~CONN_DOOMED
    if says_bye and not c.flags & CONN_BYE_QUEUED:
        send_bye(e, c, reason, c.close_retry_ms, NULL, 0)
    if c.state != CONN_CLOSING:
        return
    if not says_bye and reason != CLOSE_NORMAL:
        conn_gone(e, c)
        return
    c.progress_ms = <uint32_t>e.now_ms
    wheel_unlink(&e.slab, &e.wheel, c)
    wheel_arm(&e.slab, &e.wheel, c, e.now_ms + e.settings.linger_ms)
    conn_mark_dirty(e, c)
    conn_watch(e, c)

# A queue at its limit would hold BYE back for ever: keep the frame that is half on the wire, drop the rest.
cdef void closing_trim(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint32_t index, keep = 1 if c.queue_offset else 0
    for index in range(keep, c.queue_count):
        queue_forget(e, c, queue_at(c, index)[0], False)
    if c.queue_count > keep:
        # With the rest goes a BYE that close() queued with its text: it is said again.
        c.queue_count = keep
        c.flags &= ~CONN_BYE_QUEUED
    if c.queue_count == 0 and c.queue != NULL:
        queue_give_back(e, c)

# All is written: send FIN and wait for the peer's.
cdef void closing_flushed(engine_t* e, conn_t* c) noexcept nogil:
    if c.flags & CONN_SHUT or c.queue_count:
        return
    c.flags |= CONN_SHUT
    if c.fd >= 0 and socket_shutdown(c.fd, SHUT_WR) != 0:
        conn_gone(e, c)

# The end: the descriptor is closed at the end of the tick, the slot freed when the hub has been told.
cdef void conn_gone(engine_t* e, conn_t* c) noexcept nogil:
    if c.state == CONN_GONE or c.state == CONN_FREE:
        return
    wheel_unlink(&e.slab, &e.wheel, c)
    if c.queue != NULL:
        queue_clear(e, c)
    address_leave(e, c)
    c.state = CONN_GONE
    slot_list_put(&e.gone, c.slot)

# End of the tick: tear down what was doomed, close descriptors, free slots.
cdef void closing_reap(engine_t* e) noexcept nogil:
    cdef uint32_t index = 0
    cdef conn_t* c
    # Tearing one down may doom another one (a queue that cannot grow): the list is read until its end moves no more.
    while index < e.doomed.count:
        c = slab_at(&e.slab, e.doomed.slots[index])
        index += 1
        if c.flags & CONN_DOOMED:
            conn_teardown(e, c)
    e.doomed.count = 0

cdef void closing_free(engine_t* e) noexcept nogil:
    cdef uint32_t index
    cdef conn_t* c
    for index in range(e.gone.count):
        c = slab_at(&e.slab, e.gone.slots[index])
        if c.fd >= 0:
            conn_close_fd(c)
        if c.flags & (CONN_DUE_LISTED | CONN_BULK):
            # uplink_pump_due or bulk_take puts it back here, whichever is later.
            c.flags |= CONN_FREE_DUE
        else:
            slab_give(&e.slab, c)
    e.gone.count = 0

# A reset instead of FIN for peers that were dropped: no TIME_WAIT, no bytes.
cdef void conn_close_fd(conn_t* c) noexcept nogil:
    cdef linger_t abrupt
    if not c.flags & CONN_SHUT:
        abrupt.l_onoff = 1
        abrupt.l_linger = 0
        setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt))
    posix_close(c.fd)
    c.fd = -1
