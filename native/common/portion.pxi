# Portion: the records of one fold, sorted by where they go.
#
# Facts: a hundred thousand tuples made in journal order and visited in table order are a cache miss per object, and the
# garbage collector walks them meanwhile: that was half of what a fold cost. The records lie in the blobs anyway.
# Consequence: keep the blobs, sort pointers to their records, and make each tuple when SQLite asks for it; it dies
# before the next one is made, in the same few cache lines. The ids are dense counters, so a radix sort takes two passes
# over what comparing took seventeen; it is stable, and the journal has seqs and cseqs of one id in order.
# Price: the blobs of a portion stay in memory until it is folded, 24 bytes per record beside them.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport realloc

cdef enum:
    PORTION_ROOM_MIN = 1024
    PORTION_RADIX_BITS = 11
    PORTION_RADIX = 1 << PORTION_RADIX_BITS

cdef struct portion_key_t:
    uint64_t id                     # conversation or device
    uint64_t pos
    const uint8_t* record

cdef struct portion_keys_t:
    portion_key_t* keys
    size_t count
    size_t room
    uint64_t id_max

cdef bint portion_push(portion_keys_t* k, uint64_t id, uint64_t pos, const uint8_t* record) noexcept nogil:
    cdef size_t room
    cdef portion_key_t* grown
    if k.count == k.room:
        room = k.room * 2 if k.room else PORTION_ROOM_MIN
        grown = <portion_key_t*>realloc(k.keys, room * sizeof(portion_key_t))
        if grown == NULL:
            return False
        k.keys = grown
        k.room = room
    k.keys[k.count].id = id
    k.keys[k.count].pos = pos
    k.keys[k.count].record = record
    k.count += 1
    if id > k.id_max:
        k.id_max = id
    return True

# By id; what has the same id stays in journal order. False: no memory, nothing changed.
cdef bint portion_sort(portion_keys_t* k) noexcept nogil:
    cdef size_t begin[PORTION_RADIX]
    cdef size_t i, digit, total, n
    cdef unsigned int shift = 0
    cdef portion_key_t* from_ = k.keys
    cdef portion_key_t* to = <portion_key_t*>malloc(k.room * sizeof(portion_key_t) + 1)
    if to == NULL:
        return False
    while shift < 64 and k.id_max >> shift:
        memset(begin, 0, sizeof(begin))
        for i in range(k.count):
            begin[(from_[i].id >> shift) & (PORTION_RADIX - 1)] += 1
        total = 0
        for digit in range(PORTION_RADIX):
            n = begin[digit]
            begin[digit] = total
            total += n
        for i in range(k.count):
            digit = (from_[i].id >> shift) & (PORTION_RADIX - 1)
            to[begin[digit]] = from_[i]
            begin[digit] += 1
        from_, to = to, from_
        shift += PORTION_RADIX_BITS
    k.keys = from_
    free(to)
    return True

cdef inline tuple portion_event(const portion_key_t* key):
    cdef journal_event event
    memcpy(&event, key.record, sizeof(event))
    return (event.cid, event.seq, event.ts_ms, event.sender, event.device, event.cseq, event.kind,
            event.message_count, <int64_t>event.digest,
            PyBytes_FromStringAndSize(<const char*>key.record + sizeof(event), event.payload_bytes))

cdef inline tuple portion_send(const portion_key_t* key):
    cdef journal_event event
    cdef journal_skip skip
    if (<const journal_head*>key.record).type == JOURNAL_SKIP:
        memcpy(&skip, key.record, sizeof(skip))
        return (skip.device, skip.cseq, 0, 0)
    memcpy(&event, key.record, sizeof(event))
    return (event.device, event.cseq, event.cid, event.seq)

cdef inline uint64_t portion_cseq(const portion_key_t* key) noexcept nogil:
    if (<const journal_head*>key.record).type == JOURNAL_SKIP:
        return (<const journal_skip*>key.record).cseq
    return (<const journal_event*>key.record).cseq


