# Links: writing control records, which must neither be lost nor wait for the shard.
#
# Answers, frames, logins, kicks go into the ring while there is room, reserve included, and into the link's outbox when
# there is none. The outbox keeps the order: while it holds anything, everything goes behind it, and committed events
# wait too. A link whose outbox holds something is not read either: what a shard asks for faster than it reads the
# answers stops in its own ring, and so the outbox is bounded by the answers of one batch and by what other shards
# cause. Over outbox_bytes_max the link is given up: its shard is stuck, and the supervisor replaces it.

cdef struct hub_room_t:
    hub_link_t* link
    uint8_t* at
    size_t n
    bint in_ring


# Room for one control record of n bytes. NULL: no such link, or it is lost.
cdef uint8_t* hub_control(hub_t* h, uint32_t shard, size_t n, hub_room_t* room) noexcept nogil:
    cdef hub_link_t* link
    if shard >= HUB_SHARDS_MAX:
        return NULL
    link = &h.links[shard]
    if not link.up or link.lost:
        return NULL
    room.link = link
    room.n = n
    room.in_ring = False
    if link.outbox_begin == link.outbox_end:
        room.at = ring_reserve(link.ring_out, n)
        if room.at != NULL:
            room.in_ring = True
            return room.at
    room.at = hub_outbox_room(h, link, n)
    if room.at == NULL:
        hub_link_give_up(h, link)
    return room.at

cdef void hub_control_done(hub_room_t* room) noexcept nogil:
    cdef uint32_t n = <uint32_t>room.n
    if room.in_ring:
        ring_commit(room.link.ring_out, room.n)
        room.link.unpublished = True
    else:
        memcpy(room.at - 4, &n, 4)
        room.link.outbox_end += 4 + room.n

cdef uint8_t* hub_outbox_room(hub_t* h, hub_link_t* link, size_t n) noexcept nogil:
    cdef size_t used = link.outbox_end - link.outbox_begin
    cdef size_t room
    cdef uint8_t* larger
    if n > link.ring_out.record_bytes_max or used + 4 + n > h.settings.outbox_bytes_max:
        return NULL
    if link.outbox_end + 4 + n > link.outbox_room:
        room = link.outbox_room if link.outbox_room else 4096
        while room < used + 4 + n:
            room *= 2
        larger = <uint8_t*>malloc(room)
        if larger == NULL:
            return NULL
        if used:
            memcpy(larger, link.outbox + link.outbox_begin, used)
        free(link.outbox)
        link.outbox = larger
        link.outbox_room = room
        link.outbox_begin = 0
        link.outbox_end = used
    return link.outbox + link.outbox_end + 4

# What waited goes into the ring as far as there is room. An empty outbox owns no memory.
cdef void hub_outbox_flush(hub_link_t* link) noexcept nogil:
    cdef uint32_t n
    cdef uint8_t* at
    while link.outbox_begin < link.outbox_end:
        memcpy(&n, link.outbox + link.outbox_begin, 4)
        at = ring_reserve(link.ring_out, n)
        if at == NULL:
            return
        memcpy(at, link.outbox + link.outbox_begin + 4, n)
        ring_commit(link.ring_out, n)
        link.unpublished = True
        link.outbox_begin += 4 + n
    if link.outbox != NULL:
        free(link.outbox)
        link.outbox = NULL
        link.outbox_begin = link.outbox_end = link.outbox_room = 0

cdef void hub_link_give_up(hub_t* h, hub_link_t* link) noexcept nogil:
    if not link.lost:
        link.lost = True
        h.count.links_lost += 1
        hub_upcall(h, UP_LINK_LOST, <uint32_t>(link - &h.links[0]), 0, 0, 0, 0)

cdef void hub_links_publish(hub_t* h) noexcept nogil:
    cdef uint32_t shard
    for shard in range(<uint32_t>h.settings.shards_max):
        if h.links[shard].up and h.links[shard].unpublished:
            h.links[shard].unpublished = False
            ring_publish(h.links[shard].ring_out)

# Bytes of a ring that committed events leave free: small rings of tests keep a quarter.
cdef inline uint64_t hub_ring_reserve(hub_t* h, const hub_link_t* link) noexcept nogil:
    cdef uint64_t quarter = link.ring_out.capacity >> 2
    return h.settings.ring_reserve_bytes if h.settings.ring_reserve_bytes < quarter else quarter


# -- control records ---------------------------------------------------------------------------------------------------

