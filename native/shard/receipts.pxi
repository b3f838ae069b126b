# Positions: delivered and read, coalesced on their way to the hub.
#
# An ACK of 32 DELIVERs says 32 times "delivered", and the last one of each conversation is all that counts: positions
# are cumulative. They are merged per (user, conversation) here and handed over every position_interval_ms, which keeps
# the promise "durable within a second". Full table, full ring: they wait; what finds no place any more is forgotten
# and counted, and the client's next ACK or READ says it again.

cdef struct position_t:
    uint64_t user
    uint64_t cid
    uint64_t delivered_seq          # 0: unchanged
    uint64_t read_seq

cdef struct positions_t:
    position_t* entries
    uint32_t* index                 # hash of (user, cid) -> place in entries + 1; twice the room
    uint32_t room
    uint32_t count
    uint64_t due_ms                 # when the first of them must go; 0: the table is empty


cdef bint positions_init(positions_t* positions, uint64_t entries) noexcept nogil:
    positions.room = 64
    while positions.room < entries:
        positions.room *= 2
    positions.entries = <position_t*>calloc(positions.room, sizeof(position_t))
    positions.index = <uint32_t*>calloc(2 * <size_t>positions.room, sizeof(uint32_t))
    return positions.entries != NULL and positions.index != NULL

# Place of the index where (user, cid) stands or would stand.
cdef inline uint32_t position_slot(const positions_t* positions, uint64_t user, uint64_t cid) noexcept nogil:
    cdef uint32_t mask = 2 * positions.room - 1
    cdef uint32_t at = map_hash(cid ^ (user * <uint64_t>0xD6E8FEB86659FD93ULL)) & mask
    cdef const position_t* entry
    while positions.index[at]:
        entry = &positions.entries[positions.index[at] - 1]
        if entry.cid == cid and entry.user == user:
            break
        at = (at + 1) & mask
    return at

cdef void position_note(engine_t* e, uint64_t user, uint64_t cid, uint64_t delivered, uint64_t read) noexcept nogil:
    cdef positions_t* positions = &e.positions
    cdef uint32_t at = position_slot(positions, user, cid)
    cdef position_t* entry
    if positions.index[at] == 0:
        if positions.count == positions.room:
            e.count[COUNT_POSITIONS_DROPPED] += 1
            return
        entry = &positions.entries[positions.count]
        entry.user = user
        entry.cid = cid
        entry.delivered_seq = entry.read_seq = 0
        positions.count += 1
        positions.index[at] = positions.count
        if positions.due_ms == 0:
            positions.due_ms = e.now_ms + e.settings.position_interval_ms
    entry = &positions.entries[positions.index[at] - 1]
    if delivered > entry.delivered_seq:
        entry.delivered_seq = delivered
    if read > entry.read_seq:
        entry.read_seq = read

# Hand over all of them if they are due, or as many as the ring takes.
cdef void positions_pump(engine_t* e, ring_t* ring) noexcept nogil:
    cdef positions_t* positions = &e.positions
    cdef link_position record
    cdef uint8_t* at
    cdef uint32_t done = 0, index, at_slot
    if positions.due_ms == 0 or e.now_ms < positions.due_ms:
        return
    memset(&record, 0, sizeof(record))
    record.type = LINK_S_POSITION
    while done < positions.count:
        at = ring_reserve(ring, sizeof(link_position))
        if at == NULL:
            break
        record.user = positions.entries[done].user
        record.cid = positions.entries[done].cid
        record.delivered_seq = positions.entries[done].delivered_seq
        record.read_seq = positions.entries[done].read_seq
        memcpy(at, &record, sizeof(record))
        ring_commit(ring, sizeof(record))
        done += 1
    e.count[COUNT_POSITIONS] += done
    if done == 0:
        positions.due_ms = e.now_ms + 10
        return
    positions.count -= done
    if positions.count:
        memmove(positions.entries, positions.entries + done, positions.count * sizeof(position_t))
    memset(positions.index, 0, 2 * <size_t>positions.room * sizeof(uint32_t))
    for index in range(positions.count):
        at_slot = position_slot(positions, positions.entries[index].user, positions.entries[index].cid)
        positions.index[at_slot] = index + 1
    positions.due_ms = e.now_ms + 10 if positions.count else 0

cdef void positions_dispose(positions_t* positions) noexcept nogil:
    free(positions.entries)
    free(positions.index)
    positions.entries = NULL
    positions.index = NULL
