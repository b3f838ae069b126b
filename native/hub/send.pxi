# SEND and SKIP: from a record of a shard to a staged journal record, or to a refusal.
#
# The order of the checks is the contract: who speaks (fenced sessions are dropped in silence), was it said before
# (idempotency), may it be said (membership, hub/rights.pxi), may it be said now (OUT_OF_ORDER), can it be stored (size,
# kind, room), is it slow mode's time, is it paid for (hub/rates.pxi). Kinds and extensions that the schema calls judged
# then wait for Python's verdict (hub/park.pxi), and pass all checks but the price again when it comes: a member removed
# meanwhile is refused. Whatever changes a table leaves an undo entry first, so that a batch the store refuses never
# happened. All memory is taken before anything is changed: a failed allocation is a NAK, never half a send. Nothing is
# answered here but refusals and repeats; SEND_ACK is written when the batch is durable (hub/publish.pxi).

cdef extern from "siphash.h" nogil:
    uint64_t siphash24(uint64_t k0, uint64_t k1, const uint8_t* p, size_t n) noexcept

cdef enum hub_outcome:
    HUB_DONE = 0
    HUB_PARK = 1                    # the need is in h.park_*: the record has to wait

# One SEND or SKIP while it is looked at.
cdef struct hub_send_t:
    uint32_t shard
    link_send head
    const uint8_t* body
    uint64_t cseq
    uint64_t cid
    uint64_t kind
    bint understood                 # no extension that had to be
    const uint8_t* content          # what is stored: the extension block as it came, then the payload
    size_t content_bytes
    size_t payload_bytes
    bint has_ext
    bint judged                     # an extension that Python judges
    bint is_reply
    uint64_t reply_to               # 0: malformed
    uint64_t digest
    hub_device_t* device
    hub_conversation_t* conversation
    hub_member_t* member


# The one extension that is judged here. 0: malformed.
cdef uint64_t hub_reply_to(const uint8_t* p, size_t n) noexcept nogil:
    cdef cur_t c
    cdef uint64_t seq
    rd_init(&c, p, n)
    seq = rd_varint(&c)
    return seq if rd_done(&c) else 0

# The extension block of a SEND. Odd tags are not understood. The shard has checked the block; False: it had not.
cdef bint hub_extensions_fine(cur_t* c, hub_send_t* s) noexcept nogil:
    cdef uint64_t n = rd_varint(c)
    cdef const uint8_t* block
    cdef const uint8_t* value
    cdef cur_t e
    cdef uint64_t tag, previous = 0
    if not rd_ok(c) or n == 0 or n > LIMIT_EXTENSION_BYTES_MAX:
        return False
    block = rd_bytes(c, n)
    if block == NULL:
        return False
    rd_init(&e, block, n)
    while rd_left(&e):
        tag = rd_varint(&e)
        n = rd_varint(&e)
        value = rd_bytes(&e, n)
        if not rd_ok(&e) or tag <= previous:
            return False
        previous = tag
        s.understood = s.understood and not tag & 1
        if tag == EXTENSION_SEND_REPLY_TO:
            s.is_reply = True
            s.reply_to = hub_reply_to(value, n)
        elif tag < 64 and (WIRE_SEND_JUDGED_TAGS >> tag) & 1:
            s.judged = True
    return True

cdef bint hub_send_parse(hub_send_t* s) noexcept nogil:
    cdef cur_t c
    rd_init(&c, s.body, s.head.body_bytes)
    s.cseq = rd_varint(&c)
    s.cid = s.kind = 0
    s.understood = True
    s.has_ext = s.head.flags & FLAG_EXT
    s.judged = s.is_reply = False
    s.reply_to = 0
    s.content = NULL
    s.content_bytes = s.payload_bytes = 0
    if s.head.type == LINK_S_SKIP:
        return rd_done(&c) and s.cseq != 0
    s.cid = rd_varint(&c)
    s.kind = rd_varint(&c)
    s.content = c.p
    s.content_bytes = rd_left(&c)
    if s.has_ext and not hub_extensions_fine(&c, s):
        return False
    s.payload_bytes = rd_left(&c)
    return rd_ok(&c) and s.cseq != 0


