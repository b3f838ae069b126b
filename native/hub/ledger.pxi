# Ledger: what happened to recent events, hop by hop, for `why`.
#
# A fixed circle of small records, written without a branch on the hot path (three per send, a few nanoseconds each) and
# searched only when someone asks. What members of a group were offline is not written per member: sessions leave ONLINE
# and OFFLINE hops, and a question about one user is answered from those. Oldest hops are overwritten: "aged out".

cdef inline void hub_hop(hub_t* h, hub_hop_kind hop, uint64_t cid, uint64_t seq, uint64_t a, uint32_t b) noexcept nogil:
    cdef hub_hop_t* at = &h.hops[h.hop_count & h.hop_mask]
    h.hop_count += 1
    at.time_ms = h.now_ms
    at.cid = cid
    at.seq = seq
    at.a = a
    at.b = b
    at.hop = hop

cdef object hub_hop_detail(const hub_hop_t* hop):
    if hop.hop == HOP_ACCEPTED:
        return f"device {hop.a}, kind {hop.b}" if hop.a else f"by the server, kind {hop.b}"
    if hop.hop == HOP_COMMITTED:
        return f"position {hop.a}"
    if hop.hop == HOP_PUSHED:
        return f"shard {hop.b}, {hop.a} connections"
    if hop.hop == HOP_REPLAYED:
        return f"shard {hop.b}, {hop.a} connections, after it had fallen behind or the hub was replaced"
    if hop.hop == HOP_REFUSED:
        return f"code {hop.b}, device {hop.a}"
    return f"device {hop.a}"

cdef tuple HUB_HOP_NAMES = ("", "accepted", "committed", "pushed", "duplicate", "refused", "link-replayed", "online",
                            "offline")

cdef list hub_ledger_of(hub_t* h, uint64_t cid, uint64_t seq):
    cdef uint64_t first = h.hop_count - h.hop_mask - 1 if h.hop_count > h.hop_mask else 0
    cdef uint64_t i
    cdef hub_hop_t* hop
    cdef list found = []
    for i in range(first, h.hop_count):
        hop = &h.hops[i & h.hop_mask]
        if hop.cid == cid and hop.seq == seq and hop.hop < HOP_ONLINE:
            found.append((hop.time_ms, HUB_HOP_NAMES[hop.hop], hub_hop_detail(hop)))
    return found

# What the ledger says of one user: not entitled, or without a session when the event was committed.
cdef list hub_ledger_of_user(hub_t* h, uint64_t cid, uint64_t seq, uint64_t user, uint64_t pos, uint64_t time_ms):
    cdef hub_conversation_t* c = hub_conversation(h, cid)
    cdef hub_user_t* u = hub_user(h, user)
    cdef uint64_t first = h.hop_count - h.hop_mask - 1 if h.hop_count > h.hop_mask else 0
    cdef uint64_t i
    cdef int online
    cdef hub_hop_t* hop
    if c != NULL and c.loaded and not hub_may_see(c, user, seq):
        return [(time_ms, "not_member", f"user {user} has no interval that contains {seq}")]
    if pos == 0:
        return []
    # Walk back from now: sessions that began after the event count less, those that ended after it count again.
    online = <int>u.online_count if u != NULL else 0
    i = h.hop_count
    while i > first:
        i -= 1
        hop = &h.hops[i & h.hop_mask]
        if hop.cid != user or hop.seq < pos or hop.hop < HOP_ONLINE:
            continue
        online += 1 if hop.hop == HOP_OFFLINE else -1
    if online <= 0:
        return [(time_ms, "offline", f"user {user} had no session")]
    return []
