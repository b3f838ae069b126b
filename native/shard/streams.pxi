# Streams: frames of live streams on their way to the hub, which has their state (chatd/hub/streams.py).
#
# STREAM_START is a call like others. STREAM_DELTA is handed over and forgotten: the hub answers only when it cannot
# take it, and what a dead hub had is gone. STREAM_END becomes the SEND that it stands for, a text without payload and
# with the extension STREAM, and lives as one: kept until it is answered, in order, within the rate of sends. The hub
# looks up kind and content. All of them need the feature.

cdef enum:
    STREAM_END_SEND_BYTES_MAX = 5 * VARINT_BYTES_MAX + 8

# False: the connection has not agreed on streams, and was told.
cdef bint streams_agreed(engine_t* e, conn_t* c, uint8_t op) noexcept nogil:
    if c.features & FEATURE_STREAMS:
        return True
    frame_unknown(e, c, op)
    return False

cdef void on_stream_start(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t cid
    if not streams_agreed(e, c, OP_STREAM_START):
        return
    cid = rd_varint(cur)
    rd_varint(cur)
    rd_varint(cur)
    if rd_done(cur):
        call_enter(e, c, OP_STREAM_START, flags, body, n, cid)
    else:
        conn_doom(e, c, CLOSE_BAD_FRAME)

cdef void on_stream_delta(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur)
    cdef uint64_t stream
    cdef int code = 0
    if not streams_agreed(e, c, OP_STREAM_DELTA):
        return
    rd_varint(cur)
    stream = rd_varint(cur)
    rd_varint(cur)
    if not rd_ok(cur):
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    if rd_left(cur) > LIMIT_EPHEMERAL_PAYLOAD_BYTES_MAX:
        code = ERR_TOO_LARGE
    elif not uplink_is_ready(e):
        code = ERR_UNAVAILABLE
    elif not call_write(e, c, OP_STREAM_DELTA, flags, body, n, False):
        code = ERR_BUSY
    if code:
        send_error(e, c, code, OP_STREAM_DELTA, stream, retry_after_default_ms(code))

cdef void on_stream_end(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef uint8_t body[STREAM_END_SEND_BYTES_MAX]
    cdef out_t o
    cdef uint64_t cid, stream, cseq, extension_bytes
    if not streams_agreed(e, c, OP_STREAM_END):
        return
    cid = rd_varint(cur)
    stream = rd_varint(cur)
    cseq = rd_varint(cur)
    if not rd_done(cur) or cseq == 0:
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    extension_bytes = varint_size(stream) + 2
    wr_init(&o, body, sizeof(body))
    wr_varint(&o, cseq)
    wr_varint(&o, cid)
    wr_varint(&o, KIND_TEXT)
    wr_varint(&o, extension_bytes + 2)
    wr_varint(&o, EXTENSION_SEND_STREAM)
    wr_varint(&o, extension_bytes)
    wr_varint(&o, stream)
    wr_varint(&o, 0)
    wr_varint(&o, 0)
    chatd_assert(wr_ok(&o))
    send_accept(e, c, FLAG_EXT, body, <size_t>(o.p - body), cseq, cid, 0 if cid else ERR_BAD_REQUEST)
