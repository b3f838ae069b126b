# Subscriptions: who follows the ephemeral side of a conversation here, and which shards have others who do.
#
# Fan-out walks one dense array of (slot, topics) per conversation; a removal moves the last entry into the hole. The
# entry of a connection knows its place in that array, so that a close costs its own subscriptions only. "May this
# connection send to cid?" is the same question as "is it subscribed?", asked for every EPHEMERAL: the connection
# remembers the entry that it used last; up to four entries are compared one by one, and for connections with more a
# hash over (cid, slot) answers the rest. Most have few, and so cost no place in that map (16 to 43 bytes). Nothing here
# looks at membership: the hub grants (LINK_H_GRANT) and takes back.

cdef enum:
    FOLLOWERS_WITHIN = 2            # most conversations are of two: their followers stand in the set itself
    FOLLOWERS_BESIDE_MIN = 5        # a block of 64 bytes
    SUBSCRIPTIONS_WALKED = 4        # a connection with more has all of its entries in by_pair
    SUBSCRIPTION_NONE = 0xFFFFFFFF

cdef struct follower_t:
    uint32_t slot
    uint32_t entry                  # index into subscriptions_t.entries
    uint32_t topics

cdef union followers_t:
    follower_t within[FOLLOWERS_WITHIN]
    follower_t* beside              # when room > FOLLOWERS_WITHIN

# One conversation with followers here or elsewhere.
cdef struct topic_set_t:
    uint64_t cid                    # 0: free, next in `count`
    uint64_t shards                 # bit i: shard i has followers
    followers_t followers
    uint32_t count
    uint32_t room

# One connection following one conversation.
cdef struct subscription_t:
    uint32_t slot                   # SLOT_NONE: free, chained through next
    uint32_t topic_set
    uint32_t place                  # in the followers of the set
    uint32_t next                   # of the same connection
    uint32_t previous
    uint32_t typing_ms              # low bits of the time of its last typing frame

cdef struct subscriptions_t:
    topic_set_t* sets
    uint32_t set_room
    uint32_t set_used               # high-water mark
    uint32_t set_free               # chain through count
    subscription_t* entries
    uint32_t entry_room
    uint32_t entry_used
    uint32_t entry_free
    uint32_t entry_count
    map64_t by_cid                  # cid -> set
    map64_t by_pair                 # mix of (cid, slot) -> entry; verified, a collision falls back to a walk


cdef void subscriptions_init(subscriptions_t* subs) noexcept nogil:
    subs.set_free = subs.entry_free = <uint32_t>SUBSCRIPTION_NONE

cdef inline uint64_t subscription_key(uint64_t cid, uint32_t slot) noexcept nogil:
    return ((cid * <uint64_t>0x9E3779B97F4A7C15ULL) ^ (<uint64_t>slot * <uint64_t>0xD6E8FEB86659FD93ULL)) | 1


