# Poll: drain the rings of all shards, one record after the other, until there is no more or enough.
#
# Everything that C can settle is settled here without the GIL; what needs Python is collected and handed over together.
# Records with MessagePack or an op for Python end the walk for a moment, because their bytes live in the ring's scratch
# until the next record is taken.
# Sleep: a poll that found nothing for Python and staged nothing leaves every ring armed (ring.pxi, Dekker), so waiting
# on the epoll descriptor cannot miss a record; otherwise the caller comes back before it waits.

cdef enum hub_walk:
    WALK_EMPTY = 0                  # all rings were empty
    WALK_PYTHON = 1                 # h.taken is a record for Python
    WALK_ENOUGH = 2                 # a bound was reached: come back

cdef struct hub_taken_t:
    uint32_t shard
    const uint8_t* record
    size_t n

# Is the record as long as its type says? Bytes from another process are never believed.
cdef bint hub_record_fine(const uint8_t* record, size_t n) noexcept nogil:
    cdef uint8_t type
    cdef link_send send
    cdef link_call call
    cdef link_rpc rpc
    if n < sizeof(link_rpc):
        return False
    type = record[0]
    if type == LINK_S_SEND or type == LINK_S_SKIP:
        if n < sizeof(link_send):
            return False
        memcpy(&send, record, sizeof(send))
        return n - sizeof(link_send) == send.body_bytes
    if type == LINK_S_CALL:
        if n < sizeof(link_call):
            return False
        memcpy(&call, record, sizeof(call))
        return n - sizeof(link_call) == call.body_bytes
    if type == LINK_S_RPC:
        memcpy(&rpc, record, sizeof(rpc))
        return n - sizeof(link_rpc) == rpc.body_bytes
    if type == LINK_S_POSITION:
        return n == sizeof(link_position)
    if type == LINK_S_LOGIN:
        return n == sizeof(link_login)
    if type == LINK_S_CLOSED:
        return n == sizeof(link_closed)
    if type == LINK_S_MARK:
        return n == sizeof(link_mark)
    return (type == LINK_S_RECEIVED or type == LINK_S_READY) and n == sizeof(link_received)

# All sessions of the shard are known: from here on it gets what is committed, beginning after what it has routed.
cdef void hub_on_ready(hub_t* h, uint32_t shard) noexcept nogil:
    cdef hub_link_t* link = &h.links[shard]
    link.ready = True
    link.pushed_pos = link.received_pos
    if link.devices == NULL:
        link.pushed_pos = h.tail.committed_pos
    elif link.pushed_pos > h.tail.committed_pos:
        # It has seen what this journal does not have: only a restored store can do that.
        hub_say_lost(h, shard, h.tail.committed_pos)
        link.pushed_pos = h.tail.committed_pos
    hub_upcall(h, UP_ATTACHED, shard, link.received_pos, 0, 0, 0)

# True: the record is for Python.
cdef bint hub_take(hub_t* h, uint32_t shard, const uint8_t* record, size_t n) noexcept nogil:
    cdef link_closed closed
    cdef link_received received
    cdef link_mark mark
    cdef uint8_t type = record[0]
    if type == LINK_S_SEND or type == LINK_S_SKIP or type == LINK_S_LOGIN or type == LINK_S_POSITION:
        hub_run(h, shard, record, n, 0)
    elif type == LINK_S_CALL:
        if (<const link_call*>record).op != OP_SUBSCRIBE and (<const link_call*>record).op != OP_UNSUBSCRIBE:
            return True
        hub_run(h, shard, record, n, 0)
    elif type == LINK_S_CLOSED:
        memcpy(&closed, record, sizeof(closed))
        hub_on_closed(h, shard, &closed)
    elif type == LINK_S_RECEIVED:
        memcpy(&received, record, sizeof(received))
        h.links[shard].received_pos = received.pos
    elif type == LINK_S_READY:
        hub_on_ready(h, shard)
    elif type == LINK_S_MARK:
        memcpy(&mark, record, sizeof(mark))
        hub_hold_back(h, hub_device(h, mark.device), shard, mark.handle, mark.cid, mark.cseq)
    else:
        return True
    return False

cdef inline bint hub_batch_full(hub_t* h) noexcept nogil:
    return (tail_staged_count(&h.tail) >= h.settings.batch_records_max
            or h.tail.staged_bytes >= h.settings.batch_bytes_max)

# Take from one ring. A record that was handed to Python is released by the next call.
cdef hub_walk hub_walk_link(hub_t* h, uint32_t shard, hub_taken_t* taken) noexcept nogil:
    cdef hub_link_t* link = &h.links[shard]
    cdef const uint8_t* record
    cdef size_t n
    cdef ring_status status
    cdef int budget
    ring_release(link.ring_in)
    for budget in range(HUB_READ_MAX):
        if link.outbox_begin != link.outbox_end:
            return WALK_EMPTY
        if hub_batch_full(h) or h.upcall_count >= HUB_UPCALLS_MAX:
            return WALK_ENOUGH
        status = ring_peek(link.ring_in, &record, &n)
        if status == RING_EMPTY:
            return WALK_EMPTY
        if status == RING_CORRUPT or not hub_record_fine(record, n):
            hub_link_give_up(h, link)
            return WALK_EMPTY
        if hub_take(h, shard, record, n):
            taken.shard = shard
            taken.record = record
            taken.n = n
            return WALK_PYTHON
        ring_release(link.ring_in)
    return WALK_ENOUGH

