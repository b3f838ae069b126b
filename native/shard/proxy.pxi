# PROXY protocol version 2: the address of the client behind a balancer.
#
# Specification: haproxy.org, proxy-protocol.txt, section 2.2. Only listeners that say so expect it, and then it must
# come first: a balancer that forgets it would hide every client behind its own address. A connection of the balancer
# itself (command LOCAL) keeps the socket's address. Type-length-value extras are skipped.

cdef enum:
    PROXY_HEADER_BYTES = 16
    PROXY_BODY_BYTES_MAX = 512
    PROXY_INET_BYTES = 12
    PROXY_INET6_BYTES = 36
    PROXY_LOCAL = 0x20
    PROXY_PROXIED = 0x21
    PROXY_TCP_INET = 0x11
    PROXY_TCP_INET6 = 0x21

cdef extern from *:
    """
    static const unsigned char proxy_signature[12] = "\\r\\n\\r\\n\\0\\r\\nQUIT\\n";
    """
    const uint8_t proxy_signature[12]


cdef size_t proxy_lacks(const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t total = PROXY_HEADER_BYTES
    if n >= PROXY_HEADER_BYTES:
        total += (<size_t>p[14] << 8) | p[15]
    return total - n if total > n else 0

# Consume the header. 0: it is not complete yet, or the connection is doomed.
cdef size_t on_proxy_header(engine_t* e, conn_t* c, const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t known = n if n < 12 else 12
    cdef size_t length
    cdef cur_t cur
    cdef uint8_t command, family
    if memcmp(p, proxy_signature, known) != 0:
        conn_doom(e, c, CLOSE_PROXY_FAILED)
        return 0
    if n < PROXY_HEADER_BYTES:
        return 0
    command = p[12]
    family = p[13]
    length = (<size_t>p[14] << 8) | p[15]
    if length > PROXY_BODY_BYTES_MAX or (command != PROXY_LOCAL and command != PROXY_PROXIED):
        conn_doom(e, c, CLOSE_PROXY_FAILED)
        return 0
    if n < PROXY_HEADER_BYTES + length:
        return 0
    if command == PROXY_PROXIED:
        rd_init(&cur, p + PROXY_HEADER_BYTES, length)
        if not proxy_address(e, c, family, &cur):
            return 0
    # The header does not count against the bytes of the client.
    c.preauth.received_bytes = <uint32_t>(n - PROXY_HEADER_BYTES - length)
    c.state = CONN_NEW
    return PROXY_HEADER_BYTES + length

# Take over the client's address, and apply the limits of addresses to it.
cdef bint proxy_address(engine_t* e, conn_t* c, uint8_t family, cur_t* cur) noexcept nogil:
    cdef const uint8_t* source
    if family == PROXY_TCP_INET:
        source = rd_bytes(cur, 4)
        rd_bytes(cur, 4)
    elif family == PROXY_TCP_INET6:
        source = rd_bytes(cur, 16)
        rd_bytes(cur, 16)
    else:
        conn_doom(e, c, CLOSE_PROXY_FAILED)
        return False
    c.preauth.port = rd_u16be(cur)
    rd_u16be(cur)
    if not rd_ok(cur):
        conn_doom(e, c, CLOSE_PROXY_FAILED)
        return False
    memset(c.preauth.address, 0, 16)
    if family == PROXY_TCP_INET:
        c.preauth.address[10] = c.preauth.address[11] = 0xFF
        memcpy(&c.preauth.address[12], source, 4)
    else:
        memcpy(c.preauth.address, source, 16)
    if not address_enter(e, c, c.preauth.address):
        e.count[COUNT_ACCEPT_SHED] += 1
        conn_doom(e, c, CLOSE_SHED)
        return False
    return True
