# The tail: journal records that are not in the main database yet, by position.
#
# The hub appends a record here once; the batch that goes to the store, the push into the rings, a link that catches up
# and PULL all read the same bytes. Records lie back to back in chunks of 1 MiB, so a batch is a few memcpys and letting
# go is freeing whole chunks. Positions are dense, hence a circle of pointers finds a record in one step, and each
# conversation keeps the positions of its own events (hub/conversation.pxi).
# Records beyond committed_pos are staged: tail_truncate drops them when the store refuses the batch. Bound: 2 million
# records or 256 MiB, judged by whoever may refuse (hub/send.pxi). Price: 8 bytes per record twice.

cdef enum:
    TAIL_CHUNK_BYTES = 1 << 20
    TAIL_ROOM_MIN = 4096


cdef inline uint8_t* tail_data(tail_chunk_t* chunk) noexcept nogil:
    return <uint8_t*>chunk + sizeof(tail_chunk_t)

cdef inline uint64_t tail_count(const tail_t* t) noexcept nogil:
    return t.next_pos - t.first_pos

cdef inline uint64_t tail_staged_count(const tail_t* t) noexcept nogil:
    return t.next_pos - 1 - t.committed_pos

# NULL: not, or no longer, in the tail.
cdef inline const uint8_t* tail_record(const tail_t* t, uint64_t pos) noexcept nogil:
    if pos < t.first_pos or pos >= t.next_pos:
        return NULL
    return t.records[pos & (t.room - 1)]

cdef bint tail_grow(tail_t* t) noexcept nogil:
    cdef uint64_t room = t.room * 2 if t.room else TAIL_ROOM_MIN
    cdef uint64_t pos
    cdef uint8_t** records = <uint8_t**>malloc(room * sizeof(uint8_t*))
    if records == NULL:
        return False
    for pos in range(t.first_pos, t.next_pos):
        records[pos & (room - 1)] = t.records[pos & (t.room - 1)]
    free(t.records)
    t.records = records
    t.room = room
    return True

cdef tail_chunk_t* tail_new_chunk(tail_t* t) noexcept nogil:
    cdef tail_chunk_t* chunk = t.spare
    if chunk != NULL:
        t.spare = NULL
    else:
        chunk = <tail_chunk_t*>malloc(sizeof(tail_chunk_t) + TAIL_CHUNK_BYTES)
        if chunk == NULL:
            return NULL
    chunk.next = NULL
    chunk.last_pos = 0
    chunk.used = 0
    if t.last == NULL:
        t.first = t.mark_chunk = chunk
        t.mark_used = 0
    else:
        t.last.next = chunk
    t.last = chunk
    return chunk

cdef void tail_drop_chunk(tail_t* t, tail_chunk_t* chunk) noexcept nogil:
    if t.spare == NULL:
        t.spare = chunk
    else:
        free(chunk)

# A staged record of n bytes (a multiple of 8, at most a chunk) at position next_pos. NULL: no memory, nothing changed.
cdef uint8_t* tail_append(tail_t* t, size_t n) noexcept nogil:
    cdef uint8_t* record
    chatd_require(n <= TAIL_CHUNK_BYTES and n % JOURNAL_ALIGNMENT == 0)
    if tail_count(t) == t.room and not tail_grow(t):
        return NULL
    if (t.last == NULL or t.last.used + n > TAIL_CHUNK_BYTES) and tail_new_chunk(t) == NULL:
        return NULL
    record = tail_data(t.last) + t.last.used
    t.last.used += n
    t.last.last_pos = t.next_pos
    t.records[t.next_pos & (t.room - 1)] = record
    t.next_pos += 1
    t.bytes += n
    t.staged_bytes += n
    return record

# All staged records, back to back, into a buffer of staged_bytes.
cdef void tail_copy_staged(const tail_t* t, uint8_t* to) noexcept nogil:
    cdef tail_chunk_t* chunk = t.mark_chunk
    cdef size_t begin = t.mark_used
    while chunk != NULL:
        memcpy(to, tail_data(chunk) + begin, chunk.used - begin)
        to += chunk.used - begin
        begin = 0
        chunk = chunk.next

cdef void tail_commit(tail_t* t) noexcept nogil:
    t.committed_pos = t.next_pos - 1
    t.mark_chunk = t.last
    t.mark_used = t.last.used if t.last != NULL else 0
    t.staged_bytes = 0

cdef void tail_truncate(tail_t* t) noexcept nogil:
    cdef tail_chunk_t* chunk
    cdef tail_chunk_t* following
    if t.mark_chunk != NULL:
        chunk = t.mark_chunk.next
        while chunk != NULL:
            following = chunk.next
            tail_drop_chunk(t, chunk)
            chunk = following
        t.mark_chunk.next = NULL
        t.mark_chunk.used = t.mark_used
        t.last = t.mark_chunk
        # Where nothing of the chunk is left, an older position only makes it go a little earlier, never too early.
        t.last.last_pos = t.committed_pos
    t.next_pos = t.committed_pos + 1
    t.bytes -= t.staged_bytes
    t.staged_bytes = 0

# Forget everything up to pos, at most what is committed. The conversations' own lists are the caller's business.
cdef void tail_free_to(tail_t* t, uint64_t pos) noexcept nogil:
    cdef tail_chunk_t* chunk
    cdef uint64_t at
    chatd_assert(pos <= t.committed_pos)
    for at in range(t.first_pos, pos + 1):
        t.bytes -= (<const journal_head*>tail_record(t, at)).bytes
    if pos >= t.first_pos:
        t.first_pos = pos + 1
    while t.first != t.mark_chunk and t.first.last_pos <= pos:
        chunk = t.first
        t.first = chunk.next
        tail_drop_chunk(t, chunk)

cdef void tail_dispose(tail_t* t) noexcept nogil:
    cdef tail_chunk_t* chunk
    while t.first != NULL:
        chunk = t.first
        t.first = chunk.next
        free(chunk)
    free(t.spare)
    free(t.records)
    memset(t, 0, sizeof(tail_t))

# The head of a record, filled in; payload_bytes follow the fixed part. Padding is zeroed: it goes to disk.
cdef uint8_t* tail_append_typed(tail_t* t, uint8_t type, uint8_t flags, size_t content) noexcept nogil:
    cdef size_t n = ring_padded(content)
    cdef uint8_t* record = tail_append(t, n)
    cdef journal_head* head = <journal_head*>record
    if record == NULL:
        return NULL
    head.bytes = <uint32_t>n
    head.type = type
    head.flags = flags
    head.pad = <uint16_t>(n - content)
    memset(record + content, 0, n - content)
    return record
