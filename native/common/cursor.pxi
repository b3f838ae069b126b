# Cursor: the one place where a length can be wrong.
#
# Bytes from outside are read through (p, end). A read that would pass `end`, or a varint that is not canonical, sets
# `bad` and moves p to end, so that everything read afterwards fails too and returns zero: a parser reads all its fields
# and asks once, rd_ok(). No exceptions, no Python objects, no arithmetic on pointers anywhere else.
# Price: a parser must not act on a value (allocate, loop) before it has asked.
#
# Writing is the mirror image: the first write that does not fit sets `bad`. Sizes come from the *_size functions.

cdef enum:
    # Nine groups of seven bits hold every value below 2^63 and no larger one, so the length bounds the value.
    VARINT_BYTES_MAX = 9

cdef struct cur_t:
    const uint8_t* p
    const uint8_t* end
    bint bad

cdef struct out_t:
    uint8_t* p
    uint8_t* end
    bint bad


cdef inline void rd_init(cur_t* c, const uint8_t* p, size_t n) noexcept nogil:
    c.p = p
    c.end = p + n
    c.bad = False

cdef inline bint rd_ok(const cur_t* c) noexcept nogil:
    return not c.bad

# Everything was read, and nothing beyond.
cdef inline bint rd_done(const cur_t* c) noexcept nogil:
    return not c.bad and c.p == c.end

cdef inline size_t rd_left(const cur_t* c) noexcept nogil:
    return <size_t>(c.end - c.p)

cdef inline void rd_fail(cur_t* c) noexcept nogil:
    c.bad = True
    c.p = c.end

# The next n bytes, valid as long as the buffer is; NULL when there are fewer.
cdef inline const uint8_t* rd_bytes(cur_t* c, size_t n) noexcept nogil:
    cdef const uint8_t* at = c.p
    if c.bad or rd_left(c) < n:
        rd_fail(c)
        return NULL
    c.p += n
    return at

cdef inline uint8_t rd_u8(cur_t* c) noexcept nogil:
    cdef const uint8_t* at = rd_bytes(c, 1)
    return at[0] if at != NULL else 0

cdef inline uint16_t rd_u16be(cur_t* c) noexcept nogil:
    cdef const uint8_t* at = rd_bytes(c, 2)
    if at == NULL:
        return 0
    return <uint16_t>((<uint32_t>at[0] << 8) | at[1])

cdef inline uint32_t rd_u32be(cur_t* c) noexcept nogil:
    cdef const uint8_t* at = rd_bytes(c, 4)
    if at == NULL:
        return 0
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]

cdef inline uint64_t rd_u64be(cur_t* c) noexcept nogil:
    cdef const uint8_t* at = rd_bytes(c, 8)
    cdef uint64_t value = 0
    cdef int i
    if at == NULL:
        return 0
    for i in range(8):
        value = (value << 8) | at[i]
    return value

