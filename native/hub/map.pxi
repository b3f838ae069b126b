# Map from a 64-bit id to an entry of a table of the hub.
#
# Open addressing with linear probing: one cache line answers most look-ups, and a removal moves the followers back
# instead of leaving a mark, so a map that lives for months does not silt up. Key 0 marks an empty place; ids start at
# 1. Entries are blocks of their own, so that pointers to them stay good while the map grows.

from libc.stdlib cimport calloc, realloc
from libc.string cimport memmove

cdef struct hmap_place_t:
    uint64_t key
    void* entry

cdef struct hmap_t:
    hmap_place_t* places
    uint64_t room                   # power of two, 0 before the first put
    uint64_t count                  # invariant: 4 * count <= 3 * room


cdef inline uint64_t hmap_home(const hmap_t* m, uint64_t key) noexcept nogil:
    key ^= key >> 32
    key *= <uint64_t>0x9E3779B97F4A7C15ULL
    return (key >> 32) & (m.room - 1)

cdef inline void* hmap_get(const hmap_t* m, uint64_t key) noexcept nogil:
    cdef uint64_t at
    if m.room == 0 or key == 0:
        return NULL
    at = hmap_home(m, key)
    while m.places[at].key != 0:
        if m.places[at].key == key:
            return m.places[at].entry
        at = (at + 1) & (m.room - 1)
    return NULL

cdef void hmap_place(hmap_t* m, uint64_t key, void* entry) noexcept nogil:
    cdef uint64_t at = hmap_home(m, key)
    while m.places[at].key != 0:
        chatd_assert(m.places[at].key != key)
        at = (at + 1) & (m.room - 1)
    m.places[at].key = key
    m.places[at].entry = entry

# Insert a key that is not there. False: no memory, nothing changed.
cdef bint hmap_put(hmap_t* m, uint64_t key, void* entry) noexcept nogil:
    cdef hmap_t larger
    cdef uint64_t at
    chatd_assert(key != 0)
    if 4 * (m.count + 1) > 3 * m.room:
        larger.room = m.room * 2 if m.room else 64
        larger.count = m.count
        larger.places = <hmap_place_t*>calloc(larger.room, sizeof(hmap_place_t))
        if larger.places == NULL:
            return False
        for at in range(m.room):
            if m.places[at].key != 0:
                hmap_place(&larger, m.places[at].key, m.places[at].entry)
        free(m.places)
        m[0] = larger
    hmap_place(m, key, entry)
    m.count += 1
    return True

cdef void hmap_remove(hmap_t* m, uint64_t key) noexcept nogil:
    cdef uint64_t hole, at, home
    if m.room == 0:
        return
    hole = hmap_home(m, key)
    while m.places[hole].key != key:
        if m.places[hole].key == 0:
            return
        hole = (hole + 1) & (m.room - 1)
    m.count -= 1
    at = hole
    while True:
        at = (at + 1) & (m.room - 1)
        if m.places[at].key == 0:
            break
        home = hmap_home(m, m.places[at].key)
        # The follower may move back unless its home lies behind the hole, cyclically.
        if ((at - home) & (m.room - 1)) >= ((at - hole) & (m.room - 1)):
            m.places[hole] = m.places[at]
            hole = at
    m.places[hole].key = 0
    m.places[hole].entry = NULL

cdef void hmap_dispose(hmap_t* m) noexcept nogil:
    free(m.places)
    memset(m, 0, sizeof(hmap_t))

# Room for one more item in a growing array: doubles. NULL: no memory, the array is as before.
cdef void* hub_grown(void* items, uint32_t count, uint32_t* room, size_t item_bytes) noexcept nogil:
    cdef uint32_t larger
    cdef void* moved
    if count < room[0]:
        return items
    # Most conversations have two members and most users one device: the first step is small.
    larger = room[0] * 2 if room[0] else 2
    while larger <= count:
        larger *= 2
    moved = realloc(items, larger * item_bytes)
    if moved != NULL:
        room[0] = larger
    return moved
