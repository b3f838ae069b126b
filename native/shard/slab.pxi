# Slab: one record per connection, and nothing else for an idle one.
#
# An idle, authenticated, subscribed connection costs its record here (conn_t), a subscription entry and no buffer: the
# output queue, the ring of what is unacknowledged and the parked bytes are pointers that are NULL most of the time, and
# so is `extra`, which holds what most connections need for a moment or never. Times are the low 32 bits of a clock in
# milliseconds; they are good for 24 days around now (ms_near). Records come in chunks that never move, so a conn_t* is
# good until its slot is freed, which happens only between ticks. A slot is named outside by its handle,
# slot | generation << 32; freeing it counts the generation up, so that a late answer, a late command and a stale epoll
# event are recognised by one comparison. Price: chunks are never given back; 100,000 connections that once were keep
# their 25 MB.

cdef extern from "<stdlib.h>" nogil:
    void* aligned_alloc(size_t alignment, size_t n) noexcept

cdef enum:
    SLAB_CHUNK_BITS = 8             # 256 records per chunk
    SLAB_CHUNK_RECORDS = 1 << SLAB_CHUNK_BITS
    SLAB_LINE_BYTES = 64            # of the processor's cache
    SLOT_NONE = 0xFFFFFFFF

# Where a connection stands. Order matters: everything from CONN_PROXY to CONN_REGISTERED is before login.
cdef enum conn_state:
    CONN_FREE = 0
    CONN_PROXY = 1                  # a PROXY header must come first
    CONN_NEW = 2                    # HELLO must come
    CONN_GREETED = 3                # AUTH or RESUME must come
    CONN_AUTHENTICATING = 4         # Python looks at the credential
    CONN_REGISTERING = 5            # the hub looks at the device
    CONN_REGISTERED = 6             # Python writes WELCOME
    CONN_LIVE = 7
    CONN_CLOSING = 8                # BYE is on its way, then FIN, then up to linger_ms
    CONN_GONE = 9                   # the descriptor is closed; the slot is freed at the end of the tick

cdef enum conn_flag:
    CONN_DIRTY = 1                  # on the list of connections to flush
    CONN_DOOR = 2                   # opened by open(): no socket
    CONN_LAGGING = 4                # pushes are noted in `lag` instead of being queued
    CONN_THROTTLED = 8              # not read until resume_ms or until an answer frees a place
    CONN_DOOMED = 16                # on the list of connections to tear down
    CONN_LOWAT = 32                 # SO_RCVLOWAT is 5: a lone PING does not wake us
    CONN_BLOCKED = 64               # waits for EPOLLOUT
    CONN_CLOSED_DUE = 128           # a CLOSED record has not been handed to the hub yet
    CONN_LOGIN_DUE = 256            # a LOGIN record has not been handed to the hub yet
    CONN_ATTACHED = 512             # the hub of the current link knows this session
    CONN_GOAWAY = 1024              # has been told that the worker leaves
    CONN_EXPIRY_TOLD = 2048         # ERROR TOKEN_EXPIRED was sent, the grace period runs
    CONN_READABLE_TOLD = 4096       # the upcall "readable" is out, take() has not emptied the queue since
    CONN_PREAUTH = 8192             # on the list of connections without login
    CONN_FED_SHORT = 16384          # feed() took less than it was given: "resumed" is owed
    CONN_OWN_ADDRESS = 32768        # counted in the table of addresses
    CONN_DUE_LISTED = 65536         # on the list of connections with a record for the hub
    CONN_BYE_QUEUED = 131072        # BYE is in the queue already
    CONN_SHUT = 262144              # our half of the connection is shut down
    CONN_FREE_DUE = 1048576         # gone; the slot is freed when it has left the lists that survive ticks
    CONN_SESSION = 524288           # was live once: its end is the end of a session
    CONN_REAUTHENTICATING = 2097152  # a REAUTH is with Python
    CONN_BULK = 4194304             # on the list of connections to flush a few in each tick

# One DELIVER that the client has not acknowledged.
cdef struct unacked_t:
    uint64_t cid
    uint64_t seq
    uint32_t bytes
    uint32_t flags                  # of the frame

cdef enum:
    LAG_ENTRIES = 16                # lag_conversations_max of the schema

cdef struct lag_entry_t:
    uint64_t cid
    uint64_t from_seq
    uint64_t to_seq

cdef struct lag_t:
    uint32_t count
    bint overflow                   # more conversations than entries: LAG(0)
    lag_entry_t entries[LAG_ENTRIES]

# A call that the hub has not finished: what ERROR has to name if it never does.
cdef struct call_entry_t:
    uint64_t ref
    uint8_t op
    uint8_t is_pull
    uint8_t _unused[6]

cdef enum:
    CALLS_MAX = 32                  # pulls_outstanding_max + requests_outstanding_max must fit

cdef struct calls_t:
    uint32_t count
    uint32_t pulls
    call_entry_t entries[CALLS_MAX]

