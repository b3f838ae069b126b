# Portion: the records of one fold, sorted by where they go.
#
# Facts: a hundred thousand tuples made in journal order and visited in table order are a cache miss per object, and the
# garbage collector walks them meanwhile: that was half of what a fold cost. The records lie in the blobs anyway.
# Consequence: keep the blobs, sort pointers to their records, and make each tuple when SQLite asks for it; it dies
# before the next one is made, in the same few cache lines. The ids are dense counters, so a radix sort takes two passes
# over what comparing took seventeen; it is stable, and the journal has the seqs of one id in order. Cseqs may overtake
# each other (a send waits for its conversation), rarely: those of a device are sorted where they are not in order.
# Price: the blobs of a portion stay in memory until it is folded, 24 bytes per record beside them.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdlib cimport qsort, realloc

cdef enum:
    SEND_RUN_MAX = 256              # whoever asks what became of one of them reads them all
    SEND_TEXT_MAX = 44              # "[cid,seq]," with twenty digits each
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
            PyBytes_FromStringAndSize(<const char*>key.record + sizeof(event), event.payload_bytes),
            event.head.flags)

cdef inline uint64_t portion_cseq(const portion_key_t* key) noexcept nogil:
    if (<const journal_head*>key.record).type == JOURNAL_SKIP:
        return (<const journal_skip*>key.record).cseq
    return (<const journal_event*>key.record).cseq

# 0: it was skipped.
cdef inline uint64_t portion_seq(const portion_key_t* key) noexcept nogil:
    if (<const journal_head*>key.record).type == JOURNAL_SKIP:
        return 0
    return (<const journal_event*>key.record).seq

cdef int portion_by_cseq(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = portion_cseq(<const portion_key_t*>a), y = portion_cseq(<const portion_key_t*>b)
    if x == y:
        x, y = (<const portion_key_t*>a).pos, (<const portion_key_t*>b).pos
    return (x > y) - (x < y)

# Of sorted sends those of each device by cseq, the sends of one cseq in journal order.
cdef void portion_sort_cseqs(portion_keys_t* k) noexcept nogil:
    cdef size_t begin = 0, i
    cdef bint sorted_ = True
    for i in range(1, k.count + 1):
        if i < k.count and k.keys[i].id == k.keys[begin].id:
            sorted_ = sorted_ and portion_cseq(&k.keys[i]) >= portion_cseq(&k.keys[i - 1])
            continue
        if not sorted_:
            qsort(&k.keys[begin], i - begin, sizeof(portion_key_t), portion_by_cseq)
        begin = i
        sorted_ = True

cdef size_t portion_digits(char* to, uint64_t number) noexcept nogil:
    cdef char digits[20]
    cdef size_t n = 0, i
    while True:
        digits[n] = <char>(c'0' + number % 10)
        number //= 10
        n += 1
        if number == 0:
            break
    for i in range(n):
        to[i] = digits[n - 1 - i]
    return n

# "[cid,seq]," of one send; how many characters.
cdef size_t portion_send_text(char* to, const portion_key_t* key) noexcept nogil:
    cdef size_t n = 1
    cdef bint skipped = (<const journal_head*>key.record).type == JOURNAL_SKIP
    to[0] = c'['
    n += portion_digits(to + n, 0 if skipped else (<const journal_event*>key.record).cid)
    to[n] = c','
    n += 1
    n += portion_digits(to + n, portion_seq(key))
    to[n] = c']'
    to[n + 1] = c','
    return n + 2


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
    cdef readonly list redactions

    def __cinit__(self):
        memset(&self._events, 0, sizeof(portion_keys_t))
        memset(&self._sends, 0, sizeof(portion_keys_t))
        self._sorted = False
        self._blobs, self.members, self.positions, self.rows, self.redactions = [], [], [], [], []

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
        cdef journal_redact redact
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
        elif type == JOURNAL_REDACT:
            memcpy(&redact, p, sizeof(redact))
            self.redactions.append((redact.cid, redact.seq, at))
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
                if fits:
                    portion_sort_cseqs(&self._sends)
            if not fits:
                raise MemoryError
            self._sorted = True
        return 0

    def events(self):
        cdef size_t i
        self._sort()
        for i in range(self._events.count):
            yield portion_event(&self._events.keys[i])

    def event_runs(self, uint64_t first_id):
        cdef size_t i, begin = 0
        cdef const journal_event* event
        cdef const journal_event* after
        self._sort()
        for i in range(self._events.count):
            event = <const journal_event*>self._events.keys[i].record
            if i + 1 < self._events.count:
                after = <const journal_event*>self._events.keys[i + 1].record
                if after.cid == event.cid and after.seq == event.seq + 1:
                    continue
            yield (event.cid, event.seq - (i - begin), event.seq, first_id + begin)
            begin = i + 1

    def send_runs(self):
        cdef size_t i = 0
        self._sort()
        while i < self._sends.count:
            yield self._send_run(&i)

    cdef tuple _send_run(self, size_t* i):
        cdef char text[1 + SEND_RUN_MAX * SEND_TEXT_MAX]
        cdef size_t n = 1
        cdef uint64_t device = self._sends.keys[i[0]].id, first = portion_cseq(&self._sends.keys[i[0]]), cseq = first
        text[0] = c'['
        while (i[0] < self._sends.count and self._sends.keys[i[0]].id == device and cseq - first < SEND_RUN_MAX
               and portion_cseq(&self._sends.keys[i[0]]) == cseq):
            n += portion_send_text(text + n, self._take_send(i))
            cseq += 1
        text[n - 1] = c']'
        return (device, first, cseq - 1, PyUnicode_DecodeASCII(text, n, NULL))

    # What became of the cseq at i, a stored send before a skip; i goes on to the next cseq.
    cdef const portion_key_t* _take_send(self, size_t* i) noexcept:
        cdef const portion_key_t* first = &self._sends.keys[i[0]]
        cdef const portion_key_t* found = first
        while (i[0] < self._sends.count and self._sends.keys[i[0]].id == first.id
               and portion_cseq(&self._sends.keys[i[0]]) == portion_cseq(first)):
            if portion_seq(found) == 0:
                found = &self._sends.keys[i[0]]
            i[0] += 1
        return found

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
            if event.sender and event.head.flags & JOURNAL_EVENT_MESSAGE:
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
