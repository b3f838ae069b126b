# Ring: how two processes pass records.
#
# One writer, one reader, one memfd, no locks: a process killed at any instruction must not be able to block or mislead
# the other one. The memfd is sealed against resizing, or a peer could truncate it and kill us with SIGBUS.
#   header page   what it is (written once), then one cache line each for head, tail and the reader's sleep flag
#   data          records, 8-byte aligned: u32 payload length | u32 check | payload | padding
# head and tail count bytes since creation and never wrap (2^64); the place is position & (capacity - 1).
#
# Writer: fill the payload, then the record's header, then store head with release order. A record is invisible until
# that last store and complete after it. A batch is published with one store and at most one eventfd write.
# Reader: load head with acquire order, read each length once, copy the payload to private memory, check *the copy*. The
# check covers epoch, position and length too, so what an earlier lap or an earlier incarnation left behind never
# validates. Nothing read from the mapping is trusted: positions are kept privately and only stored for the other side
# to see; what the other side stores is bounded before use. The first contradiction makes the ring CORRUPT for good and
# its owner drops the link. A record never straddles the end of the data: a skip record fills the rest. With records of
# at most half the capacity a record fits into every empty ring, wherever head stands.
# Price: one copy and one CRC per record (the CRC 0.1 ns per byte); records of at most half the
# capacity.
#
# Sleep and wake (Dekker): the reader sets the flag, fences, looks at head once more and only then sleeps; the writer
# stores head, fences, looks at the flag. One of them sees the other, whatever the order. A busy reader costs the writer
# no system call.

from libc.errno cimport EINTR, errno
from libc.stdlib cimport free, malloc
from posix.types cimport mode_t, off_t
from posix.unistd cimport close as posix_close, ftruncate, read as posix_read, write as posix_write

cdef extern from "<sys/mman.h>" nogil:
    int memfd_create(const char* name, unsigned int flags) noexcept
    void* mmap(void* address, size_t n, int protection, int flags, int fd, off_t offset) noexcept
    int munmap(void* address, size_t n) noexcept
    void* MAP_FAILED
    const int PROT_READ, PROT_WRITE, MAP_SHARED
    const unsigned int MFD_CLOEXEC, MFD_ALLOW_SEALING

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...) noexcept
    const int F_ADD_SEALS, F_GET_SEALS, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL, F_DUPFD_CLOEXEC

cdef extern from "<sys/stat.h>" nogil:
    int fchmod(int fd, mode_t mode) noexcept
    struct stat_t "stat":
        off_t st_size
    int fstat(int fd, stat_t* status) noexcept

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags) noexcept
    const int EFD_CLOEXEC, EFD_NONBLOCK

cdef enum:
    RING_MAGIC = 0x63685267         # "chRg"
    RING_LAYOUT_VERSION = 1
    RING_HEADER_BYTES = 4096        # one page, so that the data is page-aligned
    RING_RECORD_HEADER_BYTES = 8
    RING_CAPACITY_MIN = 4096
    RING_CAPACITY_MAX = 1 << 30     # a record length stays far below the skip mark

cdef enum ring_status:
    RING_EMPTY = 0
    RING_RECORD = 1
    RING_CORRUPT = -1

cdef extern from *:
    """
    #define RING_SKIP 0xFFFFFFFFu   /* a length that no record has */
    #define CRC32C_START 0xFFFFFFFFu
    """
    const uint32_t RING_SKIP
    const uint32_t CRC32C_START

# 64 bytes apart: a cache line on every processor that we know; head, tail and flag are written by different sides.
cdef struct ring_header_t:
    uint32_t magic
    uint32_t layout_version
    uint64_t capacity
    uint64_t epoch
    uint8_t _line_0[40]
    uint64_t head                   # bytes published; the writer's, release
    uint8_t _line_1[56]
    uint64_t tail                   # bytes consumed; the reader's, release
    uint8_t _line_2[56]
    uint32_t reader_sleeping        # 1: the next publish must write the eventfd
    uint8_t _line_3[60]