cdef bint hub_say_frames(hub_t* h, uint32_t shard, uint64_t handle, const uint8_t* frames, size_t n,
                         bint done) noexcept nogil:
    cdef hub_room_t room
    cdef link_frames* record = <link_frames*>hub_control(h, shard, sizeof(link_frames) + n, &room)
    if record == NULL:
        return False
    memset(record, 0, sizeof(link_frames))
    record.type = LINK_H_FRAMES
    record.flags = LINK_FRAMES_DONE if done else 0
    record.frames_bytes = <uint32_t>n
    record.handle = handle
    if n:
        memcpy(<uint8_t*>record + sizeof(link_frames), frames, n)
    hub_control_done(&room)
    return True

cdef bint hub_say_rpc(hub_t* h, uint32_t shard, uint64_t call, const uint8_t* payload, size_t n) noexcept nogil:
    cdef hub_room_t room
    cdef link_rpc* record = <link_rpc*>hub_control(h, shard, sizeof(link_rpc) + n, &room)
    if record == NULL:
        return False
    memset(record, 0, sizeof(link_rpc))
    record.type = LINK_H_RPC
    record.body_bytes = <uint32_t>n
    record.call = call
    if n:
        memcpy(<uint8_t*>record + sizeof(link_rpc), payload, n)
    hub_control_done(&room)
    return True

cdef void hub_say_kick(hub_t* h, uint32_t shard, uint64_t handle, uint16_t reason) noexcept nogil:
    cdef hub_room_t room
    cdef link_kick* record = <link_kick*>hub_control(h, shard, sizeof(link_kick), &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_kick))
    record.type = LINK_H_KICK
    record.reason = reason
    record.handle = handle
    hub_control_done(&room)

cdef void hub_say_lost(hub_t* h, uint32_t shard, uint64_t pos) noexcept nogil:
    cdef hub_room_t room
    cdef link_received* record = <link_received*>hub_control(h, shard, sizeof(link_received), &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_received))
    record.type = LINK_H_LOST
    record.pos = pos
    hub_control_done(&room)
    h.count.lost_events += 1

# One SEND_ACK or SEND_NAK frame for a token.
cdef void hub_say_answer(hub_t* h, uint32_t shard, uint64_t handle, uint64_t token, const uint8_t* frame,
                         size_t n) noexcept nogil:
    cdef hub_room_t room
    cdef link_answer* record = <link_answer*>hub_control(h, shard, sizeof(link_answer) + n, &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_answer))
    record.type = LINK_H_ANSWER
    record.frame_bytes = <uint32_t>n
    record.handle = handle
    record.token = token
    memcpy(<uint8_t*>record + sizeof(link_answer), frame, n)
    hub_control_done(&room)


# -- small frames ------------------------------------------------------------------------------------------------------

# Write the header in front of a body that has been written behind it. Returns the size of the frame, 0 when it is bad.
cdef inline size_t hub_frame_end(uint8_t* frame, out_t* o, uint8_t op, uint8_t flags) noexcept nogil:
    cdef size_t body
    if not wr_ok(o):
        return 0
    body = <size_t>(o.p - frame) - FRAME_HEADER_BYTES
    if body > FRAME_BODY_BYTES_MAX:
        return 0
    frame[0] = <uint8_t>(body >> 8)
    frame[1] = <uint8_t>(body & 0xFF)
    frame[2] = op
    frame[3] = flags
    return FRAME_HEADER_BYTES + body

cdef inline void hub_frame_begin(uint8_t* frame, size_t room, out_t* o) noexcept nogil:
    wr_init(o, frame + FRAME_HEADER_BYTES, room - FRAME_HEADER_BYTES)

# Milliseconds since 2025 in five bytes; a clock before that reads as the beginning.
# A clock outside of what five bytes can say reads as the nearest time.
cdef inline void hub_wr_time40(out_t* o, uint64_t unix_ms) noexcept nogil:
    cdef uint64_t ms = unix_ms - WIRE_TIME_EPOCH_MS if unix_ms > WIRE_TIME_EPOCH_MS else 0
    if ms >> 40:
        ms = (<uint64_t>1 << 40) - 1
    wr_u8(o, <uint8_t>(ms >> 32))
    wr_u32be(o, <uint32_t>ms)

cdef bint hub_is_retryable(uint32_t code) noexcept nogil:
    return code < WIRE_ERRORS_SIZE and wire_errors[code].retryable != 0

cdef size_t hub_frame_error(uint8_t* frame, size_t room, uint16_t code, uint8_t op, uint64_t ref,
                            uint64_t retry_after_ms) noexcept nogil:
    cdef out_t o
    hub_frame_begin(frame, room, &o)
    wr_u16be(&o, code)
    wr_u8(&o, op)
    wr_varint(&o, ref)
    wr_varint(&o, retry_after_ms)
    wr_varint(&o, 0)
    return hub_frame_end(frame, &o, OP_ERROR, FLAG_ERROR_RETRYABLE if hub_is_retryable(code) else 0)
