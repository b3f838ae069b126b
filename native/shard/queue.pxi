# Output queue: what waits for a slow socket.
#
# A queue is a ring of references to shared frames, allocated when the first one comes and given back when the last one
# is written: an idle connection has none. Whoever queues marks the connection dirty; it is flushed once at the end of
# the tick, so that a burst of frames leaves in one write. Frames are small and an iovec entry costs the kernel more
# than copying 100 bytes, so a flush gathers them into one buffer that every connection shares and that stays in the
# cache. EPOLLOUT is armed only after a short write. Bounds: queue_soft_bytes makes pushes lag (window.pxi),
# queue_hard_bytes closes with SLOW, and so does stall_ms without a byte of progress.

cdef extern from "<sys/socket.h>" nogil:
    ssize_t socket_send "send"(int fd, const void* p, size_t n, int flags) noexcept
    const int MSG_NOSIGNAL, MSG_DONTWAIT

from libc.errno cimport EAGAIN
from libc.stdint cimport UINT32_MAX
from libc.string cimport memmove, strlen

cdef enum:
    QUEUE_ROOM_MIN = 8


cdef inline void conn_mark_dirty(engine_t* e, conn_t* c) noexcept nogil:
    if c.flags & CONN_DIRTY:
        return
    if e.spreading and not c.flags & CONN_DOOR:
        bulk_put(e, c)
        return
    slot_list_put(&e.dirty, c.slot)
    c.flags |= CONN_DIRTY