# A SEND that was refused for now. Later ones to the same conversation must wait for it.
cdef struct refused_send_t:
    uint64_t cid
    uint64_t cseq
    bint ours                       # this shard's refusal: they wait here; otherwise the hub's, where they wait

cdef struct refused_t:
    uint32_t count
    uint32_t room
    refused_send_t* sends

# What few connections need, and those mostly for a moment. Freed as soon as nothing stands in it (extra_settle).
cdef struct extra_t:
    lag_t* lag                      # not NULL exactly while CONN_LAGGING
    calls_t* calls
    refused_t* refused
    uint64_t flood_ms               # since when it is flooding; 0: it is not

# Received bytes that wait: a partial frame, or what a throttle left. The bytes follow.
cdef struct park_t:
    uint32_t bytes                  # never 0
    uint32_t room                   # of the whole block
    uint32_t frame_ms               # when the first frame in it was started
    uint32_t _unused

# Only before login.
cdef struct preauth_t:
    uint8_t nonce[16]
    uint8_t address[16]             # IPv6, or IPv4 mapped into it
    uint16_t port
    uint8_t has_nonce
    uint8_t failures
    uint32_t received_bytes
    uint64_t accepted_ms
    uint64_t ticket_epoch           # of register(), kept until LOGIN has been handed over
    uint32_t older                  # list by age, oldest evicted first
    uint32_t younger

# Four cache lines, with 10 bytes to spare. Records that straddled lines made fan-out 10 % slower.
cdef struct conn_t:
    # What every push touches: the first line.
    uint32_t slot
    uint32_t generation             # never 0
    int fd                          # -1: second door, or closed
    uint32_t flags
    uint32_t features
    uint16_t frame_bytes_max
    uint8_t state
    uint8_t close_reason
    frame_t** queue                 # ring of queue_room references; NULL when empty for a while
    uint32_t queue_room             # power of two or 0
    uint32_t queue_head
    uint32_t queue_count
    uint32_t queue_bytes            # of all frames in it, FRAME_REF_BYTES for each included; what was written included
    uint32_t queue_offset           # bytes of the first frame that are already written
    uint32_t queue_delivers         # how many of them are DELIVERs; invariant: <= unacked_count
    uint32_t progress_ms            # when the queue last moved
    uint32_t received_ms            # when the last byte came
    # What a DELIVER and an EPHEMERAL frame touch beside it.
    unacked_t* unacked              # ring of unacked_room, oldest first
    uint32_t unacked_room
    uint32_t unacked_head
    uint32_t unacked_count
    uint32_t unacked_bytes
    uint32_t window_frames
    uint32_t window_bytes
    uint64_t deliver_count          # DELIVERs queued since login; the client acknowledges this count
    uint64_t user
    park_t* park
    uint32_t subscription_hint      # the one used last
    uint32_t acked_ms               # when the last ACK came
    # Rates: theoretical arrival times (rates.pxi), and the end of a throttle.
    uint64_t frames_tat_ns
    uint64_t bytes_tat_ns
    uint64_t sends_tat_ns
    uint32_t resume_ms              # of a throttle by rate; 0: by answers
    uint32_t sends_in_flight
    uint32_t inflight_first         # chain of its entries in the in-flight table
    uint32_t inflight_last
    uint64_t device
    uint64_t session_epoch
    uint64_t token_epoch            # of the credential: a fresh hub has to know whether it was revoked
    extra_t* extra
    preauth_t* preauth
    uint32_t subscription_first     # chain of entries
    uint32_t subscription_count
    # Deadlines.
    uint32_t expires_s              # wall clock; 0: never
    uint32_t heartbeat_ms
    uint32_t deadline_ms            # of the armed timer; 0: not armed
    uint32_t timer_next
    uint32_t timer_prev
    uint32_t address_index          # of the table of addresses, if CONN_OWN_ADDRESS; our count pins that entry
    uint32_t close_retry_ms         # for BYE
    uint8_t timer_bucket
    uint8_t epoll_mask              # EPOLLIN, EPOLLOUT
    uint8_t _unused[10]

cdef struct slab_t:
    conn_t** chunks
    uint32_t chunk_count
    uint32_t chunks_max
    uint32_t used_max               # connections_max; the last chunk may have room for more
    uint32_t free_first             # chain through conn_t.timer_next
    uint32_t used_count
    uint32_t live_count             # state CONN_LIVE
    uint64_t bytes


cdef inline conn_t* slab_at(const slab_t* slab, uint32_t slot) noexcept nogil:
    return &slab.chunks[slot >> SLAB_CHUNK_BITS][slot & (SLAB_CHUNK_RECORDS - 1)]

cdef inline uint32_t slab_slots(const slab_t* slab) noexcept nogil:
    return slab.chunk_count << SLAB_CHUNK_BITS

cdef inline uint64_t conn_handle(const conn_t* c) noexcept nogil:
    return <uint64_t>c.slot | (<uint64_t>c.generation << 32)

