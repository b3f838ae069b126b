# Before login: what a stranger may cost us.
#
# A connection without login gets a small record of its own, a few bytes and a few seconds. All of them stand in a list
# by age; when there are too many, the oldest goes, because a real client logs in at once and an attacker's sockets
# grow old. Frames are small and few (preauth_frame_bytes_max, preauth_bytes_max), only HELLO, AUTH, RESUME, PING, PONG
# and BYE are understood, and what is malformed gets no answer at all.

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void* p, size_t n, unsigned int flags) noexcept


# xorshift64*: jitter, and the nonces of seeded test runs.
cdef uint64_t random_next(engine_t* e) noexcept nogil:
    e.random_state ^= e.random_state >> 12
    e.random_state ^= e.random_state << 25
    e.random_state ^= e.random_state >> 27
    return e.random_state * <uint64_t>0x2545F4914F6CDD1DULL

# Sixteen bytes.
cdef bint random_nonce(engine_t* e, uint8_t* nonce) noexcept nogil:
    cdef uint64_t words[2]
    if e.settings.random_seed == 0:
        return getrandom(nonce, 16, 0) == 16
    words[0] = random_next(e)
    words[1] = random_next(e)
    memcpy(nonce, words, 16)
    return True


cdef void preauth_leave(engine_t* e, conn_t* c) noexcept nogil:
    cdef preauth_t* p = c.preauth
    if p == NULL:
        return
    if p.older != <uint32_t>SLOT_NONE:
        slab_at(&e.slab, p.older).preauth.younger = p.younger
    else:
        e.preauth_oldest = p.younger
    if p.younger != <uint32_t>SLOT_NONE:
        slab_at(&e.slab, p.younger).preauth.older = p.older
    else:
        e.preauth_youngest = p.older
    e.preauth_count -= 1
    c.preauth = NULL
    pool_free(&e.pool, p, sizeof(preauth_t))

# The oldest one that is not doomed already makes room.
cdef void preauth_evict(engine_t* e) noexcept nogil:
    cdef uint32_t slot = e.preauth_oldest
    while slot != <uint32_t>SLOT_NONE and slab_at(&e.slab, slot).flags & CONN_DOOMED:
        slot = slab_at(&e.slab, slot).preauth.younger
    if slot != <uint32_t>SLOT_NONE:
        conn_doom(e, slab_at(&e.slab, slot), CLOSE_PREAUTH_EVICTED)

# False: no memory.
cdef bint preauth_enter(engine_t* e, conn_t* c, const uint8_t* address, uint16_t port) noexcept nogil:
    cdef preauth_t* p = <preauth_t*>pool_alloc_zeroed(&e.pool, sizeof(preauth_t))
    if p == NULL:
        return False
    memcpy(p.address, address, 16)
    p.port = port
    p.accepted_ms = e.now_ms
    p.younger = <uint32_t>SLOT_NONE
    p.older = e.preauth_youngest
    if p.older != <uint32_t>SLOT_NONE:
        slab_at(&e.slab, p.older).preauth.younger = c.slot
    else:
        e.preauth_oldest = c.slot
    e.preauth_youngest = c.slot
    c.preauth = p
    e.preauth_count += 1
    if e.preauth_count > e.settings.preauth_connections_max:
        preauth_evict(e)
    return True


# varint length and bytes, at most n_max of them; `bad` otherwise.
cdef inline const uint8_t* rd_limited(cur_t* cur, size_t n_max, size_t* n) noexcept nogil:
    n[0] = <size_t>rd_varint(cur)
    if n[0] > n_max:
        rd_fail(cur)
    return rd_bytes(cur, n[0])

cdef inline void rd_text(cur_t* cur, size_t n_max) noexcept nogil:
    cdef size_t n
    cdef const uint8_t* p = rd_limited(cur, n_max, &n)
    if p != NULL and not utf8_is_valid(p, n):
        rd_fail(cur)

