# Reactor: one tick from sockets and links to sockets and links.
#
#   events -> frames -> tables -> rings written -> rings read -> deadlines -> flush -> teardown
#
# One epoll set holds the clients' sockets, the listeners, the eventfds of the rings and one eventfd of our own, which
# commands from Python write when the loop may be asleep. Its descriptor is what trio waits for. Level-triggered, one
# read of read_budget_bytes per connection and tick, so nobody can keep the others waiting. A tick that found work is
# followed by another one without waiting until the budget is used up: when traffic flows, no wake-up has to be paid
# for. Before poll returns, every ring is told that its reader sleeps; what came in between makes the descriptor
# readable.

cdef extern from "<sys/socket.h>" nogil:
    ssize_t socket_recv "recv"(int fd, void* p, size_t n, int flags) noexcept

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...) noexcept
    const unsigned long FIONREAD

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
    const short POLLIN
    int ppoll(pollfd* fds, unsigned long count, const timespec* timeout, const void* signals) noexcept

from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

# What event.data names: a handle (never below 2^32, as no generation is 0), or one of these.
cdef enum:
    EVENT_LISTENER = 0              # .. LISTENERS_MAX
    EVENT_HUB = 1000
    EVENT_KICK = 1001
    EVENT_PEER = 2000               # .. PEERS_MAX
    EVENT_NAMES_END = 1 << 16


# -- one connection ----------------------------------------------------------------------------------------------------

cdef inline uint32_t conn_events(const conn_t* c) noexcept nogil:
    cdef uint32_t events = 0
    if not c.flags & CONN_THROTTLED:
        events = EPOLLIN
    if c.flags & CONN_BLOCKED:
        events |= EPOLLOUT
    return events

cdef bint conn_watch_first(engine_t* e, conn_t* c) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN
    c.epoll_mask = EPOLLIN
    event.data.u64 = conn_handle(c)
    return epoll_ctl(e.epoll_fd, EPOLL_CTL_ADD, c.fd, &event) == 0

# Bring the interest in line with the flags.
cdef void conn_watch(engine_t* e, conn_t* c) noexcept nogil:
    cdef epoll_event event
    cdef uint32_t events = conn_events(c)
    if c.fd < 0 or events == c.epoll_mask:
        return
    memset(&event, 0, sizeof(event))
    event.events = events
    c.epoll_mask = <uint8_t>events
    event.data.u64 = conn_handle(c)
    if epoll_ctl(e.epoll_fd, EPOLL_CTL_MOD, c.fd, &event) != 0:
        conn_doom_no_memory(e, c)

# Wake only for more than a PING (on), or for every byte (off): the end of a frame may be shorter than five bytes.
cdef void conn_lowat(conn_t* c, bint on) noexcept nogil:
    cdef int value = FRAME_HEADER_BYTES + 1 if on else 1
    if c.fd < 0 or on == (c.flags & CONN_LOWAT != 0):
        return
    if setsockopt(c.fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) == 0:
        c.flags ^= CONN_LOWAT

cdef uint64_t conn_unread_bytes(const conn_t* c) noexcept nogil:
    cdef int n = 0
    if c.fd < 0 or ioctl(c.fd, FIONREAD, &n) != 0 or n < 0:
        return 0
    return <uint64_t>n

# One read, at most read_budget_bytes.
cdef void conn_read(engine_t* e, conn_t* c) noexcept nogil:
    cdef ssize_t n = socket_recv(c.fd, e.scratch, min(<size_t>SCRATCH_BYTES, <size_t>e.settings.read_budget_bytes),
                                 MSG_DONTWAIT)
    if n > 0:
        if c.state == CONN_CLOSING:
            return
        conn_receive(e, c, e.scratch, <size_t>n, True)
    elif n == 0:
        conn_doom(e, c, CLOSE_PEER_CLOSED)
    elif errno != EAGAIN and errno != EINTR:
        conn_doom(e, c, CLOSE_PEER_RESET)

