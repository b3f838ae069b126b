# The state of one shard: everything that the native functions share, owned by the Python object Engine.
#
# One struct instead of a web of objects, because everything here is touched by one thread, in one tick, and freed
# together. Each member has its own file; this one says what there is and which bound holds for the plain arrays.

cdef enum:
    LISTENERS_MAX = 16
    PEERS_MAX = 64                  # shards; bits of link_interest.shards
    EPOLL_EVENTS_MAX = 512          # per tick
    SCRATCH_BYTES = 65536 - 64      # one read; parked behind its header it fits into a block of 64 KiB
    GATHER_FRAMES_MAX = 256         # one write
    GATHER_BYTES_MAX = 65536

cdef struct listener_t:
    int fd                          # -1: free
    bint proxy
    bint paused

# One end of a link. Both rings belong to Python objects that Engine keeps alive as long as ring_in is set.
cdef struct uplink_t:
    ring_t* ring_in
    ring_t* ring_out
    uint64_t epoch
    uint32_t stage                  # uplink_stage
    uint32_t attach_slot            # next slot to re-attach
    uint32_t attach_entry           # next subscription of that slot's connection
    uint32_t attach_marks           # how many of its refused SENDs are still to be told
    bint attach_logged              # its LOGIN has been written
    bint lost                       # the link broke, and Python has not been told

cdef struct peer_link_t:
    ring_t* ring_in
    ring_t* ring_out
    uint64_t epoch
    bint lost

# Connections in some order: slots, each at most once (a flag of the record says so), so `room` = slots of the slab.
cdef struct slot_list_t:
    uint32_t* slots
    uint32_t count
    uint32_t room

# The same, first in first out.
cdef struct slot_ring_t:
    uint32_t* slots
    uint32_t begin
    uint32_t count
    uint32_t room

# Ephemeral frames of one sender to one conversation, side by side. See burst.pxi.
cdef struct burst_t:
    uint8_t* data                   # BURST_BYTES_MAX
    uint32_t bytes
    uint32_t count                  # of frames
    uint32_t body_max               # bytes of the largest frame without its header
    uint32_t topic_set
    uint32_t slot                   # of the sender
    frame_t marks                   # cid, sender and kind, as the frames carry them

cdef struct engine_t:
    settings_t settings
    pool_t pool
    slab_t slab
    wheel_t wheel
    ledger_t ledger
    gate_t gate
    subscriptions_t subscriptions
    inflight_table_t inflight
    positions_t positions
    addresses_t addresses
    networks_t exempt               # from the limits of addresses
    networks_t balancers            # whose PROXY header is believed; none named: everybody's on a proxy listener
    upcalls_t upcalls
    uplink_t hub
    peer_link_t peers[PEERS_MAX]
    listener_t listeners[LISTENERS_MAX]
    uint64_t count[COUNTERS]
    uint64_t closes[WIRE_CLOSES_SIZE]
    # Time, looked at once per tick.
    uint64_t now_ns
    uint64_t now_ms
    uint64_t wall_ms
    uint32_t links_lost             # links whose end Python has not been told
    uint64_t random_state           # of jitter, and of nonces when seeded
    # Lists that one tick builds and empties.
    slot_list_t dirty               # something to flush
    slot_list_t doomed              # to be torn down
    slot_list_t gone                # to be freed; events of this tick may still name them
    slot_list_t due                 # LOGIN or CLOSED records wait for room in the ring; survives ticks
    slot_ring_t bulk                # something to flush, a few in each tick (bulk.pxi); survives ticks
    bint spreading                  # what is queued now goes to many
    uint32_t spread_count           # recipients of COMMITTED records of this tick
    # Output of all connections.
    uint64_t queued_bytes           # of all frames alive; invariant: 0 when all queues are empty
    uint64_t parked_bytes
    # Accepting.
    int epoll_fd
    int reserve_fd                  # given up to accept and drop one connection when descriptors run out
    uint64_t accept_tat_ns
    uint64_t accept_resume_ms       # 0: not paused
    uint32_t preauth_oldest
    uint32_t preauth_youngest
    uint32_t preauth_count
    # Draining.
    uint64_t drain_start_ms         # 0: not draining
    uint64_t drain_window_ms
    uint32_t drain_slot
    uint64_t routed_pos             # journal position of the last COMMITTED record that was routed
    int kick_fd                     # eventfd: a command has left something to do
    bint kicked
    bint found_work                 # in this tick
    bint work_left                  # poll stopped at its budget
    uint8_t* scratch                # SCRATCH_BYTES, what was just read
    burst_t burst                   # of the connection that is being read; empty between connections
    uint8_t* gather                 # GATHER_BYTES_MAX, what is about to be written


cdef bint slot_list_init(slot_list_t* list_, uint32_t room) noexcept nogil:
    # Mapped lazily; room for every slot, so that putting never fails.
    list_.slots = <uint32_t*>calloc(room, sizeof(uint32_t))
    list_.room = room
    return list_.slots != NULL

cdef bint slot_ring_init(slot_ring_t* ring, uint32_t room) noexcept nogil:
    ring.slots = <uint32_t*>calloc(room, sizeof(uint32_t))
    ring.room = room
    return ring.slots != NULL

cdef inline void slot_list_put(slot_list_t* list_, uint32_t slot) noexcept nogil:
    chatd_require(list_.count < list_.room)
    list_.slots[list_.count] = slot
    list_.count += 1