# Take from all rings, fairly: each in turn up to its budget, beginning where the last walk stopped.
cdef hub_walk hub_walk_links(hub_t* h, uint32_t* shard, hub_taken_t* taken) noexcept nogil:
    cdef hub_walk walk, all_walks = WALK_EMPTY
    while shard[0] < h.settings.shards_max:
        if h.links[shard[0]].up and not h.links[shard[0]].lost:
            walk = hub_walk_link(h, shard[0], taken)
            if walk == WALK_PYTHON:
                return walk
            if walk == WALK_ENOUGH:
                all_walks = walk
        shard[0] += 1
    return all_walks

cdef void hub_disarm(hub_t* h) noexcept nogil:
    cdef uint32_t shard
    for shard in range(<uint32_t>h.settings.shards_max):
        if h.links[shard].armed:
            h.links[shard].armed = False
            ring_wake_clear(h.links[shard].ring_in)

# Announce sleep on every ring. False: a record has come meanwhile.
cdef bint hub_arm(hub_t* h) noexcept nogil:
    cdef uint32_t shard
    for shard in range(<uint32_t>h.settings.shards_max):
        if not h.links[shard].up or h.links[shard].lost or h.links[shard].outbox_begin != h.links[shard].outbox_end:
            continue
        if not ring_prepare_sleep(h.links[shard].ring_in):
            hub_disarm(h)
            return False
        h.links[shard].armed = True
    return True

cdef void hub_tick(hub_t* h) noexcept nogil:
    hub_cooling_tick(h)
    if h.logins != NULL:
        hub_logins_try(h)
    hub_links_flush(h)

# Milliseconds until something of ours is due, -1: nothing is.
cdef int64_t hub_timeout(hub_t* h) noexcept nogil:
    cdef int64_t least = hub_logins_timeout(h), left
    cdef uint32_t shard
    if h.upcall_count or tail_staged_count(&h.tail) or h.moved_count:
        return 0
    if h.cooling_count:
        left = <int64_t>(h.cooling[h.cooling_begin].due_ms - h.tick_ms)
        if least < 0 or left < least:
            least = left
    for shard in range(<uint32_t>h.settings.shards_max):
        if not h.links[shard].up or h.links[shard].lost:
            continue
        # A shard does not say when it has made room: look again soon.
        if h.links[shard].outbox_begin != h.links[shard].outbox_end or hub_is_behind(h, &h.links[shard]):
            return least if 0 <= least < 2 else 2
        # Records came whenever poll wanted to arm: waiting now could miss the next one.
        if not h.links[shard].armed:
            return 0
    return least


# -- for Python ------------------------------------------------------------------------------------------------------

cdef tuple HUB_UPCALL_NAMES = ("need_conversation", "need_user", "need_device", "need_idempotency", "need_judgement",
                               "need_read_count", "attached", "closed", "link_lost", "presence", "followed")

# The send that waits for a judgement: (device, cseq, user, cid, kind, has_ext, content). None: it waits no longer.
cdef tuple hub_judgement_tuple(hub_t* h, uint64_t device, uint64_t cseq):
    cdef hub_need_t* need = <hub_need_t*>hmap_get(&h.needs[<uint32_t>NEED_JUDGEMENT], device)
    cdef hub_send_t s
    if need == NULL or need.cseq != cseq:
        return None
    memcpy(&s.head, hub_parked_record(need.first), sizeof(link_send))
    s.body = hub_parked_record(need.first) + sizeof(link_send)
    hub_send_parse(&s)
    return ("need_judgement", device, cseq, s.head.user, s.cid, s.kind, s.has_ext, s.content[:s.content_bytes])

cdef tuple hub_upcall_tuple(hub_t* h, const hub_upcall_t* up):
    name = HUB_UPCALL_NAMES[up.kind]
    if up.kind == UP_NEED_CONVERSATION or up.kind == UP_NEED_USER or up.kind == UP_NEED_DEVICE:
        return (name, up.a)
    if up.kind == UP_NEED_IDEMPOTENCY:
        return (name, up.a, up.b)
    if up.kind == UP_NEED_JUDGEMENT:
        return hub_judgement_tuple(h, up.a, up.b)
    if up.kind == UP_NEED_READ_COUNT:
        return (name, up.a, up.b, up.c)
    if up.kind == UP_ATTACHED:
        return (name, up.shard, up.a)
    if up.kind == UP_FOLLOWED:
        return (name, up.shard, up.a, up.b, up.c)
    if up.kind == UP_PRESENCE:
        return (name, up.a, bool(up.b))
    if up.kind == UP_CLOSED:
        return (name, up.shard, up.a, up.b, up.c, up.d)
    return (name, up.shard)

cdef tuple hub_taken_tuple(const hub_taken_t* taken):
    cdef link_call call
    cdef link_rpc rpc
    if taken.record[0] == LINK_S_RPC:
        memcpy(&rpc, taken.record, sizeof(rpc))
        return ("rpc", taken.shard, rpc.call, taken.record[sizeof(rpc):taken.n])
    memcpy(&call, taken.record, sizeof(call))
    return ("call", taken.shard, call.handle, call.user, call.device, call.op, call.flags, call.window_frames,
            call.window_bytes, call.frame_bytes_max, call.features, taken.record[sizeof(call):taken.n])