# -- refusals and repeats ----------------------------------------------------------------------------------------------

# Later cseqs of this session to cid have to wait for this one.
cdef void hub_hold_back(hub_t* h, hub_device_t* d, uint32_t shard, uint64_t handle, uint64_t cid,
                        uint64_t cseq) noexcept nogil:
    if cid != 0 and hub_is_session(d, shard, handle) and not hub_mark(d, cid, cseq):
        hub_say_kick(h, shard, handle, CLOSE_FLOOD)

cdef void hub_nak(hub_t* h, hub_device_t* d, uint32_t shard, uint64_t handle, uint64_t token, uint64_t cseq,
                  uint64_t cid, uint16_t code, uint64_t retry_after_ms, const uint8_t* text,
                  size_t text_bytes) noexcept nogil:
    cdef uint8_t frame[64 + LIMIT_SEND_NAK_TEXT_BYTES_MAX]
    cdef out_t o
    cdef size_t n
    cdef bint retryable = hub_is_retryable(code)
    h.count.naks += 1
    if retryable:
        hub_hold_back(h, d, shard, handle, cid, cseq)
    elif hub_is_session(d, shard, handle):
        # It will never be stored: nothing has to wait for it any longer.
        hub_unmark(d, cseq)
    hub_frame_begin(frame, sizeof(frame), &o)
    wr_varint(&o, cseq)
    wr_varint(&o, cid)
    wr_u16be(&o, code)
    wr_varint(&o, retry_after_ms)
    wr_varint(&o, text_bytes)
    wr_bytes(&o, text, text_bytes)
    n = hub_frame_end(frame, &o, OP_SEND_NAK, FLAG_SEND_NAK_RETRYABLE if retryable else 0)
    hub_say_answer(h, shard, handle, token, frame, n)

cdef hub_outcome hub_refuse(hub_t* h, hub_send_t* s, uint16_t code, uint64_t retry_after_ms) noexcept nogil:
    hub_hop(h, HOP_REFUSED, s.cid, 0, s.head.device, code)
    hub_nak(h, s.device, s.shard, s.head.handle, s.head.token, s.cseq, s.cid, code, retry_after_ms, NULL, 0)
    return HUB_DONE

cdef void hub_ack(hub_t* h, const hub_answer_t* a) noexcept nogil:
    cdef uint8_t frame[64]
    cdef out_t o
    hub_frame_begin(frame, sizeof(frame), &o)
    wr_varint(&o, a.cseq)
    wr_varint(&o, a.cid)
    wr_varint(&o, a.seq)
    hub_wr_time40(&o, a.ts_ms)
    hub_say_answer(h, a.shard, a.handle, a.token, frame, hub_frame_end(frame, &o, OP_SEND_ACK, a.flags))

# The answer that this send gets, before it is known whether it may be given.
cdef void hub_answer_of(hub_t* h, const hub_send_t* s, hub_answer_t* a) noexcept nogil:
    memset(a, 0, sizeof(hub_answer_t))
    a.shard = s.shard
    a.generation = h.links[s.shard].generation
    a.handle = s.head.handle
    a.token = s.head.token
    a.device = s.head.device
    a.session_epoch = s.head.session_epoch
    a.cseq = s.cseq

cdef bint hub_answers_room(hub_t* h) noexcept nogil:
    cdef void* grown = hub_grown(h.answers, h.answer_count, &h.answer_room, sizeof(hub_answer_t))
    if grown != NULL:
        h.answers = <hub_answer_t*>grown
    return grown != NULL

