# What the hub remembers: the structs of all its tables in one place, because they point at each other.
#
# One thread owns all of it, so there are no locks. An entry is one block that never moves; whoever keeps a pointer to
# it beyond a call holds something that pins it (a session, an unfolded record, a parked send), see "evictable" in each
# table. Sums of bounds: conversations <= conversations_max + tail records, devices <= devices_max + sessions. Clocks:
# now_ms is wall time and only ever becomes a ts; tick_ms is monotonic and drives deadlines.

cdef enum:
    HUB_SHARDS_MAX = 64             # bits of a shard mask
    HUB_WINDOW_MIN = 8
    HUB_WINDOW_MAX = 128            # newest cseqs of a device that are answered from memory
    HUB_MARKS_MAX = 256             # cseqs of one session under OUT_OF_ORDER: four times what may be in flight
    HUB_READ_MAX = 1024             # records taken from one ring in one round
    HUB_UPCALLS_MAX = 8192          # poll stops reading beyond; one record makes at most two
    HUB_PREVIEW_BYTES_MAX = LIMIT_SYNC_ENTRY_LAST_PREVIEW_BYTES_MAX
    HUB_ROW_BYTES_MAX = 512 << 10   # of a ROW record: half a chunk of the tail
    HUB_FRAME_ROOM = FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX + 64
    HUB_COOLING_MAX = 65536         # (user, conversation) pairs whose POSITION waits for its interval

    HUB_ROLES = 16                  # codes of roles are below
    HUB_AUDIENCES_MAX = 64          # conversations with a list of who is there

# Flags of a conversation, column conversation.flags.
cdef enum:
    CONVERSATION_FLAG_CLOSED = 2    # nobody writes

# Flags of a device, column device.flags.
cdef enum:
    DEVICE_FLAG_REVOKED = 1

cdef struct hub_settings_t:
    uint64_t log_epoch, session_epoch_base, digest_key, shards_max, ring_reserve_bytes, outbox_bytes_max
    uint64_t tail_records_max, tail_bytes_max, batch_records_max, batch_bytes_max
    uint64_t conversations_max, devices_max, users_max, parked_records_max, parked_bytes_max
    uint64_t devices_online_max, subscriptions_max, receipt_members_max
    bint devices_online_replace
    uint64_t sends_per_s, sends_burst, amplification_max, amplification_ms
    uint64_t takeover_ms, position_interval_ms, busy_retry_ms, ledger_entries
    uint16_t role_rights[HUB_ROLES]  # RIGHT_ bits of each role

# Least recently used first. Both ends NULL: empty.
cdef struct hub_age_t:
    hub_age_t* older
    hub_age_t* newer

cdef struct hub_member_t:
    uint64_t user
    uint64_t join_seq
    uint64_t leave_seq              # last seq this interval may see; 0: still a member
    uint64_t delivered_seq          # positions are kept on the newest interval of a user
    uint64_t read_seq               # invariant: read_seq <= delivered_seq
    uint64_t read_count
    uint32_t muted_until_s          # Unix time; 0: not muted. Kept on the newest interval like the positions
    uint32_t spoke_s                # Unix time of the last message, rounded up; only where slow mode asks for it
    uint32_t role
    uint8_t cooling                 # a POSITION record was staged less than position_interval_ms ago
    uint8_t dirty                   # positions moved since that record; only while cooling
    uint8_t changed                 # the record that this batch has staged is in hub.moved
    uint8_t read_moved              # read_seq moved since it was last told

cdef struct hub_conversation_t:
    hub_age_t age                   # first: the list of ages leads back to the entry
    uint64_t cid
    uint64_t head_seq
    uint64_t message_count
    uint64_t last_ts
    uint64_t touched_pos            # newest record that names it; unfolded ones pin the entry
    uint32_t kind
    uint32_t flags
    uint32_t slow_mode_s            # between two messages of a member; 0: no slow mode
    uint16_t denied[HUB_ROLES]      # RIGHT_ bits that a role does not have here
    bint loaded                     # False: only what replay brought; members may be missing
    hub_member_t* members           # ascending by (user, join_seq)
    uint32_t interval_count
    uint32_t interval_room
    uint32_t member_count           # intervals that are open
    uint32_t cooling_count          # pins the entry
    # Positions of its events in the tail, a circle. Invariant: the last one is head_seq, they are contiguous.
    uint64_t* event_pos
    uint32_t event_room             # power of two
    uint32_t event_begin
    uint32_t event_count
    # Moves of this batch in hub.moved; index + 1, 0: none.
    uint32_t moved_first
    uint32_t moved_last
    # Who would get an event now: counted again when recount_ms has passed (hub/rates.pxi).
    uint64_t recount_ms
    uint32_t online_members
    uint32_t online_devices
    hub_audience_t* audience        # of a large one; NULL: look at all members
    # Followers of the ephemeral side.
    hub_subscription_t* subscriptions
    uint32_t subscription_count
    bint streaming                  # Python has live streams of it and is told of new followers; pins the entry
    uint64_t shards                 # bit i: shard i has followers; sent as INTEREST when it changes

