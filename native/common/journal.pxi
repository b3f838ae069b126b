# Journal codec: native/journal.h as Cython sees it, and the folder's way to read a batch.
#
# A batch is read once by whoever folds or replays it, far from the hot path, so the records become plain tuples. What
# is read came from a file: every length is checked against what is left before anything behind it is looked at.

from libc.stdint cimport int64_t

cdef extern from "journal.h" nogil:
    const int JOURNAL_EVENT, JOURNAL_SKIP, JOURNAL_MEMBER, JOURNAL_POSITION, JOURNAL_ROW, JOURNAL_REDACT
    const int JOURNAL_EVENT_MESSAGE, JOURNAL_EVENT_EXT, JOURNAL_EVENT_TOMBSTONE
    struct journal_head:
        uint32_t bytes
        uint8_t type
        uint8_t flags
        uint16_t pad
    struct journal_event:
        journal_head head
        uint64_t cid
        uint64_t seq
        uint64_t sender
        uint64_t device
        uint64_t cseq
        uint64_t ts_ms
        uint64_t message_count
        uint64_t digest
        uint32_t kind
        uint32_t payload_bytes
    struct journal_skip:
        journal_head head
        uint64_t device
        uint64_t cseq
    struct journal_member:
        journal_head head
        uint64_t cid
        uint64_t user
        uint64_t join_seq
        uint64_t leave_seq
        uint32_t role
        uint32_t zero
    struct journal_position:
        journal_head head
        uint64_t cid
        uint64_t user
        uint64_t delivered_seq
        uint64_t read_seq
        uint64_t read_count
    struct journal_redact:
        journal_head head
        uint64_t cid
        uint64_t seq
        uint32_t reason
        uint32_t zero

cdef enum:
    JOURNAL_ALIGNMENT = 8

cdef enum journal_fault:
    JOURNAL_FINE = 0
    JOURNAL_CUT = 1                 # fewer bytes left than a head
    JOURNAL_LENGTH = 2              # a length that cannot be
    JOURNAL_TYPE = 3
    JOURNAL_FIELDS = 4              # the length does not fit the type


# Length of the record at p without padding in `content`, or what is wrong with it. left: bytes up to the blob's end.
cdef journal_fault journal_check(const uint8_t* p, size_t left, size_t* content) noexcept nogil:
    cdef journal_head head
    cdef journal_event event
    if left < sizeof(journal_head):
        return JOURNAL_CUT
    memcpy(&head, p, sizeof(head))
    if (head.bytes % JOURNAL_ALIGNMENT or head.pad >= JOURNAL_ALIGNMENT or head.bytes > left
            or head.bytes < sizeof(journal_head) + head.pad):
        return JOURNAL_LENGTH
    content[0] = head.bytes - head.pad
    if head.type == JOURNAL_EVENT:
        if content[0] < sizeof(journal_event):
            return JOURNAL_FIELDS
        memcpy(&event, p, sizeof(event))
        return JOURNAL_FINE if content[0] - sizeof(journal_event) == event.payload_bytes else JOURNAL_FIELDS
    if head.type == JOURNAL_SKIP:
        return JOURNAL_FINE if content[0] == sizeof(journal_skip) else JOURNAL_FIELDS
    if head.type == JOURNAL_MEMBER:
        return JOURNAL_FINE if content[0] == sizeof(journal_member) else JOURNAL_FIELDS
    if head.type == JOURNAL_POSITION:
        return JOURNAL_FINE if content[0] == sizeof(journal_position) else JOURNAL_FIELDS
    if head.type == JOURNAL_REDACT:
        return JOURNAL_FINE if content[0] == sizeof(journal_redact) else JOURNAL_FIELDS
    return JOURNAL_FINE if head.type == JOURNAL_ROW else JOURNAL_TYPE

cdef object journal_error(uint64_t pos, journal_fault fault):
    if fault == JOURNAL_CUT:
        return ValueError(f"journal record {pos} is cut inside its head")
    if fault == JOURNAL_LENGTH:
        return ValueError(f"journal record {pos} has an impossible length")
    if fault == JOURNAL_TYPE:
        return ValueError(f"journal record {pos} has an unknown type")
    return ValueError(f"journal record {pos} has a length that does not fit its type")


def decode_batch(uint64_t pos, uint64_t count, bytes blob not None, /) -> tuple:
    """The records pos .. pos+count-1 of one batch, by table and in journal order within each.

    events: (cid, seq, ts_ms, sender, device, cseq, kind, message_count, digest, body, flags), digest signed as in
    SQLite, flags as in the record's head;
    idempotency: (device, cseq, cid, seq), seq 0 for skipped; changed: cid -> newest position of an event;
    members: (cid, user, join_seq, leave_seq, role, pos); positions: (cid, user, delivered_seq, read_seq, read_count,
    pos); rows: (pos, MessagePack bytes); redactions: (cid, seq, pos).
    Raises ValueError when the records do not fill the blob exactly, do not number `count` or are not as journal.h says.
    """
    cdef const uint8_t* p = <const uint8_t*>blob
    cdef size_t left = <size_t>len(blob)
    cdef size_t content = 0
    cdef uint64_t at = pos
    cdef journal_fault fault
    cdef journal_event event
    cdef journal_skip skip
    cdef journal_member member
    cdef journal_position position
    cdef journal_redact redact
    cdef journal_head head
    cdef list events = [], idempotency = [], members = [], positions = [], rows = [], redactions = []
    cdef dict changed = {}
    while left:
        fault = journal_check(p, left, &content)
        if fault != JOURNAL_FINE:
            raise journal_error(at, fault)
        memcpy(&head, p, sizeof(head))
        if head.type == JOURNAL_EVENT:
            memcpy(&event, p, sizeof(event))
            events.append((event.cid, event.seq, event.ts_ms, event.sender, event.device, event.cseq,
                           event.kind, event.message_count, <int64_t>event.digest, p[sizeof(event):content],
                           head.flags))
            changed[event.cid] = at
            if event.device:
                idempotency.append((event.device, event.cseq, event.cid, event.seq))
        elif head.type == JOURNAL_SKIP:
            memcpy(&skip, p, sizeof(skip))
            idempotency.append((skip.device, skip.cseq, 0, 0))
        elif head.type == JOURNAL_MEMBER:
            memcpy(&member, p, sizeof(member))
            members.append((member.cid, member.user, member.join_seq, member.leave_seq, member.role, at))
        elif head.type == JOURNAL_POSITION:
            memcpy(&position, p, sizeof(position))
            positions.append((position.cid, position.user, position.delivered_seq, position.read_seq,
                              position.read_count, at))
        elif head.type == JOURNAL_REDACT:
            memcpy(&redact, p, sizeof(redact))
            redactions.append((redact.cid, redact.seq, at))
        else:
            rows.append((at, p[sizeof(head):content]))
        p += head.bytes
        left -= head.bytes
        at += 1
    if at != pos + count:
        raise ValueError(f"the batch at {pos} holds {at - pos} records, its row says {count}")
    return events, idempotency, changed, members, positions, rows, redactions
