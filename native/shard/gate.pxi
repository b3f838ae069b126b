# Gate: head_pushed per active conversation.
#
# Every reader must see a conversation in seq order and nothing twice, whatever restarts and replays happen behind it.
# The journal position already rises along a link; this is the second lock, and the one that will order what several
# hubs commit. A record at or below the head that was pushed is dropped. One that skips is pushed: with one hub a gap
# means that nobody on this shard was entitled to what lies in between. Eight-way sets without chains: a conversation
# that is evicted and comes back is let through, as the position decides then.

cdef enum:
    GATE_WAYS = 8

cdef struct gate_entry_t:
    uint64_t cid
    uint64_t head_pushed

cdef struct gate_t:
    gate_entry_t* entries
    uint64_t sets                   # power of two
    uint32_t victim                 # round robin over the ways


cdef bint gate_init(gate_t* gate, uint64_t entries) noexcept nogil:
    gate.sets = 1
    while gate.sets * GATE_WAYS < entries:
        gate.sets *= 2
    gate.entries = <gate_entry_t*>calloc(gate.sets * GATE_WAYS, sizeof(gate_entry_t))
    return gate.entries != NULL

# True: push it, and remember. False: it was pushed before.
cdef bint gate_pass(gate_t* gate, uint64_t cid, uint64_t seq) noexcept nogil:
    cdef gate_entry_t* ways = &gate.entries[(map_hash(cid) & (gate.sets - 1)) * GATE_WAYS]
    cdef gate_entry_t* place = NULL
    cdef int way
    for way in range(GATE_WAYS):
        if ways[way].cid == cid:
            if seq <= ways[way].head_pushed:
                return False
            ways[way].head_pushed = seq
            return True
        if place == NULL and ways[way].cid == 0:
            place = &ways[way]
    if place == NULL:
        place = &ways[gate.victim & (GATE_WAYS - 1)]
        gate.victim += 1
    place.cid = cid
    place.head_pushed = seq
    return True

# A replaced hub may have lost what it never committed, but never changes what it did; a new log does: forget all.
cdef void gate_clear(gate_t* gate) noexcept nogil:
    memset(gate.entries, 0, gate.sets * GATE_WAYS * sizeof(gate_entry_t))
