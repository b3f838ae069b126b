# Ephemeral frames: from socket to socket, and from shard to shard.
#
# Typing, presence, signalling and telemetry are never stored and may be lost, so they take the shortest way there is:
# the frame is rewritten once with its sender filled in, referenced by every local follower, and copied into the ring
# of every shard that has others. Under pressure they go first: a newer value replaces a queued one of the same sender,
# then frames to a queue beyond queue_ephemeral_bytes are dropped. A full ring to a peer drops too. All of it is
# counted.

cdef enum:
    EPHEMERAL_KINDS = (1 << EPHEMERAL_TYPING) | (1 << EPHEMERAL_SIGNAL) | (1 << EPHEMERAL_TELEMETRY) \
        | (1 << EPHEMERAL_CUSTOM)

cdef inline bint ephemeral_is_known(uint64_t kind) noexcept nogil:
    return kind < 32 and (<uint32_t>EPHEMERAL_KINDS >> <uint32_t>kind) & 1 != 0

cdef inline void conn_ephemeral(engine_t* e, conn_t* c, frame_t* frame) noexcept nogil:
    if not conn_is_live(c) or frame.bytes - FRAME_HEADER_BYTES > c.frame_bytes_max:
        return
    if c.queue_bytes > e.settings.queue_drained_bytes and frame.flags & FRAME_NEWEST_WINS \
            and queue_replace(e, c, frame):
        e.count[COUNT_EPHEMERAL_REPLACED] += 1
        return
    if c.queue_bytes + frame.bytes > e.settings.queue_ephemeral_bytes:
        e.count[COUNT_EPHEMERAL_DROPPED] += 1
        return
    if queue_push(e, c, frame):
        e.count[COUNT_EPHEMERAL_OUT] += 1

# To all local followers of the set but one.
cdef void ephemeral_fan_out(engine_t* e, topic_set_t* topic_set, frame_t* frame, uint32_t topic,
                            uint32_t but_slot) noexcept nogil:
    cdef const follower_t* followers = topic_set_followers(topic_set)
    cdef const follower_t* follower
    cdef uint32_t index
    e.spreading = topic_set.count > BULK_RECIPIENTS
    for index in range(topic_set.count):
        follower = &followers[index]
        if index + 4 < topic_set.count:
            chatd_prefetch(slab_at(&e.slab, followers[index + 4].slot))
        if follower.slot != but_slot and follower.topics & topic:
            conn_ephemeral(e, slab_at(&e.slab, follower.slot), frame)
    e.spreading = False

# The frame as receivers see it: `rest` is everything behind the sender, as it came.
cdef inline size_t ephemeral_bytes(uint64_t cid, uint64_t sender, size_t rest_bytes) noexcept nogil:
    return FRAME_HEADER_BYTES + varint_size(cid) + varint_size(sender) + rest_bytes

cdef inline void ephemeral_write(uint8_t* to, size_t size, uint64_t cid, uint64_t sender, uint8_t flags,
                                 const uint8_t* rest, size_t rest_bytes) noexcept nogil:
    cdef out_t out
    wr_init(&out, to, size)
    wr_u16be(&out, <uint16_t>(size - FRAME_HEADER_BYTES))
    wr_u8(&out, OP_EPHEMERAL)
    wr_u8(&out, flags)
    wr_varint(&out, cid)
    wr_varint(&out, sender)
    wr_bytes(&out, rest, rest_bytes)
    chatd_assert(wr_ok(&out) and wr_left(&out) == 0)

cdef inline uint32_t ephemeral_flags(uint64_t kind) noexcept nogil:
    if kind == EPHEMERAL_TYPING or kind == EPHEMERAL_PRESENCE:
        return FRAME_EPHEMERAL | FRAME_TRANSIENT | FRAME_NEWEST_WINS
    if kind == EPHEMERAL_TELEMETRY:
        return FRAME_EPHEMERAL | FRAME_NEWEST_WINS
    return FRAME_EPHEMERAL