# An interval of somebody who is online (hub/audience.pxi).
cdef struct hub_present_t:
    hub_user_t* user
    uint64_t join_seq
    uint64_t leave_seq

cdef struct hub_audience_t:
    hub_conversation_t* conversation
    uint64_t from_seq               # good for events from here on
    hub_present_t* entries          # ascending by (user, join_seq)
    uint32_t count
    uint32_t room

# What it follows (its topics) is known to its shard alone.
cdef struct hub_subscription_t:
    hub_conversation_t* conversation
    hub_device_t* device
    hub_subscription_t* next_of_device
    hub_subscription_t* previous_of_conversation
    hub_subscription_t* next_of_conversation

cdef struct hub_sent_t:
    uint64_t cseq                   # 0: empty
    uint64_t cid
    uint64_t seq                    # 0: skipped
    uint64_t ts_ms
    uint64_t digest

cdef struct hub_mark_t:
    uint64_t cid
    uint64_t cseq

# A login that waits: for the close of the device's older connection, or for the commit of what that one had sent.
cdef struct hub_login_t:
    uint64_t handle                 # 0: none waits
    uint32_t shard
    uint32_t frame_bytes_max
    uint32_t features
    uint64_t token_epoch
    uint64_t deadline_ms            # of the older connection's close
    uint32_t old_shard
    uint64_t old_handle             # 0: closed, or there was none

cdef struct hub_device_t:
    hub_age_t age
    uint64_t device
    uint64_t user
    bint loaded                     # False: known from replay or a re-attached session only
    uint32_t flags
    uint64_t cseq_max               # highest cseq stored or skipped, staged ones included
    uint64_t window_floor           # every stored cseq at or above it is in the window
    uint64_t touched_pos
    hub_sent_t* window              # place of a cseq: cseq & (room - 1)
    uint32_t window_room
    # The live session. handle 0: none.
    uint32_t shard
    uint64_t handle
    uint64_t session_epoch
    uint64_t previous_epoch
    uint64_t token_epoch
    uint64_t registered_pos         # its sync position: only events beyond it are pushed
    uint32_t frame_bytes_max
    uint32_t features
    hub_device_t* previous_of_shard
    hub_device_t* next_of_shard
    hub_device_t* next_of_user
    hub_subscription_t* subscriptions
    uint32_t subscription_count
    hub_mark_t* marks               # NAKed with a retryable code and not stored since, in this session
    uint32_t mark_count
    uint32_t mark_room
    hub_login_t login
    hub_device_t* previous_login
    hub_device_t* next_login
    hub_need_t* waits               # what its parked sends wait for; later ones queue behind them

cdef struct hub_user_t:
    hub_age_t age
    uint64_t user
    bint loaded
    uint32_t flags
    uint64_t token_epoch
    hub_device_t* online            # devices with a live session, the newest first
    uint32_t online_count
    bint watched                    # somebody wants to hear when it comes and goes
    # What its SENDs cost, all devices together (hub/rates.pxi).
    uint64_t sends_tat_ns
    uint64_t spread_until_ms        # end of the period in which these bytes were counted
    uint64_t spread_in
    uint64_t spread_out

# Something that Python has been asked for, and the records that wait for it in order of arrival.
cdef enum hub_need_kind:
    NEED_CONVERSATION = 0
    NEED_USER = 1
    NEED_DEVICE = 2
    NEED_IDEMPOTENCY = 3            # key: device; one cseq at a time, because sends of a device wait in one queue
    NEED_JUDGEMENT = 4              # key: device; of the send of this cseq that Python has to allow or refuse
    NEED_KINDS = 5

