# Rates of users: what a SEND costs, before it is staged.
#
# Only the hub sees all devices of a user on all shards, so the bucket is in the user's entry; the one that a shard has
# for each connection stands before it and keeps most of the excess off the ring. A SEND that nothing else speaks
# against costs one, and one more for every hundred members of the conversation who are online: the work it causes.
# What it spreads is bounded too: bytes to devices per byte that the user sent, over periods of amplification_ms. A user
# beyond it is in slow mode: the SENDs that amplify get through once a period, the others as ever.
# Repeats, SKIPs and refusals are free here. The audience is counted at most once a second for a conversation. With both
# limits lifted nothing is looked at.

cdef enum:
    HUB_RECOUNT_MS = 1000
    HUB_MEMBERS_PER_PRICE = 100
    HUB_TIME_BYTES = 5

cdef void hub_audience_count(hub_t* h, hub_conversation_t* c) noexcept nogil:
    cdef uint32_t i
    cdef const hub_user_t* u
    if h.tick_ms < c.recount_ms:
        return
    c.recount_ms = h.tick_ms + HUB_RECOUNT_MS
    hub_audience_make(h, c, c.head_seq + 1)
    if c.audience != NULL:
        hub_audience_sum(c.audience, &c.online_members, &c.online_devices)
        return
    c.online_members = c.online_devices = 0
    for i in range(c.interval_count):
        if c.members[i].leave_seq == 0:
            u = hub_user(h, c.members[i].user)
            if u != NULL and u.online_count:
                c.online_members += 1
                c.online_devices += u.online_count

# Bytes to the other devices, of a SEND that is stored now.
cdef inline uint64_t hub_spread_of(const hub_send_t* s) noexcept nogil:
    cdef const hub_conversation_t* c = s.conversation
    cdef uint64_t frame = (FRAME_HEADER_BYTES + varint_size(c.cid) + varint_size(c.head_seq + 1)
                           + varint_size(s.head.user) + HUB_TIME_BYTES + varint_size(s.kind) + s.content_bytes)
    return frame * (c.online_devices - 1) if c.online_devices else 0

# Charge a SEND to its user. 0: paid. Otherwise nothing is charged, and the milliseconds to wait.
cdef uint64_t hub_send_charge(hub_t* h, hub_send_t* s) noexcept nogil:
    cdef const hub_settings_t* limits = &h.settings
    cdef hub_user_t* u = hub_user(h, s.head.user)
    cdef uint64_t bytes_in = FRAME_HEADER_BYTES + s.head.body_bytes, bytes_out, price, wait_ns
    chatd_require(u != NULL)
    hub_audience_count(h, s.conversation)
    bytes_out = hub_spread_of(s)
    if h.tick_ms >= u.spread_until_ms:
        u.spread_until_ms = h.tick_ms + limits.amplification_ms
        u.spread_in = u.spread_out = 0
    if (limits.amplification_max and u.spread_out > limits.amplification_max * u.spread_in
            and bytes_out > limits.amplification_max * bytes_in):
        h.count.slowed += 1
        return u.spread_until_ms - h.tick_ms
    price = min(1 + <uint64_t>s.conversation.online_members // HUB_MEMBERS_PER_PRICE, limits.sends_burst)
    wait_ns = rate_charge(&u.sends_tat_ns, h.tick_ms * 1000000, price, limits.sends_per_s, limits.sends_burst)
    if wait_ns:
        h.count.rate_limited += 1
        return wait_ns // 1000000 + 1
    u.spread_in += bytes_in
    u.spread_out += bytes_out
    return 0
