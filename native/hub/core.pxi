# HubCore: the one door between Python and the hub's tables.
#
# Python sees batches: upcalls of one poll, one bytes object to append, one call to publish. The tables live in one C
# struct; the methods here check what Python gives, call in, and turn what comes out into tuples. poll, publish and
# replay release the GIL. docs/internals/hub.md is the contract of every method.

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

_NOTHING_DENIED = (0,) * HUB_ROLES

cdef uint64_t hub_monotonic_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000 + <uint64_t>now.tv_nsec // 1000000


@cython.final
cdef class HubCore(_HubTables):
    """The hub's tables and its ends of the links. One per process, used by one thread; nothing here blocks."""

    cdef int _epoll
    cdef list _rings                # per shard: the two Ring objects whose memory the links use

    def __cinit__(self, settings: object) -> None:
        self._epoll = -1
        self._h = <hub_t*>calloc(1, sizeof(hub_t))
        if self._h == NULL:
            raise MemoryError
        hub_age_init(&self._h.conversation_ages)
        hub_age_init(&self._h.device_ages)
        hub_age_init(&self._h.user_ages)
        self._h.tail.first_pos = self._h.tail.next_pos = 1

    def __init__(self, settings: object) -> None:
        """settings: any object with the integer attributes of chatd.hub.core_settings.HubCoreSettings."""
        cdef hub_t* h = self._h
        cdef uint64_t hops = 64
        if h.hops != NULL:
            raise ValueError("HubCore is initialised once")
        hub_settings_read(&h.settings, settings)
        h.session_epoch_last = h.settings.session_epoch_base
        while hops < h.settings.ledger_entries:
            hops *= 2
        h.hop_mask = hops - 1
        h.hops = <hub_hop_t*>calloc(hops, sizeof(hub_hop_t))
        h.cooling = <hub_cooling_t*>malloc(HUB_COOLING_MAX * sizeof(hub_cooling_t))
        h.frame = <uint8_t*>malloc(HUB_FRAME_ROOM)
        if h.hops == NULL or h.cooling == NULL or h.frame == NULL:
            raise MemoryError
        self._rings = [None] * HUB_SHARDS_MAX
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, "cannot create the hub's epoll set")

    def __dealloc__(self):
        hub_dispose(self._h)
        if self._epoll >= 0:
            posix_close(self._epoll)

    def close(self) -> None:
        """Let go of the rings. The object is of no further use."""
        for shard in range(HUB_SHARDS_MAX):
            self.unlink(shard)

    def fileno(self) -> int:
        return self._epoll

    # -- links

    def link(self, uint32_t shard, uint64_t epoch, Ring ring_in not None, Ring ring_out not None) -> None:
        """Begin a link; an older one of that shard ends. The rings belong to the core until unlink."""
        cdef hub_link_t* link
        cdef epoll_event event
        if shard >= self._h.settings.shards_max:
            raise ValueError(f"shard {shard} where at most {self._h.settings.shards_max} are set")
        self.unlink(shard)
        link = &self._h.links[shard]
        link.ring_in = &ring_in._ring
        link.ring_out = &ring_out._ring
        link.epoch = epoch
        link.generation += 1
        event.events = EPOLLIN
        event.data.u64 = shard
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, ring_in._ring.eventfd, &event) != 0:
            raise OSError(errno, "cannot wait for the shard's ring")
        self._rings[shard] = (ring_in, ring_out)
        link.up = True

    def unlink(self, uint32_t shard) -> None:
        """End a link and forget the shard's sessions. Nothing happens when there is none."""
        cdef hub_link_t* link
        cdef Ring ring_in
        if shard >= HUB_SHARDS_MAX or not self._h.links[shard].up:
            return
        link = &self._h.links[shard]
        link.up = False
        ring_in = self._rings[shard][0]
        if ring_in._ring.eventfd >= 0:
            epoll_ctl(self._epoll, EPOLL_CTL_DEL, ring_in._ring.eventfd, NULL)
            ring_wake_clear(link.ring_in)
        hub_shard_forget(self._h, shard)
        free(link.outbox)
        link.outbox = NULL
        link.outbox_begin = link.outbox_end = link.outbox_room = 0
        link.armed = link.ready = link.lost = link.unpublished = False
        link.received_pos = link.pushed_pos = 0
        self._rings[shard] = None
        hub_links_flush(self._h)

    # -- the loop's five calls

    def poll(self, uint64_t now_ms, int64_t tick_ms=-1) -> list:
        """Take what the shards sent. now_ms: Unix time; tick_ms: monotonic, read here when -1. Returns upcalls."""
        cdef hub_t* h = self._h
        cdef hub_taken_t taken
        cdef hub_walk walk = WALK_ENOUGH
        cdef uint32_t shard = 0
        cdef int rounds
        cdef list upcalls = []
        h.now_ms = now_ms
        h.tick_ms = hub_monotonic_ms() if tick_ms < 0 else <uint64_t>tick_ms
        with nogil:
            hub_disarm(h)
            hub_tick(h)
        for rounds in range(2):
            shard = 0
            walk = WALK_PYTHON
            while walk == WALK_PYTHON and len(upcalls) < HUB_UPCALLS_MAX:
                with nogil:
                    walk = hub_walk_links(h, &shard, &taken)
                self._collect(upcalls)
                if walk == WALK_PYTHON:
                    upcalls.append(hub_taken_tuple(&taken))
            if walk != WALK_EMPTY or upcalls or tail_staged_count(&h.tail) or hub_arm(h):
                break
        with nogil:
            hub_positions_settle(h)
            hub_links_flush(h)
        self._collect(upcalls)
        return upcalls

    cdef int _collect(self, list upcalls) except -1:
        cdef uint32_t i
        for i in range(self._h.upcall_count):
            upcall = hub_upcall_tuple(self._h, &self._h.upcalls[i])
            if upcall is not None:
                upcalls.append(upcall)
        self._h.upcall_count = 0
        return 0

    def timeout_ms(self) -> int:
        """Wait on fileno at most this long. 0: do not wait, -1: no deadline."""
        return hub_timeout(self._h)

    @property
    def staged_count(self) -> int:
        return tail_staged_count(&self._h.tail)

    @property
    def staged_bytes(self) -> int:
        return self._h.tail.staged_bytes

    @property
    def committed_pos(self) -> int:
        return self._h.tail.committed_pos

    def batch(self) -> tuple:
        """(pos, count, blob) of everything staged. The same until publish or reject, unless more is staged."""
        cdef bytes blob = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self._h.tail.staged_bytes)
        tail_copy_staged(&self._h.tail, <uint8_t*>blob)
        made = (self._h.tail.committed_pos + 1, tail_staged_count(&self._h.tail), blob)
        if chatd_sabotage(SABOTAGE_ACK_BEFORE_COMMIT):
            hub_answers_give(self._h)
            hub_links_flush(self._h)
        elif chatd_sabotage(SABOTAGE_PUSH_BEFORE_COMMIT):
            hub_publish_early(self._h)
        return made

    def publish(self) -> None:
        """What was staged is durable: push it and answer."""
        with nogil:
            hub_publish(self._h)

    def reject(self, uint16_t code, uint32_t retry_after_ms) -> None:
        """Nothing of what was staged is stored: undo it, NAK with `code`."""
        with nogil:
            hub_reject(self._h, code, retry_after_ms)

    # -- what the main database has

    def put_conversation(self, uint64_t cid, uint32_t kind, uint32_t flags, uint64_t head_seq, uint64_t message_count,
                         uint64_t last_ts, uint64_t changed_pos, list members not None, uint32_t slow_mode_s=0,
                         object denied=_NOTHING_DENIED, object muted=(), object spoke=()) -> None:
        """members: (user, role, join_seq, leave_seq, delivered_seq, read_seq, read_count), one per interval. denied:
        rights that each role does not have here; muted: (user, until_s); spoke: (user, ts_ms of the last message),
        for slow mode."""
        cdef hub_rules_t rules
        cdef hub_conversation_t* c
        hub_rules_read(&rules, flags, slow_mode_s, denied)
        c = hub_conversation_put(self._h, cid, members, muted, spoke)
        c.kind = kind
        hub_rules_set(c, &rules)
        c.touched_pos = max(c.touched_pos, changed_pos)
        if head_seq > c.head_seq and c.event_count == 0:
            c.head_seq = head_seq
            c.message_count = message_count
        c.last_ts = max(c.last_ts, last_ts)
        c.loaded = True
        with nogil:
            hub_resume(self._h, NEED_CONVERSATION, cid, 0)
            hub_links_flush(self._h)

    def no_conversation(self, uint64_t cid) -> None:
        """It does not exist. What waited for it is answered NOT_FOUND."""
        cdef hub_conversation_t* c = hub_conversation_need(self._h, cid)
        if c == NULL:
            raise MemoryError
        # An entry without members answers NOT_FOUND to everybody, like one that the asker is no member of.
        c.loaded = True
        with nogil:
            hub_resume(self._h, NEED_CONVERSATION, cid, 0)
            if hub_conversation_evictable(self._h, c):
                hub_conversation_free(self._h, c)
            hub_links_flush(self._h)

    def put_user(self, uint64_t user, uint64_t token_epoch, uint32_t flags) -> None:
        """A user as it is now. Sessions opened with a credential of an older token epoch are closed, REVOKED."""
        cdef hub_user_t* u = hub_user_need(self._h, user)
        if u == NULL:
            raise MemoryError
        u.token_epoch = max(u.token_epoch, token_epoch) if u.loaded else token_epoch
        u.flags = flags
        u.loaded = True
        with nogil:
            hub_user_revoke(self._h, u)
            hub_resume(self._h, NEED_USER, user, 0)
            hub_links_flush(self._h)

    def put_device(self, uint64_t device, uint64_t user, uint64_t cseq_max, uint32_t flags) -> None:
        """A device as it is now; one that is revoked, or somebody else's, loses its session."""
        cdef hub_device_t* d = hub_device_need(self._h, device)
        if d == NULL:
            raise MemoryError
        if d.handle != 0 and (flags & DEVICE_FLAG_REVOKED or d.user != user):
            hub_say_kick(self._h, d.shard, d.handle, CLOSE_REVOKED)
            if d.user != user:
                hub_session_end(self._h, d)
        if not d.loaded and d.window_floor <= cseq_max:
            d.window_floor = cseq_max + 1
        d.cseq_max = max(d.cseq_max, cseq_max)
        d.user = user
        d.flags = flags
        d.loaded = True
        with nogil:
            hub_resume(self._h, NEED_DEVICE, device, 0)
            hub_links_flush(self._h)

    def no_device(self, uint64_t device) -> None:
        """It does not exist: logins as it fail, a re-attached session of it ends."""
        cdef hub_device_t* d = hub_device(self._h, device)
        if d != NULL and d.handle != 0:
            hub_say_kick(self._h, d.shard, d.handle, CLOSE_REVOKED)
            hub_session_end(self._h, d)
        with nogil:
            hub_refuse_device(self._h, device)
            hub_links_flush(self._h)

    def answer_idempotency(self, uint64_t device, uint64_t cseq, bint found, uint64_t cid, uint64_t seq, uint64_t ts_ms,
                           uint64_t digest) -> None:
        """What the main database knows of an old cseq."""
        cdef hub_need_t* need = <hub_need_t*>hmap_get(&self._h.needs[<uint32_t>NEED_IDEMPOTENCY], device)
        if need == NULL or need.cseq != cseq:
            return
        memset(&self._h.found, 0, sizeof(hub_sent_t))
        if found:
            self._h.found.cseq = cseq
            self._h.found.cid = cid
            self._h.found.seq = seq
            self._h.found.ts_ms = ts_ms
            self._h.found.digest = digest
        with nogil:
            hub_resume(self._h, NEED_IDEMPOTENCY, device, cseq)
            self._h.found.cseq = 0
            hub_links_flush(self._h)

    def put_read_count(self, uint64_t cid, uint64_t user, uint64_t read_seq, uint64_t read_count) -> None:
        """Answer to need_read_count: how many messages there are up to read_seq. Stages a POSITION, or lets it wait."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        cdef hub_member_t* m = hub_member(c, user) if c != NULL else NULL
        if m == NULL or read_seq <= m.read_seq or read_seq > c.head_seq:
            return
        hub_positions_raise(m, 0, read_seq, read_count)
        m.read_moved = 1
        hub_position_moved(self._h, c, m)

    def judge(self, uint64_t device, uint64_t cseq, uint16_t code, bytes text not None, bytes content=None,
              bint has_ext=False, uint32_t kind=0) -> int:
        """Answer to need_judgement. code 0: the send is staged, with `content` and `kind` where they are given instead
        of what came; otherwise it is refused with `text`, at most 96 bytes. Returns the seq it was staged at, 0: it was
        not.
        """
        cdef hub_verdict_t* verdict = &self._h.verdict
        cdef hub_need_t* need = <hub_need_t*>hmap_get(&self._h.needs[<uint32_t>NEED_JUDGEMENT], device)
        cdef size_t content_bytes = 0 if content is None else <size_t>len(content)
        if len(text) > LIMIT_SEND_NAK_TEXT_BYTES_MAX or content_bytes > FRAME_BODY_BYTES_MAX - 64:
            raise _internal_error(f"a verdict of {len(text)} bytes of text does not fit into a frame")
        if need == NULL or need.cseq != cseq:
            return 0
        verdict.device = device
        verdict.cseq = cseq
        verdict.code = code
        verdict.text = <const uint8_t*>text
        verdict.text_bytes = <size_t>len(text)
        verdict.kind = kind if kind < WIRE_KINDS_SIZE and wire_kinds[kind].known else 0
        if content is not None:
            verdict.content = <const uint8_t*>content
            verdict.content_bytes = content_bytes
            verdict.has_ext = has_ext
        with nogil:
            hub_resume(self._h, NEED_JUDGEMENT, device, 0)
            hub_links_flush(self._h)
        seq = verdict.seq
        memset(verdict, 0, sizeof(hub_verdict_t))
        return seq

    # -- durable things made by Python

    cdef hub_conversation_t* _loaded(self, uint64_t cid) except NULL:
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        if c == NULL or not c.loaded:
            raise _internal_error(f"conversation {cid} is not loaded: put_conversation comes first")
        return c

    def stage_event(self, uint64_t cid, uint64_t sender, uint32_t kind, bytes content not None, uint8_t flags) -> int:
        """Append an event written by the server; returns its seq. flags: EVENT_MESSAGE and EVENT_EXT of the content."""
        cdef hub_conversation_t* c = self._loaded(cid)
        cdef journal_event* event
        if len(content) > FRAME_BODY_BYTES_MAX - 64:
            raise _internal_error(f"an event of {len(content)} bytes does not fit into a frame")
        event = hub_stage_event(self._h, c, sender, kind, flags, <const uint8_t*>content, <size_t>len(content))
        if event == NULL:
            raise MemoryError
        hub_hop(self._h, HOP_ACCEPTED, cid, event.seq, 0, kind)
        return event.seq

    def stage_member(self, uint64_t cid, uint64_t user, uint32_t role, uint64_t join_seq, uint64_t leave_seq) -> int:
        """Open, change or close the interval (user, join_seq), for all that is staged later; returns the position."""
        cdef hub_conversation_t* c = self._loaded(cid)
        if not hub_stage_member(self._h, c, user, role, join_seq, leave_seq):
            raise MemoryError
        return self._h.tail.next_pos - 1

    def change_rules(self, uint64_t cid, uint32_t flags, uint32_t slow_mode_s, object denied) -> None:
        """Flags, slow mode and denied rights from here on. The caller stages the row that says so in the same batch."""
        cdef hub_rules_t rules
        hub_rules_read(&rules, flags, slow_mode_s, denied)
        if not hub_change_rules(self._h, self._loaded(cid), &rules):
            raise MemoryError

    def change_mute(self, uint64_t cid, uint64_t user, uint32_t until_s) -> None:
        """The member may not write until then, Unix time; 0: may again. Nothing happens when the user is none."""
        cdef hub_conversation_t* c = self._loaded(cid)
        cdef hub_member_t* m = hub_member(c, user)
        if m != NULL and not hub_change_mute(self._h, c, m, until_s):
            raise MemoryError

    def put_role_rights(self, object words) -> None:
        """RIGHT_ bits of each role, for all conversations from now on."""
        hub_words_read(self._h.settings.role_rights, words)

    def stage_position(self, uint64_t cid, uint64_t user, uint64_t delivered_seq, uint64_t read_seq) -> int:
        """Raise positions; returns the position of the newest record. Coalesced like those that shards report."""
        cdef hub_conversation_t* c = self._loaded(cid)
        cdef hub_member_t* m = hub_member(c, user)
        if m != NULL:
            hub_position_merge(self._h, c, m, delivered_seq, read_seq)
        return self._h.tail.next_pos - 1

    def stage_row(self, bytes row not None) -> int:
        """Append a ROW record (MessagePack, see storage.interface.row_record); returns its position."""
        cdef uint8_t* record
        if len(row) > HUB_ROW_BYTES_MAX:
            raise _internal_error(f"a row of {len(row)} bytes; at most {HUB_ROW_BYTES_MAX}")
        record = tail_append_typed(&self._h.tail, JOURNAL_ROW, 0, sizeof(journal_head) + <size_t>len(row))
        if record == NULL:
            raise MemoryError
        memcpy(record + sizeof(journal_head), <const uint8_t*>row, <size_t>len(row))
        return self._h.tail.next_pos - 1

    def stage_redact(self, uint64_t cid, uint64_t seq, uint32_t reason) -> int:
        """The content of an event, also of one of this batch, is gone from the commit on; returns the position."""
        cdef journal_redact* record
        record = <journal_redact*>tail_append_typed(&self._h.tail, JOURNAL_REDACT, 0, sizeof(journal_redact))
        if record == NULL:
            raise MemoryError
        record.cid = cid
        record.seq = seq
        record.reason = reason
        record.zero = 0
        self._h.redactions_staged += 1
        return self._h.tail.next_pos - 1

    # -- to shards

    def frames(self, uint32_t shard, uint64_t handle, bytes frames not None, bint done) -> bool:
        """Complete frames for one connection; done ends its call. False: the shard is gone."""
        cdef bint said = hub_say_frames_cut(self._h, shard, handle, <const uint8_t*>frames, <size_t>len(frames), done)
        hub_links_publish(self._h)
        return said

    def notify(self, uint64_t user, bytes frame not None, uint64_t but_device) -> int:
        """One frame for every session of the user that can take it, but that of one device: never to LITE ones. Their
        number."""
        cdef hub_user_t* u = hub_user(self._h, user)
        cdef hub_device_t* d = u.online if u != NULL else NULL
        cdef const uint8_t* data = <const uint8_t*>frame
        cdef size_t n = <size_t>len(frame)
        cdef int told = 0
        while d != NULL:
            if d.device != but_device and not d.features & FEATURE_LITE and n - FRAME_HEADER_BYTES <= d.frame_bytes_max:
                told += hub_say_frames_cut(self._h, d.shard, d.handle, data, n, False)
            d = d.next_of_user
        hub_links_publish(self._h)
        return told

    def watch(self, uint64_t user, bint on) -> None:
        """From now on a "presence" upcall says when the user's first session begins and when its last one ends."""
        cdef hub_user_t* u = hub_user_need(self._h, user) if on else hub_user(self._h, user)
        if u != NULL:
            u.watched = on
        elif on and user:
            raise MemoryError("no room to watch a user")

    def to_followers(self, uint64_t cid, uint8_t topics, bytes frame not None, uint32_t but_shard=0,
                     uint64_t but_handle=0) -> int:
        """A frame that may be lost, for all who follow any of the topics but one. How many shards dropped it."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        cdef int dropped = 0
        if c != NULL:
            dropped = hub_to_followers(self._h, c, topics, <const uint8_t*>frame, <size_t>len(frame), but_shard,
                                       but_handle)
            hub_links_publish(self._h)
        return dropped

    def streaming(self, uint64_t cid, bint on) -> None:
        """From now on a "followed" upcall tells of each session that begins to follow the streams of cid."""
        cdef hub_conversation_t* c = self._loaded(cid) if on else hub_conversation(self._h, cid)
        if c != NULL:
            c.streaming = on

    def grant(self, uint32_t shard, uint64_t handle, uint64_t cid, uint32_t topics) -> None:
        hub_say_grant(self._h, shard, handle, cid, topics)
        hub_links_publish(self._h)

    def revoke(self, uint64_t user, uint64_t cid) -> None:
        """The user's devices stop following the conversation and are told."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        if c != NULL:
            hub_revoke(self._h, c, user)
            hub_links_publish(self._h)

    def kick(self, uint32_t shard, uint64_t handle, uint16_t reason) -> None:
        hub_say_kick(self._h, shard, handle, reason)
        hub_links_publish(self._h)

    def rpc(self, uint32_t shard, uint64_t call, bytes payload not None) -> bool:
        """MessagePack for the Python side of a shard. False: the shard is gone."""
        cdef bint said = hub_say_rpc(self._h, shard, call, <const uint8_t*>payload, <size_t>len(payload))
        hub_links_publish(self._h)
        return said

    # -- folding and start

    def freed(self, uint64_t folded_pos) -> None:
        """The main database has everything up to folded_pos: the tail may let go, entries may be evicted."""
        cdef hub_t* h = self._h
        if folded_pos > h.tail.committed_pos:
            raise _internal_error(f"folded up to {folded_pos} where {h.tail.committed_pos} is committed")
        h.folded_pos = max(h.folded_pos, folded_pos)
        with nogil:
            hub_tail_free_to(h, hub_tail_keep(h))

    def replay(self, uint64_t pos, uint64_t count, bytes blob not None) -> tuple:
        """One batch of the journal, at start, in order. count 0: only says that the next record will be `pos`.

        Returns (rows, members, redactions) of the batch as decode_batch gives them. ValueError: the batch is damaged.
        """
        return hub_replay(self._h, pos, count, blob)
