# Timing wheel: every deadline of every connection, in constant time.
#
# A connection has one timer. It is not moved when something happens: reading a frame only writes down the time, and
# when the timer fires, deadlines.pxi works out what is due and when to look again. So a heartbeat costs one firing per
# interval and nothing per frame. Four wheels of 64 buckets with ticks of 8 ms, 512 ms, 33 s and 35 min; a bitmap per
# wheel finds the next occupied bucket without walking the empty ones. A timer fires up to one tick late, never early.
# Price: deadlines beyond the last wheel (37 hours) fire early and are armed again.

cdef enum:
    WHEEL_LEVELS = 4
    WHEEL_BITS = 6
    WHEEL_BUCKETS = 1 << WHEEL_BITS
    WHEEL_TICK_BITS = 3             # 8 ms
    WHEEL_FIRED = 1                 # deadline_ms of a timer that has fired and was not popped yet

cdef extern from * nogil:
    """
    static inline int engine_lowest_bit(uint64_t word) { return __builtin_ctzll(word); }
    static inline uint64_t chatd_rotate_right(uint64_t word, int n)
    {
        return n ? (word >> n) | (word << (64 - n)) : word;
    }
    """
    int engine_lowest_bit(uint64_t word) noexcept
    uint64_t chatd_rotate_right(uint64_t word, int n) noexcept

cdef struct wheel_t:
    uint64_t tick                   # everything before it has fired
    uint64_t occupied[WHEEL_LEVELS]
    uint32_t first[WHEEL_LEVELS * WHEEL_BUCKETS]    # slots, chained through timer_next and timer_prev


cdef void wheel_init(wheel_t* w, uint64_t now_ms) noexcept nogil:
    cdef int index
    memset(w, 0, sizeof(wheel_t))
    w.tick = now_ms >> WHEEL_TICK_BITS
    for index in range(WHEEL_LEVELS * WHEEL_BUCKETS):
        w.first[index] = <uint32_t>SLOT_NONE

# Which bucket holds a timer that is due at tick `due`, seen from now.
cdef inline uint32_t wheel_bucket(const wheel_t* w, uint64_t due) noexcept nogil:
    cdef int level
    if due <= w.tick:
        due = w.tick + 1
    for level in range(WHEEL_LEVELS):
        # A whole turn ahead is this position's own bucket, which is empty: it has fired or cascaded. It must be used,
        # as a cascade looks from one tick back and would put the last timer of its range back where it came from.
        if (due >> (WHEEL_BITS * level)) - (w.tick >> (WHEEL_BITS * level)) <= WHEEL_BUCKETS:
            return (level << WHEEL_BITS) | <uint32_t>((due >> (WHEEL_BITS * level)) & (WHEEL_BUCKETS - 1))
    level = WHEEL_LEVELS - 1
    return (level << WHEEL_BITS) | <uint32_t>(((w.tick >> (WHEEL_BITS * level)) - 1) & (WHEEL_BUCKETS - 1))

cdef inline uint64_t wheel_deadline_ms(const wheel_t* w, const conn_t* c) noexcept nogil:
    return ms_near(w.tick << WHEEL_TICK_BITS, c.deadline_ms)

cdef void wheel_unlink(slab_t* slab, wheel_t* w, conn_t* c) noexcept nogil:
    cdef uint32_t bucket = c.timer_bucket
    if c.deadline_ms == 0:
        return
    if c.timer_prev != <uint32_t>SLOT_NONE:
        slab_at(slab, c.timer_prev).timer_next = c.timer_next
    else:
        w.first[bucket] = c.timer_next
        if c.timer_next == <uint32_t>SLOT_NONE:
            w.occupied[bucket >> WHEEL_BITS] &= ~(<uint64_t>1 << (bucket & (WHEEL_BUCKETS - 1)))
    if c.timer_next != <uint32_t>SLOT_NONE:
        slab_at(slab, c.timer_next).timer_prev = c.timer_prev
    c.timer_next = c.timer_prev = <uint32_t>SLOT_NONE
    c.deadline_ms = 0

cdef void wheel_link(slab_t* slab, wheel_t* w, conn_t* c, uint64_t deadline_ms) noexcept nogil:
    # Rounded up: a timer must not fire before its deadline.
    cdef uint32_t bucket = wheel_bucket(w, (deadline_ms + (1 << WHEEL_TICK_BITS) - 1) >> WHEEL_TICK_BITS)
    c.deadline_ms = max(<uint32_t>deadline_ms, <uint32_t>(WHEEL_FIRED + 1))
    c.timer_bucket = <uint8_t>bucket
    c.timer_prev = <uint32_t>SLOT_NONE
    c.timer_next = w.first[bucket]
    if c.timer_next != <uint32_t>SLOT_NONE:
        slab_at(slab, c.timer_next).timer_prev = c.slot
    w.first[bucket] = c.slot
    w.occupied[bucket >> WHEEL_BITS] |= <uint64_t>1 << (bucket & (WHEEL_BUCKETS - 1))

