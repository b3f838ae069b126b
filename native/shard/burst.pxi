# Burst: ephemeral frames of one sender that came in one read, on their way as one frame.
#
# Facts: a sender with sixteen messages in flight writes them at once, and every follower gets them in one send().
# Between the two, each message was a reference into each queue and a copy out of it: 170 instructions per delivery.
# Consequence: what comes behind one another for the same conversation is laid side by side and queued as one frame_t
# that counts as many frames as it holds, where the queue takes all of them. A queue near its limit and the second door
# get them one by one, so that what is dropped is what would have been dropped. A burst that is half written falls into
# its frames (burst_split): only queues and writing ever meet one. Values that replace older ones (typing, telemetry)
# stay alone.
# Price: every ephemeral frame is copied once more, in the cache; a slow reader's half-written burst is its own copy.

cdef enum:
    BURST_FRAMES_MAX = 64
    BURST_BYTES_MAX = 16384


# The wire frames at p, as one frame each. False: no memory, and none of them exists.
cdef bint burst_singles(engine_t* e, const uint8_t* p, uint32_t count, const frame_t* marks,
                        frame_t** singles) noexcept nogil:
    cdef uint32_t index, made
    for index in range(count):
        singles[index] = frame_copy(e, p, FRAME_HEADER_BYTES + ((<size_t>p[0] << 8) | p[1]))
        if singles[index] == NULL:
            for made in range(index):
                frame_release(e, singles[made])
            return False
        frame_mark_like(singles[index], marks)
        p += singles[index].bytes
    return True

# Would the queue take each of the frames? Then it takes them as one.
cdef inline bint burst_fits(const engine_t* e, const conn_t* c, const burst_t* burst) noexcept nogil:
    cdef uint64_t bytes = c.queue_bytes + <uint64_t>burst.bytes + burst.count * FRAME_REF_BYTES
    return (burst.count > 1 and not c.flags & CONN_DOOR and burst.body_max <= c.frame_bytes_max
            and bytes <= e.settings.queue_ephemeral_bytes and bytes <= e.settings.queue_hard_bytes)

cdef frame_t* burst_whole(engine_t* e, const burst_t* burst) noexcept nogil:
    cdef frame_t* whole = frame_copy(e, burst.data, burst.bytes)
    if whole != NULL:
        frame_mark_like(whole, &burst.marks)
        whole.count = <uint16_t>burst.count
    return whole

# To all local followers of the conversation but the sender. Either form is made when the first one needs it; False: it
# could not be made, and somebody got nothing.
cdef bint burst_fan_out(engine_t* e, const burst_t* burst) noexcept nogil:
    cdef topic_set_t* topic_set = &e.subscriptions.sets[burst.topic_set]
    cdef const follower_t* followers = topic_set_followers(topic_set)
    cdef frame_t* singles[BURST_FRAMES_MAX]
    cdef frame_t* whole = NULL
    cdef bint split = False, complete = True
    cdef uint32_t index, single
    cdef conn_t* c
    e.spreading = topic_set.count > BULK_RECIPIENTS
    for index in range(topic_set.count):
        if index + 4 < topic_set.count:
            chatd_prefetch(slab_at(&e.slab, followers[index + 4].slot))
        c = slab_at(&e.slab, followers[index].slot)
        if c.slot == burst.slot or not followers[index].topics & TOPIC_EPHEMERAL or not conn_is_live(c):
            continue
        if burst_fits(e, c, burst):
            if whole == NULL:
                whole = burst_whole(e, burst)
            if whole == NULL:
                complete = False
            elif queue_push(e, c, whole):
                e.count[COUNT_EPHEMERAL_OUT] += whole.count
            continue
        split = split or burst_singles(e, burst.data, burst.count, &burst.marks, singles)
        complete = complete and split
        for single in range(burst.count if split else 0):
            conn_ephemeral(e, c, singles[single])
    e.spreading = False
    for single in range(burst.count if split else 0):
        frame_release(e, singles[single])
    if whole != NULL:
        frame_release(e, whole)
    return complete

# What was collected goes to its followers. Called before anything else of the sender is handled.
cdef void burst_flush(engine_t* e) noexcept nogil:
    cdef burst_t* burst = &e.burst
    if burst.count and not burst_fan_out(e, burst):
        e.count[COUNT_EPHEMERAL_DROPPED] += burst.count
    burst.count = burst.bytes = burst.body_max = 0

# Room for a frame of n bytes behind those of the same sender and conversation; whoever asks writes it.
cdef uint8_t* burst_add(engine_t* e, const conn_t* c, uint32_t topic_set, uint64_t cid, uint64_t kind,
                        size_t n) noexcept nogil:
    cdef burst_t* burst = &e.burst
    if burst.count and (burst.topic_set != topic_set or burst.count == BURST_FRAMES_MAX
                        or burst.bytes + n > <size_t>BURST_BYTES_MAX):
        burst_flush(e)
    if burst.count == 0:
        burst.topic_set = topic_set
        burst.slot = c.slot
        ephemeral_mark(&burst.marks, cid, c.user, kind)
    burst.count += 1
    burst.bytes += <uint32_t>n
    burst.body_max = max(burst.body_max, <uint32_t>(n - FRAME_HEADER_BYTES))
    return burst.data + burst.bytes - n


# -- half written ------------------------------------------------------------------------------------------------------

# The burst at the head of the queue was written up to queue_offset: its complete frames are gone, the others take its
# place one by one, the first of them half written. Without memory the connection is doomed, and the burst stays.
cdef void burst_split(engine_t* e, conn_t* c) noexcept nogil:
    cdef frame_t* whole = queue_at(c, 0)[0]
    cdef frame_t* singles[BURST_FRAMES_MAX]
    cdef uint32_t count = whole.count, done = 0, index
    if not burst_singles(e, frame_data(whole), count, whole, singles):
        conn_doom_no_memory(e, c)
        return
    while c.queue_room < c.queue_count - 1 + count:
        if not queue_grow(e, c):
            for index in range(count):
                frame_release(e, singles[index])
            conn_doom_no_memory(e, c)
            return
    while c.queue_offset >= singles[done].bytes:
        c.queue_offset -= singles[done].bytes
        c.queue_bytes -= frame_weight(singles[done])
        frame_release(e, singles[done])
        e.count[COUNT_FRAMES_OUT] += 1
        done += 1
    c.queue_head = (c.queue_head - (count - done - 1)) & (c.queue_room - 1)
    c.queue_count += count - done - 1
    for index in range(done, count):
        queue_at(c, index - done)[0] = singles[index]
    frame_release(e, whole)