# The extension block: entries with strictly ascending tags. Returns False when one that must be understood (odd tag) is
# above `known_tag`, the highest that the caller knows; malformed blocks make the cursor bad.
cdef bint rd_extensions(cur_t* cur, uint64_t known_tag) noexcept nogil:
    cdef cur_t block
    cdef size_t n
    cdef const uint8_t* p = rd_limited(cur, LIMIT_EXTENSION_BYTES_MAX, &n)
    cdef uint64_t tag, previous = 0
    cdef bint understood = True
    if p == NULL or n == 0:
        rd_fail(cur)
        return True
    rd_init(&block, p, n)
    while rd_left(&block):
        tag = rd_varint(&block)
        rd_bytes(&block, <size_t>rd_varint(&block))
        if not rd_ok(&block) or tag <= previous:
            rd_fail(cur)
            return True
        if tag & 1 and tag > known_tag:
            understood = False
        previous = tag
    return understood


cdef void on_hello(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef uint8_t major = rd_u8(cur)
    cdef uint64_t features = rd_varint(cur)
    cdef uint16_t frame_bytes_max = rd_u16be(cur)
    cdef uint64_t window_frames = rd_varint(cur)
    cdef uint64_t window_bytes = rd_varint(cur)
    cdef bint understood = True
    cdef uint64_t spread
    rd_text(cur, LIMIT_HELLO_AGENT_BYTES_MAX)
    if flags & FLAG_EXT:
        understood = rd_extensions(cur, 0)
    if not rd_done(cur) or frame_bytes_max < LIMIT_LITE_FRAME_BYTES_MIN or c.state != CONN_NEW:
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    if major != PROTOCOL_MAJOR or not understood:
        send_error(e, c, ERR_UNSUPPORTED, OP_HELLO, 0, 0)
        conn_doom(e, c, CLOSE_UNSUPPORTED)
        return
    c.features = <uint32_t>(features & e.settings.features)
    c.frame_bytes_max = frame_bytes_max
    if window_frames == 0:
        window_frames = e.settings.window_frames_default
    if window_bytes == 0:
        window_bytes = e.settings.window_bytes_default
    c.window_frames = <uint32_t>min(window_frames, e.settings.window_frames_max)
    # The largest frame always fits an empty window: a PULL that starts at it must get on.
    window_bytes = max(min(window_bytes, e.settings.window_bytes_max), <uint64_t>(frame_bytes_max + FRAME_HEADER_BYTES))
    c.window_bytes = <uint32_t>window_bytes
    # Spread, so that a million clients that came at once do not send their heartbeats at once.
    spread = e.settings.heartbeat_ms * e.settings.heartbeat_jitter_percent // 100
    c.heartbeat_ms = <uint32_t>e.settings.heartbeat_ms
    if spread:
        c.heartbeat_ms = <uint32_t>(e.settings.heartbeat_ms - spread + random_below(e, 2 * spread + 1))
    c.state = CONN_GREETED
    if c.features & FEATURE_CHALLENGE:
        if not random_nonce(e, c.preauth.nonce):  # uncovered: the kernel has randomness, or does not boot
            conn_doom(e, c, CLOSE_INTERNAL)
            return
        c.preauth.has_nonce = 1
        send_challenge(e, c)


@cython.cdivision(True)
cdef uint64_t random_below(engine_t* e, uint64_t bound) noexcept nogil:
    return (random_next(e) >> 11) % bound

# What Python needs to judge a credential: nonce, address and the body as it came.
cdef upcall_t* preauth_upcall(engine_t* e, conn_t* c, upcall_kind kind, const uint8_t* body, size_t n) noexcept nogil:
    cdef upcall_t* up = upcall_new(e, kind, conn_handle(c), NULL, 0)
    cdef uint8_t* blob
    if up == NULL:
        conn_doom_no_memory(e, c)
        return NULL
    blob = <uint8_t*>pool_alloc(&e.pool, 32 + n)
    if blob == NULL:
        e.upcalls.count -= 1
        conn_doom_no_memory(e, c)
        return NULL
    memcpy(blob, c.preauth.nonce, 16)
    memcpy(blob + 16, c.preauth.address, 16)
    memcpy(blob + 32, body, n)
    up.blob = blob
    up.blob_bytes = <uint32_t>(32 + n)
    up.numbers[0] = c.preauth.has_nonce
    # Good for one AUTH.
    c.preauth.has_nonce = 0
    c.state = CONN_AUTHENTICATING
    return up

cdef void on_auth(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur), size
    cdef bint understood = True
    rd_u8(cur)
    rd_varint(cur)
    rd_text(cur, LIMIT_AUTH_IDENTITY_BYTES_MAX)
    rd_limited(cur, LIMIT_AUTH_PROOF_BYTES_MAX, &size)
    rd_text(cur, LIMIT_AUTH_LABEL_BYTES_MAX)
    if flags & FLAG_EXT:
        understood = rd_extensions(cur, 0)
    if not rd_done(cur) or c.state != CONN_GREETED:
        conn_doom(e, c, CLOSE_BAD_FRAME)
    elif not understood:
        send_error(e, c, ERR_UNSUPPORTED, OP_AUTH, 0, 0)
    else:
        preauth_upcall(e, c, UPCALL_AUTH, body, n)

cdef void on_resume(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur), size
    cdef bint understood = True
    rd_limited(cur, LIMIT_RESUME_TICKET_BYTES_MAX, &size)
    rd_varint(cur)
    rd_limited(cur, LIMIT_RESUME_CURSOR_BYTES_MAX, &size)
    if flags & FLAG_EXT:
        understood = rd_extensions(cur, 0)
    if not rd_done(cur) or c.state != CONN_GREETED:
        conn_doom(e, c, CLOSE_BAD_FRAME)
    elif not understood:
        send_error(e, c, ERR_UNSUPPORTED, OP_RESUME, 0, 0)
    else:
        preauth_upcall(e, c, UPCALL_RESUME, body, n)

cdef void on_reauth(engine_t* e, conn_t* c, uint8_t flags, cur_t* cur) noexcept nogil:
    cdef const uint8_t* body = cur.p
    cdef size_t n = rd_left(cur), size
    cdef upcall_t* up
    rd_u8(cur)
    rd_text(cur, LIMIT_REAUTH_IDENTITY_BYTES_MAX)
    rd_limited(cur, LIMIT_REAUTH_PROOF_BYTES_MAX, &size)
    if not rd_done(cur):
        conn_doom(e, c, CLOSE_BAD_FRAME)
        return
    if c.flags & CONN_REAUTHENTICATING:
        # One at a time: checking a password is dear.
        send_error(e, c, ERR_NOT_ALLOWED_NOW, OP_REAUTH, 0, 0)
        return
    up = upcall_new(e, UPCALL_REAUTH, conn_handle(c), body, n)
    if up == NULL:
        conn_doom_no_memory(e, c)
        return
    c.flags |= CONN_REAUTHENTICATING
    up.numbers[0] = c.user
    up.numbers[1] = c.device
    up.numbers[2] = c.session_epoch

# refuse(): one of login_failures_max is used up.
cdef void preauth_failed(engine_t* e, conn_t* c) noexcept nogil:
    e.count[COUNT_LOGIN_FAILURES] += 1
    c.flags &= ~CONN_LOGIN_DUE
    if c.flags & CONN_ATTACHED:
        # Refused although the hub was told of it: the directory must forget the session.
        conn_doom(e, c, CLOSE_AUTH_FAILED)
        return
    c.user = c.device = c.session_epoch = 0
    c.state = CONN_GREETED
    c.preauth.failures += 1
    if c.preauth.failures >= e.settings.login_failures_max:
        conn_doom(e, c, CLOSE_AUTH_FAILED)

# welcome(): the session is live.
cdef void preauth_done(engine_t* e, conn_t* c) noexcept nogil:
    preauth_leave(e, c)
    c.state = CONN_LIVE
    c.flags |= CONN_SESSION
    c.received_ms = <uint32_t>e.now_ms
    e.slab.live_count += 1
    e.count[COUNT_LOGINS] += 1
    conn_lowat(c, True)
    wheel_unlink(&e.slab, &e.wheel, c)
    wheel_arm(&e.slab, &e.wheel, c, conn_next_deadline_ms(e, c))
