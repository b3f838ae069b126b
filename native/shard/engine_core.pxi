# Making and unmaking the state of a shard.

cdef bint engine_alloc(engine_t* e) noexcept nogil:
    cdef uint32_t slots
    if not slab_init(&e.slab, e.settings.connections_max):
        return False
    slots = e.slab.chunks_max << SLAB_CHUNK_BITS
    e.scratch = <uint8_t*>malloc(SCRATCH_BYTES)
    e.gather = <uint8_t*>malloc(GATHER_BYTES_MAX)
    e.burst.data = <uint8_t*>malloc(BURST_BYTES_MAX)
    # A connection can be marked dirty again while the list is worked off: twice the slots.
    return (e.scratch != NULL and e.gather != NULL and e.burst.data != NULL
            and slot_list_init(&e.dirty, 2 * slots) and slot_list_init(&e.doomed, slots)
            and slot_list_init(&e.gone, slots) and slot_list_init(&e.due, slots)
            and slot_ring_init(&e.bulk, slots)
            and ledger_init(&e.ledger, e.settings.ledger_entries)
            and gate_init(&e.gate, e.settings.gate_entries)
            and inflight_init(&e.inflight, e.settings.pending_sends_max)
            and positions_init(&e.positions, e.settings.positions_max)
            and addresses_init(&e.addresses))

cdef bint engine_open_fds(engine_t* e) noexcept nogil:
    e.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    e.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    e.reserve_fd = posix_open("/dev/null", O_RDONLY | O_CLOEXEC)
    return e.epoll_fd >= 0 and e.kick_fd >= 0 and e.reserve_fd >= 0 and watch_fd(e, e.kick_fd, EVENT_KICK)

cdef bint watch_fd(engine_t* e, int fd, uint64_t name) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN
    event.data.u64 = name
    return epoll_ctl(e.epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0

cdef void unwatch_fd(engine_t* e, int fd) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    epoll_ctl(e.epoll_fd, EPOLL_CTL_DEL, fd, &event)

# Fields that are not zero at the start.
cdef void engine_blank(engine_t* e) noexcept nogil:
    cdef uint32_t index
    memset(e, 0, sizeof(engine_t))
    e.epoll_fd = e.kick_fd = e.reserve_fd = -1
    e.preauth_oldest = e.preauth_youngest = <uint32_t>SLOT_NONE
    for index in range(LISTENERS_MAX):
        e.listeners[index].fd = -1
    subscriptions_init(&e.subscriptions)

cdef void engine_start(engine_t* e) noexcept nogil:
    e.pool.used_bytes_max = e.settings.memory_bytes_max
    e.random_state = e.settings.random_seed
    if e.random_state == 0 and getrandom(&e.random_state, 8, 0) != 8:
        e.random_state = real_ns()
    e.random_state |= 1
    e.wall_ms = WIRE_TIME_EPOCH_MS
    clock_look(e)
    wheel_init(&e.wheel, e.now_ms)

cdef void close_fd(int* fd) noexcept nogil:
    if fd[0] >= 0:
        posix_close(fd[0])
        fd[0] = -1

# Close every socket and free everything. The struct is blank afterwards.
cdef void engine_free(engine_t* e) noexcept nogil:
    cdef uint32_t slot
    cdef conn_t* c
    for slot in range(slab_slots(&e.slab)):
        c = slab_at(&e.slab, slot)
        if c.state == CONN_FREE:
            continue
        conn_strip(e, c)
        if c.queue != NULL:
            queue_clear(e, c)
        if c.fd >= 0:
            posix_close(c.fd)
            c.fd = -1
    subscriptions_dispose(e)
    inflight_dispose(e)
    positions_dispose(&e.positions)
    addresses_dispose(e)
    upcalls_dispose(e)
    slab_dispose(&e.slab)
    free(e.ledger.entries)
    free(e.gate.entries)
    free(e.dirty.slots)
    free(e.doomed.slots)
    free(e.gone.slots)
    free(e.due.slots)
    free(e.bulk.slots)
    free(e.scratch)
    free(e.gather)
    free(e.burst.data)
    pool_dispose(&e.pool)
    close_fd(&e.epoll_fd)
    close_fd(&e.kick_fd)
    close_fd(&e.reserve_fd)
    engine_blank(e)
