# Hot ops: SEND, SKIP, ACK, READ, and the small ones.
#
# A shard checks what needs no state of others (layout, sizes, kind, UTF-8, rates, its own order gate) and passes the
# body on as it came; membership, idempotency and order are the hub's. A value that this protocol version never allows
# is a broken client and closes; a value that is merely not acceptable gets a NAK and the connection stays.

cdef void on_ping(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    if rd_left(cur) > LIMIT_PING_ECHO_BYTES_MAX:
        conn_doom(e, c, CLOSE_BAD_FRAME)
    elif flags & FLAG_PING_REPLY_WANTED:
        send_echo(e, c, OP_PONG, cur.p, rd_left(cur))

cdef void on_pong(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    if rd_left(cur) > LIMIT_PONG_ECHO_BYTES_MAX:
        conn_doom(e, c, CLOSE_BAD_FRAME)

cdef void on_bye(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    rd_u16be(cur)
    rd_varint(cur)
    rd_text(cur, LIMIT_BYE_TEXT_BYTES_MAX)
    conn_doom(e, c, CLOSE_NORMAL if rd_done(cur) else CLOSE_BAD_FRAME)


# Size of the payload a SEND of this kind may have; 0: clients do not send this kind.
cdef inline size_t kind_payload_bytes_max(uint64_t kind) noexcept nogil:
    if kind >= WIRE_KINDS_SIZE or not wire_kinds[kind].client:
        return 0
    return wire_kinds[kind].payload_bytes_max

# What is wrong with the content of a SEND, as an error code; 0: nothing.
cdef inline int send_fault(uint64_t cid, uint64_t kind, bint understood, size_t body_bytes, const uint8_t* payload,
                           size_t payload_bytes) noexcept nogil:
    cdef size_t limit = kind_payload_bytes_max(kind)
    if cid == 0:
        return ERR_BAD_REQUEST
    if limit == 0 or not understood:
        return ERR_UNSUPPORTED
    if body_bytes > LIMIT_SEND_BODY_BYTES_MAX or payload_bytes > limit:
        return ERR_TOO_LARGE
    if (kind == KIND_TEXT or kind == KIND_MARKDOWN) and not utf8_is_valid(payload, payload_bytes):
        return ERR_BAD_REQUEST
    return 0

cdef void on_send(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t cseq = rd_varint(cur)
    cdef uint64_t cid = rd_varint(cur)
    cdef uint64_t kind = rd_varint(cur)
    cdef bint understood = rd_extensions(cur, 0) if flags & FLAG_EXT else True
    if not rd_ok(cur) or cseq == 0:
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    send_accept(e, c, flags, body, n, cseq, cid, send_fault(cid, kind, understood, n, cur.p, rd_left(cur)))

# A SEND whose content has this fault: refused, or on its way in its order and within the rate.
cdef inline void send_accept(engine_t* e, conn_t* c, uint8_t flags, const uint8_t* body, size_t n, uint64_t cseq,
                             uint64_t cid, int fault) noexcept nogil:
    cdef uint64_t wait_ns
    e.count[COUNT_SENDS] += 1
    if fault:
        # Final: this cseq will never be stored, so nothing has to wait for it any longer.
        order_settle(e, c, cseq)
        send_nak(e, c, cseq, cid, fault, 0)
        return
    if not order_allows(c, cseq, cid):
        refuse_send(e, c, cseq, cid, ERR_OUT_OF_ORDER, 0)
        return
    wait_ns = rate_charge(&c.sends_tat_ns, e.now_ns, 1, e.settings.sends_per_s, e.settings.sends_burst)
    if wait_ns:
        refuse_send(e, c, cseq, cid, ERR_RATE_LIMITED, wait_ns // 1000000 + 1)
        return
    send_enter(e, c, OP_SEND, flags, body, n, cseq, cid)

cdef void on_skip(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t cseq = rd_varint(cur)
    if not rd_done(cur) or cseq == 0:
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    send_enter(e, c, OP_SKIP, flags, body, n, cseq, 0)

# Into the in-flight table, from where it goes to the hub at the end of the tick.
cdef void send_enter(engine_t* e, conn_t* c, uint8_t op, uint8_t flags, const uint8_t* body, size_t n, uint64_t cseq,
                     uint64_t cid) noexcept nogil:
    if inflight_put(e, c, op, flags, body, n, cseq, cid) == <uint32_t>INFLIGHT_NONE:
        refuse_send(e, c, cseq, cid, ERR_BUSY, 0)
        return
    order_retry(c, cseq)
    if c.sends_in_flight >= e.settings.sends_in_flight_max:
        conn_throttle(e, c, 0)

# The hub's answer to a SEND or SKIP: a complete SEND_ACK or SEND_NAK frame.
cdef void on_answer(engine_t* e, uint64_t token, uint64_t handle, const uint8_t* p, size_t n) noexcept nogil:
    cdef uint32_t index = inflight_find(&e.inflight, token)
    cdef conn_t* c = slab_find(&e.slab, handle)
    cdef uint64_t cseq, cid
    if index == <uint32_t>INFLIGHT_NONE or c == NULL or e.inflight.entries[index].handle != handle:
        e.count[COUNT_ANSWERS_LATE] += 1
        return
    e.count[COUNT_ANSWERS] += 1
    cseq = e.inflight.entries[index].cseq
    cid = e.inflight.entries[index].cid
    inflight_remove(e, c, index)
    if not conn_is_live(c):
        return
    if p[2] != OP_SEND_NAK or not p[3] & FLAG_SEND_NAK_RETRYABLE:
        order_settle(e, c, cseq)
    elif cid and not order_note(e, c, cseq, cid, False):
        return
    conn_send(e, c, p, n)
    conn_unthrottle(e, c)


cdef void on_ack(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef uint64_t count = rd_varint(cur)
    if not rd_done(cur) or not window_ack(e, c, count):
        conn_doom(e, c, CLOSE_BAD_FRAME)

cdef void on_read(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef uint64_t cid = rd_varint(cur)
    cdef uint64_t seq = rd_varint(cur)
    if not rd_done(cur):
        conn_doom(e, c, CLOSE_BAD_FRAME)
    elif cid == 0 or seq == 0:
        send_error(e, c, ERR_BAD_REQUEST, OP_READ, cid, 0)
    else:
        position_note(e, c.user, cid, 0, seq)