# This cseq is stored (or skipped) already. What is still staged is answered with its batch.
cdef hub_outcome hub_repeat(hub_t* h, hub_send_t* s, const hub_sent_t* sent) noexcept nogil:
    cdef hub_answer_t a
    hub_answer_of(h, s, &a)
    if s.head.type == LINK_S_SEND and (sent.seq == 0 or sent.digest != s.digest):
        return hub_refuse(h, s, ERR_CSEQ_REUSE, 0)
    h.count.duplicates += 1
    if sent.seq == 0:
        a.flags = FLAG_SEND_ACK_SKIPPED
    else:
        a.flags = FLAG_SEND_ACK_DUP
        a.cid = sent.cid
        a.seq = sent.seq
        a.ts_ms = sent.ts_ms
        hub_hop(h, HOP_DUPLICATE, sent.cid, sent.seq, s.head.device, 0)
    hub_unmark(s.device, s.cseq)
    if s.device.touched_pos > h.tail.committed_pos:
        if not hub_answers_room(h):
            return hub_refuse(h, s, ERR_UNAVAILABLE, h.settings.busy_retry_ms)
        h.answers[h.answer_count] = a
        h.answer_count += 1
    else:
        hub_ack(h, &a)
    return HUB_DONE


# -- checks ------------------------------------------------------------------------------------------------------------

# Why this send cannot be stored, 0: it can.
cdef uint16_t hub_send_fault(hub_t* h, hub_send_t* s) noexcept nogil:
    cdef const wire_kind_rule* rule
    cdef uint16_t fault
    cdef size_t n = ring_padded(sizeof(journal_event) + s.content_bytes)
    s.member = hub_member(s.conversation, s.head.user)
    if s.member == NULL or s.member.leave_seq != 0:
        return ERR_NOT_FOUND
    fault = hub_write_fault(h, s.conversation, s.member)
    if fault != 0:
        return fault
    if hub_is_marked_before(s.device, s.cid, s.cseq):
        return ERR_OUT_OF_ORDER
    if s.head.body_bytes > LIMIT_SEND_BODY_BYTES_MAX:
        return ERR_TOO_LARGE
    if s.kind >= WIRE_KINDS_SIZE or not wire_kinds[s.kind].known:
        return ERR_UNSUPPORTED
    rule = &wire_kinds[s.kind]
    if not rule.client:
        return ERR_FORBIDDEN
    if s.payload_bytes > rule.payload_bytes_max:
        return ERR_TOO_LARGE
    if s.is_reply:
        if s.reply_to == 0:
            return ERR_BAD_REQUEST
        if s.reply_to > s.conversation.head_seq or not hub_may_see(s.conversation, s.head.user, s.reply_to):
            return ERR_NOT_FOUND
    if tail_count(&h.tail) >= h.settings.tail_records_max or h.tail.bytes + n > h.settings.tail_bytes_max:
        return ERR_BUSY
    return 0


# -- staging -----------------------------------------------------------------------------------------------------------

cdef hub_undo_t* hub_undo_add(hub_t* h, hub_undo_kind kind) noexcept nogil:
    cdef hub_undo_t* undo = &h.undo[h.undo_count]
    chatd_assert(h.undo_count < h.undo_room)
    h.undo_count += 1
    memset(undo, 0, sizeof(hub_undo_t))
    undo.kind = kind
    return undo

# Room for the undo entries of one staged record: at most four (an event of a sender: itself, positions, slow mode).
cdef bint hub_undo_prepare(hub_t* h) noexcept nogil:
    cdef void* grown = hub_grown(h.undo, h.undo_count + 4, &h.undo_room, sizeof(hub_undo_t))
    if grown != NULL:
        h.undo = <hub_undo_t*>grown
    return grown != NULL

