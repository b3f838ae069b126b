# Telemetry: which value of its sender a frame carries, and whether the server keeps it.
#
# A TELEMETRY without the extension is the one value of its sender. With it, values of different keys do not replace
# each other in a queue, and one that is to be kept goes to the hub beside its way to the followers: a reader who comes
# later asks there (chatd/hub/telemetry.py). Who sends none of this pays a comparison.

cdef enum:
    TELEMETRY_KEYED = 0x8000        # bit of frame_t.ephemeral_kind: the others are the key

cdef struct telemetry_t:
    uint16_t key
    bint kept

# rest: everything behind the sender, with an extension block that has been checked. False: the extension is malformed.
cdef bint telemetry_read(const uint8_t* rest, size_t n, telemetry_t* told) noexcept nogil:
    cdef cur_t cur
    cdef const uint8_t* p
    cdef uint64_t tag = 0, key
    memset(told, 0, sizeof(telemetry_t))
    rd_init(&cur, rest, n)
    rd_varint(&cur)
    n = <size_t>rd_varint(&cur)
    p = rd_bytes(&cur, n)
    while p != NULL and tag != EXTENSION_EPHEMERAL_TELEMETRY:
        if tag == 0:
            rd_init(&cur, p, n)
        if rd_left(&cur) == 0:
            return True
        tag = rd_varint(&cur)
        n = <size_t>rd_varint(&cur)
        p = rd_bytes(&cur, n)
    if p == NULL:
        return False
    rd_init(&cur, p, n)
    key = rd_varint(&cur)
    told.kept = rd_varint(&cur) & 1
    told.key = <uint16_t>key
    return rd_done(&cur) and key <= LIMIT_TELEMETRY_KEY_MAX

# What a newer frame must have in common to replace this one, beside conversation and sender.
cdef inline uint16_t telemetry_slot(uint64_t kind, uint8_t flags, const uint8_t* rest, size_t n) noexcept nogil:
    cdef telemetry_t told
    if kind != EPHEMERAL_TELEMETRY or not flags & FLAG_EXT or not telemetry_read(rest, n, &told) or told.key == 0:
        return <uint16_t>kind
    return <uint16_t>(TELEMETRY_KEYED | told.key)

# A value with the extension, before it goes to the followers: 0, or why it may not.
cdef int telemetry_take(engine_t* e, conn_t* c, uint8_t flags, const uint8_t* body, size_t n, const uint8_t* rest,
                        size_t payload_bytes) noexcept nogil:
    cdef telemetry_t told
    if not telemetry_read(rest, n - <size_t>(rest - body), &told):
        return ERR_BAD_REQUEST
    if not told.kept:
        return 0
    if payload_bytes > LIMIT_TELEMETRY_KEPT_BYTES_MAX:
        return ERR_TOO_LARGE
    if not uplink_is_ready(e) or not call_write(e, c, OP_EPHEMERAL, flags, body, n, False):
        e.count[COUNT_EPHEMERAL_DROPPED] += 1
    return 0