@cython.final
cdef class Portion:
    """See interface.Portion, whose reference is chatd.storage.portion; the differential test holds both equal."""
    cdef portion_keys_t _events
    cdef portion_keys_t _sends
    cdef bint _sorted
    cdef list _blobs
    cdef readonly list members
    cdef readonly list positions
    cdef readonly list rows

    def __cinit__(self):
        memset(&self._events, 0, sizeof(portion_keys_t))
        memset(&self._sends, 0, sizeof(portion_keys_t))
        self._sorted = False
        self._blobs, self.members, self.positions, self.rows = [], [], [], []

    def __dealloc__(self):
        free(self._events.keys)
        free(self._sends.keys)

    def add(self, uint64_t pos, uint64_t count, bytes blob not None, /) -> None:
        """The records pos .. pos+count-1. After a ValueError (that of decode_batch) the portion is of no use."""
        cdef const uint8_t* p = <const uint8_t*>blob
        cdef size_t left = <size_t>len(blob), content = 0
        cdef uint64_t at = pos
        cdef journal_fault fault
        if self._sorted:
            raise ValueError("the portion has been read")
        self._blobs.append(blob)
        while left:
            fault = journal_check(p, left, &content)
            if fault != JOURNAL_FINE:
                raise journal_error(at, fault)
            self._take(p, content, at)
            left -= (<const journal_head*>p).bytes
            p += (<const journal_head*>p).bytes
            at += 1
        if at != pos + count:
            raise ValueError(f"the batch at {pos} holds {at - pos} records, its row says {count}")

    cdef int _take(self, const uint8_t* p, size_t content, uint64_t at) except -1:
        cdef uint8_t type = (<const journal_head*>p).type
        cdef uint64_t device
        cdef bint fits = True
        cdef journal_member member
        cdef journal_position position
        if type == JOURNAL_EVENT:
            device = (<const journal_event*>p).device
            fits = portion_push(&self._events, (<const journal_event*>p).cid, at, p)
            if fits and device:
                fits = portion_push(&self._sends, device, at, p)
        elif type == JOURNAL_SKIP:
            fits = portion_push(&self._sends, (<const journal_skip*>p).device, at, p)
        elif type == JOURNAL_MEMBER:
            memcpy(&member, p, sizeof(member))
            self.members.append((member.cid, member.user, member.join_seq, member.leave_seq, member.role, at))
        elif type == JOURNAL_POSITION:
            memcpy(&position, p, sizeof(position))
            self.positions.append((position.cid, position.user, position.delivered_seq, position.read_seq,
                                   position.read_count, at))
        else:
            self.rows.append((at, p[sizeof(journal_head):content]))
        if not fits:
            raise MemoryError
        return 0

    cdef int _sort(self) except -1:
        cdef bint fits
        if not self._sorted:
            with nogil:
                fits = portion_sort(&self._events) and portion_sort(&self._sends)
            if not fits:
                raise MemoryError
            self._sorted = True
        return 0

    def events(self):
        cdef size_t i
        self._sort()
        for i in range(self._events.count):
            yield portion_event(&self._events.keys[i])

    def sends(self):
        cdef size_t i
        self._sort()
        for i in range(self._sends.count):
            yield portion_send(&self._sends.keys[i])

    def heads(self) -> list:
        cdef size_t i
        cdef const portion_key_t* key
        cdef const journal_event* event
        cdef list heads = []
        self._sort()
        for i in range(self._events.count):
            key = &self._events.keys[i]
            if i + 1 == self._events.count or self._events.keys[i + 1].id != key.id:
                event = <const journal_event*>key.record
                heads.append((event.cid, event.seq, event.message_count, event.ts_ms, key.pos))
        return heads

    def senders(self) -> list:
        cdef size_t i, last
        cdef const journal_event* event
        cdef dict newest = {}
        cdef list found = []
        self._sort()
        for i in range(self._events.count):
            event = <const journal_event*>self._events.keys[i].record
            if event.device:
                newest[event.sender] = i
            if i + 1 == self._events.count or self._events.keys[i + 1].id != self._events.keys[i].id:
                for last in newest.values():
                    event = <const journal_event*>self._events.keys[last].record
                    found.append((event.cid, event.sender, event.seq, event.message_count, self._events.keys[i].pos))
                newest.clear()
        return found

    def highest_cseqs(self) -> list:
        cdef size_t i
        cdef uint64_t cseq, highest = 0
        cdef const portion_key_t* key
        cdef list found = []
        self._sort()
        for i in range(self._sends.count):
            key = &self._sends.keys[i]
            cseq = portion_cseq(key)
            if cseq > highest:
                highest = cseq
            if i + 1 == self._sends.count or self._sends.keys[i + 1].id != key.id:
                found.append((key.id, highest))
                highest = 0
        return found
