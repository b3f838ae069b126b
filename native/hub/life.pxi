# Beginning and end of a core, and the small steps of HubCore's methods.

from cpython.bytes cimport PyBytes_FromStringAndSize

cdef int hub_settings_read(hub_settings_t* to, object settings) except -1:
    to.log_epoch = settings.log_epoch
    to.session_epoch_base = settings.session_epoch_base
    to.digest_key = settings.digest_key
    to.shards_max = min(settings.shards_max, HUB_SHARDS_MAX)
    to.ring_reserve_bytes = settings.ring_reserve_bytes
    to.outbox_bytes_max = settings.outbox_bytes_max
    to.tail_records_max = settings.tail_records_max
    to.tail_bytes_max = settings.tail_bytes_max
    to.batch_records_max = settings.batch_records_max
    to.batch_bytes_max = settings.batch_bytes_max
    to.conversations_max = settings.conversations_max
    to.devices_max = settings.devices_max
    to.users_max = settings.users_max
    to.parked_records_max = settings.parked_records_max
    to.parked_bytes_max = settings.parked_bytes_max
    to.devices_online_max = settings.devices_online_max
    to.devices_online_replace = settings.devices_online_replace
    to.subscriptions_max = settings.subscriptions_max
    to.receipt_members_max = settings.receipt_members_max
    to.sends_per_s = settings.sends_per_s
    to.sends_burst = settings.sends_burst
    to.amplification_max = settings.amplification_max
    to.amplification_ms = settings.amplification_ms
    to.takeover_ms = settings.takeover_ms
    to.position_interval_ms = settings.position_interval_ms
    to.busy_retry_ms = settings.busy_retry_ms
    to.ledger_entries = settings.ledger_entries
    hub_words_read(to.role_rights, settings.role_rights)
    return 0

cdef void hub_dispose(hub_t* h) noexcept nogil:
    cdef uint32_t shard
    cdef hub_device_t* d
    if h == NULL:
        return
    hub_needs_dispose(h)
    while h.device_ages.newer != NULL and h.device_ages.newer != &h.device_ages:
        d = <hub_device_t*>h.device_ages.newer
        while d.subscriptions != NULL:
            hub_subscription_free(d.subscriptions)
        hub_device_free(h, d)
    while h.user_ages.newer != NULL and h.user_ages.newer != &h.user_ages:
        hub_user_free(h, <hub_user_t*>h.user_ages.newer)
    while h.conversation_ages.newer != NULL and h.conversation_ages.newer != &h.conversation_ages:
        hub_conversation_free(h, <hub_conversation_t*>h.conversation_ages.newer)
    hmap_dispose(&h.conversations)
    hmap_dispose(&h.devices)
    hmap_dispose(&h.users)
    tail_dispose(&h.tail)
    for shard in range(HUB_SHARDS_MAX):
        free(h.links[shard].outbox)
    free(h.upcalls)
    free(h.answers)
    free(h.undo)
    free(h.moved)
    free(h.cooling)
    free(h.recipients)
    free(h.recipients_unsorted)
    free(h.recipient_shards)
    free(h.frame)
    free(h.hops)
    free(h)

# The entry with the members that the main database has; see HubCore.put_conversation. Never NULL: raises MemoryError.
cdef hub_conversation_t* hub_conversation_put(hub_t* h, uint64_t cid, list members, object muted,
                                              object spoke) except NULL:
    cdef hub_conversation_t* c = hub_conversation_need(h, cid)
    cdef hub_member_t m
    cdef hub_member_t* member
    if c == NULL:
        raise MemoryError
    hub_audience_drop(h, c)
    memset(&m, 0, sizeof(m))
    for user, role, join_seq, leave_seq, delivered_seq, read_seq, read_count in members:
        m.user = user
        m.role = role
        m.join_seq = join_seq
        m.leave_seq = leave_seq
        m.delivered_seq = delivered_seq
        m.read_seq = read_seq
        m.read_count = read_count
        if not hub_interval_load(c, &m):
            raise MemoryError
    hub_early_settle(c)
    for user, until_s in muted:
        member = hub_member(c, user)
        if member != NULL:
            member.muted_until_s = until_s
    for user, ts_ms in spoke:
        member = hub_member(c, user)
        if member != NULL:
            member.spoke_s = max(member.spoke_s, hub_second_after(ts_ms))
    return c