cdef struct ring_t:
    ring_header_t* shared           # NULL when closed
    uint8_t* data
    uint64_t capacity               # power of two; our copy, checked once
    uint64_t epoch
    uint32_t check_seed             # CRC register after the epoch
    uint32_t record_bytes_max       # largest payload: capacity / 2 - record header
    int memfd
    int eventfd
    bint corrupt                    # sticky
    # Writer. Invariant: head - tail_seen <= capacity.
    uint64_t head                   # after the last committed record
    uint64_t head_published
    uint64_t tail_seen              # a lower bound of the reader's tail
    uint64_t reserved_at            # position of the reserved record, behind a skip if there is one
    size_t reserved_bytes
    bint reserved
    # Reader. Invariant: tail <= tail_next <= head_seen <= tail + capacity.
    uint64_t tail
    uint64_t tail_next              # after the peeked record
    uint64_t head_seen
    uint8_t* scratch                # record_bytes_max; the kernel maps only what is touched


cdef inline size_t ring_padded(size_t n) noexcept nogil:
    return (n + 7) & ~<size_t>7

cdef inline uint32_t ring_check(const ring_t* r, uint64_t position, uint32_t length, const uint8_t* payload,
                                size_t n) noexcept nogil:
    cdef uint8_t place[12]
    memcpy(&place[0], &position, 8)
    memcpy(&place[8], &length, 4)
    return ~crc32c_raw(crc32c_raw(r.check_seed, place, 12), payload, n)

cdef inline void ring_put_record_header(ring_t* r, uint64_t position, uint32_t length, size_t n) noexcept nogil:
    cdef uint8_t* at = r.data + (position & (r.capacity - 1))
    cdef uint32_t check = ring_check(r, position, length, at + RING_RECORD_HEADER_BYTES, n)
    memcpy(at, &length, 4)
    memcpy(at + 4, &check, 4)


# -- writer ------------------------------------------------------------------------------------------------------------

# True when `total` bytes fit behind head. Looks at the shared tail only when the last one seen does not suffice.
cdef inline bint ring_has_room(ring_t* r, uint64_t total) noexcept nogil:
    cdef uint64_t tail
    if r.head + total - r.tail_seen <= r.capacity:
        return True
    tail = load_acquire_u64(&r.shared.tail)
    if tail < r.tail_seen or tail > r.head_published or tail & 7:
        r.corrupt = True
        return False
    r.tail_seen = tail
    return r.head + total - tail <= r.capacity

# Room for a payload of up to n bytes, or NULL: full (try again later), longer than record_bytes_max (never fits),
# corrupt or closed. Never blocks. A reservation that is not committed has no effect; the next one replaces it.
cdef uint8_t* ring_reserve(ring_t* r, size_t n) noexcept nogil:
    cdef uint64_t need, to_end, skip = 0
    r.reserved = False
    if r.shared == NULL or r.corrupt or n > r.record_bytes_max:
        return NULL
    need = RING_RECORD_HEADER_BYTES + ring_padded(n)
    to_end = r.capacity - (r.head & (r.capacity - 1))
    if need > to_end:
        skip = to_end
    if not ring_has_room(r, skip + need):
        return NULL
    r.reserved_at = r.head + skip
    r.reserved_bytes = n
    r.reserved = True
    if chatd_sabotage(SABOTAGE_RING_HEAD_FIRST):
        store_release_u64(&r.shared.head, r.reserved_at + need)
    return r.data + (r.reserved_at & (r.capacity - 1)) + RING_RECORD_HEADER_BYTES

# The payload is in place and n bytes long (at most what was reserved). Still invisible.
cdef void ring_commit(ring_t* r, size_t n) noexcept nogil:
    chatd_require(r.reserved and n <= r.reserved_bytes)
    if r.reserved_at != r.head:
        ring_put_record_header(r, r.head, RING_SKIP, 0)
    ring_put_record_header(r, r.reserved_at, <uint32_t>n, n)
    r.head = r.reserved_at + RING_RECORD_HEADER_BYTES + ring_padded(n)
    r.reserved = False
    chatd_assert(r.head - r.tail_seen <= r.capacity)

# Bytes of one eventfd write; EAGAIN means that the counter is at its maximum, which wakes as well.
cdef void ring_wake(ring_t* r) noexcept nogil:
    cdef uint64_t one = 1
    while posix_write(r.eventfd, &one, 8) < 0 and errno == EINTR:  # uncovered: no signal comes just then
        pass

