# Engine: the one door between Python and the native shard.
#
# Commands and upcalls as docs/internals/engine.md describes them. A handle that is no longer live makes a command
# return False; nothing here keeps a pointer into Python or gives one away. poll releases the GIL while it works, and
# no other method may be called meanwhile: the loop that owns the engine is one task of one thread.

cdef int networks_load(networks_t* networks, object texts) except -1:
    cdef bytes prefix
    cdef network_t* network
    import ipaddress
    networks.count = 0
    for text in texts:
        if networks.count == NETWORKS_MAX:
            raise ValueError(f"more than {NETWORKS_MAX} networks")
        parsed = ipaddress.ip_network(text)
        network = &networks.networks[networks.count]
        prefix = parsed.network_address.packed
        network.bits = parsed.prefixlen
        if parsed.version == 4:
            prefix = b"\0" * 10 + b"\xff\xff" + prefix
            network.bits += 96
        memcpy(network.prefix, <const uint8_t*><const char*>prefix, 16)
        networks.count += 1
    return 0


@cython.final
cdef class Engine:
    """Sockets, sessions and routes of one shard. See docs/internals/engine.md and chatd.engine.interface."""

    cdef engine_t* _e
    cdef object _hub_rings
    cdef dict _peer_rings
    cdef dict _listeners

    def __cinit__(self, settings: object) -> None:
        self._hub_rings = None
        self._peer_rings = {}
        self._listeners = {}
        self._e = <engine_t*>calloc(1, sizeof(engine_t))
        if self._e == NULL:
            raise MemoryError("engine")
        engine_blank(self._e)
        settings_load(&self._e.settings, settings)
        if self._e.settings.requests_outstanding_max + self._e.settings.pulls_outstanding_max > CALLS_MAX:
            raise ValueError(f"requests_outstanding_max and pulls_outstanding_max together exceed {CALLS_MAX}")
        engine_start(self._e)
        if not engine_alloc(self._e):
            raise MemoryError("engine tables")
        if not engine_open_fds(self._e):
            raise OSError(errno, "cannot create the engine's descriptors")

    def __dealloc__(self):
        if self._e != NULL:
            engine_free(self._e)
            free(self._e)
            self._e = NULL

    cdef int _open(self) except -1:
        if self._e == NULL or self._e.epoll_fd < 0:
            raise ValueError("operation on a disposed engine")
        return 0

    # -- lifetime --

    def fileno(self) -> int:
        """The epoll descriptor: readable when there is work."""
        self._open()
        return self._e.epoll_fd

    def listen(self, int fd, bint proxy=False) -> None:
        """Accept from a listening socket. The engine takes a duplicate; the caller keeps its own.

        proxy: every connection begins with a PROXY protocol v2 header. OSError when the descriptor cannot be watched.
        """
        self._open()
        cdef uint32_t index
        cdef int own
        if fd in self._listeners:
            raise ValueError(f"descriptor {fd} is a listener already")
        for index in range(LISTENERS_MAX):
            if self._e.listeners[index].fd < 0:
                break
        else:
            raise ValueError(f"more than {LISTENERS_MAX} listeners")
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3)
        if own < 0:
            raise OSError(errno, "cannot duplicate the listening descriptor")
        listener_options(self._e, own)
        self._e.listeners[index].fd = own
        self._e.listeners[index].proxy = proxy
        if not listener_watch(self._e, index, True):
            self._e.listeners[index].fd = -1
            posix_close(own)
            raise OSError(errno, "cannot watch the listening descriptor")
        self._listeners[fd] = index

    def trust(self, exempt: object, balancers: object) -> None:
        """Networks ("10.0.0.0/8", "fd00::/8"), at most 64 of each. exempt: without the limits of addresses.

        balancers: those whose PROXY header proxy listeners require and believe; peers outside of them are served
        without one. When none is named, a proxy listener requires it of everybody. ValueError when there are too many.
        """
        self._open()
        networks_load(&self._e.exempt, exempt)
        networks_load(&self._e.balancers, balancers)

    def unlisten(self, int fd) -> None:
        """Stop accepting from a descriptor given to listen()."""
        self._open()
        cdef uint32_t index = self._listeners.pop(fd)
        if not self._e.listeners[index].paused:
            listener_watch(self._e, index, False)
        close_fd(&self._e.listeners[index].fd)

    def link_hub(self, uint64_t epoch, Ring ring_in not None, Ring ring_out not None) -> None:
        """Use a fresh pair of rings; an older link is dropped. Keeps both rings until the link is replaced."""
        self.unlink_hub()
        ring_in._require_open()
        ring_out._require_open()
        if not watch_fd(self._e, ring_in._ring.eventfd, EVENT_HUB):
            raise OSError(errno, "cannot watch the hub's ring")
        self._hub_rings = (ring_in, ring_out)
        self._e.hub.ring_in = &ring_in._ring
        self._e.hub.ring_out = &ring_out._ring
        self._e.hub.epoch = epoch
        self._e.hub.stage = UPLINK_RECEIVED
        self._e.hub.attach_slot = 0
        self._e.hub.attach_logged = False
        self._e.hub.attach_entry = <uint32_t>SUBSCRIPTION_NONE
        self._e.hub.attach_marks = 0
        self._e.count[COUNT_LINKS] += 1
        engine_kick(self._e)

    def unlink_hub(self) -> None:
        """Forget the link to the hub. SENDs wait for the next one; calls are answered UNAVAILABLE."""
        self._open()
        if self._e.hub.ring_out != NULL:
            self._e.hub.ring_in = self._e.hub.ring_out = NULL
            self._e.hub.stage = UPLINK_NONE
            uplink_detach(self._e)
            engine_kick(self._e)
        if self._hub_rings is not None:
            self._unwatch(self._hub_rings[0])
            self._hub_rings = None

    cdef int _unwatch(self, Ring ring) except -1:
        if ring._ring.eventfd >= 0:
            unwatch_fd(self._e, ring._ring.eventfd)
        return 0

    def link_peer(self, uint32_t index, uint64_t epoch, Ring ring_in not None, Ring ring_out not None) -> None:
        """Exchange ephemeral frames with shard `index`; replaces an older link to it."""
        if index >= PEERS_MAX:
            raise ValueError(f"shard index {index} is not below {PEERS_MAX}")
        self.unlink_peer(index)
        ring_in._require_open()
        ring_out._require_open()
        if not watch_fd(self._e, ring_in._ring.eventfd, EVENT_PEER + index):
            raise OSError(errno, "cannot watch the peer's ring")
        self._peer_rings[index] = (ring_in, ring_out)
        self._e.peers[index].ring_in = &ring_in._ring
        self._e.peers[index].ring_out = &ring_out._ring
        self._e.peers[index].epoch = epoch
        engine_kick(self._e)

    def unlink_peer(self, uint32_t index) -> None:
        """Forget the link to shard `index`; there may be none."""
        self._open()
        rings = self._peer_rings.pop(index, None)
        if rings is not None:
            self._unwatch(rings[0])
            self._e.peers[index].ring_in = self._e.peers[index].ring_out = NULL

    def poll(self, uint64_t budget_us) -> list[tuple[object, ...]]:
        """Read, parse, route, write, expire, for up to budget_us; returns the upcalls, newest last.

        Waits for settings.lull_us at most, and only after work. Memory: at most upcalls_max upcalls and what the ticks
        of the budget produced.
        """
        self._open()
        with nogil:
            engine_run(self._e, budget_us * 1000)
        return upcalls_take(self._e) if upcalls_wait(self._e) else []

    def busy(self) -> bool:
        """True when the last poll still found work: poll again before waiting."""
        self._open()
        return bool(self._e.work_left)

    def timeout_ms(self) -> int:
        """Milliseconds until a deadline needs a poll, -1 when there is none."""
        self._open()
        cdef uint64_t due = deadlines_next_ms(self._e)
        cdef uint64_t now_ms = self._e.now_ms
        if not self._e.settings.manual_clock:
            now_ms = real_ns() // 1000000
        if due == 0:
            return -1
        return due - now_ms if due > now_ms else 0

    def set_time(self, uint64_t ns, uint64_t wall_ms=0) -> None:
        """Only with settings.manual_clock: what every clock shows from here on. ns never goes back. wall_ms: Unix time,
        which may; 0: it follows ns."""
        self._open()
        if not self._e.settings.manual_clock:
            raise ValueError("set_time without settings.manual_clock")
        if ns < self._e.now_ns:
            raise ValueError("time does not go back")
        self._e.now_ns = ns
        self._e.now_ms = ns // 1000000
        self._e.wall_ms = wall_ms or WIRE_TIME_EPOCH_MS + self._e.now_ms

    def counters(self) -> dict[str, int]:
        """Counts since the start, closes by reason as closed_REASON, and gauges of what is held now."""
        self._open()
        cdef engine_t* e = self._e
        cdef dict out = {COUNTER_NAMES[index]: e.count[index] for index in range(COUNTERS)}
        for index in range(1, WIRE_CLOSES_SIZE):
            out["closed_" + wire_closes[index].name.decode().lower()] = e.closes[index]
        out["connections"] = e.slab.used_count
        out["sessions"] = e.slab.live_count
        out["preauth"] = e.preauth_count
        out["subscriptions"] = e.subscriptions.entry_count
        out["sends_pending"] = e.inflight.count
        out["sends_pending_bytes"] = e.inflight.body_bytes
        out["queued_bytes"] = e.queued_bytes
        out["parked_bytes"] = e.parked_bytes
        out["pool_bytes"] = e.pool.used_bytes
        out["slab_bytes"] = e.slab.bytes
        out["routed_pos"] = e.routed_pos
        return out

    def ledger(
        self, uint64_t cid, uint64_t seq, user: int | None = None
    ) -> tuple[list[tuple[int, int, str, int, int]], bool]:
        """What this shard did with an event: (wall_ms, monotonic_us, hop, user, count), oldest first, and aged_out.

        user 0 in an entry: it speaks for all recipients. aged_out: older entries have been overwritten since the
        start, so an empty answer proves nothing.
        """
        self._open()
        cdef ledger_t* ledger = &self._e.ledger
        return ledger_query(ledger, cid, seq, user or 0), ledger.written > ledger.room

    def drain(self, uint64_t window_ms) -> None:
        """Stop accepting; GOAWAY to everybody, spread over window_ms; BYE to those who are left a window later."""
        self._open()
        drain_begin(self._e, window_ms)
        engine_kick(self._e)

    def close_all(self, int reason) -> None:
        """Close every connection with one reason; the next poll writes the BYEs."""
        self._open()
        self._check_reason(reason)
        close_all(self._e, reason)
        engine_kick(self._e)

    def dispose(self) -> None:
        """Close every socket at once and free all memory. Disposing twice is fine, anything else raises afterwards."""
        if self._e == NULL or self._e.epoll_fd < 0:
            return
        for index in self._listeners.values():
            close_fd(&self._e.listeners[<uint32_t>index].fd)
        self._listeners.clear()
        engine_free(self._e)
        self._hub_rings = None
        self._peer_rings.clear()

    # -- commands --

    cdef conn_t* _conn(self, uint64_t handle) except? NULL:
        self._open()
        cdef conn_t* c = slab_find(&self._e.slab, handle)
        return c if c != NULL and conn_is_open(c) else NULL

    cdef int _check_reason(self, int reason) except -1:
        if reason <= 0 or reason >= WIRE_CLOSES_SIZE or wire_closes[reason].name == NULL:
            raise ValueError(f"{reason} is not a close reason of the schema")
        return 0

    cdef int _check_frame(self, bytes frame) except -1:
        cdef size_t n = <size_t>len(frame)
        if frame_at(<const uint8_t*>frame, n) != n:
            raise ValueError("not one complete frame")
        return 0

    def terms(self, uint64_t handle) -> tuple[int, int, int, int, int] | None:
        """(features, frame_bytes_max, window_frames, window_bytes, heartbeat_ms) as agreed; None before HELLO."""
        cdef conn_t* c = self._conn(handle)
        if c == NULL or c.state < CONN_GREETED:
            return None
        return c.features, c.frame_bytes_max, c.window_frames, c.window_bytes, c.heartbeat_ms

    def register(self, uint64_t handle, uint64_t user, uint64_t device, uint64_t token_epoch, uint64_t session_epoch,
                 uint32_t expires_s) -> bool:
        """The credential is good: ask the hub. Answered by the upcall "registered"."""
        cdef conn_t* c = self._conn(handle)
        if c == NULL or c.state != CONN_AUTHENTICATING:
            return False
        c.user = user
        c.device = device
        c.expires_s = expires_s
        c.token_epoch = token_epoch
        c.preauth.ticket_epoch = session_epoch
        c.state = CONN_REGISTERING
        c.flags |= CONN_LOGIN_DUE
        uplink_due(self._e, c)
        engine_kick(self._e)
        return True

    def welcome(self, uint64_t handle, bytes frame not None) -> bool:
        """Send a complete WELCOME or RESUMED frame; the session is live from here on."""
        cdef conn_t* c = self._conn(handle)
        self._check_frame(frame)
        if c == NULL or c.state != CONN_REGISTERED:
            return False
        if not conn_send(self._e, c, <const uint8_t*>frame, <size_t>len(frame)):
            return False
        preauth_done(self._e, c)
        if c.flags & CONN_LAGGING:
            lag_check(self._e, c)
        if self._e.drain_start_ms:
            drain_tell(self._e, c)
        engine_kick(self._e)
        return True

    def refuse(self, uint64_t handle, bytes frame not None, int close_reason=0) -> bool:
        """Send a complete ERROR frame: the login (or REAUTH) failed. close_reason, or the third failure, closes."""
        cdef conn_t* c = self._conn(handle)
        self._check_frame(frame)
        if close_reason:
            self._check_reason(close_reason)
        if c == NULL or (c.state < CONN_AUTHENTICATING):
            return False
        conn_send(self._e, c, <const uint8_t*>frame, <size_t>len(frame))
        if close_reason:
            conn_doom(self._e, c, close_reason)
        c.flags &= ~CONN_REAUTHENTICATING
        if c.state != CONN_LIVE:
            preauth_failed(self._e, c)
        engine_kick(self._e)
        return True

    def reauthenticated(self, uint64_t handle, uint32_t expires_s, bytes frame not None) -> bool:
        """The fresh credential of a live session is good until expires_s; frame (WELCOME) answers its REAUTH."""
        cdef conn_t* c = self._conn(handle)
        self._check_frame(frame)
        if c == NULL or c.state != CONN_LIVE:
            return False
        c.expires_s = expires_s
        c.flags &= ~(CONN_EXPIRY_TOLD | CONN_REAUTHENTICATING)
        wheel_arm(&self._e.slab, &self._e.wheel, c, conn_next_deadline_ms(self._e, c))
        conn_send(self._e, c, <const uint8_t*>frame, <size_t>len(frame))
        engine_kick(self._e)
        return True

    def close(self, uint64_t handle, int reason, uint32_t retry_after_ms=0, str text not None="") -> bool:
        """BYE with reason, then close. text: at most 64 bytes of UTF-8."""
        cdef conn_t* c = self._conn(handle)
        cdef bytes encoded = text.encode()
        self._check_reason(reason)
        if len(encoded) > LIMIT_BYE_TEXT_BYTES_MAX:
            raise ValueError(f"text of {len(encoded)} bytes; BYE takes {LIMIT_BYE_TEXT_BYTES_MAX}")
        if c == NULL:
            return False
        c.close_retry_ms = retry_after_ms
        if encoded and c.state != CONN_PROXY:
            send_bye(self._e, c, reason, retry_after_ms, <const uint8_t*>encoded, <size_t>len(encoded))
        conn_doom(self._e, c, reason)
        engine_kick(self._e)
        return True

    def rpc(self, uint64_t call, bytes payload not None) -> bool:
        """MessagePack to the hub's Python side. False: no hub, or its ring is full."""
        self._open()
        cdef size_t n = <size_t>len(payload)
        cdef uint8_t* at
        cdef link_rpc* record
        if not uplink_is_ready(self._e):
            return False
        at = ring_reserve(self._e.hub.ring_out, sizeof(link_rpc) + n)
        if at == NULL:
            return False
        memset(at, 0, sizeof(link_rpc))
        record = <link_rpc*>at
        record.type = LINK_S_RPC
        record.body_bytes = <uint32_t>n
        record.call = call
        memcpy(at + sizeof(link_rpc), <const uint8_t*>payload, n)
        ring_commit(self._e.hub.ring_out, sizeof(link_rpc) + n)
        ring_publish(self._e.hub.ring_out)
        return True

    # -- the second door --

    def open(self, str address not None="") -> int:
        """A connection without a socket; address is the peer's, for upcalls and limits. Returns its handle.

        Raises MemoryError when there are connections_max already.
        """
        self._open()
        import ipaddress
        packed = b"\0" * 16
        if address:
            ip = ipaddress.ip_address(address)
            packed = ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed
        cdef bytes where = packed
        cdef conn_t* c = slab_take(&self._e.slab, CONN_NEW)
        if c == NULL or not preauth_enter(self._e, c, <const uint8_t*>where, 0):
            if c != NULL:
                c.state = CONN_GONE
                slab_give(&self._e.slab, c)
            raise MemoryError("no room for another connection")
        c.flags |= CONN_DOOR
        c.received_ms = <uint32_t>self._e.now_ms
        self._e.count[COUNT_ACCEPTED] += 1
        wheel_arm(&self._e.slab, &self._e.wheel, c, self._e.now_ms + self._e.settings.first_byte_ms)
        return conn_handle(c)

    def feed(self, uint64_t handle, const uint8_t[::1] data not None) -> int:
        """Received bytes; returns how many were taken. Fewer: it throttles, "resumed" says when to go on."""
        cdef conn_t* c = self._conn(handle)
        cdef size_t n = <size_t>data.shape[0], taken
        if c == NULL or not c.flags & CONN_DOOR or n == 0:
            return n
        clock_look(self._e)
        if c.flags & CONN_THROTTLED:
            c.flags |= CONN_FED_SHORT
            return 0
        taken = conn_receive(self._e, c, &data[0], n, False)
        if taken < n:
            c.flags |= CONN_FED_SHORT
        engine_kick(self._e)
        return taken

    def take(self, uint64_t handle, size_t limit=65536) -> bytes:
        """Up to limit bytes to send; empty when there are none. Works until end(), closed session or not."""
        self._open()
        cdef conn_t* c = slab_find(&self._e.slab, handle)
        cdef bytes out
        cdef size_t n
        if c == NULL or not c.flags & CONN_DOOR or c.queue_count == 0:
            return b""
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>min(limit, <size_t>c.queue_bytes))
        n = door_take(self._e, c, <uint8_t*><char*>out, min(limit, <size_t>c.queue_bytes))
        if c.flags & CONN_DIRTY:
            engine_kick(self._e)
        return out[:n]

    def end(self, uint64_t handle, int reason=0) -> None:
        """The transport of an open() connection is gone. reason: a close reason, PEER_CLOSED when 0."""
        self._open()
        cdef conn_t* c = slab_find(&self._e.slab, handle)
        if reason:
            self._check_reason(reason)
        if c != NULL and c.flags & CONN_DOOR:
            conn_doom(self._e, c, reason or CLOSE_PEER_CLOSED)
            engine_kick(self._e)