cdef bint queue_grow(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint32_t room = c.queue_room * 2 if c.queue_room else QUEUE_ROOM_MIN
    cdef frame_t** larger = <frame_t**>pool_alloc(&e.pool, room * sizeof(void*))
    cdef uint32_t first
    if larger == NULL:
        return False
    if c.queue_room:
        first = c.queue_room - c.queue_head
        memcpy(larger, c.queue + c.queue_head, first * sizeof(void*))
        memcpy(larger + first, c.queue, c.queue_head * sizeof(void*))
        pool_free(&e.pool, c.queue, c.queue_room * sizeof(void*))
    c.queue = larger
    c.queue_room = room
    c.queue_head = 0
    return True

cdef inline frame_t** queue_at(conn_t* c, uint32_t index) noexcept nogil:
    return &c.queue[(c.queue_head + index) & (c.queue_room - 1)]

# Append; takes a reference of its own. False: the connection is doomed now (too slow, or no memory).
cdef inline bint queue_push(engine_t* e, conn_t* c, frame_t* frame) noexcept nogil:
    if c.queue_bytes + frame.bytes > e.settings.queue_hard_bytes:
        conn_doom(e, c, CLOSE_SLOW)
        return False
    if c.queue_count == c.queue_room and not queue_grow(e, c):
        conn_doom_no_memory(e, c)
        return False
    if c.queue_count == 0:
        c.progress_ms = <uint32_t>e.now_ms
    queue_at(c, c.queue_count)[0] = frame
    frame.refs += 1
    c.queue_count += 1
    c.queue_bytes += frame_weight(frame)
    conn_mark_dirty(e, c)
    return True

# Account for a frame that leaves the queue, written or not.
cdef inline void queue_forget(engine_t* e, conn_t* c, frame_t* frame, bint written) noexcept nogil:
    if frame.flags & FRAME_DELIVER:
        c.queue_delivers -= 1
        if frame.flags & FRAME_TRACED:
            ledger_put(e, HOP_WRITTEN if written else HOP_DROPPED, frame.cid, frame.seq, c.user, 1)
    c.queue_bytes -= frame_weight(frame)
    frame_release(e, frame)

cdef void queue_give_back(engine_t* e, conn_t* c) noexcept nogil:
    pool_free(&e.pool, c.queue, c.queue_room * sizeof(void*))
    c.queue = NULL
    c.queue_room = c.queue_head = 0

# n more bytes were written: drop what is complete.
cdef void queue_advance(engine_t* e, conn_t* c, size_t n) noexcept nogil:
    cdef frame_t* frame
    cdef size_t left
    e.count[COUNT_BYTES_OUT] += n
    if n:
        c.progress_ms = <uint32_t>e.now_ms
    while n:
        chatd_assert(c.queue_count > 0)
        frame = queue_at(c, 0)[0]
        left = frame.bytes - c.queue_offset
        if n < left:
            c.queue_offset += <uint32_t>n
            if frame.count > 1:
                burst_split(e, c)
            return
        n -= left
        c.queue_offset = 0
        c.queue_head = (c.queue_head + 1) & (c.queue_room - 1)
        c.queue_count -= 1
        e.count[COUNT_FRAMES_OUT] += frame.count
        queue_forget(e, c, frame, True)
    if c.queue_count == 0:
        chatd_assert(c.queue_bytes == 0 and c.queue_delivers == 0)
        queue_give_back(e, c)

cdef void queue_clear(engine_t* e, conn_t* c) noexcept nogil:
    cdef uint32_t index
    for index in range(c.queue_count):
        queue_forget(e, c, queue_at(c, index)[0], False)
    c.queue_count = c.queue_offset = 0
    queue_give_back(e, c)

# What is worth one write: a pointer to n bytes, either of one large frame or of many small ones gathered.
cdef const uint8_t* queue_gather(engine_t* e, conn_t* c, size_t bytes_max, size_t* n) noexcept nogil:
    cdef frame_t* frame = queue_at(c, 0)[0]
    cdef size_t offset = c.queue_offset, size, total = 0
    cdef uint32_t index
    n[0] = frame.bytes - offset
    if c.queue_count == 1 or n[0] >= bytes_max // 2:
        if n[0] > bytes_max:
            n[0] = bytes_max
        return frame_data(frame) + offset
    for index in range(c.queue_count):
        frame = queue_at(c, index)[0]
        size = frame.bytes - offset
        if total + size > bytes_max:
            break
        memcpy(e.gather + total, frame_data(frame) + offset, size)
        total += size
        offset = 0
    n[0] = total
    return e.gather

# Write as much as the socket takes. When that is not all, the connection is BLOCKED until EPOLLOUT.
cdef void queue_flush(engine_t* e, conn_t* c) noexcept nogil:
    cdef const uint8_t* p
    cdef size_t n
    cdef ssize_t written
    if c.flags & CONN_BLOCKED:
        return
    while c.queue_count and c.fd >= 0:
        p = queue_gather(e, c, GATHER_BYTES_MAX, &n)
        written = socket_send(c.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT)
        e.count[COUNT_WRITES] += 1
        if written < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                written = 0
            else:
                conn_doom(e, c, CLOSE_PEER_RESET)
                return
        queue_advance(e, c, <size_t>written)
        if <size_t>written < n:
            e.count[COUNT_SHORT_WRITES] += 1
            c.flags |= CONN_BLOCKED
            conn_watch(e, c)
            wheel_arm(&e.slab, &e.wheel, c, stall_deadline_ms(e, c))
            return
    conn_watch(e, c)

# Frames that pushes and answers share: send one that the caller made, and drop the caller's reference.
cdef bint conn_send_frame(engine_t* e, conn_t* c, frame_t* frame) noexcept nogil:
    cdef bint sent
    if frame == NULL:
        conn_doom_no_memory(e, c)
        return False
    sent = queue_push(e, c, frame)
    frame_release(e, frame)
    return sent

cdef inline bint conn_send(engine_t* e, conn_t* c, const uint8_t* p, size_t n) noexcept nogil:
    return conn_send_frame(e, c, frame_copy(e, p, n))

# Replace a queued frame of the same conversation, sender and kind: only the newest is worth sending.
cdef bint queue_replace(engine_t* e, conn_t* c, frame_t* frame) noexcept nogil:
    cdef uint32_t looked = 0, index = c.queue_count
    cdef frame_t* old
    # The first frame may be half written; beyond 16 the search costs more than the frame.
    while index > 1 and looked < 16:
        index -= 1
        old = queue_at(c, index)[0]
        looked += old.count
        if (old.flags & FRAME_NEWEST_WINS and old.cid == frame.cid and old.seq == frame.seq
                and old.ephemeral_kind == frame.ephemeral_kind):
            queue_at(c, index)[0] = frame
            frame.refs += 1
            c.queue_bytes += frame.bytes - old.bytes
            frame_release(e, old)
            return True
    return False