# The connection that a handle names, whatever its state; NULL when it is gone.
cdef inline conn_t* slab_find(const slab_t* slab, uint64_t handle) noexcept nogil:
    cdef uint32_t slot = <uint32_t>handle
    cdef conn_t* c
    if slot >= slab_slots(slab):
        return NULL
    c = slab_at(slab, slot)
    if c.state == CONN_FREE or c.state == CONN_GONE:
        return NULL
    if c.generation != <uint32_t>(handle >> 32) and not chatd_sabotage(SABOTAGE_NO_GENERATION):
        return NULL
    return c

# The moment that `stamp` has the low bits of; at most 24 days before or after now.
cdef inline uint64_t ms_near(uint64_t now_ms, uint32_t stamp) noexcept nogil:
    return now_ms + <uint64_t><int64_t><int32_t>(stamp - <uint32_t>now_ms)

cdef inline uint8_t* park_data(park_t* park) noexcept nogil:
    return <uint8_t*>(park + 1)

# The record of what is rare, made when there is none. NULL: no memory.
cdef extra_t* conn_extra(pool_t* pool, conn_t* c) noexcept nogil:
    if c.extra == NULL:
        c.extra = <extra_t*>pool_alloc_zeroed(pool, sizeof(extra_t))
    return c.extra

cdef inline bint conn_is_before_login(const conn_t* c) noexcept nogil:
    return CONN_PROXY <= c.state <= CONN_REGISTERED

# The peer may be sent frames and its frames count.
cdef inline bint conn_is_open(const conn_t* c) noexcept nogil:
    return CONN_PROXY <= c.state <= CONN_LIVE and not (c.flags & CONN_DOOMED)

cdef inline bint conn_is_live(const conn_t* c) noexcept nogil:
    return c.state == CONN_LIVE and not (c.flags & CONN_DOOMED)

# The hub pushes to it, but nothing may be sent before WELCOME.
cdef inline bint conn_is_registered(const conn_t* c) noexcept nogil:
    return c.state == CONN_REGISTERED and not (c.flags & CONN_DOOMED)


cdef bint slab_init(slab_t* slab, uint64_t connections_max) noexcept nogil:
    chatd_require(sizeof(conn_t) % SLAB_LINE_BYTES == 0)
    slab.chunks_max = <uint32_t>((connections_max + SLAB_CHUNK_RECORDS - 1) >> SLAB_CHUNK_BITS)
    slab.used_max = <uint32_t>connections_max
    slab.chunks = <conn_t**>calloc(slab.chunks_max + 1, sizeof(void*))
    slab.free_first = <uint32_t>SLOT_NONE
    return slab.chunks != NULL

cdef bint slab_grow(slab_t* slab) noexcept nogil:
    cdef conn_t* chunk
    cdef uint32_t index
    if slab.chunk_count == slab.chunks_max:
        return False
    chunk = <conn_t*>aligned_alloc(SLAB_LINE_BYTES, SLAB_CHUNK_RECORDS * sizeof(conn_t))
    if chunk == NULL:
        return False
    memset(chunk, 0, SLAB_CHUNK_RECORDS * sizeof(conn_t))
    slab.chunks[slab.chunk_count] = chunk
    for index in range(SLAB_CHUNK_RECORDS - 1, -1, -1):
        chunk[index].slot = (slab.chunk_count << SLAB_CHUNK_BITS) | index
        chunk[index].generation = 1
        chunk[index].timer_next = slab.free_first
        slab.free_first = chunk[index].slot
    slab.chunk_count += 1
    slab.bytes += SLAB_CHUNK_RECORDS * sizeof(conn_t)
    return True

# A blank record in state `state`; NULL when there are connections_max of them, or no memory.
cdef conn_t* slab_take(slab_t* slab, conn_state state) noexcept nogil:
    cdef conn_t* c
    cdef uint32_t slot, generation
    if slab.used_count >= slab.used_max:
        return NULL
    if slab.free_first == <uint32_t>SLOT_NONE and not slab_grow(slab):
        return NULL
    c = slab_at(slab, slab.free_first)
    slab.free_first = c.timer_next
    slot = c.slot
    generation = c.generation
    memset(c, 0, sizeof(conn_t))
    c.slot = slot
    c.generation = generation
    c.fd = -1
    c.state = <uint8_t>state
    c.timer_next = c.timer_prev = <uint32_t>SLOT_NONE
    c.inflight_first = c.inflight_last = <uint32_t>SLOT_NONE
    c.subscription_first = c.subscription_hint = <uint32_t>SLOT_NONE
    slab.used_count += 1
    return c

cdef void slab_give(slab_t* slab, conn_t* c) noexcept nogil:
    chatd_require(c.state == CONN_GONE and c.fd == -1 and c.queue == NULL and c.park == NULL)
    c.state = CONN_FREE
    c.generation += 1
    if c.generation == 0:
        c.generation = 1
    c.timer_next = slab.free_first
    slab.free_first = c.slot
    slab.used_count -= 1

cdef void slab_dispose(slab_t* slab) noexcept nogil:
    cdef uint32_t index
    for index in range(slab.chunk_count):
        free(slab.chunks[index])
    free(slab.chunks)
    memset(slab, 0, sizeof(slab_t))
