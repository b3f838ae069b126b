# Ledger: what this shard did with an event, for `chatd why`.
#
# A question about one message comes minutes after it, about one of millions: so every hop is written down, in a ring
# of fixed size that overwrites the oldest, and a question scans it. Writing is a store into memory that is walked in
# order; nothing is indexed. Events with few recipients get an entry per recipient and hop, larger ones one per event.
# Price: a busy shard remembers seconds, and `aged_out` says so.

cdef enum ledger_hop:
    HOP_ROUTED = 0                  # COMMITTED came from the hub; count: recipients here
    HOP_QUEUED = 1
    HOP_WRITTEN = 2
    HOP_ACKED = 3
    HOP_LAGGED = 4                  # not pushed, LAG follows
    HOP_LAG_SENT = 5                # count: events that it names
    HOP_DROPPED = 6                 # the connection ended with it in the queue or unacknowledged
    HOP_GONE = 7                    # the recipient's connection was no longer there

LEDGER_HOPS = ("routed", "queued", "written", "acked", "lagged", "lag_sent", "dropped", "gone")

cdef struct ledger_entry_t:
    uint64_t cid                    # 0: never written
    uint64_t seq
    uint64_t user
    uint64_t monotonic_ns
    uint64_t wall_ms
    uint32_t hop
    uint32_t count

cdef struct ledger_t:
    ledger_entry_t* entries
    uint64_t room                   # power of two
    uint64_t written                # entries since the start; the next goes to written & (room - 1)


cdef bint ledger_init(ledger_t* ledger, uint64_t entries) noexcept nogil:
    cdef uint64_t room = 64
    while room < entries:
        room *= 2
    # Mapped lazily by the kernel: an idle shard pays for the pages it has touched.
    ledger.entries = <ledger_entry_t*>calloc(room, sizeof(ledger_entry_t))
    ledger.room = room
    return ledger.entries != NULL

cdef void ledger_put(engine_t* e, ledger_hop hop, uint64_t cid, uint64_t seq, uint64_t user,
                     uint32_t count) noexcept nogil:
    cdef ledger_entry_t* entry = &e.ledger.entries[e.ledger.written & (e.ledger.room - 1)]
    e.ledger.written += 1
    entry.cid = cid
    entry.seq = seq
    entry.user = user
    entry.monotonic_ns = e.now_ns
    entry.wall_ms = e.wall_ms
    entry.hop = hop
    entry.count = count

# LAG entries name a range; they answer for every seq in it.
cdef inline bint ledger_matches(const ledger_entry_t* entry, uint64_t cid, uint64_t seq) noexcept nogil:
    if entry.cid != cid:
        return False
    if entry.hop == HOP_LAG_SENT:
        return entry.seq <= seq < entry.seq + entry.count
    return entry.seq == seq

# Entries of one event, oldest first. user 0: of everybody.
cdef list ledger_query(ledger_t* ledger, uint64_t cid, uint64_t seq, uint64_t user):
    cdef uint64_t at = ledger.written - ledger.room if ledger.written > ledger.room else 0
    cdef const ledger_entry_t* entry
    cdef list found = []
    while at < ledger.written:
        entry = &ledger.entries[at & (ledger.room - 1)]
        at += 1
        if ledger_matches(entry, cid, seq) and (user == 0 or entry.user == 0 or entry.user == user):
            found.append((entry.wall_ms, entry.monotonic_ns // 1000, LEDGER_HOPS[entry.hop], entry.user, entry.count))
    return found
