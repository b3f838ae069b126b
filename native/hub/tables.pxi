# The reads of HubCore: plain tuples out of the tables, for methods, SYNC and PULL. They change nothing but the age of
# what is looked at; staged changes are visible, so the loop reads only when nothing is staged.

cdef class _HubTables:
    cdef hub_t* _h

    def conversation(self, uint64_t cid) -> tuple | None:
        """(kind, flags, head_seq, message_count, last_ts, touched_pos, member_count); None: not loaded."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        if c == NULL or not c.loaded:
            return None
        hub_age_touch(&self._h.conversation_ages, &c.age)
        return (c.kind, c.flags, c.head_seq, c.message_count, c.last_ts, c.touched_pos, c.member_count)

    def touched_pos(self, uint64_t cid) -> int:
        """Newest record that names cid, also of what only replay has brought; 0: nothing is known of it."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return 0 if c == NULL else c.touched_pos

    def members(self, uint64_t cid) -> list | None:
        """Every interval, ascending by (user, join_seq); None: not loaded."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return hub_intervals_of(c, 0) if c != NULL and c.loaded else None

    def intervals(self, uint64_t cid, uint64_t user) -> list | None:
        """The intervals of one user; None: not loaded."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return hub_intervals_of(c, user) if c != NULL and c.loaded else None

    def present(self, uint64_t cid, uint64_t after, uint64_t limit) -> list | None:
        """Open intervals of users beyond `after`, ascending by user, at most `limit`; None: not loaded."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return hub_present_of(c, after, limit) if c != NULL and c.loaded else None

    def receipt_counts(self, uint64_t cid, uint64_t seq, uint64_t but_user) -> tuple | None:
        """(members, delivered, read): present members who may read seq, all but one; None: not loaded."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return hub_receipt_counts(c, seq, but_user) if c != NULL and c.loaded else None

    def rights(self, uint64_t cid, uint64_t user) -> int | None:
        """RIGHT_ bits of a present member, 0 for others; None: not loaded."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return hub_rights_of(self._h, c, user) if c != NULL and c.loaded else None

    def muted_until_s(self, uint64_t cid, uint64_t user) -> int:
        """Unix time until which the member may not write; 0: may."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        cdef hub_member_t* m = hub_member(c, user) if c != NULL else NULL
        return m.muted_until_s if m != NULL else 0

    def sessions(self, uint64_t user) -> list:
        """(shard, handle, device, session_epoch) of every live session."""
        cdef hub_user_t* u = hub_user(self._h, user)
        cdef hub_device_t* d = u.online if u != NULL else NULL
        cdef list found = []
        while d != NULL:
            found.append((d.shard, d.handle, d.device, d.session_epoch))
            d = d.next_of_user
        return found

    def last_event(self, uint64_t cid) -> tuple | None:
        """(seq, sender, ts_ms, kind, preview); None: not in the tail."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        cdef const journal_event* event = hub_event(self._h, c, c.head_seq) if c != NULL else NULL
        cdef const uint8_t* content = <const uint8_t*>event + sizeof(journal_event)
        cdef size_t begin = 0, end = 0
        if event == NULL:
            return None
        if not event.head.flags & JOURNAL_EVENT_TOMBSTONE:
            if event.head.flags & JOURNAL_EVENT_EXT:
                begin = hub_ext_bytes(content, event.payload_bytes)
            end = min(event.payload_bytes, begin + HUB_PREVIEW_BYTES_MAX)
        return (event.seq, event.sender, event.ts_ms, event.kind, content[begin:end])

    def tail_floor(self, uint64_t cid, uint64_t head) -> int:
        """Lowest seq from which the tail is contiguous up to the conversation's head; head + 1: nothing in the tail."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        return hub_tail_floor(c) if c != NULL and c.event_count else head + 1

    def tail_events(self, uint64_t cid, uint64_t from_seq, uint64_t to_seq, uint64_t events_max, uint64_t bytes_max,
                    uint64_t frame_bytes_max, uint64_t user, bint lite) -> tuple:
        """(frames, next_seq): DELIVERs flagged HISTORY of what the user may see; next_seq is where to go on."""
        cdef hub_conversation_t* c = hub_conversation(self._h, cid)
        cdef uint64_t next_seq = from_seq
        cdef uint64_t room = min(bytes_max, <uint64_t>LIMIT_PULL_BYTES_MAX + HUB_FRAME_ROOM)
        cdef uint8_t* buffer
        cdef size_t used
        if c == NULL or from_seq == 0:
            return b"", from_seq
        buffer = <uint8_t*>malloc(room + 1)
        if buffer == NULL:
            raise MemoryError
        used = hub_tail_frames(self._h, c, user, from_seq, to_seq, events_max, buffer, room, frame_bytes_max, &next_seq)
        try:
            return buffer[:used], next_seq
        finally:
            free(buffer)

    def encode_events(self, list rows not None, uint64_t frame_bytes_max=FRAME_BODY_BYTES_MAX) -> bytes:
        """DELIVER frames flagged HISTORY of (cid, seq, ts_ms, sender, kind, content, EVENT_* flags) rows."""
        return hub_encode_rows(self._h, rows, frame_bytes_max)

    def ledger(self, uint64_t cid, uint64_t seq, uint64_t user=0) -> list:
        """(time_ms, hop, detail) of one event, oldest first; with user also why that one got nothing."""
        cdef list hops = hub_ledger_of(self._h, cid, seq)
        if not user or not hops:
            return hops
        pos = 0
        for _, name, detail in hops:
            if name == "committed":
                pos = int(detail.rpartition(" ")[2])
        return hops + hub_ledger_of_user(self._h, cid, seq, user, pos, hops[len(hops) - 1][0])

    def counters(self) -> dict:
        """Plain counts since the start, and sizes of now, by name."""
        return hub_counters(self._h)
