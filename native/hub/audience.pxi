# Audience: who of a large conversation is there.
#
# Facts: an event goes to the live sessions of its members. Looking up each member costs 50 ns; a channel has 100,000,
# most of them away, and the hub does nothing else meanwhile. Consequence: a conversation of AUDIENCE_INTERVALS_MIN
# intervals and more has, from its first event on, a list of the intervals whose users are online, ascending by user
# like the members. Sessions that begin and end, and intervals that change, keep it true; whoever cannot (no memory, a
# batch undone, members loaded anew) drops it, and the next event makes another. It holds every interval that reaches
# to from_seq or beyond, so an older event (a link that is behind) is looked up among all members as ever.
# A user's entry is pinned while somebody is online, which is as long as it is in here.
# Price: 24 bytes for each of them, a search and a move of the list's rest for each login of a member. At most
# HUB_AUDIENCES_MAX conversations have one; the oldest goes.

cdef enum:
    AUDIENCE_INTERVALS_MIN = 1024


cdef inline bint hub_spans(uint64_t join_seq, uint64_t leave_seq, uint64_t seq) noexcept nogil:
    return join_seq <= seq and (leave_seq == 0 or seq <= leave_seq)

cdef void hub_audience_drop(hub_t* h, hub_conversation_t* c) noexcept nogil:
    cdef uint32_t at = 0
    cdef hub_audience_t* a = c.audience
    if a == NULL:
        return
    c.audience = NULL
    while h.audiences[at] != a:
        at += 1
    h.audience_count -= 1
    memmove(&h.audiences[at], &h.audiences[at + 1], (h.audience_count - at) * sizeof(hub_audience_t*))
    free(a.entries)
    free(a)

cdef void hub_audiences_drop(hub_t* h) noexcept nogil:
    while h.audience_count:
        hub_audience_drop(h, h.audiences[h.audience_count - 1].conversation)

# Index of the first entry at or after (user, join_seq).
cdef uint32_t hub_audience_at(const hub_audience_t* a, uint64_t user, uint64_t join_seq) noexcept nogil:
    cdef uint32_t low = 0, high = a.count, middle
    cdef const hub_present_t* entry
    while low < high:
        middle = (low + high) // 2
        entry = &a.entries[middle]
        if entry.user.user < user or (entry.user.user == user and entry.join_seq < join_seq):
            low = middle + 1
        else:
            high = middle
    return low

# False: no memory.
cdef bint hub_audience_put(hub_audience_t* a, uint32_t at, hub_user_t* u, const hub_member_t* m) noexcept nogil:
    cdef void* grown = hub_grown(a.entries, a.count, &a.room, sizeof(hub_present_t))
    if grown == NULL:
        return False
    a.entries = <hub_present_t*>grown
    memmove(&a.entries[at + 1], &a.entries[at], (a.count - at) * sizeof(hub_present_t))
    a.count += 1
    a.entries[at].user = u
    a.entries[at].join_seq = m.join_seq
    a.entries[at].leave_seq = m.leave_seq
    return True

cdef inline bint hub_audience_wants(const hub_audience_t* a, const hub_member_t* m) noexcept nogil:
    return m.leave_seq == 0 or m.leave_seq >= a.from_seq

# For events from `seq` on. Nothing is made for a small conversation, or without memory.
cdef void hub_audience_make(hub_t* h, hub_conversation_t* c, uint64_t seq) noexcept nogil:
    cdef hub_audience_t* a
    cdef hub_user_t* u
    cdef uint32_t i
    if c.audience != NULL or c.interval_count < AUDIENCE_INTERVALS_MIN:
        return
    a = <hub_audience_t*>calloc(1, sizeof(hub_audience_t))
    if a == NULL:
        return
    if h.audience_count == HUB_AUDIENCES_MAX:
        hub_audience_drop(h, h.audiences[0].conversation)
    a.conversation = c
    a.from_seq = seq
    c.audience = a
    h.audiences[h.audience_count] = a
    h.audience_count += 1
    for i in range(c.interval_count):
        if not hub_audience_wants(a, &c.members[i]):
            continue
        u = hub_user(h, c.members[i].user)
        if u != NULL and u.online_count and not hub_audience_put(a, a.count, u, &c.members[i]):
            hub_audience_drop(h, c)
            return

# The first session of a user has begun.
cdef void hub_audiences_join(hub_t* h, hub_user_t* u) noexcept nogil:
    cdef uint32_t which = h.audience_count, i
    cdef hub_conversation_t* c
    while which:
        which -= 1
        c = h.audiences[which].conversation
        i = hub_interval_at(c, u.user, 0)
        while i < c.interval_count and c.members[i].user == u.user:
            if hub_audience_wants(c.audience, &c.members[i]) and not hub_audience_put(
                    c.audience, hub_audience_at(c.audience, u.user, c.members[i].join_seq), u, &c.members[i]):
                hub_audience_drop(h, c)
                break
            i += 1

# The last one ends.
cdef void hub_audiences_leave(hub_t* h, const hub_user_t* u) noexcept nogil:
    cdef uint32_t which, first, behind
    cdef hub_audience_t* a
    for which in range(h.audience_count):
        a = h.audiences[which]
        first = behind = hub_audience_at(a, u.user, 0)
        while behind < a.count and a.entries[behind].user == u:
            behind += 1
        memmove(&a.entries[first], &a.entries[behind], (a.count - behind) * sizeof(hub_present_t))
        a.count -= behind - first

# An interval was opened or closed.
cdef void hub_audience_changed(hub_t* h, hub_conversation_t* c, const hub_member_t* m) noexcept nogil:
    cdef hub_audience_t* a = c.audience
    cdef hub_user_t* u = hub_user(h, m.user) if a != NULL else NULL
    cdef uint32_t at
    if u == NULL or u.online_count == 0:
        return
    at = hub_audience_at(a, m.user, m.join_seq)
    if at < a.count and a.entries[at].user == u and a.entries[at].join_seq == m.join_seq:
        a.entries[at].leave_seq = m.leave_seq
    elif not hub_audience_put(a, at, u, m):
        hub_audience_drop(h, c)

# Members that are there now, and their devices.
cdef void hub_audience_sum(const hub_audience_t* a, uint32_t* members, uint32_t* devices) noexcept nogil:
    cdef uint32_t i
    members[0] = devices[0] = 0
    for i in range(a.count):
        if a.entries[i].leave_seq == 0:
            members[0] += 1
            devices[0] += a.entries[i].user.online_count
