# Interest: which shards have followers of a conversation's ephemeral side.
#
# The hub checks membership once, when a session subscribes, and from then on only tells the shards of a conversation
# about each other: EPHEMERAL frames travel from shard to shard without it. It keeps each subscription, because it alone
# learns of removals (revoke) and of shards that die. INTEREST goes to the shards that follow whenever their set
# changes; one that has just left is told too, and forgets. A large conversation costs its members nothing here, only
# followers do.

cdef void hub_say_interest(hub_t* h, uint32_t shard, uint64_t cid, uint64_t shards) noexcept nogil:
    cdef hub_room_t room
    cdef link_interest* record = <link_interest*>hub_control(h, shard, sizeof(link_interest), &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_interest))
    record.type = LINK_H_INTEREST
    record.cid = cid
    record.shards = shards
    hub_control_done(&room)

cdef void hub_say_grant(hub_t* h, uint32_t shard, uint64_t handle, uint64_t cid, uint32_t topics) noexcept nogil:
    cdef hub_room_t room
    cdef link_grant* record = <link_grant*>hub_control(h, shard, sizeof(link_grant), &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_grant))
    record.type = LINK_H_GRANT
    record.topics = topics
    record.handle = handle
    record.cid = cid
    hub_control_done(&room)

# One frame for those who follow any of the topics there, but for one connection.
cdef void hub_say_topic(hub_t* h, uint32_t shard, uint64_t cid, uint8_t topics, const uint8_t* frame, size_t n,
                        uint64_t but_handle) noexcept nogil:
    cdef hub_room_t room
    cdef link_topic* record = <link_topic*>hub_control(h, shard, sizeof(link_topic) + n, &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_topic))
    record.type = LINK_H_TOPIC
    record.topics = topics
    record.frame_bytes = <uint32_t>n
    record.cid = cid
    record.but_handle = but_handle
    memcpy(<uint8_t*>record + sizeof(link_topic), frame, n)
    hub_control_done(&room)

# Is there room in the ring for n bytes that may be lost? They never wait in the outbox, nor use what answers need.
cdef bint hub_has_spare_room(hub_t* h, uint32_t shard, size_t n) noexcept nogil:
    cdef const hub_link_t* link = &h.links[shard]
    return (link.up and not link.lost and link.outbox_begin == link.outbox_end and n <= link.ring_out.record_bytes_max
            and ring_free_bytes(link.ring_out) >= hub_ring_reserve(h, link) + 2 * (n + RING_RECORD_HEADER_BYTES + 8))

# A frame that may be lost, for everybody who follows any of the topics but the connection it came from. Returns how
# many shards had no room for it.
cdef uint32_t hub_to_followers(hub_t* h, const hub_conversation_t* c, uint8_t topics, const uint8_t* frame, size_t n,
                               uint32_t but_shard, uint64_t but_handle) noexcept nogil:
    cdef uint64_t left = c.shards
    cdef uint32_t shard, dropped = 0
    while left:
        shard = chatd_lowest_bit(left)
        left &= left - 1
        if hub_has_spare_room(h, shard, sizeof(link_topic) + n):
            hub_say_topic(h, shard, c.cid, topics, frame, n, but_handle if shard == but_shard else 0)
        else:
            dropped += 1
    h.count.topic_dropped += dropped
    return dropped

# Tell the shards concerned when the set has changed.
cdef void hub_interest_changed(hub_t* h, hub_conversation_t* c) noexcept nogil:
    cdef uint64_t now = 0, before = c.shards, left
    cdef hub_subscription_t* s = c.subscriptions
    cdef uint32_t shard
    # A new follower stands first, so the walk may end where every shard of before has been seen again.
    while s != NULL and (now == 0 or now & before != before):
        now |= <uint64_t>1 << s.device.shard
        s = s.next_of_conversation
    if now == before:
        return
    c.shards = now
    left = now | before
    while left:
        shard = chatd_lowest_bit(left)
        left &= left - 1
        hub_say_interest(h, shard, c.cid, now)

cdef hub_subscription_t* hub_subscription(const hub_device_t* d, const hub_conversation_t* c) noexcept nogil:
    cdef hub_subscription_t* s = d.subscriptions
    while s != NULL and s.conversation != c:
        s = s.next_of_device
    return s

# Take it out of both lists; INTEREST is the caller's business.
cdef void hub_subscription_free(hub_subscription_t* s) noexcept nogil:
    cdef hub_subscription_t** at = &s.device.subscriptions
    while at[0] != s:
        at = &at[0].next_of_device
    at[0] = s.next_of_device
    if s.previous_of_conversation != NULL:
        s.previous_of_conversation.next_of_conversation = s.next_of_conversation
    else:
        s.conversation.subscriptions = s.next_of_conversation
    if s.next_of_conversation != NULL:
        s.next_of_conversation.previous_of_conversation = s.previous_of_conversation
    s.conversation.subscription_count -= 1
    s.device.subscription_count -= 1
    free(s)

cdef void hub_unsubscribe_all(hub_t* h, hub_device_t* d) noexcept nogil:
    cdef hub_conversation_t* c
    while d.subscriptions != NULL:
        c = d.subscriptions.conversation
        hub_subscription_free(d.subscriptions)
        hub_interest_changed(h, c)

