# Pool: where every block of the engine comes from.
#
# A frame lives for microseconds and there are a million of them a second, so malloc and free would be the hot path.
# Blocks are powers of two from 32 bytes; a freed block goes onto the list of its class, the next one of that class
# comes from there. Everything handed out is counted: used_bytes has a bound, and what would pass it is refused with
# NULL, as is what malloc refuses. The caller then closes one connection or refuses one frame, never the process.
# Price: up to half of a block is lost to rounding, and each class keeps up to POOL_CACHED_BYTES_MAX that are not in
# use. Debug builds keep nothing, so that sanitizers see every free.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, realloc

cdef extern from * nogil:
    """
    static inline int chatd_bits(size_t n) { return n ? (int)(8 * sizeof(size_t)) - __builtin_clzl(n) : 0; }
    static inline void chatd_prefetch(const void *p) { __builtin_prefetch(p, 1, 3); }
    """
    int chatd_bits(size_t n) noexcept
    void chatd_prefetch(const void* p) noexcept

cdef enum:
    POOL_SMALLEST_BITS = 5                  # 32 bytes
    POOL_CLASSES = 14                       # up to 256 KiB; larger blocks go straight to malloc
    POOL_CACHED_BYTES_MAX = 4 << 20         # per class: what 32,000 frames in flight of 128 bytes need

cdef struct pool_block_t:
    pool_block_t* next

cdef struct pool_t:
    pool_block_t* unused[POOL_CLASSES]
    size_t cached_bytes[POOL_CLASSES]
    uint64_t used_bytes                     # handed out; invariant: <= used_bytes_max
    uint64_t used_bytes_max


cdef inline int pool_class(size_t n) noexcept nogil:
    if n <= (1 << POOL_SMALLEST_BITS):
        return 0
    return chatd_bits(n - 1) - POOL_SMALLEST_BITS

# How many bytes a block of n bytes really has.
cdef inline size_t pool_room(size_t n) noexcept nogil:
    cdef int index = pool_class(n)
    if index >= POOL_CLASSES:
        return n
    return <size_t>1 << (index + POOL_SMALLEST_BITS)

cdef inline void* pool_alloc(pool_t* pool, size_t n) noexcept nogil:
    cdef int index = pool_class(n)
    cdef size_t room = pool_room(n)
    cdef pool_block_t* block
    if pool.used_bytes + room > pool.used_bytes_max:
        return NULL
    if index < POOL_CLASSES and pool.unused[index] != NULL:
        block = pool.unused[index]
        pool.unused[index] = block.next
        pool.cached_bytes[index] -= room
    else:
        block = <pool_block_t*>malloc(room)
        if block == NULL:
            return NULL
    pool.used_bytes += room
    return block

cdef inline void* pool_alloc_zeroed(pool_t* pool, size_t n) noexcept nogil:
    cdef void* block = pool_alloc(pool, n)
    if block != NULL:
        memset(block, 0, n)
    return block

# n: the size it was allocated with. NULL is fine.
cdef inline void pool_free(pool_t* pool, void* p, size_t n) noexcept nogil:
    cdef int index = pool_class(n)
    cdef size_t room = pool_room(n)
    cdef pool_block_t* block = <pool_block_t*>p
    if p == NULL:
        return
    chatd_assert(pool.used_bytes >= room)
    pool.used_bytes -= room
    if CHATD_IS_DEBUG or index >= POOL_CLASSES or pool.cached_bytes[index] + room > POOL_CACHED_BYTES_MAX:
        free(p)
        return
    block.next = pool.unused[index]
    pool.unused[index] = block
    pool.cached_bytes[index] += room

# The block with room for n bytes instead of n_before; NULL: no memory, the old one stays. What a table leaves behind
# goes back to malloc and not into a list of blocks: it is as large as all the table, and nobody needs its like again.
cdef void* pool_resize(pool_t* pool, void* p, size_t n_before, size_t n) noexcept nogil:
    cdef size_t before = pool_room(n_before) if p != NULL else 0
    cdef size_t room = pool_room(n)
    cdef void* block
    if pool.used_bytes - before + room > pool.used_bytes_max:
        return NULL
    block = realloc(p, room)
    if block != NULL:
        pool.used_bytes += room - before
    return block

cdef void pool_drop(pool_t* pool, void* p, size_t n) noexcept nogil:
    if p != NULL:
        pool.used_bytes -= pool_room(n)
        free(p)

cdef void pool_dispose(pool_t* pool) noexcept nogil:
    cdef int index
    cdef pool_block_t* block
    for index in range(POOL_CLASSES):
        while pool.unused[index] != NULL:
            block = pool.unused[index]
            pool.unused[index] = block.next
            free(block)
        pool.cached_bytes[index] = 0