# Grow an array of the pool to twice its size, and to all of the block that this takes; returns the new one, or NULL
# and the old one stays.
@cython.cdivision(True)
cdef void* pool_double(pool_t* pool, void* old, uint32_t* room, size_t item_bytes, uint32_t room_min) noexcept nogil:
    cdef uint32_t larger = room[0] * 2 if room[0] else room_min
    cdef void* block
    larger = <uint32_t>(pool_room(larger * item_bytes) // item_bytes)
    block = pool_resize(pool, old, room[0] * item_bytes, larger * item_bytes)
    if block != NULL:
        room[0] = larger
    return block

cdef inline follower_t* topic_set_followers(topic_set_t* topic_set) noexcept nogil:
    return topic_set.followers.beside if topic_set.room > FOLLOWERS_WITHIN else topic_set.followers.within

# Room for one more. False: no memory.
cdef bint topic_set_grow(engine_t* e, topic_set_t* topic_set) noexcept nogil:
    cdef follower_t* beside
    if topic_set.count < topic_set.room:
        return True
    if topic_set.room > FOLLOWERS_WITHIN:
        beside = <follower_t*>pool_double(&e.pool, topic_set.followers.beside, &topic_set.room, sizeof(follower_t), 0)
        if beside == NULL:
            return False
        topic_set.followers.beside = beside
        return True
    beside = <follower_t*>pool_alloc(&e.pool, FOLLOWERS_BESIDE_MIN * sizeof(follower_t))
    if beside == NULL:
        return False
    memcpy(beside, topic_set.followers.within, topic_set.count * sizeof(follower_t))
    topic_set.followers.beside = beside
    topic_set.room = FOLLOWERS_BESIDE_MIN
    return True

cdef void topic_set_empty(engine_t* e, topic_set_t* topic_set) noexcept nogil:
    if topic_set.room > FOLLOWERS_WITHIN:
        pool_free(&e.pool, topic_set.followers.beside, topic_set.room * sizeof(follower_t))
    topic_set.room = FOLLOWERS_WITHIN
    topic_set.cid = 0

cdef topic_set_t* topic_set_find(subscriptions_t* subs, uint64_t cid) noexcept nogil:
    cdef uint32_t index = map64_get(&subs.by_cid, cid)
    return &subs.sets[index] if index != <uint32_t>MAP_NONE else NULL

cdef topic_set_t* topic_set_make(engine_t* e, uint64_t cid) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef topic_set_t* found = topic_set_find(subs, cid)
    cdef uint32_t index = subs.set_free
    cdef void* block
    if found != NULL:
        return found
    if index == <uint32_t>SUBSCRIPTION_NONE:
        if subs.set_used == subs.set_room:
            block = pool_double(&e.pool, subs.sets, &subs.set_room, sizeof(topic_set_t), 64)
            if block == NULL:
                return NULL
            subs.sets = <topic_set_t*>block
        index = subs.set_used
    if not map64_put(&subs.by_cid, &e.pool, cid, index):
        return NULL
    if index == subs.set_used:
        subs.set_used += 1
    else:
        subs.set_free = subs.sets[index].count
    memset(&subs.sets[index], 0, sizeof(topic_set_t))
    subs.sets[index].cid = cid
    subs.sets[index].room = FOLLOWERS_WITHIN
    return &subs.sets[index]

# Free the set when nobody follows it, neither here nor elsewhere.
cdef void topic_set_release(engine_t* e, topic_set_t* topic_set) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    if topic_set.count or topic_set.shards:
        return
    map64_remove(&subs.by_cid, topic_set.cid)
    topic_set_empty(e, topic_set)
    topic_set.count = subs.set_free
    subs.set_free = <uint32_t>(topic_set - subs.sets)

# The connection's entry for cid, or SUBSCRIPTION_NONE, which is MAP_NONE, too.
cdef uint32_t subscription_walk(const subscriptions_t* subs, const conn_t* c, uint64_t cid) noexcept nogil:
    cdef uint32_t index = c.subscription_first
    while index != <uint32_t>SUBSCRIPTION_NONE and subs.sets[subs.entries[index].topic_set].cid != cid:
        index = subs.entries[index].next
    return index

# The connection gets more entries than are worth walking: all of them go into the map. False: no memory; what went in
# is verified by whoever finds it.
cdef bint subscriptions_index(engine_t* e, const conn_t* c) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef uint32_t index = c.subscription_first
    cdef uint64_t cid
    while index != <uint32_t>SUBSCRIPTION_NONE:
        cid = subs.sets[subs.entries[index].topic_set].cid
        if not map64_put(&subs.by_pair, &e.pool, subscription_key(cid, c.slot), index):
            return False
        index = subs.entries[index].next
    return True

# The connection's subscription to cid, or NULL.
cdef subscription_t* subscription_find(engine_t* e, conn_t* c, uint64_t cid) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef uint32_t index = c.subscription_hint
    if index != <uint32_t>SUBSCRIPTION_NONE and subs.sets[subs.entries[index].topic_set].cid == cid:
        return &subs.entries[index]
    if c.subscription_count <= SUBSCRIPTIONS_WALKED:
        index = subscription_walk(subs, c, cid)
    else:
        index = map64_get(&subs.by_pair, subscription_key(cid, c.slot))
        if index != <uint32_t>MAP_NONE and (subs.entries[index].slot != c.slot
                                            or subs.sets[subs.entries[index].topic_set].cid != cid):
            index = subscription_walk(subs, c, cid)
    if index == <uint32_t>SUBSCRIPTION_NONE:
        return NULL
    c.subscription_hint = index
    return &subs.entries[index]

cdef uint32_t subscription_take(engine_t* e) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef uint32_t index = subs.entry_free
    cdef void* block
    if index != <uint32_t>SUBSCRIPTION_NONE:
        subs.entry_free = subs.entries[index].next
        return index
    if subs.entry_used >= e.settings.subscriptions_total_max:
        return <uint32_t>SUBSCRIPTION_NONE
    if subs.entry_used == subs.entry_room:
        block = pool_double(&e.pool, subs.entries, &subs.entry_room, sizeof(subscription_t), 64)
        if block == NULL:
            return <uint32_t>SUBSCRIPTION_NONE
        subs.entries = <subscription_t*>block
    index = subs.entry_used
    subs.entry_used += 1
    return index

cdef void subscription_give(subscriptions_t* subs, uint32_t index) noexcept nogil:
    subs.entries[index].slot = <uint32_t>SLOT_NONE
    subs.entries[index].next = subs.entry_free
    subs.entry_free = index

# Subscribe, or change the topics of a subscription. False: no memory or too many; nothing changed.
cdef bint subscription_put(engine_t* e, conn_t* c, uint64_t cid, uint32_t topics) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef subscription_t* entry = subscription_find(e, c, cid)
    cdef topic_set_t* topic_set
    cdef follower_t* follower
    cdef uint32_t index
    if entry != NULL:
        topic_set_followers(&subs.sets[entry.topic_set])[entry.place].topics = topics
        return True
    if c.subscription_count >= e.settings.subscriptions_max:
        return False
    topic_set = topic_set_make(e, cid)
    if topic_set == NULL:
        return False
    index = subscription_take(e) if topic_set_grow(e, topic_set) else <uint32_t>SUBSCRIPTION_NONE
    if index == <uint32_t>SUBSCRIPTION_NONE:
        topic_set_release(e, topic_set)
        return False
    if c.subscription_count >= SUBSCRIPTIONS_WALKED and not (
            (c.subscription_count > SUBSCRIPTIONS_WALKED or subscriptions_index(e, c))
            and map64_put(&subs.by_pair, &e.pool, subscription_key(cid, c.slot), index)):
        subscription_give(subs, index)
        topic_set_release(e, topic_set)
        return False
    entry = &subs.entries[index]
    entry.slot = c.slot
    entry.topic_set = <uint32_t>(topic_set - subs.sets)
    entry.place = topic_set.count
    entry.typing_ms = <uint32_t>(e.now_ms - e.settings.typing_interval_ms)
    entry.previous = <uint32_t>SUBSCRIPTION_NONE
    entry.next = c.subscription_first
    if entry.next != <uint32_t>SUBSCRIPTION_NONE:
        subs.entries[entry.next].previous = index
    c.subscription_first = index
    c.subscription_count += 1
    follower = &topic_set_followers(topic_set)[topic_set.count]
    follower.slot = c.slot
    follower.entry = index
    follower.topics = topics
    topic_set.count += 1
    subs.entry_count += 1
    return True

cdef void subscription_remove(engine_t* e, conn_t* c, uint32_t index) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef subscription_t* entry = &subs.entries[index]
    cdef topic_set_t* topic_set = &subs.sets[entry.topic_set]
    cdef follower_t* followers = topic_set_followers(topic_set)
    cdef follower_t* last = &followers[topic_set.count - 1]
    cdef uint64_t key = subscription_key(topic_set.cid, c.slot)
    chatd_require(entry.slot == c.slot and entry.place < topic_set.count)
    followers[entry.place] = last[0]
    subs.entries[last.entry].place = entry.place
    topic_set.count -= 1
    if map64_get(&subs.by_pair, key) == index:
        map64_remove(&subs.by_pair, key)
    if e.hub.attach_entry == index:
        e.hub.attach_entry = entry.next
    if entry.previous != <uint32_t>SUBSCRIPTION_NONE:
        subs.entries[entry.previous].next = entry.next
    else:
        c.subscription_first = entry.next
    if entry.next != <uint32_t>SUBSCRIPTION_NONE:
        subs.entries[entry.next].previous = entry.previous
    c.subscription_hint = <uint32_t>SUBSCRIPTION_NONE
    c.subscription_count -= 1
    subs.entry_count -= 1
    subscription_give(subs, index)
    topic_set_release(e, topic_set)

cdef void subscriptions_drop(engine_t* e, conn_t* c) noexcept nogil:
    while c.subscription_first != <uint32_t>SUBSCRIPTION_NONE:
        subscription_remove(e, c, c.subscription_first)

# LINK_H_INTEREST: which shards have followers of cid.
cdef void subscriptions_interest(engine_t* e, uint64_t cid, uint64_t shards) noexcept nogil:
    cdef topic_set_t* topic_set = topic_set_find(&e.subscriptions, cid)
    if topic_set == NULL and shards:
        topic_set = topic_set_make(e, cid)
    if topic_set != NULL:
        topic_set.shards = shards
        topic_set_release(e, topic_set)

cdef void subscriptions_dispose(engine_t* e) noexcept nogil:
    cdef subscriptions_t* subs = &e.subscriptions
    cdef uint32_t index
    for index in range(subs.set_used):
        if subs.sets[index].cid:
            topic_set_empty(e, &subs.sets[index])
    pool_free(&e.pool, subs.sets, subs.set_room * sizeof(topic_set_t))
    pool_free(&e.pool, subs.entries, subs.entry_room * sizeof(subscription_t))
    map64_dispose(&subs.by_cid, &e.pool)
    map64_dispose(&subs.by_pair, &e.pool)