# 0, or why not.
cdef uint16_t hub_subscribe(hub_t* h, hub_device_t* d, hub_conversation_t* c) noexcept nogil:
    cdef hub_subscription_t* s = hub_subscription(d, c)
    if s != NULL:
        return 0
    if d.subscription_count >= h.settings.subscriptions_max:
        return ERR_LIMIT_REACHED
    s = <hub_subscription_t*>calloc(1, sizeof(hub_subscription_t))
    if s == NULL:
        return ERR_UNAVAILABLE
    s.conversation = c
    s.device = d
    s.next_of_device = d.subscriptions
    d.subscriptions = s
    s.next_of_conversation = c.subscriptions
    if c.subscriptions != NULL:
        c.subscriptions.previous_of_conversation = s
    c.subscriptions = s
    c.subscription_count += 1
    d.subscription_count += 1
    hub_interest_changed(h, c)
    return 0


# -- SUBSCRIBE and UNSUBSCRIBE -----------------------------------------------------------------------------------------

# The connection does not follow cid any more, and is told.
cdef void hub_say_ended(hub_t* h, uint32_t shard, uint64_t handle, uint64_t cid) noexcept nogil:
    cdef uint8_t frame[32]
    cdef out_t o
    hub_frame_begin(frame, sizeof(frame), &o)
    wr_varint(&o, cid)
    hub_say_grant(h, shard, handle, cid, 0)
    hub_say_frames(h, shard, handle, frame, hub_frame_end(frame, &o, OP_UNSUBSCRIBE, 0), False)

cdef void hub_call_refuse(hub_t* h, uint32_t shard, const link_call* call, uint64_t cid, uint16_t code) noexcept nogil:
    cdef uint8_t frame[64]
    cdef uint64_t retry = h.settings.busy_retry_ms if hub_is_retryable(code) else 0
    cdef size_t n
    if call.reattach:
        hub_say_ended(h, shard, call.handle, cid)
        return
    n = hub_frame_error(frame, sizeof(frame), code, call.op, cid, retry)
    hub_say_frames(h, shard, call.handle, frame, n, True)

cdef void hub_call_echo(hub_t* h, uint32_t shard, const link_call* call, uint64_t cid, uint64_t topics) noexcept nogil:
    cdef uint8_t frame[32]
    cdef out_t o
    hub_frame_begin(frame, sizeof(frame), &o)
    wr_varint(&o, cid)
    if call.op == OP_SUBSCRIBE:
        wr_varint(&o, topics)
    hub_say_frames(h, shard, call.handle, frame, hub_frame_end(frame, &o, call.op, 0), True)

cdef hub_outcome hub_on_subscription(hub_t* h, uint32_t shard, const uint8_t* record, hub_need_t* wait) noexcept nogil:
    cdef link_call call
    cdef cur_t body
    cdef uint64_t cid, topics = 0
    cdef hub_device_t* d
    cdef hub_conversation_t* c
    cdef hub_member_t* m
    cdef uint16_t fault
    memcpy(&call, record, sizeof(call))
    rd_init(&body, record + sizeof(call), call.body_bytes)
    cid = rd_varint(&body)
    if call.op == OP_SUBSCRIBE:
        topics = rd_varint(&body) & (TOPIC_EPHEMERAL | TOPIC_RECEIPTS | TOPIC_STREAMS)
    d = hub_device(h, call.device)
    if not hub_is_session(d, shard, call.handle):
        return HUB_DONE
    if not d.features & FEATURE_RECEIPTS:
        topics &= ~<uint64_t>TOPIC_RECEIPTS
    if not d.features & FEATURE_STREAMS:
        topics &= ~<uint64_t>TOPIC_STREAMS
    if not rd_done(&body):
        hub_call_refuse(h, shard, &call, 0, ERR_BAD_REQUEST)
        return HUB_DONE
    c = hub_conversation(h, cid)
    if call.op == OP_UNSUBSCRIBE or topics == 0:
        hub_unsubscribe(h, d, c)
        # A grant for conversation 0, which cannot be, would be taken for a corrupt ring.
        if cid != 0:
            hub_say_grant(h, shard, call.handle, cid, 0)
        hub_call_echo(h, shard, &call, cid, 0)
        return HUB_DONE
    if cid != 0 and (c == NULL or not c.loaded):
        wait.kind = NEED_CONVERSATION
        wait.key = cid
        return HUB_PARK
    m = hub_member(c, d.user) if c != NULL else NULL
    fault = ERR_NOT_FOUND
    if m != NULL and m.leave_seq == 0:
        fault = hub_subscribe(h, d, c)
    if fault != 0:
        hub_call_refuse(h, shard, &call, cid, fault)
        return HUB_DONE
    if call.reattach:
        return HUB_DONE
    hub_say_grant(h, shard, call.handle, cid, <uint32_t>topics)
    hub_call_echo(h, shard, &call, cid, topics)
    if c.streaming and topics & TOPIC_STREAMS:
        hub_upcall(h, UP_FOLLOWED, shard, call.handle, cid, d.frame_bytes_max, 0)
    return HUB_DONE

cdef void hub_unsubscribe(hub_t* h, hub_device_t* d, hub_conversation_t* c) noexcept nogil:
    cdef hub_subscription_t* s = hub_subscription(d, c) if c != NULL else NULL
    if s != NULL:
        hub_subscription_free(s)
        hub_interest_changed(h, c)

# The user has lost the conversation: all devices stop following, and are told.
cdef void hub_revoke(hub_t* h, hub_conversation_t* c, uint64_t user) noexcept nogil:
    cdef hub_user_t* u = hub_user(h, user)
    cdef hub_device_t* d = u.online if u != NULL else NULL
    while d != NULL:
        if hub_subscription(d, c) != NULL:
            hub_unsubscribe(h, d, c)
            hub_say_ended(h, d.shard, d.handle, c.cid)
        d = d.next_of_user
