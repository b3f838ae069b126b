# In-flight table: SENDs and SKIPs that have no answer yet.
#
# "No answer" must mean "unknown" to a client as rarely as possible, so what was handed to a hub that died is kept with
# its bytes and replayed to the next one, in the original order; the hub's idempotency makes that harmless. One chain
# in order of arrival runs through all entries; those behind `first_waiting` were never handed to any hub (no room, no
# hub) and may still be refused. A token names an entry and its generation: the answer to an entry that is gone is
# dropped. When a connection ends, its entries go with it: nobody is left to answer, and the client's retry carries the
# same cseq. Full table: NAK BUSY. Price: the bytes of every unanswered SEND, up to pending_bytes_max.

cdef enum:
    INFLIGHT_NONE = 0xFFFFFFFF

cdef struct inflight_t:
    uint64_t handle                 # 0: free, chained through next
    uint64_t cseq
    uint64_t cid                    # 0 for SKIP
    uint64_t arrived_ms
    uint8_t* body
    uint32_t body_bytes
    uint32_t generation
    uint32_t next                   # in order of arrival
    uint32_t previous
    uint32_t conn_next              # of the same connection
    uint32_t conn_previous
    uint8_t op
    uint8_t flags
    uint8_t handed                  # to some hub, at least once
    uint8_t told                    # that there was no hub to answer it

cdef struct inflight_table_t:
    inflight_t* entries
    uint32_t room
    uint32_t used                   # high-water mark
    uint32_t free_first
    uint32_t count
    uint32_t first
    uint32_t last
    uint32_t first_waiting          # oldest that the current link has not got yet
    uint64_t body_bytes


cdef bint inflight_init(inflight_table_t* table, uint64_t entries) noexcept nogil:
    table.entries = <inflight_t*>calloc(entries + 1, sizeof(inflight_t))
    table.room = <uint32_t>entries
    table.free_first = table.first = table.last = table.first_waiting = <uint32_t>INFLIGHT_NONE
    return table.entries != NULL

cdef inline uint64_t inflight_token(const inflight_table_t* table, uint32_t index) noexcept nogil:
    return <uint64_t>index | (<uint64_t>table.entries[index].generation << 32)

# The entry a token names, or INFLIGHT_NONE.
cdef inline uint32_t inflight_find(const inflight_table_t* table, uint64_t token) noexcept nogil:
    cdef uint32_t index = <uint32_t>token
    if index >= table.used or table.entries[index].handle == 0 \
            or table.entries[index].generation != <uint32_t>(token >> 32):
        return <uint32_t>INFLIGHT_NONE
    return index

# A new entry at the end, waiting. INFLIGHT_NONE: the table, its bytes or the memory is full.
cdef uint32_t inflight_put(engine_t* e, conn_t* c, uint8_t op, uint8_t flags, const uint8_t* body, size_t n,
                           uint64_t cseq, uint64_t cid) noexcept nogil:
    cdef inflight_table_t* table = &e.inflight
    cdef inflight_t* entry
    cdef uint8_t* copy
    cdef uint32_t index = table.free_first
    if table.count >= table.room or table.body_bytes + n > e.settings.pending_bytes_max:
        return <uint32_t>INFLIGHT_NONE
    copy = <uint8_t*>pool_alloc(&e.pool, n)
    if copy == NULL:
        return <uint32_t>INFLIGHT_NONE
    memcpy(copy, body, n)
    if index != <uint32_t>INFLIGHT_NONE:
        table.free_first = table.entries[index].next
    else:
        index = table.used
        table.used += 1
    entry = &table.entries[index]
    entry.generation += 1
    entry.handle = conn_handle(c)
    entry.cseq = cseq
    entry.cid = cid
    entry.arrived_ms = e.now_ms
    entry.body = copy
    entry.body_bytes = <uint32_t>n
    entry.op = op
    entry.flags = flags
    entry.handed = entry.told = 0
    entry.next = entry.conn_next = <uint32_t>INFLIGHT_NONE
    entry.previous = table.last
    if table.last != <uint32_t>INFLIGHT_NONE:
        table.entries[table.last].next = index
    else:
        table.first = index
    table.last = index
    if table.first_waiting == <uint32_t>INFLIGHT_NONE:
        table.first_waiting = index
    entry.conn_previous = c.inflight_last
    if c.inflight_last != <uint32_t>INFLIGHT_NONE:
        table.entries[c.inflight_last].conn_next = index
    else:
        c.inflight_first = index
    c.inflight_last = index
    c.sends_in_flight += 1
    table.count += 1
    table.body_bytes += n
    return index

# c: the connection of the entry, which still exists.
cdef void inflight_remove(engine_t* e, conn_t* c, uint32_t index) noexcept nogil:
    cdef inflight_table_t* table = &e.inflight
    cdef inflight_t* entry = &table.entries[index]
    chatd_require(entry.handle == conn_handle(c) and c.sends_in_flight > 0)
    if table.first_waiting == index:
        table.first_waiting = entry.next
    if entry.previous != <uint32_t>INFLIGHT_NONE:
        table.entries[entry.previous].next = entry.next
    else:
        table.first = entry.next
    if entry.next != <uint32_t>INFLIGHT_NONE:
        table.entries[entry.next].previous = entry.previous
    else:
        table.last = entry.previous
    if entry.conn_previous != <uint32_t>INFLIGHT_NONE:
        table.entries[entry.conn_previous].conn_next = entry.conn_next
    else:
        c.inflight_first = entry.conn_next
    if entry.conn_next != <uint32_t>INFLIGHT_NONE:
        table.entries[entry.conn_next].conn_previous = entry.conn_previous
    else:
        c.inflight_last = entry.conn_previous
    table.count -= 1
    table.body_bytes -= entry.body_bytes
    c.sends_in_flight -= 1
    pool_free(&e.pool, entry.body, entry.body_bytes)
    entry.body = NULL
    entry.handle = 0
    entry.next = table.free_first
    table.free_first = index