# An interval with its record and its way back. False: no memory, nothing changed.
cdef bint hub_stage_member(hub_t* h, hub_conversation_t* c, uint64_t user, uint32_t role, uint64_t join_seq,
                           uint64_t leave_seq) noexcept nogil:
    cdef uint32_t at = hub_interval_at(c, user, join_seq)
    cdef bint known = (at < c.interval_count and c.members[at].user == user and c.members[at].join_seq == join_seq)
    cdef uint64_t leave_before = c.members[at].leave_seq if known else 0
    cdef uint32_t role_before = c.members[at].role if known else 0
    cdef uint32_t undone = h.undo_count
    cdef hub_undo_t* undo
    cdef journal_member* record
    cdef hub_member_t* m
    if not hub_undo_prepare(h):
        return False
    m = hub_interval_set(c, user, join_seq, leave_seq, role)
    if m == NULL:
        return False
    hub_audience_changed(h, c, m)
    undo = hub_undo_add(h, UNDO_INTERVAL if known else UNDO_INTERVAL_NEW)
    undo.conversation = c
    undo.a = user
    undo.b = join_seq
    undo.c = leave_before if known else c.touched_pos
    undo.d = role_before
    undo.e = c.touched_pos
    record = <journal_member*>tail_append_typed(&h.tail, JOURNAL_MEMBER, 0, sizeof(journal_member))
    if record == NULL:
        hub_undo_to(h, undone)
        return False
    c.touched_pos = h.tail.next_pos - 1
    record.cid = c.cid
    record.user = user
    record.join_seq = join_seq
    record.leave_seq = leave_seq
    record.role = role
    record.zero = 0
    return True

# Logins that waited for a device that does not exist.
cdef void hub_refuse_device(hub_t* h, uint64_t device) noexcept nogil:
    cdef hub_need_t* need = <hub_need_t*>hmap_get(&h.needs[<uint32_t>NEED_DEVICE], device)
    cdef hub_parked_t* parked
    cdef link_login login
    if need == NULL:
        return
    hmap_remove(&h.needs[<uint32_t>NEED_DEVICE], device)
    while need.first != NULL:
        parked = need.first
        need.first = parked.next
        h.parked_records -= 1
        h.parked_bytes -= hub_parked_cost(parked.bytes)
        if (not parked.cancelled and hub_parked_record(parked)[0] == LINK_S_LOGIN and h.links[parked.shard].up
                and h.links[parked.shard].generation == parked.generation):
            memcpy(&login, hub_parked_record(parked), sizeof(login))
            hub_login_refuse(h, parked.shard, &login, ERR_AUTH_FAILED)
        free(parked)
    hub_unwait(h, device, need)
    free(need)

cdef void hub_unwait(hub_t* h, uint64_t device, hub_need_t* need) noexcept nogil:
    cdef hub_device_t* d = hub_device(h, device)
    if d != NULL and d.waits == need:
        d.waits = NULL

# Frames of one answer, in as many records as the ring's largest asks for, cut between frames.
cdef bint hub_say_frames_cut(hub_t* h, uint32_t shard, uint64_t handle, const uint8_t* frames, size_t n,
                             bint done) noexcept nogil:
    cdef size_t most, piece, frame
    if shard >= HUB_SHARDS_MAX or not h.links[shard].up or h.links[shard].lost:
        return False
    most = h.links[shard].ring_out.record_bytes_max - sizeof(link_frames)
    while n > most:
        piece = 0
        while True:
            frame = FRAME_HEADER_BYTES + ((<size_t>frames[piece] << 8) | frames[piece + 1])
            if piece + frame > most or piece + frame > n:
                break
            piece += frame
        if piece == 0:
            return False
        if not hub_say_frames(h, shard, handle, frames, piece, False):
            return False
        frames += piece
        n -= piece
    return hub_say_frames(h, shard, handle, frames, n, done)

# How far the tail may let go: what is folded, unless a link still has to read it. A link that makes the tail reach half
# of its bound is not waited for; it will get LOST.
cdef uint64_t hub_tail_keep(hub_t* h) noexcept nogil:
    cdef uint64_t pos = h.folded_pos
    cdef uint32_t shard
    if (tail_count(&h.tail) >= h.settings.tail_records_max // 2
            or h.tail.bytes >= h.settings.tail_bytes_max // 2):
        return pos
    for shard in range(<uint32_t>h.settings.shards_max):
        if not h.links[shard].up or h.links[shard].lost:
            continue
        if not h.links[shard].ready:
            return h.tail.first_pos - 1
        if h.links[shard].pushed_pos < pos:
            pos = h.links[shard].pushed_pos
    return pos

cdef dict hub_counters(hub_t* h):
    cdef hub_counters_t* n = &h.count
    return {
        "sends": n.sends, "sends_staged": n.sends_staged, "duplicates": n.duplicates, "fenced": n.fenced,
        "naks": n.naks, "skips": n.skips, "malformed": n.malformed, "parked": n.parked,
        "events_pushed": n.events_pushed, "deliveries": n.deliveries, "catch_up_events": n.catch_up_events,
        "links_lost": n.links_lost, "lost_events": n.lost_events, "logins": n.logins, "takeovers": n.takeovers,
        "positions": n.positions, "receipts": n.receipts, "evictions": n.evictions, "rejects": n.rejects,
        "batches": n.batches, "memory_refusals": n.memory_refusals, "rate_limited": n.rate_limited,
        "slowed": n.slowed, "topic_dropped": n.topic_dropped, "conversations": h.conversations.count,
        "devices": h.devices.count, "users": h.users.count, "parked_records": h.parked_records,
        "parked_bytes": h.parked_bytes, "tail_records": tail_count(&h.tail), "tail_bytes": h.tail.bytes,
        "hops": h.hop_count,
    }