cdef struct hub_parked_t:
    hub_parked_t* next
    uint32_t shard
    uint32_t generation             # of the link it came on: a parked record dies with its link
    uint32_t bytes
    bint cancelled                  # a login whose connection closed meanwhile

cdef struct hub_need_t:
    uint32_t kind                   # hub_need_kind
    uint64_t key
    uint64_t cseq
    hub_parked_t* first
    hub_parked_t* last

cdef enum hub_upcall_kind:
    UP_NEED_CONVERSATION, UP_NEED_USER, UP_NEED_DEVICE, UP_NEED_IDEMPOTENCY, UP_NEED_JUDGEMENT, UP_NEED_READ_COUNT
    UP_ATTACHED, UP_CLOSED, UP_LINK_LOST, UP_PRESENCE, UP_FOLLOWED

cdef struct hub_upcall_t:
    hub_upcall_kind kind
    uint32_t shard
    uint64_t a
    uint64_t b
    uint64_t c
    uint32_t d

# What Python says of the judged send that waits for it; only while HubCore.judge runs.
cdef struct hub_verdict_t:
    uint64_t device                 # 0: there is none
    uint64_t cseq
    uint16_t code                   # 0: store it
    const uint8_t* text
    size_t text_bytes
    const uint8_t* content          # to be stored instead of what came; NULL: as it came
    size_t content_bytes
    bint has_ext                    # of content
    uint32_t kind                   # to be stored instead of the one that came; 0: as it came
    uint64_t seq                    # out: where it was staged; 0: it was not

# The answer that a staged SEND or SKIP gets when its batch is durable, or refused.
cdef struct hub_answer_t:
    uint32_t shard
    uint32_t generation
    uint64_t handle
    uint64_t token
    uint64_t device
    uint64_t session_epoch
    uint64_t cseq
    uint64_t cid
    uint64_t seq                    # 0: SKIPPED
    uint64_t ts_ms
    uint8_t flags                   # of SEND_ACK

cdef enum hub_undo_kind:
    UNDO_EVENT, UNDO_POSITIONS, UNDO_SENT, UNDO_MARK, UNDO_INTERVAL_NEW, UNDO_INTERVAL, UNDO_POSITION_STAGED
    UNDO_SPOKE, UNDO_MUTE, UNDO_RULES

# One step back. a..e: what was there before, by kind; see hub_undo_one.
cdef struct hub_undo_t:
    hub_undo_kind kind
    hub_conversation_t* conversation
    hub_device_t* device
    hub_sent_t sent
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d
    uint64_t e

# What a conversation asks of those who write, as Python gives it.
cdef struct hub_rules_t:
    uint32_t flags
    uint32_t slow_mode_s
    uint16_t denied[HUB_ROLES]

cdef struct hub_link_t:
    ring_t* ring_in
    ring_t* ring_out
    uint64_t epoch
    uint32_t generation             # counts links of this shard; 0 never linked
    bint up
    bint armed                      # the reader's sleep flag is set
    bint ready                      # READY has come: its sessions are known
    bint lost                       # corrupt, or its outbox overflowed: only unlink is left
    bint unpublished
    uint64_t received_pos
    uint64_t pushed_pos             # every event up to it is in the ring, or was nobody's here
    uint8_t* outbox                 # u32 length, record, ... : control that found the ring full
    size_t outbox_begin
    size_t outbox_end
    size_t outbox_room
    hub_device_t* devices           # sessions of this shard

cdef struct tail_chunk_t:
    tail_chunk_t* next
    uint64_t last_pos               # of the newest record in it
    size_t used

cdef struct tail_t:
    tail_chunk_t* first
    tail_chunk_t* last
    tail_chunk_t* spare
    uint8_t** records               # by position, a circle
    uint64_t room                   # power of two
    uint64_t first_pos              # invariant: first_pos <= committed_pos + 1 <= next_pos
    uint64_t next_pos
    uint64_t committed_pos
    uint64_t bytes
    uint64_t staged_bytes
    tail_chunk_t* mark_chunk        # where the staged records begin
    size_t mark_used

cdef enum hub_hop_kind:
    HOP_ACCEPTED = 1
    HOP_COMMITTED = 2
    HOP_PUSHED = 3
    HOP_DUPLICATE = 4
    HOP_REFUSED = 5
    HOP_REPLAYED = 6
    HOP_ONLINE = 7
    HOP_OFFLINE = 8

