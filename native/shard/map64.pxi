# Map from a 64-bit key to a 32-bit index.
#
# Open addressing with linear probing: one cache line answers most look-ups, and a removal moves the followers back
# instead of leaving a mark, so a map that lives for months does not silt up. Key 0 marks an empty place; callers have
# no such key. It grows by doubling at three quarters, from the pool; a put that finds no memory says so.

cdef enum:
    MAP_NONE = 0xFFFFFFFF
    MAP_ROOM_MIN = 64

cdef struct map_place_t:
    uint64_t key
    uint32_t value
    uint32_t _unused

cdef struct map64_t:
    map_place_t* places
    uint32_t room                   # power of two, 0 before the first put
    uint32_t count                  # invariant: 4 * count <= 3 * room


cdef inline uint32_t map_hash(uint64_t key) noexcept nogil:
    key ^= key >> 32
    key *= <uint64_t>0x9E3779B97F4A7C15ULL
    return <uint32_t>(key >> 32)

cdef inline uint32_t map64_find(const map64_t* m, uint64_t key) noexcept nogil:
    cdef uint32_t at
    if m.room == 0:
        return <uint32_t>MAP_NONE
    at = map_hash(key) & (m.room - 1)
    while m.places[at].key != 0:
        if m.places[at].key == key:
            return at
        at = (at + 1) & (m.room - 1)
    return <uint32_t>MAP_NONE

cdef inline uint32_t map64_get(const map64_t* m, uint64_t key) noexcept nogil:
    cdef uint32_t at = map64_find(m, key)
    return m.places[at].value if at != <uint32_t>MAP_NONE else <uint32_t>MAP_NONE

cdef void map64_place(map64_t* m, uint64_t key, uint32_t value) noexcept nogil:
    cdef uint32_t at = map_hash(key) & (m.room - 1)
    while m.places[at].key != 0 and m.places[at].key != key:
        at = (at + 1) & (m.room - 1)
    if m.places[at].key == 0:
        m.count += 1
    m.places[at].key = key
    m.places[at].value = value

cdef bint map64_grow(map64_t* m, pool_t* pool) noexcept nogil:
    cdef map64_t larger
    cdef uint32_t at
    larger.room = m.room * 2 if m.room else MAP_ROOM_MIN
    larger.count = 0
    larger.places = <map_place_t*>pool_alloc_zeroed(pool, larger.room * sizeof(map_place_t))
    if larger.places == NULL:
        return False
    for at in range(m.room):
        if m.places[at].key != 0:
            map64_place(&larger, m.places[at].key, m.places[at].value)
    pool_drop(pool, m.places, m.room * sizeof(map_place_t))
    m[0] = larger
    return True

# Insert or replace. False: no memory, nothing changed.
cdef bint map64_put(map64_t* m, pool_t* pool, uint64_t key, uint32_t value) noexcept nogil:
    chatd_assert(key != 0)
    if 4 * (<uint64_t>m.count + 1) > 3 * <uint64_t>m.room and not map64_grow(m, pool):
        return False
    map64_place(m, key, value)
    return True

cdef void map64_remove(map64_t* m, uint64_t key) noexcept nogil:
    cdef uint32_t hole = map64_find(m, key)
    cdef uint32_t at, home
    if hole == <uint32_t>MAP_NONE:
        return
    m.count -= 1
    at = hole
    while True:
        at = (at + 1) & (m.room - 1)
        if m.places[at].key == 0:
            break
        home = map_hash(m.places[at].key) & (m.room - 1)
        # The follower may move back unless its home lies behind the hole, cyclically.
        if ((at - home) & (m.room - 1)) >= ((at - hole) & (m.room - 1)):
            m.places[hole] = m.places[at]
            hole = at
    m.places[hole].key = 0

cdef void map64_dispose(map64_t* m, pool_t* pool) noexcept nogil:
    pool_free(pool, m.places, m.room * sizeof(map_place_t))
    m.places = NULL
    m.room = m.count = 0
