# Fan-out: a committed event on its way to the local recipients.
#
# The hub wrote one record for this shard: the encoded DELIVER and the handles of those who get it. The bytes are
# copied once; every queue gets a reference. The loop touches one record per recipient, and those lie anywhere in
# memory, so the ones ahead are prefetched. A client that cannot receive a frame of this size gets a stub (identity and
# length without payload), which is encoded once, when the first such client is met.

cdef enum:
    FAN_OUT_PREFETCH = 6

# The DELIVER in `frame` with its payload replaced by its length. NULL: no memory, or not a DELIVER.
cdef frame_t* stub_frame(engine_t* e, frame_t* frame) noexcept nogil:
    cdef uint8_t* data = frame_data(frame)
    cdef uint8_t buffer[64]
    cdef frame_t* stub
    cdef cur_t cur
    cdef out_t out
    cdef size_t n
    rd_init(&cur, data + FRAME_HEADER_BYTES, frame.bytes - FRAME_HEADER_BYTES)
    wr_init(&out, buffer, sizeof(buffer))
    wr_u16be(&out, 0)
    wr_u8(&out, OP_DELIVER)
    wr_u8(&out, <uint8_t>((data[3] & ~<uint8_t>(FLAG_EXT | FLAG_DELIVER_COMPRESSED)) | FLAG_DELIVER_STUB))
    wr_varint(&out, rd_varint(&cur))
    wr_varint(&out, rd_varint(&cur))
    wr_varint(&out, rd_varint(&cur))
    wr_bytes(&out, rd_bytes(&cur, 5), 5 if rd_ok(&cur) else 0)
    wr_varint(&out, rd_varint(&cur))
    if data[3] & FLAG_EXT:
        rd_bytes(&cur, <size_t>rd_varint(&cur))
    wr_varint(&out, rd_left(&cur))
    if not rd_ok(&cur) or not wr_ok(&out):
        return NULL
    n = <size_t>(out.p - buffer)
    buffer[1] = <uint8_t>(n - FRAME_HEADER_BYTES)
    stub = frame_copy(e, buffer, n)
    if stub != NULL:
        frame_mark_like(stub, frame)
    return stub

# `handles` are unaligned, as they lie in the record.
cdef void fan_out(engine_t* e, frame_t* frame, const uint8_t* handles, uint32_t count) noexcept nogil:
    cdef frame_t* stub = NULL
    cdef uint64_t handle, ahead
    cdef uint32_t index
    cdef conn_t* c
    cdef uint32_t slots = slab_slots(&e.slab)
    for index in range(count):
        if index + FAN_OUT_PREFETCH < count:
            memcpy(&ahead, handles + 8 * <size_t>(index + FAN_OUT_PREFETCH), 8)
            if <uint32_t>ahead < slots:
                chatd_prefetch(slab_at(&e.slab, <uint32_t>ahead))
        memcpy(&handle, handles + 8 * <size_t>index, 8)
        c = slab_find(&e.slab, handle)
        if c != NULL and conn_is_registered(c):
            # The hub knows the session, its client does not yet: LAG follows WELCOME.
            lag_start(e, c)
            lag_note(e, c, frame.cid, frame.seq, frame.flags)
            continue
        if c == NULL or not conn_is_live(c):
            e.count[COUNT_HANDLES_STALE] += 1
            if frame.flags & FRAME_TRACED:
                ledger_put(e, HOP_GONE, frame.cid, frame.seq, 0, 1)
            continue
        if frame.bytes - FRAME_HEADER_BYTES <= c.frame_bytes_max:
            conn_deliver(e, c, frame)
            continue
        if stub == NULL:
            stub = stub_frame(e, frame)
        if stub == NULL:
            conn_doom_no_memory(e, c)
        else:
            conn_deliver(e, c, stub)
    if stub != NULL:
        frame_release(e, stub)

# LINK_H_COMMITTED. False: the record contradicts itself.
cdef bint on_committed(engine_t* e, const uint8_t* p, size_t n) noexcept nogil:
    cdef const link_committed* record = <const link_committed*>p
    cdef const uint8_t* data = p + sizeof(link_committed)
    cdef frame_t* frame
    if n < sizeof(link_committed) or record.frame_bytes < FRAME_HEADER_BYTES or record.frame_bytes > FRAME_BYTES_MAX:
        return False
    if sizeof(link_committed) + record.frame_bytes + 8 * <uint64_t>record.recipient_count != n:
        return False
    if ((<uint32_t>data[0] << 8) | data[1]) != record.frame_bytes - FRAME_HEADER_BYTES or data[2] != OP_DELIVER:
        return False
    if record.pos <= e.routed_pos:
        e.count[COUNT_COMMITTED_OLD] += 1
        return True
    e.routed_pos = record.pos
    if not gate_pass(&e.gate, record.cid, record.seq):
        e.count[COUNT_COMMITTED_OLD] += 1
        return True
    e.count[COUNT_COMMITTED] += 1
    ledger_put(e, HOP_ROUTED, record.cid, record.seq, 0, record.recipient_count)
    if record.recipient_count == 0:
        return True
    frame = frame_copy(e, data, record.frame_bytes)
    if frame == NULL:
        fan_out_lost(e, record.cid, record.seq, data + record.frame_bytes, record.recipient_count)
        return True
    frame.cid = record.cid
    frame.seq = record.seq
    frame.flags = FRAME_DELIVER
    if record.recipient_count <= e.settings.ledger_recipients_max:
        frame.flags |= FRAME_TRACED
    e.spread_count += record.recipient_count
    e.spreading = record.recipient_count > BULK_RECIPIENTS
    fan_out(e, frame, data + record.frame_bytes, record.recipient_count)
    e.spreading = False
    frame_release(e, frame)
    return True

# No memory for the frame: nobody may miss it silently.
cdef void fan_out_lost(engine_t* e, uint64_t cid, uint64_t seq, const uint8_t* handles, uint32_t count) noexcept nogil:
    cdef uint32_t index
    cdef uint64_t handle
    cdef conn_t* c
    e.count[COUNT_MEMORY_REFUSED] += 1
    for index in range(count):
        memcpy(&handle, handles + 8 * <size_t>index, 8)
        c = slab_find(&e.slab, handle)
        if c != NULL and (conn_is_live(c) or conn_is_registered(c)):
            lag_start(e, c)
            lag_note(e, c, cid, seq, 0)
