# Devices and users: who is connected, what each device has sent.
#
# A device has at most one live session. A newer login fences the older one at once (its records carry an older session
# epoch and are dropped), tells its shard to close it and waits for the confirmation, at most takeover_ms: so WELCOME is
# never sent while the old connection can still be read. It also waits until everything the device has staged is durable
# or refused, because WELCOME promises cseq_stored.
# The window answers a repeated cseq from memory: a circle of 8 to 128 places by cseq modulo its size, grown when two
# live cseqs collide. window_floor is the proof: a cseq at or above it that is not in the window was never stored. Below
# it the main database is asked. cseq_max, the highest stored, decides nearly every case without a look: anything above
# is new.

cdef inline hub_device_t* hub_device(hub_t* h, uint64_t device) noexcept nogil:
    return <hub_device_t*>hmap_get(&h.devices, device)

cdef inline hub_user_t* hub_user(hub_t* h, uint64_t user) noexcept nogil:
    return <hub_user_t*>hmap_get(&h.users, user)

cdef void hub_device_free(hub_t* h, hub_device_t* d) noexcept nogil:
    hmap_remove(&h.devices, d.device)
    hub_age_out(&d.age)
    free(d.window)
    free(d.marks)
    free(d)

cdef void hub_device_evict(hub_t* h) noexcept nogil:
    cdef int tries
    cdef hub_device_t* d
    for tries in range(8):
        if h.devices.count < h.settings.devices_max:
            return
        d = <hub_device_t*>h.device_ages.newer
        if d.handle == 0 and d.login.handle == 0 and d.waits == NULL and d.touched_pos <= h.folded_pos:
            hub_device_free(h, d)
            h.count.evictions += 1
        else:
            hub_age_touch(&h.device_ages, &d.age)

cdef hub_device_t* hub_device_need(hub_t* h, uint64_t device) noexcept nogil:
    cdef hub_device_t* d = hub_device(h, device)
    if d != NULL or device == 0:
        return d
    hub_device_evict(h)
    d = <hub_device_t*>calloc(1, sizeof(hub_device_t))
    if d == NULL:
        return NULL
    d.device = device
    d.window_floor = 1
    if not hmap_put(&h.devices, device, d):
        free(d)
        return NULL
    hub_age_in(&h.device_ages, &d.age)
    return d

cdef void hub_user_free(hub_t* h, hub_user_t* u) noexcept nogil:
    hmap_remove(&h.users, u.user)
    hub_age_out(&u.age)
    free(u)

cdef hub_user_t* hub_user_need(hub_t* h, uint64_t user) noexcept nogil:
    cdef hub_user_t* u = hub_user(h, user)
    cdef hub_user_t* old
    cdef int tries
    if u != NULL or user == 0:
        return u
    for tries in range(8):
        if h.users.count < h.settings.users_max:
            break
        old = <hub_user_t*>h.user_ages.newer
        if old.online_count == 0 and not old.watched and old.sends_tat_ns <= h.tick_ms * 1000000:
            hub_user_free(h, old)
        else:
            hub_age_touch(&h.user_ages, &old.age)
    u = <hub_user_t*>calloc(1, sizeof(hub_user_t))
    if u == NULL:
        return NULL
    u.user = user
    if not hmap_put(&h.users, user, u):
        free(u)
        return NULL
    hub_age_in(&h.user_ages, &u.age)
    return u


# -- window of sent cseqs ----------------------------------------------------------------------------------------------

cdef inline hub_sent_t* hub_window_find(const hub_device_t* d, uint64_t cseq) noexcept nogil:
    cdef hub_sent_t* sent
    if d.window_room == 0 or cseq > d.cseq_max:
        return NULL
    sent = &d.window[cseq & (d.window_room - 1)]
    return sent if sent.cseq == cseq else NULL

# Twice the places. Two entries of one old place part or not; of two that meet, the newer one stays.
cdef bint hub_window_grow(hub_device_t* d) noexcept nogil:
    cdef uint32_t room = d.window_room * 2 if d.window_room else HUB_WINDOW_MIN
    cdef uint32_t i
    cdef hub_sent_t* larger = <hub_sent_t*>calloc(room, sizeof(hub_sent_t))
    if larger == NULL:
        return False
    for i in range(d.window_room):
        if d.window[i].cseq != 0:
            larger[d.window[i].cseq & (room - 1)] = d.window[i]
    free(d.window)
    d.window = larger
    d.window_room = room
    return True