cdef inline void ephemeral_mark(frame_t* frame, uint64_t cid, uint64_t sender, uint64_t kind) noexcept nogil:
    frame.cid = cid
    frame.seq = sender
    frame.ephemeral_kind = <uint16_t>kind
    frame.flags = ephemeral_flags(kind)

cdef void ephemeral_to_peers(engine_t* e, uint64_t cid, uint64_t sender, const uint8_t* data, size_t n,
                             uint64_t shards) noexcept nogil:
    cdef link_ephemeral* record
    cdef uint8_t* at
    cdef int index
    while shards:
        index = engine_lowest_bit(shards)
        shards &= shards - 1
        # The bit of this shard itself has no link.
        if e.peers[index].ring_out == NULL:
            continue
        at = ring_reserve(e.peers[index].ring_out, sizeof(link_ephemeral) + n)
        if at == NULL:
            e.count[COUNT_PEER_FULL] += 1
            continue
        memset(at, 0, sizeof(link_ephemeral))
        record = <link_ephemeral*>at
        record.type = LINK_P_EPHEMERAL
        record.frame_bytes = <uint32_t>n
        record.cid = cid
        record.sender = sender
        memcpy(at + sizeof(link_ephemeral), data, n)
        ring_commit(e.peers[index].ring_out, sizeof(link_ephemeral) + n)

# The queues of all connections hold 80 % of what they may.
cdef inline bint shard_is_short(const engine_t* e) noexcept nogil:
    return e.queued_bytes * 5 > e.settings.queues_bytes_max * 4

# One typing frame per conversation and interval, none when the shard is short; more are dropped, not refused.
cdef bint typing_allowed(engine_t* e, subscription_t* entry) noexcept nogil:
    cdef uint32_t now_ms = <uint32_t>e.now_ms
    if shard_is_short(e) or now_ms - entry.typing_ms < e.settings.typing_interval_ms:
        e.count[COUNT_EPHEMERAL_DROPPED] += 1
        return False
    entry.typing_ms = now_ms
    return True