# Make everything committed visible, and wake the reader if it sleeps. Returns whether it had to be woken.
cdef bint ring_publish(ring_t* r) noexcept nogil:
    if r.shared == NULL or r.head == r.head_published:
        return False
    store_release_u64(&r.shared.head, r.head)
    r.head_published = r.head
    fence_seq_cst()
    if load_relaxed_u32(&r.shared.reader_sleeping) == 0:
        return False
    if exchange_u32(&r.shared.reader_sleeping, 0) == 0:  # uncovered: the reader wakes between the two lines
        return False
    ring_wake(r)
    return True

# Bytes that the writer could commit now, record headers included; an upper bound, a skip may take some.
cdef uint64_t ring_free_bytes(ring_t* r) noexcept nogil:
    if r.shared == NULL or r.corrupt:  # uncovered: who asks has an open ring
        return 0
    ring_has_room(r, r.capacity)
    return r.capacity - (r.head - r.tail_seen)


# -- reader ------------------------------------------------------------------------------------------------------------

cdef inline ring_status ring_fail(ring_t* r) noexcept nogil:
    r.corrupt = True
    return RING_CORRUPT

# Learn how far the writer is. False when what it says is impossible.
cdef inline bint ring_look(ring_t* r) noexcept nogil:
    cdef uint64_t head = load_acquire_u64(&r.shared.head)
    if head < r.head_seen or head - r.tail > r.capacity or head & 7:
        return False
    r.head_seen = head
    return True

# Copy and check the record at `position`, which is below head_seen. Sets `length`; RING_CORRUPT when anything is off.
cdef inline ring_status ring_take(ring_t* r, uint64_t position, uint32_t* length) noexcept nogil:
    cdef uint64_t offset = position & (r.capacity - 1)
    cdef uint64_t bound = r.head_seen - position
    cdef const uint8_t* at = r.data + offset
    cdef uint32_t check
    if bound > r.capacity - offset:
        bound = r.capacity - offset
    # Both words are read exactly once; everything below works on these copies.
    length[0] = load_relaxed_u32(<const uint32_t*>at)
    check = load_relaxed_u32(<const uint32_t*>(at + 4))
    if length[0] == RING_SKIP:
        if offset == 0 or ring_check(r, position, RING_SKIP, NULL, 0) != check:
            return RING_CORRUPT
        return RING_RECORD
    if length[0] > r.record_bytes_max or RING_RECORD_HEADER_BYTES + ring_padded(length[0]) > bound:
        return RING_CORRUPT
    memcpy(r.scratch, at + RING_RECORD_HEADER_BYTES, length[0])
    if ring_check(r, position, length[0], r.scratch, length[0]) != check:
        return RING_CORRUPT
    return RING_RECORD

# The oldest record that was not released. RING_RECORD: payload and n are set and stay valid until the next call with
# this ring. RING_EMPTY: nothing there, or closed. RING_CORRUPT: drop the link.
cdef ring_status ring_peek(ring_t* r, const uint8_t** payload, size_t* n) noexcept nogil:
    cdef uint32_t length = 0
    cdef uint64_t position = r.tail
    payload[0] = NULL
    n[0] = 0
    if r.corrupt:
        return RING_CORRUPT
    if r.shared == NULL:
        return RING_EMPTY
    if position == r.head_seen and not ring_look(r):
        return ring_fail(r)
    if position == r.head_seen:
        return RING_EMPTY
    if ring_take(r, position, &length) != RING_RECORD:
        return ring_fail(r)
    if length == RING_SKIP:
        position += r.capacity - (position & (r.capacity - 1))
        # A skip is published together with the record behind it, which begins at offset 0, where no skip is valid.
        if position >= r.head_seen or ring_take(r, position, &length) != RING_RECORD:
            return ring_fail(r)
    r.tail_next = position + RING_RECORD_HEADER_BYTES + ring_padded(length)
    payload[0] = r.scratch
    n[0] = length
    return RING_RECORD

# The peeked record is done with; its room belongs to the writer again.
cdef void ring_release(ring_t* r) noexcept nogil:
    if r.shared == NULL or r.tail_next <= r.tail:
        return
    r.tail = r.tail_next
    store_release_u64(&r.shared.tail, r.tail)

