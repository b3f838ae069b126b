# Frame: encoded bytes that several queues share.
#
# A delivery is encoded once; every recipient's queue holds a reference to the same bytes and the last one to be written
# frees them. Fan-out to 10,000 members costs 10,000 references, not 10,000 copies. What the window, LAG and the ledger
# need to know about the bytes (cid, seq) stands beside them, so nothing is ever parsed again.
# Price: one slow member pins the frame, hence the bounds on queues.

cdef enum:
    FRAME_DELIVER = 1               # counts in the window; cid and seq are set
    FRAME_HISTORY = 2               # answer to PULL: never dropped in favour of LAG
    FRAME_TRACED = 4                # every recipient gets ledger entries
    FRAME_EPHEMERAL = 8             # may be dropped; seq holds the sender
    FRAME_NEWEST_WINS = 16          # ephemeral, replaced by a newer one of the same cid, sender and kind or key
    FRAME_TRANSIENT = 32            # typing or presence: the first to go when the shard is short of memory

cdef struct frame_t:
    uint32_t refs
    uint32_t bytes                  # of data, header included
    uint64_t cid
    uint64_t seq
    uint32_t flags
    uint16_t ephemeral_kind         # or the key of a TELEMETRY (shard/telemetry.pxi)
    uint16_t count                  # of wire frames in data: more than one in a burst

# A queue charges this much for a frame beside its bytes: the reference itself.
cdef enum:
    FRAME_REF_BYTES = 8
    FRAME_BYTES_MAX = FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX


cdef inline uint8_t* frame_data(frame_t* frame) noexcept nogil:
    return <uint8_t*>frame + sizeof(frame_t)

# What it counts in a queue: as much as its frames would, one by one.
cdef inline uint32_t frame_weight(const frame_t* frame) noexcept nogil:
    return frame.bytes + frame.count * FRAME_REF_BYTES

# Room for n bytes, one reference, nothing in it; NULL without memory.
cdef inline frame_t* frame_new(engine_t* e, size_t n) noexcept nogil:
    cdef frame_t* frame = <frame_t*>pool_alloc(&e.pool, sizeof(frame_t) + n)
    if frame == NULL:
        return NULL
    frame.refs = 1
    frame.bytes = <uint32_t>n
    frame.cid = frame.seq = 0
    frame.flags = frame.ephemeral_kind = 0
    frame.count = 1
    e.queued_bytes += pool_room(sizeof(frame_t) + n)
    return frame

cdef inline frame_t* frame_copy(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef frame_t* frame = frame_new(e, n)
    if frame != NULL:
        memcpy(frame_data(frame), p, n)
    return frame

# What stands beside the bytes, of frames of the same kind.
cdef inline void frame_mark_like(frame_t* frame, const frame_t* other) noexcept nogil:
    frame.cid = other.cid
    frame.seq = other.seq
    frame.flags = other.flags
    frame.ephemeral_kind = other.ephemeral_kind

cdef inline void frame_release(engine_t* e, frame_t* frame) noexcept nogil:
    chatd_assert(frame.refs > 0)
    frame.refs -= 1
    if frame.refs == 0:
        e.queued_bytes -= pool_room(sizeof(frame_t) + frame.bytes)
        pool_free(&e.pool, frame, sizeof(frame_t) + frame.bytes)