cdef void on_ephemeral(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef uint64_t cid = rd_varint(cur)
    cdef uint64_t sender = rd_varint(cur)
    cdef const uint8_t* rest = cur.p
    cdef size_t rest_bytes = rd_left(cur)
    cdef uint64_t kind = rd_varint(cur)
    cdef bint understood = rd_extensions(cur, 0) if flags & FLAG_EXT else True
    cdef subscription_t* entry
    cdef int fault
    if not rd_ok(cur):
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    e.count[COUNT_EPHEMERAL_IN] += 1
    entry = subscription_find(e, c, cid) if cid else NULL
    if sender or not understood or not ephemeral_is_known(kind):
        send_error(e, c, ERR_BAD_REQUEST if sender else ERR_UNSUPPORTED, OP_EPHEMERAL, cid, 0)
        return
    if rd_left(cur) > LIMIT_EPHEMERAL_PAYLOAD_BYTES_MAX:
        send_error(e, c, ERR_TOO_LARGE, OP_EPHEMERAL, cid, 0)
        return
    if entry == NULL:
        send_error(e, c, ERR_NOT_FOUND, OP_EPHEMERAL, cid, 0)
        return
    if kind == EPHEMERAL_TYPING and not typing_allowed(e, entry):
        return
    if kind == EPHEMERAL_TELEMETRY and flags & FLAG_EXT:
        fault = telemetry_take(e, c, flags, body, <size_t>(rest - body) + rest_bytes, rest, rd_left(cur))
        if fault:
            send_error(e, c, fault, OP_EPHEMERAL, cid, 0)
            return
    ephemeral_route(e, c, entry.topic_set, cid, flags, kind, rest, rest_bytes)

# To the followers here, alone or as part of a burst, and to the shards that have others.
cdef void ephemeral_route(engine_t* e, conn_t* c, uint32_t index, uint64_t cid, uint8_t flags, uint64_t kind,
                          const uint8_t* rest, size_t rest_bytes) noexcept nogil:
    cdef topic_set_t* topic_set = &e.subscriptions.sets[index]
    cdef size_t n = ephemeral_bytes(cid, c.user, rest_bytes)
    cdef frame_t* frame = NULL
    cdef uint8_t* data
    if n <= <size_t>BURST_BYTES_MAX and ephemeral_flags(kind) == FRAME_EPHEMERAL:
        data = burst_add(e, c, index, cid, kind, n)
    else:
        burst_flush(e)
        frame = frame_new(e, n)
        if frame == NULL:
            e.count[COUNT_EPHEMERAL_DROPPED] += 1
            return
        data = frame_data(frame)
    ephemeral_write(data, n, cid, c.user, flags, rest, rest_bytes)
    if topic_set.shards:
        ephemeral_to_peers(e, cid, c.user, data, n, topic_set.shards)
    if frame != NULL:
        ephemeral_mark(frame, cid, c.user, kind)
        frame.ephemeral_kind = telemetry_slot(kind, flags, rest, rest_bytes)
        ephemeral_fan_out(e, topic_set, frame, TOPIC_EPHEMERAL, c.slot)
        frame_release(e, frame)


# -- from other shards -------------------------------------------------------------------------------------------------

# False: not a record of this version.
cdef bint peer_record(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_ephemeral* record = <const link_ephemeral*>p
    cdef topic_set_t* topic_set
    cdef frame_t* frame
    cdef cur_t cur
    cdef const uint8_t* rest
    cdef uint64_t kind
    if n < sizeof(link_ephemeral) or record.type != LINK_P_EPHEMERAL:
        return False
    if record.frame_bytes != n - sizeof(link_ephemeral) or record.frame_bytes < FRAME_HEADER_BYTES:
        return False
    topic_set = topic_set_find(&e.subscriptions, record.cid)
    if topic_set == NULL or topic_set.count == 0:
        return True
    rd_init(&cur, p + sizeof(link_ephemeral) + FRAME_HEADER_BYTES, record.frame_bytes - FRAME_HEADER_BYTES)
    rd_varint(&cur)
    rd_varint(&cur)
    rest = cur.p
    kind = rd_varint(&cur)
    if not rd_ok(&cur):
        return False
    frame = frame_copy(e, p + sizeof(link_ephemeral), record.frame_bytes)
    if frame == NULL:
        e.count[COUNT_EPHEMERAL_DROPPED] += 1
        return True
    ephemeral_mark(frame, record.cid, record.sender, kind)
    frame.ephemeral_kind = telemetry_slot(kind, p[sizeof(link_ephemeral) + 3], rest, <size_t>(p + n - rest))
    ephemeral_fan_out(e, topic_set, frame, TOPIC_EPHEMERAL, <uint32_t>SLOT_NONE)
    frame_release(e, frame)
    return True

cdef enum:
    PEER_RECORDS_PER_TICK = 1024

cdef void peer_read(engine_t* e, peer_link_t* peer) noexcept nogil:
    cdef const uint8_t* p
    cdef size_t n
    cdef ring_status status = RING_EMPTY
    cdef int budget
    for budget in range(PEER_RECORDS_PER_TICK):
        status = ring_peek(peer.ring_in, &p, &n)
        if status == RING_RECORD and not peer_record(e, p, n):
            status = RING_CORRUPT
        if status != RING_RECORD:
            break
        e.found_work = True
        ring_release(peer.ring_in)
    if status == RING_CORRUPT or peer.ring_out.corrupt:
        e.count[COUNT_LINKS_CORRUPT] += 1
        peer.ring_in = peer.ring_out = NULL
        peer.lost = True
        e.links_lost += 1

cdef void peers_read(engine_t* e) noexcept nogil:
    cdef uint64_t index
    for index in range(PEERS_MAX):
        if e.peers[index].ring_in != NULL:
            peer_read(e, &e.peers[index])

cdef void peers_publish(engine_t* e) noexcept nogil:
    cdef uint64_t index
    for index in range(PEERS_MAX):
        if e.peers[index].ring_out != NULL:
            ring_publish(e.peers[index].ring_out)