cdef void conn_event(engine_t* e, uint64_t handle, uint32_t events) noexcept nogil:
    cdef conn_t* c = slab_find(&e.slab, handle)
    if c == NULL or c.fd < 0:
        e.count[COUNT_EVENTS_STALE] += 1
        return
    if events & EPOLLOUT:
        c.flags &= ~CONN_BLOCKED
        conn_mark_dirty(e, c)
    if events & EPOLLIN and not c.flags & (CONN_THROTTLED | CONN_DOOMED):
        conn_read(e, c)
    elif events & (EPOLLERR | EPOLLHUP):
        conn_doom(e, c, CLOSE_PEER_RESET)


# -- the tick ----------------------------------------------------------------------------------------------------------

cdef void clock_look(engine_t* e) noexcept nogil:
    cdef timespec now
    if e.settings.manual_clock:
        return
    clock_gettime(CLOCK_REALTIME if chatd_sabotage(SABOTAGE_WALL_CLOCK) else CLOCK_MONOTONIC, &now)
    e.now_ns = <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec
    e.now_ms = e.now_ns // 1000000
    clock_gettime(CLOCK_REALTIME, &now)
    e.wall_ms = <uint64_t>now.tv_sec * 1000 + <uint64_t>now.tv_nsec // 1000000

cdef void events_take(engine_t* e) noexcept nogil:
    cdef epoll_event events[EPOLL_EVENTS_MAX]
    cdef int count = epoll_wait(e.epoll_fd, events, EPOLL_EVENTS_MAX, 0)
    cdef int index
    cdef uint64_t name
    for index in range(count):
        name = events[index].data.u64
        if name >= EVENT_NAMES_END:
            e.found_work = True
            conn_event(e, name, events[index].events)
        elif name < LISTENERS_MAX:
            accept_ready(e, <uint32_t>name)
        elif name == EVENT_KICK:
            kick_clear(e)
        elif name == EVENT_HUB:
            if e.hub.ring_in != NULL:
                ring_wake_clear(e.hub.ring_in)
        elif EVENT_PEER <= name < EVENT_PEER + PEERS_MAX and e.peers[name - EVENT_PEER].ring_in != NULL:
            ring_wake_clear(e.peers[name - EVENT_PEER].ring_in)

# Flush what has output, tear down what was doomed, until neither leads to more of the other.
cdef void dirty_flush(engine_t* e) noexcept nogil:
    cdef uint32_t index, batch
    cdef conn_t* c
    while e.dirty.count or e.doomed.count:
        closing_reap(e)
        batch = e.dirty.count
        for index in range(batch):
            c = slab_at(&e.slab, e.dirty.slots[index])
            c.flags &= ~CONN_DIRTY
            conn_flush(e, c)
        # What was marked while flushing (a LAG, a BYE) is the next round.
        e.dirty.count -= batch
        memmove(e.dirty.slots, e.dirty.slots + batch, e.dirty.count * sizeof(uint32_t))

# Those who are reached one by one first, then a few of those who are reached with many others.
cdef void output_flush(engine_t* e) noexcept nogil:
    cdef int turn
    dirty_flush(e)
    if e.bulk.count == 0:
        return
    for turn in range(BULK_WRITES):
        if e.bulk.count == 0:
            break
        conn_flush(e, bulk_take(e))
    dirty_flush(e)
    e.found_work = e.found_work or e.bulk.count != 0

cdef void conn_flush(engine_t* e, conn_t* c) noexcept nogil:
    if c.state == CONN_GONE or c.flags & CONN_DOOMED:
        return
    if c.flags & CONN_DOOR:
        door_tell(e, c)
        return
    queue_flush(e, c)
    if c.flags & CONN_LAGGING:
        lag_check(e, c)
    if c.state == CONN_CLOSING and c.queue_count == 0:
        closing_flushed(e, c)