# See to it that the connection is looked at by deadline_ms; an earlier timer stays as it is.
cdef inline void wheel_arm(slab_t* slab, wheel_t* w, conn_t* c, uint64_t deadline_ms) noexcept nogil:
    if c.deadline_ms == WHEEL_FIRED or (c.deadline_ms != 0 and wheel_deadline_ms(w, c) <= deadline_ms):
        return
    wheel_unlink(slab, w, c)
    wheel_link(slab, w, c, deadline_ms)

# The tick at which the next occupied bucket fires or cascades; no later one can matter before it. 0: the wheel is
# empty.
cdef uint64_t wheel_next_tick(const wheel_t* w) noexcept nogil:
    cdef uint64_t best = 0, position, at
    cdef int level, ahead
    for level in range(WHEEL_LEVELS):
        if w.occupied[level] == 0:
            continue
        position = w.tick >> (WHEEL_BITS * level)
        # Buckets ahead of the current position, nearest first; the current one itself has fired or cascaded.
        ahead = engine_lowest_bit(chatd_rotate_right(w.occupied[level], <int>((position + 1) & (WHEEL_BUCKETS - 1))))
        at = (position + 1 + <uint64_t>ahead) << (WHEEL_BITS * level)
        if best == 0 or at < best:
            best = at
    return best

# Take the whole chain of a bucket.
cdef uint32_t wheel_take(wheel_t* w, uint32_t bucket) noexcept nogil:
    cdef uint32_t first = w.first[bucket]
    w.first[bucket] = <uint32_t>SLOT_NONE
    w.occupied[bucket >> WHEEL_BITS] &= ~(<uint64_t>1 << (bucket & (WHEEL_BUCKETS - 1)))
    return first

# Advance by one step towards now and return the chain of what fired, linked by timer_next (SLOT_NONE: nothing yet).
# Call until `done`, and take the chain apart with wheel_pop. Until it is popped, a fired timer counts as armed for the
# earliest possible time, so nobody links it anywhere else while the chain is walked.
cdef uint32_t wheel_advance(slab_t* slab, wheel_t* w, uint64_t now_ms, bint* done) noexcept nogil:
    cdef uint64_t target = now_ms >> WHEEL_TICK_BITS
    cdef uint64_t next_tick = wheel_next_tick(w)
    cdef uint32_t slot, first
    cdef int level
    done[0] = False
    if next_tick == 0 or next_tick > target:
        if target > w.tick:
            w.tick = target
        done[0] = True
        return <uint32_t>SLOT_NONE
    for level in range(WHEEL_LEVELS - 1, 0, -1):
        if next_tick & ((<uint64_t>1 << (WHEEL_BITS * level)) - 1) == 0:
            wheel_cascade(slab, w, level, next_tick)
    w.tick = next_tick
    first = wheel_take(w, <uint32_t>(next_tick & (WHEEL_BUCKETS - 1)))
    slot = first
    while slot != <uint32_t>SLOT_NONE:
        slab_at(slab, slot).deadline_ms = WHEEL_FIRED
        slot = slab_at(slab, slot).timer_next
    return first

# Spread a bucket of a coarse wheel over the finer ones.
cdef void wheel_cascade(slab_t* slab, wheel_t* w, int level, uint64_t next_tick) noexcept nogil:
    cdef uint64_t position = (next_tick >> (WHEEL_BITS * level)) & (WHEEL_BUCKETS - 1)
    cdef uint32_t slot = wheel_take(w, (<uint32_t>level << WHEEL_BITS) | <uint32_t>position)
    cdef uint32_t following
    # One tick back, so that a timer due exactly now goes into the bucket that is about to fire.
    w.tick = next_tick - 1
    while slot != <uint32_t>SLOT_NONE:
        following = slab_at(slab, slot).timer_next
        wheel_link(slab, w, slab_at(slab, slot), wheel_deadline_ms(w, slab_at(slab, slot)))
        slot = following

# Disarm the first timer of a fired chain; returns the rest of the chain.
cdef inline uint32_t wheel_pop(conn_t* c) noexcept nogil:
    cdef uint32_t following = c.timer_next
    c.timer_next = c.timer_prev = <uint32_t>SLOT_NONE
    c.deadline_ms = 0
    return following
