# Accepting: the door to the street.
#
# Options are set once on the listening socket and inherited by every accepted one (Linux, tcp_create_openreq_child):
#   SO_SNDBUF            what a reader that stopped may pin in the kernel
#   TCP_NODELAY          frames leave when they are flushed; we gather ourselves, once per tick
#   TCP_NOTSENT_LOWAT    writable means that most was sent, so fresh frames are not queued behind stale ones
#   TCP_USER_TIMEOUT     a peer that acknowledges nothing for this long is gone, however patient TCP itself is
#   TCP_DEFER_ACCEPT     clients speak first; those that do not are not even accepted
# When descriptors run out the listener would be readable for ever and the clients in it would hang: one descriptor is
# kept in reserve, given up to accept and reset one connection, taken again, and accepting pauses.

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int fd, sockaddr* address, unsigned int* n, int flags) noexcept
    const int AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_CLOEXEC

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    uint16_t ntohs(uint16_t value) noexcept
    const int IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    const int TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT, TCP_DEFER_ACCEPT

cdef extern from "<fcntl.h>" nogil:
    int posix_open "open"(const char* path, int flags) noexcept
    const int O_RDONLY, O_CLOEXEC, F_GETFL, F_SETFL, O_NONBLOCK

from libc.errno cimport ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EPROTO

cdef enum:
    ACCEPTS_PER_WAKEUP = 64


# Options that this kernel or family does not know are no reason to refuse to listen (unix sockets in tests).
cdef void listener_options(engine_t* e, int fd) noexcept nogil:
    cdef int value = <int>e.settings.send_buffer_bytes
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value))
    value = 1
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value))
    value = <int>e.settings.notsent_lowat_bytes
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value))
    value = <int>e.settings.tcp_user_timeout_ms
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value))
    value = <int>e.settings.defer_accept_s
    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &value, sizeof(value))
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK)

cdef bint listener_watch(engine_t* e, uint32_t index, bint on) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN
    event.data.u64 = EVENT_LISTENER + index
    e.listeners[index].paused = not on
    return epoll_ctl(e.epoll_fd, EPOLL_CTL_ADD if on else EPOLL_CTL_DEL, e.listeners[index].fd, &event) == 0

cdef void accept_pause(engine_t* e) noexcept nogil:
    cdef uint32_t index
    for index in range(LISTENERS_MAX):
        if e.listeners[index].fd >= 0 and not e.listeners[index].paused:
            listener_watch(e, index, False)
    e.accept_resume_ms = e.now_ms + e.settings.accept_pause_ms

cdef void accept_resume(engine_t* e) noexcept nogil:
    cdef uint32_t index
    e.accept_resume_ms = 0
    if e.drain_start_ms:
        return
    for index in range(LISTENERS_MAX):
        if e.listeners[index].fd >= 0 and e.listeners[index].paused:
            listener_watch(e, index, True)

# Out of descriptors: reset the connection that waits, so that its client knows, and pause.
cdef void accept_exhausted(engine_t* e, int listener_fd) noexcept nogil:
    cdef linger_t abrupt
    cdef int fd
    e.count[COUNT_DESCRIPTORS_EXHAUSTED] += 1
    if e.reserve_fd >= 0:
        posix_close(e.reserve_fd)
        fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            abrupt.l_onoff = 1
            abrupt.l_linger = 0
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt))
            posix_close(fd)
    e.reserve_fd = posix_open("/dev/null", O_RDONLY | O_CLOEXEC)
    accept_pause(e)

# The peer's address as 16 bytes, IPv4 mapped into IPv6; zeros for families without addresses.
cdef uint16_t peer_address(const sockaddr_storage* from_address, uint8_t* address) noexcept nogil:
    cdef const sockaddr_in* v4 = <const sockaddr_in*>from_address
    cdef const sockaddr_in6* v6 = <const sockaddr_in6*>from_address
    memset(address, 0, 16)
    if from_address.ss_family == AF_INET:
        address[10] = address[11] = 0xFF
        memcpy(address + 12, &v4.sin_addr.s_addr, 4)
        return ntohs(v4.sin_port)
    if from_address.ss_family == AF_INET6:
        memcpy(address, v6.sin6_addr.s6_addr, 16)
        return ntohs(v6.sin6_port)
    return 0

# Refuse a connection that was accepted: a reset, no bytes.
cdef void accept_shed(engine_t* e, conn_t* c, int fd) noexcept nogil:
    cdef linger_t abrupt
    e.count[COUNT_ACCEPT_SHED] += 1
    abrupt.l_onoff = 1
    abrupt.l_linger = 0
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt))
    posix_close(fd)
    if c != NULL:
        c.fd = -1
        address_leave(e, c)
        preauth_leave(e, c)
        c.state = CONN_GONE
        slab_give(&e.slab, c)

cdef void accept_one(engine_t* e, listener_t* listener, int fd, const sockaddr_storage* from_address) noexcept nogil:
    cdef uint8_t address[16]
    cdef uint16_t port = peer_address(from_address, address)
    cdef bint proxied
    cdef conn_t* c
    if rate_charge(&e.accept_tat_ns, e.now_ns, 1, e.settings.accepts_per_s, e.settings.accepts_per_s):
        accept_shed(e, NULL, fd)
        return
    # Anybody but a balancer could name any address: from others the header is not read.
    proxied = listener.proxy and (e.balancers.count == 0 or networks_cover(&e.balancers, address))
    c = slab_take(&e.slab, CONN_PROXY if proxied else CONN_NEW)
    if c == NULL:
        preauth_evict(e)
        accept_shed(e, NULL, fd)
        return
    c.fd = fd
    # Behind a balancer the address that counts comes in the PROXY header.
    if not proxied and not address_enter(e, c, address):
        accept_shed(e, c, fd)
        return
    if not preauth_enter(e, c, address, port) or not conn_watch_first(e, c):
        accept_shed(e, c, fd)
        return
    e.count[COUNT_ACCEPTED] += 1
    c.received_ms = <uint32_t>e.now_ms
    wheel_arm(&e.slab, &e.wheel, c, e.now_ms + e.settings.first_byte_ms)

cdef void accept_ready(engine_t* e, uint32_t index) noexcept nogil:
    cdef listener_t* listener = &e.listeners[index]
    cdef sockaddr_storage from_address
    cdef unsigned int n
    cdef int fd, turn
    for turn in range(ACCEPTS_PER_WAKEUP):
        if listener.fd < 0 or listener.paused:
            return
        n = sizeof(from_address)
        memset(&from_address, 0, sizeof(from_address))
        fd = accept4(listener.fd, <sockaddr*>&from_address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            e.found_work = True
            accept_one(e, listener, fd, &from_address)
        elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
            accept_exhausted(e, listener.fd)
            return
        elif errno == ECONNABORTED or errno == EINTR or errno == EPROTO or errno == EPERM:
            e.count[COUNT_ACCEPT_FAILED] += 1
        else:
            return
