# Upcalls: what needs Python, collected natively and converted as one batch.
#
# The native part of poll runs without the GIL, so it writes down what it has to say: a kind, a handle, a few numbers
# and a copy of the bytes. Engine.poll turns the list into tuples when it is back. The list is bounded by upcalls_max:
# when it is full, sockets and links are simply not read until the next poll, which is backpressure and not loss.

cdef enum upcall_kind:
    UPCALL_AUTH = 0
    UPCALL_RESUME = 1
    UPCALL_REAUTH = 2
    UPCALL_REGISTERED = 3
    UPCALL_RPC = 4
    UPCALL_CLOSED = 5
    UPCALL_READABLE = 6
    UPCALL_RESUMED = 7

cdef struct upcall_t:
    uint32_t kind
    uint32_t blob_bytes
    uint64_t handle
    uint8_t* blob
    uint64_t numbers[9]

cdef struct upcalls_t:
    upcall_t* items
    uint32_t room
    uint32_t count


cdef inline bint upcalls_full(engine_t* e) noexcept nogil:
    return e.upcalls.count >= e.settings.upcalls_max

# A blank upcall with a copy of n bytes; NULL without memory.
cdef upcall_t* upcall_new(engine_t* e, upcall_kind kind, uint64_t handle, const uint8_t* p, size_t n) noexcept nogil:
    cdef upcalls_t* upcalls = &e.upcalls
    cdef upcall_t* up
    cdef void* block
    cdef uint8_t* blob = NULL
    if upcalls.count == upcalls.room:
        block = pool_double(&e.pool, upcalls.items, &upcalls.room, sizeof(upcall_t), 64)
        if block == NULL:
            return NULL
        upcalls.items = <upcall_t*>block
    if n:
        blob = <uint8_t*>pool_alloc(&e.pool, n)
        if blob == NULL:
            return NULL
        memcpy(blob, p, n)
    up = &upcalls.items[upcalls.count]
    upcalls.count += 1
    memset(up, 0, sizeof(upcall_t))
    up.kind = kind
    up.handle = handle
    up.blob = blob
    up.blob_bytes = <uint32_t>n
    return up

cdef str address_text(const uint8_t* address):
    """Presentation form of 16 bytes, IPv4 when mapped; empty for none."""
    # Written by hand for IPv4: ipaddress takes 8 us, a sixth of a resume.
    if address_is_v4(address):
        return f"{address[12]}.{address[13]}.{address[14]}.{address[15]}"
    import ipaddress
    packed = ipaddress.IPv6Address(bytes(address[:16]))
    return str(packed) if int(packed) else ""

cdef bytes upcall_bytes(cur_t* cursor):
    cdef size_t n = <size_t>rd_varint(cursor)
    cdef const uint8_t* at = rd_bytes(cursor, n)
    return bytes(at[:n]) if at != NULL else b""

# AUTH and REAUTH were checked before they came here; the cursor cannot fail.
cdef tuple upcall_auth(const upcall_t* up):
    cdef cur_t cursor
    rd_init(&cursor, up.blob + 32, up.blob_bytes - 32)
    credential = rd_u8(&cursor)
    device = rd_varint(&cursor)
    identity = upcall_bytes(&cursor).decode()
    proof = upcall_bytes(&cursor)
    label = upcall_bytes(&cursor).decode()
    nonce = bytes(up.blob[:16]) if up.numbers[0] else b""
    return ("auth", up.handle, credential, device, identity, proof, label, nonce, address_text(up.blob + 16))

cdef tuple upcall_resume(const upcall_t* up):
    cdef cur_t cursor
    rd_init(&cursor, up.blob + 32, up.blob_bytes - 32)
    ticket = upcall_bytes(&cursor)
    log_epoch = rd_varint(&cursor)
    return ("resume", up.handle, ticket, log_epoch, upcall_bytes(&cursor), address_text(up.blob + 16))

cdef tuple upcall_reauth(const upcall_t* up):
    cdef cur_t cursor
    rd_init(&cursor, up.blob, up.blob_bytes)
    credential = rd_u8(&cursor)
    identity = upcall_bytes(&cursor).decode()
    proof = upcall_bytes(&cursor)
    return ("reauth", up.handle, credential, identity, proof, up.numbers[0], up.numbers[1], up.numbers[2])

cdef tuple upcall_tuple(const upcall_t* up):
    if up.kind == UPCALL_AUTH:
        return upcall_auth(up)
    if up.kind == UPCALL_RESUME:
        return upcall_resume(up)
    if up.kind == UPCALL_REAUTH:
        return upcall_reauth(up)
    if up.kind == UPCALL_REGISTERED:
        return ("registered", up.handle, up.numbers[0], up.numbers[1], up.numbers[2], up.numbers[3], up.numbers[4],
                up.numbers[5], up.numbers[6], up.numbers[7], up.numbers[8])
    if up.kind == UPCALL_RPC:
        return ("rpc", up.numbers[0], bytes(up.blob[:up.blob_bytes]) if up.blob_bytes else b"")
    if up.kind == UPCALL_CLOSED:
        return ("closed", up.handle, up.numbers[0], up.numbers[1], up.numbers[2])
    if up.kind == UPCALL_READABLE:
        return ("readable", up.handle)
    return ("resumed", up.handle)

cdef inline bint upcalls_wait(const engine_t* e) noexcept nogil:
    return e.upcalls.count != 0 or e.links_lost != 0

cdef list upcalls_take(engine_t* e):
    cdef uint32_t index
    cdef list out = []
    try:
        for index in range(e.upcalls.count):
            out.append(upcall_tuple(&e.upcalls.items[index]))
    finally:
        upcalls_clear(e)
    if e.links_lost:
        out += links_lost_take(e)
    return out

# Noted in the link itself: without this upcall nobody would replace the link, so it must not need memory of the pool.
cdef list links_lost_take(engine_t* e):
    cdef uint32_t index
    cdef list out = []
    if e.hub.lost:
        out.append(("hub_lost",))
    for index in range(PEERS_MAX):
        if e.peers[index].lost:
            out.append(("peer_lost", index))
            e.peers[index].lost = False
    e.hub.lost = False
    e.links_lost = 0
    return out

cdef void upcalls_clear(engine_t* e) noexcept nogil:
    cdef uint32_t index
    for index in range(e.upcalls.count):
        pool_free(&e.pool, e.upcalls.items[index].blob, e.upcalls.items[index].blob_bytes)
    e.upcalls.count = 0

cdef void upcalls_dispose(engine_t* e) noexcept nogil:
    upcalls_clear(e)
    pool_free(&e.pool, e.upcalls.items, e.upcalls.room * sizeof(upcall_t))