# Append an event: seq, ts, record, heads, sender's positions. flags: JOURNAL_EVENT_*. NULL: no memory, nothing changed.
cdef journal_event* hub_stage_event(hub_t* h, hub_conversation_t* c, uint64_t sender, uint64_t kind, uint8_t flags,
                                    const uint8_t* content, size_t content_bytes) noexcept nogil:
    cdef bint message = flags & JOURNAL_EVENT_MESSAGE
    cdef journal_event* event
    cdef hub_member_t* m
    cdef hub_undo_t* undo
    cdef uint64_t pos = h.tail.next_pos
    if not hub_undo_prepare(h) or not hub_event_push(c, pos):
        return NULL
    event = <journal_event*>tail_append_typed(&h.tail, JOURNAL_EVENT, flags, sizeof(journal_event) + content_bytes)
    if event == NULL:
        c.event_count -= 1
        return NULL
    undo = hub_undo_add(h, UNDO_EVENT)
    undo.conversation = c
    undo.a = c.head_seq
    undo.b = c.message_count
    undo.c = c.last_ts
    undo.d = c.touched_pos
    c.head_seq += 1
    c.message_count += message
    c.last_ts = h.now_ms if h.now_ms > c.last_ts else c.last_ts
    c.touched_pos = pos
    m = hub_member(c, sender) if message else NULL
    if m != NULL and m.leave_seq == 0:
        hub_undo_positions(h, c, m)
        hub_positions_raise(m, c.head_seq, c.head_seq, c.message_count)
    event.cid = c.cid
    event.seq = c.head_seq
    event.sender = sender
    event.device = event.cseq = event.digest = 0
    event.ts_ms = c.last_ts
    event.message_count = c.message_count
    event.kind = <uint32_t>kind
    event.payload_bytes = <uint32_t>content_bytes
    if content_bytes:
        memcpy(<uint8_t*>event + sizeof(journal_event), content, content_bytes)
    return event

cdef void hub_undo_positions(hub_t* h, hub_conversation_t* c, const hub_member_t* m) noexcept nogil:
    cdef hub_undo_t* undo = hub_undo_add(h, UNDO_POSITIONS)
    undo.conversation = c
    undo.a = m.user
    undo.b = m.delivered_seq
    undo.c = m.read_seq
    undo.d = m.read_count

# Put (device, cseq) into the window, with undo. The caller has prepared the undo log. False: no memory.
cdef bint hub_stage_sent(hub_t* h, hub_device_t* d, const hub_sent_t* sent, uint64_t pos) noexcept nogil:
    cdef uint64_t floor = d.window_floor, cseq_max = d.cseq_max, cid
    cdef hub_sent_t replaced
    cdef hub_undo_t* undo
    if not hub_window_put(d, sent, &replaced):
        return False
    undo = hub_undo_add(h, UNDO_SENT)
    undo.device = d
    undo.sent = replaced
    undo.a = sent.cseq
    undo.b = floor
    undo.c = cseq_max
    undo.d = d.touched_pos
    d.touched_pos = pos
    cid = hub_unmark(d, sent.cseq)
    if cid != 0:
        undo = hub_undo_add(h, UNDO_MARK)
        undo.device = d
        undo.a = cid
        undo.b = sent.cseq
        undo.c = d.session_epoch
    return True

cdef inline uint8_t hub_event_flags(const hub_send_t* s) noexcept nogil:
    cdef uint8_t flags = JOURNAL_EVENT_MESSAGE if wire_kinds[s.kind].message else 0
    return flags | JOURNAL_EVENT_EXT if s.has_ext else flags