# Announce that the reader is about to wait for the eventfd. False: do not, there is something to read (or corruption to
# see).
cdef bint ring_prepare_sleep(ring_t* r) noexcept nogil:
    if r.shared == NULL or r.corrupt:
        return False
    store_relaxed_u32(&r.shared.reader_sleeping, 1)
    fence_seq_cst()
    if load_acquire_u64(&r.shared.head) == r.tail:
        return True
    store_relaxed_u32(&r.shared.reader_sleeping, 0)
    return False

# After waking, whatever the reason: take the flag down and empty the eventfd.
cdef void ring_wake_clear(ring_t* r) noexcept nogil:
    cdef uint64_t count
    if r.shared == NULL:
        return
    store_relaxed_u32(&r.shared.reader_sleeping, 0)
    while posix_read(r.eventfd, &count, 8) < 0 and errno == EINTR:  # uncovered: no signal comes just then
        pass


# -- set-up ------------------------------------------------------------------------------------------------------------

# Map r.memfd and take positions from its header. NULL, or what is wrong with it.
cdef const char* ring_map(ring_t* r) noexcept nogil:
    cdef stat_t status
    cdef ring_header_t* shared
    cdef void* mapping
    cdef size_t map_bytes
    cdef int seals = fcntl(r.memfd, F_GET_SEALS)
    if seals < 0 or (seals & F_SEAL_SHRINK) == 0:
        return "not a memfd sealed against shrinking"
    if fstat(r.memfd, &status) != 0:  # uncovered: it has just told its seals
        return "it does not say how large it is"
    if status.st_size < RING_HEADER_BYTES + RING_CAPACITY_MIN:
        return "too small"
    map_bytes = <size_t>status.st_size
    r.capacity = map_bytes - RING_HEADER_BYTES
    if r.capacity > RING_CAPACITY_MAX or r.capacity & (r.capacity - 1):
        return "its size is not a header and a power of two"
    mapping = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r.memfd, 0)
    if mapping == MAP_FAILED:  # uncovered: out of memory, which `make failures` causes
        return "it cannot be mapped"
    shared = <ring_header_t*>mapping
    r.record_bytes_max = <uint32_t>(r.capacity // 2 - RING_RECORD_HEADER_BYTES)
    r.scratch = <uint8_t*>malloc(r.record_bytes_max)
    r.epoch = shared.epoch
    r.check_seed = crc32c_raw(CRC32C_START, <const uint8_t*>&r.epoch, 8)
    r.head = r.head_published = r.head_seen = load_acquire_u64(&shared.head)
    r.tail = r.tail_next = r.tail_seen = load_acquire_u64(&shared.tail)
    if (r.scratch == NULL  # uncovered: out of memory, which `make failures` causes
            or shared.magic != <uint32_t>RING_MAGIC
            or shared.layout_version != <uint32_t>RING_LAYOUT_VERSION or shared.capacity != r.capacity
            or r.head < r.tail or r.head - r.tail > r.capacity or (r.head | r.tail) & 7):
        free(r.scratch)
        r.scratch = NULL
        munmap(mapping, map_bytes)
        return "its header is not one of this version, or damaged"
    r.shared = shared
    r.data = <uint8_t*>mapping + RING_HEADER_BYTES
    return NULL

cdef void ring_unmap(ring_t* r) noexcept nogil:
    if r.shared != NULL:
        munmap(r.shared, RING_HEADER_BYTES + r.capacity)
    free(r.scratch)
    if r.memfd >= 0:
        posix_close(r.memfd)
    if r.eventfd >= 0:
        posix_close(r.eventfd)
    memset(r, 0, sizeof(ring_t))
    r.memfd = r.eventfd = -1

# A new memfd of the right size with an empty ring in it; -1 and errno when the system refuses.
cdef int ring_memfd(uint64_t capacity, uint64_t epoch) noexcept nogil:
    cdef ring_header_t header
    cdef int fd = memfd_create("chatd-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING)
    if fd < 0:
        return -1
    memset(&header, 0, sizeof(header))
    header.magic = RING_MAGIC
    header.layout_version = RING_LAYOUT_VERSION
    header.capacity = capacity
    header.epoch = epoch
    if (ftruncate(fd, <off_t>(RING_HEADER_BYTES + capacity)) != 0
            or fchmod(fd, 0o600) != 0  # uncovered: it is ours, as for the next two
            or posix_write(fd, &header, sizeof(header)) != <ssize_t>sizeof(header)  # uncovered: see above
            or fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0):
        posix_close(fd)
        return -1
    return fd
