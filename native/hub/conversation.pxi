# Conversations: who may see which events, and which events there are.
#
# Membership is a list of intervals of seq, ascending by (user, join_seq): leaving closes one, a rejoin opens the next.
# Every question "may this user have that event?" (SEND, push, PULL, receipts, replay to a shard that fell behind) is
# answered from the intervals, so a late push can never reach someone who had left before the event. Closed intervals
# stay for that reason. Positions (delivered, read) belong to the user, and live on the newest interval. An entry is
# loaded when someone needs it and evicted when it is old and everything about it is in the main database: nothing
# unfolded, nothing in the tail, no follower, no position that waits for its record.


cdef inline hub_conversation_t* hub_conversation(hub_t* h, uint64_t cid) noexcept nogil:
    return <hub_conversation_t*>hmap_get(&h.conversations, cid)

cdef void hub_conversation_free(hub_t* h, hub_conversation_t* c) noexcept nogil:
    chatd_assert(c.subscriptions == NULL)
    hub_audience_drop(h, c)
    hmap_remove(&h.conversations, c.cid)
    hub_age_out(&c.age)
    free(c.members)
    free(c.event_pos)
    free(c)

cdef inline bint hub_conversation_evictable(hub_t* h, hub_conversation_t* c) noexcept nogil:
    return (c.touched_pos <= h.folded_pos and c.event_count == 0 and c.cooling_count == 0
            and c.subscriptions == NULL and not c.streaming)

# Make room for one more: look at a few of the oldest, so that a call stays short when many are pinned.
cdef void hub_conversation_evict(hub_t* h) noexcept nogil:
    cdef int tries
    cdef hub_conversation_t* c
    for tries in range(8):
        if h.conversations.count < h.settings.conversations_max:
            return
        c = <hub_conversation_t*>h.conversation_ages.newer
        if hub_conversation_evictable(h, c):
            hub_conversation_free(h, c)
            h.count.evictions += 1
        else:
            hub_age_touch(&h.conversation_ages, &c.age)

# The entry, made empty and not loaded when there is none. NULL: no memory.
cdef hub_conversation_t* hub_conversation_need(hub_t* h, uint64_t cid) noexcept nogil:
    cdef hub_conversation_t* c = hub_conversation(h, cid)
    if c != NULL or cid == 0:
        return c
    hub_conversation_evict(h)
    c = <hub_conversation_t*>calloc(1, sizeof(hub_conversation_t))
    if c == NULL:
        return NULL
    c.cid = cid
    if not hmap_put(&h.conversations, cid, c):
        free(c)
        return NULL
    hub_age_in(&h.conversation_ages, &c.age)
    return c


# -- intervals ---------------------------------------------------------------------------------------------------------

# Index of the first interval at or after (user, join_seq).
cdef inline uint32_t hub_interval_at(const hub_conversation_t* c, uint64_t user, uint64_t join_seq) noexcept nogil:
    cdef uint32_t low = 0, high = c.interval_count, middle
    while low < high:
        middle = (low + high) >> 1
        if (c.members[middle].user < user
                or (c.members[middle].user == user and c.members[middle].join_seq < join_seq)):
            low = middle + 1
        else:
            high = middle
    return low

# The newest interval of a user, with its positions; NULL: never a member.
cdef inline hub_member_t* hub_member(const hub_conversation_t* c, uint64_t user) noexcept nogil:
    cdef uint32_t after = hub_interval_at(c, user, <uint64_t>-1)
    if after == 0 or c.members[after - 1].user != user:
        return NULL
    return &c.members[after - 1]

cdef inline bint hub_interval_has(const hub_member_t* m, uint64_t seq) noexcept nogil:
    return m.join_seq <= seq and (m.leave_seq == 0 or seq <= m.leave_seq)

cdef inline bint hub_may_see(const hub_conversation_t* c, uint64_t user, uint64_t seq) noexcept nogil:
    cdef uint32_t i = hub_interval_at(c, user, 0)
    while i < c.interval_count and c.members[i].user == user:
        if hub_interval_has(&c.members[i], seq):
            return True
        i += 1
    return False

# Set an interval, found by (user, join_seq) or inserted. New intervals inherit the user's positions. NULL: no memory.
cdef hub_member_t* hub_interval_set(hub_conversation_t* c, uint64_t user, uint64_t join_seq, uint64_t leave_seq,
                                    uint32_t role) noexcept nogil:
    cdef uint32_t at = hub_interval_at(c, user, join_seq)
    cdef hub_member_t* m
    cdef hub_member_t* before
    cdef void* grown
    if at < c.interval_count and c.members[at].user == user and c.members[at].join_seq == join_seq:
        m = &c.members[at]
        c.member_count -= m.leave_seq == 0
    else:
        grown = hub_grown(c.members, c.interval_count, &c.interval_room, sizeof(hub_member_t))
        if grown == NULL:
            return NULL
        c.members = <hub_member_t*>grown
        m = &c.members[at]
        memmove(m + 1, m, (c.interval_count - at) * sizeof(hub_member_t))
        memset(m, 0, sizeof(hub_member_t))
        c.interval_count += 1
        m.user = user
        m.join_seq = join_seq
        if at > 0 and c.members[at - 1].user == user:
            before = &c.members[at - 1]
            hub_positions_move(m, before)
    m.leave_seq = leave_seq
    m.role = role
    c.member_count += leave_seq == 0
    return m