# Remember what became of a cseq. replaced: what had to go for it (cseq 0: nothing). False: no memory, nothing changed.
cdef bint hub_window_put(hub_device_t* d, const hub_sent_t* sent, hub_sent_t* replaced) noexcept nogil:
    cdef hub_sent_t* place
    while (d.window_room == 0 or (d.window[sent.cseq & (d.window_room - 1)].cseq != 0
                                  and d.window_room < HUB_WINDOW_MAX)):
        if not hub_window_grow(d):
            return False
    place = &d.window[sent.cseq & (d.window_room - 1)]
    replaced[0] = place[0]
    if place.cseq > sent.cseq:
        # An old gap, filled late: the newer one keeps the place, and the floor says that this one has to be looked up.
        if d.window_floor <= sent.cseq:
            d.window_floor = sent.cseq + 1
    else:
        if place.cseq != 0 and d.window_floor <= place.cseq:
            d.window_floor = place.cseq + 1
        place[0] = sent[0]
    if sent.cseq > d.cseq_max:
        d.cseq_max = sent.cseq
    return True


# -- OUT_OF_ORDER marks ------------------------------------------------------------------------------------------------

# A cseq that got a retryable NAK holds back later ones of the same session and conversation until it is stored, skipped
# or refused for good, or the client would see its own messages in another order than it wrote them.
cdef inline bint hub_is_marked_before(const hub_device_t* d, uint64_t cid, uint64_t cseq) noexcept nogil:
    cdef uint32_t i
    for i in range(d.mark_count):
        if d.marks[i].cid == cid and d.marks[i].cseq < cseq:
            return True
    return False

# False: no room; the session has to end, because forgetting a mark would break the order.
cdef bint hub_mark(hub_device_t* d, uint64_t cid, uint64_t cseq) noexcept nogil:
    cdef uint32_t i
    cdef void* grown
    for i in range(d.mark_count):
        if d.marks[i].cseq == cseq:
            return True
    if d.mark_count >= HUB_MARKS_MAX:
        return False
    grown = hub_grown(d.marks, d.mark_count, &d.mark_room, sizeof(hub_mark_t))
    if grown == NULL:
        return False
    d.marks = <hub_mark_t*>grown
    d.marks[d.mark_count].cid = cid
    d.marks[d.mark_count].cseq = cseq
    d.mark_count += 1
    return True

# The conversation whose mark was taken away, 0: there was none.
cdef uint64_t hub_unmark(hub_device_t* d, uint64_t cseq) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t cid
    for i in range(d.mark_count):
        if d.marks[i].cseq == cseq:
            cid = d.marks[i].cid
            d.mark_count -= 1
            d.marks[i] = d.marks[d.mark_count]
            return cid
    return 0


# -- sessions ----------------------------------------------------------------------------------------------------------

cdef inline bint hub_is_session(const hub_device_t* d, uint32_t shard, uint64_t handle) noexcept nogil:
    return d != NULL and d.handle == handle and d.shard == shard and handle != 0

# False: no memory.
cdef bint hub_session_begin(hub_t* h, hub_device_t* d, uint32_t shard, uint64_t handle,
                            uint64_t session_epoch) noexcept nogil:
    cdef hub_user_t* u = hub_user_need(h, d.user)
    cdef hub_link_t* link = &h.links[shard]
    chatd_assert(d.handle == 0)
    if u == NULL:
        return False
    d.next_of_user = u.online
    u.online = d
    u.online_count += 1
    if u.online_count == 1:
        hub_audiences_join(h, u)
        if u.watched:
            hub_upcall(h, UP_PRESENCE, 0, u.user, True, 0, 0)
    d.shard = shard
    d.handle = handle
    d.session_epoch = session_epoch
    d.mark_count = 0
    d.previous_of_shard = NULL
    d.next_of_shard = link.devices
    if link.devices != NULL:
        link.devices.previous_of_shard = d
    link.devices = d
    hub_age_touch(&h.device_ages, &d.age)
    hub_age_touch(&h.user_ages, &u.age)
    hub_hop(h, HOP_ONLINE, d.user, h.tail.committed_pos, d.device, shard)
    return True

# From here on nothing of the session is accepted and nothing is pushed to it.
cdef void hub_session_end(hub_t* h, hub_device_t* d) noexcept nogil:
    cdef hub_user_t* u = hub_user(h, d.user)
    cdef hub_device_t** at
    chatd_require(u != NULL and d.handle != 0)
    at = &u.online
    while at[0] != d:
        at = &at[0].next_of_user
    at[0] = d.next_of_user
    u.online_count -= 1
    if u.online_count == 0:
        hub_audiences_leave(h, u)
        if u.watched:
            hub_upcall(h, UP_PRESENCE, 0, u.user, False, 0, 0)
    if d.previous_of_shard != NULL:
        d.previous_of_shard.next_of_shard = d.next_of_shard
    else:
        h.links[d.shard].devices = d.next_of_shard
    if d.next_of_shard != NULL:
        d.next_of_shard.previous_of_shard = d.previous_of_shard
    hub_unsubscribe_all(h, d)
    hub_hop(h, HOP_OFFLINE, d.user, h.tail.committed_pos, d.device, d.shard)
    d.previous_epoch = d.session_epoch
    d.handle = 0
    d.mark_count = 0
    free(d.marks)
    d.marks = NULL
    d.mark_room = 0