# Unsigned LEB128 below 2^63. Canonical: the last byte is zero only in the one-byte encoding of zero.
cdef inline uint64_t rd_varint(cur_t* c) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    cdef uint8_t byte
    for i in range(VARINT_BYTES_MAX):
        if c.p == c.end:
            break
        byte = c.p[0]
        c.p += 1
        value |= <uint64_t>(byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if byte == 0 and i > 0:
                break
            return value
    rd_fail(c)
    return 0


cdef inline void wr_init(out_t* o, uint8_t* p, size_t n) noexcept nogil:
    o.p = p
    o.end = p + n
    o.bad = False

cdef inline bint wr_ok(const out_t* o) noexcept nogil:
    return not o.bad

cdef inline size_t wr_left(const out_t* o) noexcept nogil:
    return <size_t>(o.end - o.p)

# Room for n bytes that the caller fills; NULL when there is less.
cdef inline uint8_t* wr_room(out_t* o, size_t n) noexcept nogil:
    cdef uint8_t* at = o.p
    if o.bad or wr_left(o) < n:
        o.bad = True
        o.p = o.end
        return NULL
    o.p += n
    return at

cdef inline void wr_bytes(out_t* o, const uint8_t* p, size_t n) noexcept nogil:
    cdef uint8_t* at = wr_room(o, n)
    if at != NULL and n:
        memcpy(at, p, n)

cdef inline void wr_u8(out_t* o, uint8_t value) noexcept nogil:
    cdef uint8_t* at = wr_room(o, 1)
    if at != NULL:
        at[0] = value

cdef inline void wr_u16be(out_t* o, uint16_t value) noexcept nogil:
    cdef uint8_t* at = wr_room(o, 2)
    if at != NULL:
        at[0] = <uint8_t>(value >> 8)
        at[1] = <uint8_t>(value & 0xFF)

cdef inline void wr_u32be(out_t* o, uint32_t value) noexcept nogil:
    cdef uint8_t* at = wr_room(o, 4)
    if at != NULL:
        at[0] = <uint8_t>(value >> 24)
        at[1] = <uint8_t>((value >> 16) & 0xFF)
        at[2] = <uint8_t>((value >> 8) & 0xFF)
        at[3] = <uint8_t>(value & 0xFF)

cdef inline void wr_u64be(out_t* o, uint64_t value) noexcept nogil:
    wr_u32be(o, <uint32_t>(value >> 32))
    wr_u32be(o, <uint32_t>value)

cdef inline size_t varint_size(uint64_t value) noexcept nogil:
    cdef size_t n = 1
    while value >= 0x80:
        value >>= 7
        n += 1
    return n

# Values of 2^63 and more have no encoding: the writer goes bad.
cdef inline void wr_varint(out_t* o, uint64_t value) noexcept nogil:
    cdef uint8_t* at
    if value >> 63:
        wr_room(o, <size_t>-1)
        return
    at = wr_room(o, varint_size(value))
    if at == NULL:
        return
    while value >= 0x80:
        at[0] = <uint8_t>((value & 0x7F) | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value


def varint_decode(const uint8_t[::1] data not None) -> tuple[int, int] | None:
    """Value of the varint at the start of `data` and its size in bytes; None when it is cut, overlong or too large."""
    cdef cur_t c
    cdef size_t n = <size_t>data.shape[0]
    cdef const uint8_t* start = &data[0] if n else NULL
    cdef uint64_t value
    rd_init(&c, start, n)
    value = rd_varint(&c)
    if not rd_ok(&c):
        return None
    return value, <size_t>(c.p - start)


def varint_encode(uint64_t value) -> bytes:
    """Canonical encoding, 1 to 9 bytes. ValueError for 2^63 and more."""
    cdef uint8_t buffer[VARINT_BYTES_MAX]
    cdef out_t o
    wr_init(&o, buffer, sizeof(buffer))
    wr_varint(&o, value)
    if not wr_ok(&o):
        raise ValueError(f"varint out of range: {value} is not below 2**63")
    return bytes(buffer[:o.p - buffer])


def cursor_read(const uint8_t[::1] data not None, str plan not None) -> tuple[list[int | bytes], int] | None:
    """Drive the cursor from tests and fuzzers. plan: one letter per read.

    b, h, i, q read 1, 2, 4, 8 bytes big-endian; v a varint; s a varint length and that many bytes. Returns the values
    and the number of bytes left, or None when any of them could not be read.
    """
    cdef cur_t c
    cdef size_t n = <size_t>data.shape[0]
    cdef size_t length
    cdef const uint8_t* at
    cdef list values = []
    rd_init(&c, &data[0] if n else NULL, n)
    for letter in plan:
        if letter == "b":
            values.append(rd_u8(&c))
        elif letter == "h":
            values.append(rd_u16be(&c))
        elif letter == "i":
            values.append(rd_u32be(&c))
        elif letter == "q":
            values.append(rd_u64be(&c))
        elif letter == "v":
            values.append(rd_varint(&c))
        elif letter == "s":
            length = <size_t>rd_varint(&c)
            at = rd_bytes(&c, length)
            values.append(b"" if at == NULL else bytes(at[:length]))
        else:
            raise ValueError(f"cursor_read: no such read: {letter!r}")
    if not rd_ok(&c):
        return None
    return values, rd_left(&c)


def cursor_write(size_t room, list values not None) -> bytes | None:
    """The mirror image of cursor_read: (letter, value) pairs into `room` bytes; None when they do not fit.

    v: a varint, None when it is 2^63 or more; s: a varint length and the bytes.
    """
    cdef out_t o
    cdef bytes text
    cdef bytearray buffer = bytearray(room + 1)
    cdef uint8_t* start = <uint8_t*>buffer
    wr_init(&o, start, room)
    for letter, value in values:
        if letter == "b":
            wr_u8(&o, value)
        elif letter == "h":
            wr_u16be(&o, value)
        elif letter == "i":
            wr_u32be(&o, value)
        elif letter == "q":
            wr_u64be(&o, value)
        elif letter == "v":
            wr_varint(&o, value)
        else:
            text = value
            wr_varint(&o, <uint64_t>len(text))
            wr_bytes(&o, <const uint8_t*>text, <size_t>len(text))
    return bytes(buffer[:o.p - start]) if wr_ok(&o) else None
