# Rights: what a member may do in a conversation, and when a member may send.
#
# A role grants bits; there are sixteen roles and the table of all conversations has one word for each, replaced whole
# when the configuration changes. A conversation may deny bits to a role again. So nothing is computed per member, a
# reload costs the same with a million members, and a SEND looks at two words. Muting belongs to a member and lasts
# until a second of wall time. Slow mode belongs to a conversation: messages of one member there have at least so many
# seconds between them; the time of a member's last one is rounded up to a second, so nobody is ever too early. It is
# not stored by itself: a conversation in slow mode is loaded with those times, from its newest 2,000 events.
# What Python changes here takes effect within its turn and is undone with its batch.

cdef enum:
    HUB_MUTED_FOR_EVER = 0xFFFFFFFF

cdef inline uint32_t hub_rights(hub_t* h, const hub_conversation_t* c, const hub_member_t* m) noexcept nogil:
    return h.settings.role_rights[m.role & (HUB_ROLES - 1)] & ~c.denied[m.role & (HUB_ROLES - 1)]

# The same of a user: 0 when that is no present member.
cdef uint32_t hub_rights_of(hub_t* h, const hub_conversation_t* c, uint64_t user) noexcept nogil:
    cdef const hub_member_t* m = hub_member(c, user)
    return hub_rights(h, c, m) if m != NULL and m.leave_seq == 0 else 0

# Why this member may not SEND here now, 0: it may.
cdef inline uint16_t hub_write_fault(hub_t* h, const hub_conversation_t* c, const hub_member_t* m) noexcept nogil:
    if not hub_rights(h, c, m) & RIGHT_WRITE or c.flags & CONVERSATION_FLAG_CLOSED:
        return ERR_FORBIDDEN
    if m.muted_until_s and <uint64_t>m.muted_until_s * 1000 > h.now_ms:
        return ERR_FORBIDDEN if m.muted_until_s == <uint32_t>HUB_MUTED_FOR_EVER else ERR_MUTED
    return 0

# Milliseconds that slow mode has this SEND wait, 0: it need not.
cdef inline uint64_t hub_slow_mode_wait(hub_t* h, const hub_send_t* s) noexcept nogil:
    cdef uint64_t free_ms
    if (s.conversation.slow_mode_s == 0 or not wire_kinds[s.kind].message
            or hub_rights(h, s.conversation, s.member) & RIGHT_NO_SLOW_MODE):
        return 0
    free_ms = (<uint64_t>s.member.spoke_s + s.conversation.slow_mode_s) * 1000
    return free_ms - h.now_ms if s.member.spoke_s and free_ms > h.now_ms else 0

cdef inline uint32_t hub_second_after(uint64_t ms) noexcept nogil:
    return <uint32_t>((ms + 999) // 1000)

# A message of s.member has been staged; the caller has prepared the undo log.
cdef void hub_slow_mode_note(hub_t* h, const hub_send_t* s, uint64_t ts_ms) noexcept nogil:
    cdef hub_member_t* m = hub_member(s.conversation, s.head.user)
    cdef hub_undo_t* undo = hub_undo_add(h, UNDO_SPOKE)
    undo.conversation = s.conversation
    undo.a = m.user
    undo.b = m.spoke_s
    m.spoke_s = hub_second_after(ts_ms)

# False: no memory.
cdef bint hub_change_rules(hub_t* h, hub_conversation_t* c, const hub_rules_t* rules) noexcept nogil:
    cdef hub_undo_t* undo
    if not hub_undo_prepare(h):
        return False
    undo = hub_undo_add(h, UNDO_RULES)
    undo.conversation = c
    undo.a = c.flags
    undo.b = c.slow_mode_s
    memcpy(&undo.sent, c.denied, sizeof(c.denied))
    hub_rules_set(c, rules)
    return True

cdef inline void hub_rules_set(hub_conversation_t* c, const hub_rules_t* rules) noexcept nogil:
    c.flags = rules.flags
    c.slow_mode_s = rules.slow_mode_s
    memcpy(c.denied, rules.denied, sizeof(c.denied))

# False: no memory.
cdef bint hub_change_mute(hub_t* h, hub_conversation_t* c, hub_member_t* m, uint32_t until_s) noexcept nogil:
    cdef hub_undo_t* undo
    if not hub_undo_prepare(h):
        return False
    undo = hub_undo_add(h, UNDO_MUTE)
    undo.conversation = c
    undo.a = m.user
    undo.b = m.muted_until_s
    m.muted_until_s = until_s
    return True

# Take back UNDO_SPOKE, UNDO_MUTE or UNDO_RULES.
cdef void hub_rights_undo(const hub_undo_t* u) noexcept nogil:
    cdef hub_conversation_t* c = u.conversation
    if u.kind == UNDO_RULES:
        c.flags = <uint32_t>u.a
        c.slow_mode_s = <uint32_t>u.b
        memcpy(c.denied, &u.sent, sizeof(c.denied))
    elif u.kind == UNDO_MUTE:
        hub_member(c, u.a).muted_until_s = <uint32_t>u.b
    else:
        hub_member(c, u.a).spoke_s = <uint32_t>u.b


# -- what Python gives -------------------------------------------------------------------------------------------------

cdef int hub_words_read(uint16_t* to, object words) except -1:
    cdef int i
    if len(words) != HUB_ROLES:
        raise ValueError(f"{len(words)} words of rights where there are {HUB_ROLES} roles")
    for i in range(HUB_ROLES):
        to[i] = words[i]
    return 0

cdef int hub_rules_read(hub_rules_t* rules, object flags, object slow_mode_s, object denied) except -1:
    rules.flags = flags
    rules.slow_mode_s = slow_mode_s
    hub_words_read(rules.denied, denied)
    return 0