cdef hub_outcome hub_stage_send(hub_t* h, hub_send_t* s) noexcept nogil:
    cdef journal_event* event
    cdef hub_sent_t sent
    cdef hub_answer_t* a
    cdef uint32_t undone = h.undo_count
    if not hub_answers_room(h):
        return hub_refuse(h, s, ERR_UNAVAILABLE, h.settings.busy_retry_ms)
    sent.cseq = s.cseq
    sent.cid = s.cid
    sent.seq = s.conversation.head_seq + 1
    sent.ts_ms = h.now_ms if h.now_ms > s.conversation.last_ts else s.conversation.last_ts
    sent.digest = s.digest
    if not hub_undo_prepare(h) or not hub_stage_sent(h, s.device, &sent, h.tail.next_pos):
        return hub_refuse(h, s, ERR_UNAVAILABLE, h.settings.busy_retry_ms)
    event = hub_stage_event(h, s.conversation, s.head.user, s.kind, hub_event_flags(s), s.content, s.content_bytes)
    if event == NULL:
        h.count.memory_refusals += 1
        hub_undo_to(h, undone)
        return hub_refuse(h, s, ERR_UNAVAILABLE, h.settings.busy_retry_ms)
    event.device = s.head.device
    event.cseq = s.cseq
    event.digest = s.digest
    if s.conversation.slow_mode_s and wire_kinds[s.kind].message:
        hub_slow_mode_note(h, s, event.ts_ms)
    a = &h.answers[h.answer_count]
    h.answer_count += 1
    hub_answer_of(h, s, a)
    a.cid = event.cid
    a.seq = event.seq
    a.ts_ms = event.ts_ms
    h.count.sends_staged += 1
    hub_hop(h, HOP_ACCEPTED, event.cid, event.seq, event.device, event.kind)
    return HUB_DONE

# Python has said what becomes of it.
cdef hub_outcome hub_stage_judged(hub_t* h, hub_send_t* s) noexcept nogil:
    cdef hub_verdict_t* v = &h.verdict
    cdef uint64_t head_seq = s.conversation.head_seq
    if v.code:
        hub_hop(h, HOP_REFUSED, s.cid, 0, s.head.device, v.code)
        hub_nak(h, s.device, s.shard, s.head.handle, s.head.token, s.cseq, s.cid, v.code,
                h.settings.busy_retry_ms if hub_is_retryable(v.code) else 0, v.text, v.text_bytes)
        return HUB_DONE
    if v.content != NULL:
        s.content = v.content
        s.content_bytes = v.content_bytes
        s.has_ext = v.has_ext
    if v.kind:
        s.kind = v.kind
    hub_stage_send(h, s)
    if s.conversation.head_seq != head_seq:
        v.seq = s.conversation.head_seq
    return HUB_DONE

cdef hub_outcome hub_stage_skip(hub_t* h, hub_send_t* s) noexcept nogil:
    cdef journal_skip* record
    cdef hub_sent_t sent
    cdef hub_answer_t* a
    cdef uint32_t undone = h.undo_count
    memset(&sent, 0, sizeof(sent))
    sent.cseq = s.cseq
    if (not hub_answers_room(h) or not hub_undo_prepare(h)
            or not hub_stage_sent(h, s.device, &sent, h.tail.next_pos)):
        return hub_refuse(h, s, ERR_UNAVAILABLE, h.settings.busy_retry_ms)
    record = <journal_skip*>tail_append_typed(&h.tail, JOURNAL_SKIP, 0, sizeof(journal_skip))
    if record == NULL:
        hub_undo_to(h, undone)
        return hub_refuse(h, s, ERR_UNAVAILABLE, h.settings.busy_retry_ms)
    record.device = s.head.device
    record.cseq = s.cseq
    a = &h.answers[h.answer_count]
    h.answer_count += 1
    hub_answer_of(h, s, a)
    a.flags = FLAG_SEND_ACK_SKIPPED
    h.count.skips += 1
    return HUB_DONE


# Sabotage: the window of that user's first device, whichever device asks.
cdef const hub_sent_t* hub_window_of_first(hub_t* h, uint64_t user, uint64_t cseq) noexcept nogil:
    cdef hub_user_t* u = hub_user(h, user)
    return hub_window_find(u.online, cseq) if u != NULL and u.online_count else NULL