cdef void inflight_drop(engine_t* e, conn_t* c) noexcept nogil:
    while c.inflight_first != <uint32_t>INFLIGHT_NONE:
        inflight_remove(e, c, c.inflight_first)

# Write the entry into the hub's ring. False: no room.
cdef bint inflight_hand(engine_t* e, ring_t* ring, inflight_t* entry, uint64_t token) noexcept nogil:
    cdef conn_t* c = slab_find(&e.slab, entry.handle)
    cdef link_send* record
    cdef uint8_t* at
    chatd_require(c != NULL)
    at = ring_reserve(ring, sizeof(link_send) + entry.body_bytes)
    if at == NULL:
        return False
    memset(at, 0, sizeof(link_send))
    record = <link_send*>at
    record.type = <uint8_t>(LINK_S_SEND if entry.op == OP_SEND else LINK_S_SKIP)
    record.flags = entry.flags
    record.body_bytes = entry.body_bytes
    record.handle = entry.handle
    record.token = token
    record.user = c.user
    record.device = c.device
    record.session_epoch = c.session_epoch
    memcpy(at + sizeof(link_send), entry.body, entry.body_bytes)
    ring_commit(ring, sizeof(link_send) + entry.body_bytes)
    if entry.handed:
        e.count[COUNT_SENDS_REPLAYED] += 1
    entry.handed = 1
    return True

# Hand over what waits, oldest first, as far as the ring has room.
cdef void inflight_pump(engine_t* e, ring_t* ring) noexcept nogil:
    cdef inflight_table_t* table = &e.inflight
    cdef uint32_t index = table.first_waiting
    while index != <uint32_t>INFLIGHT_NONE:
        if not inflight_hand(e, ring, &table.entries[index], inflight_token(table, index)):
            break
        index = table.entries[index].next
    table.first_waiting = index

# A fresh link has got nothing yet: all of it goes again.
cdef void inflight_rewind(inflight_table_t* table) noexcept nogil:
    table.first_waiting = table.first

# The oldest entry whose client has to hear something when its time is over. Entries were handed over in order, so what
# no hub has had lies behind the others; without a hub all of them wait again.
cdef uint32_t inflight_patient(engine_t* e) noexcept nogil:
    cdef inflight_table_t* table = &e.inflight
    cdef bint has_hub = e.hub.ring_out != NULL
    cdef uint32_t index = table.first_waiting
    while index != <uint32_t>INFLIGHT_NONE and table.entries[index].handed and (has_hub or table.entries[index].told):
        index = table.entries[index].next
    return index

cdef inline uint64_t inflight_wait_ms(const engine_t* e) noexcept nogil:
    return e.settings.pending_wait_ms if e.hub.ring_out != NULL else e.settings.hubless_wait_ms

# What a hub had that is gone may be stored: to refuse it would say that it is not.
cdef uint32_t inflight_tell(engine_t* e, uint32_t index) noexcept nogil:
    cdef inflight_t* entry
    cdef conn_t* c
    while index != <uint32_t>INFLIGHT_NONE:
        entry = &e.inflight.entries[index]
        if not entry.handed or e.now_ms - entry.arrived_ms < inflight_wait_ms(e):
            break
        c = slab_find(&e.slab, entry.handle)
        chatd_require(c != NULL)
        entry.told = 1
        send_error(e, c, ERR_UNAVAILABLE, entry.op, entry.cseq, retry_after_default_ms(ERR_UNAVAILABLE))
        index = entry.next
    return index

# Refuse what has waited too long without ever having been handed over. Everything of that connection which waits goes
# with it: a later SEND must not overtake a refused one.
cdef void inflight_expire(engine_t* e) noexcept nogil:
    cdef inflight_table_t* table = &e.inflight
    cdef bint has_hub = e.hub.ring_out != NULL
    cdef uint32_t index = inflight_patient(e)
    cdef conn_t* c
    if not has_hub:
        index = inflight_tell(e, index)
    while index != <uint32_t>INFLIGHT_NONE and e.now_ms - table.entries[index].arrived_ms >= inflight_wait_ms(e):
        c = slab_find(&e.slab, table.entries[index].handle)
        chatd_require(c != NULL)
        inflight_refuse_waiting(e, c, ERR_BUSY if has_hub else ERR_UNAVAILABLE)
        index = inflight_patient(e)

cdef void inflight_refuse_waiting(engine_t* e, conn_t* c, int code) noexcept nogil:
    cdef inflight_table_t* table = &e.inflight
    cdef uint32_t index = c.inflight_first
    cdef uint32_t following
    cdef inflight_t* entry
    while index != <uint32_t>INFLIGHT_NONE:
        entry = &table.entries[index]
        following = entry.conn_next
        if not entry.handed:
            refuse_send(e, c, entry.cseq, entry.cid, code, 0)
            inflight_remove(e, c, index)
        index = following
    conn_unthrottle(e, c)

# When the next client must hear something; 0: none waits.
cdef uint64_t inflight_deadline_ms(engine_t* e) noexcept nogil:
    cdef uint32_t index = inflight_patient(e)
    if index == <uint32_t>INFLIGHT_NONE:
        return 0
    return e.inflight.entries[index].arrived_ms + inflight_wait_ms(e)

cdef void inflight_dispose(engine_t* e) noexcept nogil:
    cdef uint32_t index
    for index in range(e.inflight.used):
        if e.inflight.entries[index].handle:
            pool_free(&e.pool, e.inflight.entries[index].body, e.inflight.entries[index].body_bytes)
    free(e.inflight.entries)