cdef void tick(engine_t* e) noexcept nogil:
    e.count[COUNT_TICKS] += 1
    e.found_work = False
    e.spread_count = 0
    clock_look(e)
    if not upcalls_full(e):
        events_take(e)
    # The hub may start on what came in while we look at what it says.
    uplink_pump(e)
    uplink_read(e)
    peers_read(e)
    deadlines_run(e)
    if e.queued_bytes * 5 > e.settings.queues_bytes_max * 4:
        pressure_relieve(e)
    uplink_pump(e)
    peers_publish(e)
    output_flush(e)
    if e.due.count:
        uplink_pump(e)
    closing_free(e)

# Arm every ring for a wake-up; what is there already makes its eventfd readable.
cdef void rings_sleep(engine_t* e) noexcept nogil:
    cdef int index
    if e.hub.ring_in != NULL and not ring_prepare_sleep(e.hub.ring_in):
        ring_wake(e.hub.ring_in)
    for index in range(PEERS_MAX):
        if e.peers[index].ring_in != NULL and not ring_prepare_sleep(e.peers[index].ring_in):
            ring_wake(e.peers[index].ring_in)

# Traffic of one message at a time leaves lulls of some 20 us between two events. Going back to trio for each costs
# 10-15 us of Python; waiting here, in the kernel and without the GIL, costs one system call. Only after work, so an
# idle shard returns at once, and only for lull_us, because trio's other tasks stand meanwhile. True: something came.
cdef bint lull_ends(engine_t* e) noexcept nogil:
    cdef pollfd waiting
    cdef timespec lull
    if e.settings.lull_us == 0:
        return False
    rings_sleep(e)
    waiting.fd = e.epoll_fd
    waiting.events = POLLIN
    lull.tv_sec = 0
    lull.tv_nsec = <long>(e.settings.lull_us * 1000)
    return ppoll(&waiting, 1, &lull, NULL) > 0

cdef uint64_t real_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec

cdef void engine_run(engine_t* e, uint64_t budget_ns) noexcept nogil:
    cdef uint64_t start_ns = real_ns()
    cdef bint flowing = e.work_left
    e.count[COUNT_POLLS] += 1
    while True:
        tick(e)
        e.work_left = e.found_work
        if upcalls_wait(e) or real_ns() - start_ns >= budget_ns:
            break
        if not e.found_work and not (flowing and lull_ends(e)):
            break
        flowing = e.found_work
    rings_sleep(e)

# A command from Python has left something to do, and nobody may be looking.
cdef void engine_kick(engine_t* e) noexcept nogil:
    cdef uint64_t one = 1
    if not e.kicked:
        # It can fail only when the counter is at its maximum, which is readable as well.
        e.kicked = posix_write(e.kick_fd, &one, 8) == 8

cdef void kick_clear(engine_t* e) noexcept nogil:
    cdef uint64_t count
    e.kicked = posix_read(e.kick_fd, &count, 8) != 8


# -- pressure ----------------------------------------------------------------------------------------------------------

# All queues together hold too much: at 90 % the largest one lags, at 100 % it is closed. (At 80 % typing is dropped
# where it comes in.) Looking for the largest costs a walk over the slab, once per tick and only then.
cdef void pressure_relieve(engine_t* e) noexcept nogil:
    cdef uint32_t slot
    cdef conn_t* c
    cdef conn_t* largest = NULL
    if e.queued_bytes * 10 <= e.settings.queues_bytes_max * 9:
        return
    for slot in range(slab_slots(&e.slab)):
        c = slab_at(&e.slab, slot)
        if conn_is_live(c) and (largest == NULL or c.queue_bytes > largest.queue_bytes):
            largest = c
    if largest == NULL or largest.queue_bytes == 0:
        return
    if e.queued_bytes > e.settings.queues_bytes_max:
        conn_doom(e, largest, CLOSE_SLOW)
    else:
        lag_drop_queued(e, largest)