cdef struct hub_hop_t:
    uint64_t time_ms
    uint64_t cid                    # of ONLINE and OFFLINE: the user
    uint64_t seq                    # of ONLINE and OFFLINE: the newest position at that moment
    uint64_t a
    uint32_t b
    uint8_t hop

cdef struct hub_moved_t:
    hub_conversation_t* conversation
    uint64_t user
    uint64_t pos                    # of the POSITION record
    uint64_t delivered_seq          # as in that record
    uint64_t read_seq
    uint32_t next                   # the next move of the same conversation; index + 1, 0: none
    uint8_t read_moved

cdef struct hub_cooling_t:
    uint64_t cid
    uint64_t user
    uint64_t due_ms

cdef struct hub_counters_t:
    uint64_t sends, sends_staged, duplicates, fenced, naks, skips, malformed, parked, events_pushed, deliveries
    uint64_t catch_up_events, links_lost, lost_events, logins, takeovers, positions, receipts, evictions, rejects
    uint64_t batches, memory_refusals, rate_limited, slowed, topic_dropped

cdef struct hub_t:
    hub_settings_t settings
    uint64_t now_ms
    uint64_t tick_ms
    uint64_t session_epoch_last
    uint64_t folded_pos
    hmap_t conversations
    hmap_t devices
    hmap_t users
    hmap_t needs[NEED_KINDS]
    hub_age_t conversation_ages     # ring lists: the head is the list
    hub_age_t device_ages
    hub_age_t user_ages
    hub_sent_t found                # what the main database said about the cseq asked for; cseq 0: nothing
    uint64_t parked_records
    uint64_t parked_bytes
    hub_device_t* logins            # devices with a login that waits
    hub_audience_t* audiences[HUB_AUDIENCES_MAX]    # oldest first
    uint32_t audience_count
    tail_t tail
    hub_link_t links[HUB_SHARDS_MAX]
    hub_upcall_t* upcalls
    uint32_t upcall_count
    uint32_t upcall_room
    hub_answer_t* answers
    uint32_t answer_count
    uint32_t answer_room
    hub_undo_t* undo
    uint32_t undo_count
    uint32_t undo_room
    hub_moved_t* moved
    uint32_t moved_count
    uint32_t moved_room
    hub_cooling_t* cooling          # a circle of HUB_COOLING_MAX in order of due_ms
    uint32_t cooling_begin
    uint32_t cooling_count
    uint64_t* recipients            # scratch of one event: handles grouped by shard
    uint8_t* recipient_shards
    uint64_t* recipients_unsorted
    uint32_t recipient_room
    uint8_t* frame                  # scratch: one frame of the largest size
    hub_hop_t* hops
    uint64_t hop_mask
    uint64_t hop_count
    uint32_t redactions_staged
    hub_verdict_t verdict
    hub_counters_t count


cdef inline void hub_age_init(hub_age_t* list) noexcept nogil:
    list.older = list.newer = list

cdef inline void hub_age_out(hub_age_t* entry) noexcept nogil:
    entry.older.newer = entry.newer
    entry.newer.older = entry.older

# Newest at list.older, oldest at list.newer.
cdef inline void hub_age_in(hub_age_t* list, hub_age_t* entry) noexcept nogil:
    entry.newer = list
    entry.older = list.older
    list.older.newer = entry
    list.older = entry

cdef inline void hub_age_touch(hub_age_t* list, hub_age_t* entry) noexcept nogil:
    if list.older != entry:
        hub_age_out(entry)
        hub_age_in(list, entry)

cdef inline void hub_upcall(hub_t* h, hub_upcall_kind kind, uint32_t shard, uint64_t a, uint64_t b, uint64_t c,
                            uint32_t d) noexcept nogil:
    cdef void* grown = hub_grown(h.upcalls, h.upcall_count, &h.upcall_room, sizeof(hub_upcall_t))
    cdef hub_upcall_t* up
    if grown == NULL:
        h.count.memory_refusals += 1
        return
    h.upcalls = <hub_upcall_t*>grown
    up = &h.upcalls[h.upcall_count]
    h.upcall_count += 1
    up.kind = kind
    up.shard = shard
    up.a = a
    up.b = b
    up.c = c
    up.d = d
