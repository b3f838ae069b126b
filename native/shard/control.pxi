# Control frames: the ones that the engine writes itself.
#
# All of them are small and go to one connection, so they are encoded on the stack and copied into a frame. Texts are
# few and fixed: the code says everything to a program, the text helps a person who reads a dump.

cdef enum:
    CONTROL_BYTES_MAX = 192         # header, varints and the longest text

cdef struct control_t:
    out_t out
    uint8_t buffer[CONTROL_BYTES_MAX]


cdef inline void control_begin(control_t* f, uint8_t op, uint8_t flags) noexcept nogil:
    wr_init(&f.out, f.buffer, CONTROL_BYTES_MAX)
    wr_u16be(&f.out, 0)
    wr_u8(&f.out, op)
    wr_u8(&f.out, flags)

cdef inline void wr_text(out_t* out, const char* text) noexcept nogil:
    cdef size_t n = strlen(text)
    wr_varint(out, n)
    wr_bytes(out, <const uint8_t*>text, n)

# Fill in the length and queue the frame.
cdef bint control_send(engine_t* e, conn_t* c, control_t* f) noexcept nogil:
    cdef size_t n = <size_t>(f.out.p - f.buffer)
    chatd_require(wr_ok(&f.out))
    f.buffer[0] = <uint8_t>((n - FRAME_HEADER_BYTES) >> 8)
    f.buffer[1] = <uint8_t>((n - FRAME_HEADER_BYTES) & 0xFF)
    return conn_send(e, c, f.buffer, n)

cdef inline bint error_is_retryable(int code) noexcept nogil:
    return wire_errors[code].retryable != 0

# When a client may try again after a retryable error that has no better answer.
cdef inline uint64_t retry_after_default_ms(int code) noexcept nogil:
    return 1000 if code == ERR_UNAVAILABLE else 200

cdef void send_error(engine_t* e, conn_t* c, int code, uint8_t op, uint64_t ref, uint64_t retry_ms) noexcept nogil:
    cdef control_t f
    control_begin(&f, OP_ERROR, FLAG_ERROR_RETRYABLE if error_is_retryable(code) else 0)
    wr_u16be(&f.out, <uint16_t>code)
    wr_u8(&f.out, op)
    wr_varint(&f.out, ref)
    wr_varint(&f.out, retry_ms)
    wr_text(&f.out, "")
    control_send(e, c, &f)

cdef void send_nak(engine_t* e, conn_t* c, uint64_t cseq, uint64_t cid, int code, uint64_t retry_ms) noexcept nogil:
    cdef control_t f
    control_begin(&f, OP_SEND_NAK, FLAG_SEND_NAK_RETRYABLE if error_is_retryable(code) else 0)
    wr_varint(&f.out, cseq)
    wr_varint(&f.out, cid)
    wr_u16be(&f.out, <uint16_t>code)
    wr_varint(&f.out, retry_ms)
    wr_text(&f.out, "")
    e.count[COUNT_SENDS_REFUSED] += 1
    control_send(e, c, &f)

cdef void send_lag(engine_t* e, conn_t* c, uint64_t cid, uint64_t from_seq, uint64_t to_seq) noexcept nogil:
    cdef control_t f
    control_begin(&f, OP_LAG, 0)
    wr_varint(&f.out, cid)
    wr_varint(&f.out, from_seq)
    wr_varint(&f.out, to_seq)
    if cid:
        ledger_put(e, HOP_LAG_SENT, cid, from_seq, c.user, <uint32_t>(to_seq - from_seq + 1))
    control_send(e, c, &f)

cdef void send_bye(engine_t* e, conn_t* c, int reason, uint64_t retry_ms, const uint8_t* text, size_t n) noexcept nogil:
    cdef control_t f
    control_begin(&f, OP_BYE, 0)
    wr_u16be(&f.out, <uint16_t>reason)
    wr_varint(&f.out, retry_ms)
    wr_varint(&f.out, n)
    wr_bytes(&f.out, text, n)
    if control_send(e, c, &f):
        c.flags |= CONN_BYE_QUEUED

cdef void send_echo(engine_t* e, conn_t* c, uint8_t op, const uint8_t* echo, size_t n) noexcept nogil:
    cdef control_t f
    control_begin(&f, op, 0)
    wr_bytes(&f.out, echo, n)
    control_send(e, c, &f)

cdef void send_challenge(engine_t* e, conn_t* c) noexcept nogil:
    cdef control_t f
    control_begin(&f, OP_CHALLENGE, 0)
    wr_bytes(&f.out, c.preauth.nonce, 16)
    control_send(e, c, &f)

cdef void send_goaway(engine_t* e, conn_t* c, uint64_t window_ms) noexcept nogil:
    cdef control_t f
    control_begin(&f, OP_GOAWAY, 0)
    wr_u16be(&f.out, CLOSE_GOING_AWAY)
    wr_varint(&f.out, window_ms)
    wr_varint(&f.out, 0)
    control_send(e, c, &f)