# -- the whole step ----------------------------------------------------------------------------------------------------

# n bytes at record: a SEND or SKIP of a shard. HUB_PARK: it has to wait for what hub_park_* names.
cdef hub_outcome hub_on_send(hub_t* h, uint32_t shard, const uint8_t* record, size_t n, uint64_t checked_cseq,
                             hub_need_t* wait) noexcept nogil:
    cdef hub_send_t s
    cdef const hub_sent_t* sent
    cdef uint16_t fault
    cdef uint64_t wait_ms
    s.shard = shard
    memcpy(&s.head, record, sizeof(link_send))
    s.body = record + sizeof(link_send)
    s.device = hub_device(h, s.head.device)
    h.count.sends += 1
    if chatd_sabotage(SABOTAGE_OLD_EPOCH) and s.device != NULL:
        pass
    elif (not hub_is_session(s.device, shard, s.head.handle) or s.device.session_epoch != s.head.session_epoch
            or s.device.user != s.head.user):
        h.count.fenced += 1
        return HUB_DONE
    if not hub_send_parse(&s):
        h.count.malformed += 1
        s.cseq = s.cid = 0
        return hub_refuse(h, &s, ERR_BAD_REQUEST, 0)
    if not s.understood:
        return hub_refuse(h, &s, ERR_UNSUPPORTED, 0)
    if not s.device.loaded:
        wait.kind = NEED_DEVICE
        wait.key = s.head.device
        return HUB_PARK
    s.digest = 0
    if s.head.type == LINK_S_SEND:
        s.digest = siphash24(h.settings.digest_key, ~h.settings.digest_key, s.body, s.head.body_bytes)
    if chatd_sabotage(SABOTAGE_DEDUP_WITHOUT_DEVICE):
        sent = hub_window_of_first(h, s.device.user, s.cseq)
        if sent != NULL:
            s.digest = sent.digest
            return hub_repeat(h, &s, sent)
    if s.cseq <= s.device.cseq_max:
        sent = hub_window_find(s.device, s.cseq)
        if sent != NULL:
            return hub_repeat(h, &s, sent)
        if s.cseq < s.device.window_floor:
            if checked_cseq != s.cseq:
                wait.kind = NEED_IDEMPOTENCY
                wait.key = s.head.device
                wait.cseq = s.cseq
                return HUB_PARK
            if h.found.cseq == s.cseq:
                return hub_repeat(h, &s, &h.found)
    if s.head.type == LINK_S_SKIP:
        return hub_stage_skip(h, &s)
    s.conversation = hub_conversation(h, s.cid)
    if s.conversation == NULL or not s.conversation.loaded:
        if s.cid == 0:
            return hub_refuse(h, &s, ERR_NOT_FOUND, 0)
        wait.kind = NEED_CONVERSATION
        wait.key = s.cid
        return HUB_PARK
    hub_age_touch(&h.conversation_ages, &s.conversation.age)
    fault = hub_send_fault(h, &s)
    if fault != 0:
        return hub_refuse(h, &s, fault, h.settings.busy_retry_ms if hub_is_retryable(fault) else 0)
    wait_ms = hub_slow_mode_wait(h, &s)
    if wait_ms:
        h.count.rate_limited += 1
        return hub_refuse(h, &s, ERR_RATE_LIMITED, wait_ms)
    if h.verdict.device == s.head.device and h.verdict.cseq == s.cseq:
        return hub_stage_judged(h, &s)
    if h.settings.sends_per_s or h.settings.amplification_max:
        wait_ms = hub_send_charge(h, &s)
        if wait_ms:
            return hub_refuse(h, &s, ERR_RATE_LIMITED, wait_ms)
    if s.judged or wire_kinds[s.kind].judged:
        wait.kind = NEED_JUDGEMENT
        wait.key = s.head.device
        wait.cseq = s.cseq
        return HUB_PARK
    return hub_stage_send(h, &s)