# Positions and their flags live on the newest interval of a user, and so does what hub/rights.pxi keeps of a member.
cdef inline void hub_positions_move(hub_member_t* to, hub_member_t* source) noexcept nogil:
    to.delivered_seq = source.delivered_seq
    to.read_seq = source.read_seq
    to.read_count = source.read_count
    to.cooling = source.cooling
    to.dirty = source.dirty
    to.changed = source.changed
    to.read_moved = source.read_moved
    to.muted_until_s = source.muted_until_s
    to.spoke_s = source.spoke_s
    source.cooling = source.dirty = source.changed = source.read_moved = 0

cdef void hub_interval_remove(hub_conversation_t* c, uint64_t user, uint64_t join_seq) noexcept nogil:
    cdef uint32_t at = hub_interval_at(c, user, join_seq)
    chatd_require(at < c.interval_count and c.members[at].join_seq == join_seq)
    if at > 0 and c.members[at - 1].user == user:
        hub_positions_move(&c.members[at - 1], &c.members[at])
    elif c.members[at].cooling:
        c.cooling_count -= 1
    c.member_count -= c.members[at].leave_seq == 0
    c.interval_count -= 1
    memmove(&c.members[at], &c.members[at + 1], (c.interval_count - at) * sizeof(hub_member_t))

# Raise positions; they never go back. read_count is the count at read_seq.
cdef void hub_positions_raise(hub_member_t* m, uint64_t delivered_seq, uint64_t read_seq,
                              uint64_t read_count) noexcept nogil:
    if read_seq > m.read_seq:
        m.read_seq = read_seq
        m.read_count = read_count
    if delivered_seq > m.delivered_seq:
        m.delivered_seq = delivered_seq
    if m.delivered_seq < m.read_seq:
        m.delivered_seq = m.read_seq


# -- events in the tail ------------------------------------------------------------------------------------------------

# Lowest seq from which the tail has every event up to head; head + 1: none.
cdef inline uint64_t hub_tail_floor(const hub_conversation_t* c) noexcept nogil:
    return c.head_seq + 1 - c.event_count

cdef inline const journal_event* hub_event(hub_t* h, const hub_conversation_t* c, uint64_t seq) noexcept nogil:
    cdef uint64_t floor = hub_tail_floor(c)
    if seq < floor or seq > c.head_seq:
        return NULL
    return <const journal_event*>tail_record(
        &h.tail, c.event_pos[(c.event_begin + <uint32_t>(seq - floor)) & (c.event_room - 1)])

cdef bint hub_event_push(hub_conversation_t* c, uint64_t pos) noexcept nogil:
    cdef uint32_t room, i
    cdef uint64_t* larger
    if c.event_count == c.event_room:
        room = c.event_room * 2 if c.event_room else 4
        larger = <uint64_t*>malloc(room * sizeof(uint64_t))
        if larger == NULL:
            return False
        for i in range(c.event_count):
            larger[i] = c.event_pos[(c.event_begin + i) & (c.event_room - 1)]
        free(c.event_pos)
        c.event_pos = larger
        c.event_room = room
        c.event_begin = 0
    c.event_pos[(c.event_begin + c.event_count) & (c.event_room - 1)] = pos
    c.event_count += 1
    return True

# The tail lets go of everything up to pos, and the conversations of those events with it.
cdef void hub_tail_free_to(hub_t* h, uint64_t pos) noexcept nogil:
    cdef uint64_t at
    cdef const journal_event* event
    cdef hub_conversation_t* c
    for at in range(h.tail.first_pos, pos + 1):
        event = <const journal_event*>tail_record(&h.tail, at)
        if event.head.type != JOURNAL_EVENT:
            continue
        c = hub_conversation(h, event.cid)
        chatd_assert(c != NULL and c.event_count > 0 and c.event_pos[c.event_begin] == at)
        c.event_begin = (c.event_begin + 1) & (c.event_room - 1)
        c.event_count -= 1
        if c.event_count == 0:
            free(c.event_pos)
            c.event_pos = NULL
            c.event_room = c.event_begin = 0
    tail_free_to(&h.tail, pos)


# -- loading -----------------------------------------------------------------------------------------------------------

# An interval of a user behind all others: 100,000 of them are loaded in a row.
cdef bint hub_interval_append(hub_conversation_t* c, const hub_member_t* given) noexcept nogil:
    cdef void* grown = hub_grown(c.members, c.interval_count, &c.interval_room, sizeof(hub_member_t))
    cdef hub_member_t* m
    if grown == NULL:
        return False
    c.members = <hub_member_t*>grown
    m = &c.members[c.interval_count]
    memset(m, 0, sizeof(hub_member_t))
    m.user = given.user
    m.join_seq = given.join_seq
    m.leave_seq = given.leave_seq
    m.role = given.role
    hub_positions_raise(m, given.delivered_seq, given.read_seq, given.read_count)
    c.interval_count += 1
    c.member_count += given.leave_seq == 0
    return True

# One interval as the main database has it. What replay or staging brought is newer and stays; positions merge.
cdef bint hub_interval_load(hub_conversation_t* c, const hub_member_t* given) noexcept nogil:
    if c.interval_count == 0 or c.members[c.interval_count - 1].user < given.user:
        return hub_interval_append(c, given)
    return hub_interval_merge(c, given)

cdef bint hub_interval_merge(hub_conversation_t* c, const hub_member_t* given) noexcept nogil:
    cdef uint32_t at = hub_interval_at(c, given.user, given.join_seq)
    cdef bint known = (at < c.interval_count and c.members[at].user == given.user
                       and c.members[at].join_seq == given.join_seq)
    cdef hub_member_t* newest
    if not known and hub_interval_set(c, given.user, given.join_seq, given.leave_seq, given.role) == NULL:
        return False
    newest = hub_member(c, given.user)
    hub_positions_raise(newest, given.delivered_seq, given.read_seq, given.read_count)
    return True
