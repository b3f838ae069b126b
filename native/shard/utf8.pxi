# UTF-8, checked where text enters: what is stored and pushed to others must be decodable by all of them.
#
# Eight ASCII bytes at a time, because most text is; the rest byte by byte after the table of the Unicode standard
# (3-7, well-formed sequences): no overlong forms, no surrogates, nothing above U+10FFFF.

cdef inline bint utf8_is_tail(uint8_t byte) noexcept nogil:
    return (byte & 0xC0) == 0x80

# Size of the well-formed sequence at p that starts with a byte above 0x7F; 0 when there is none.
cdef size_t utf8_sequence(const uint8_t* p, size_t left) noexcept nogil:
    cdef uint8_t first = p[0]
    cdef uint8_t low = 0x80, high = 0xBF
    if 0xC2 <= first <= 0xDF:
        return 2 if left >= 2 and utf8_is_tail(p[1]) else 0
    if 0xE0 <= first <= 0xEF:
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
        return 3 if left >= 3 and low <= p[1] <= high and utf8_is_tail(p[2]) else 0
    if 0xF0 <= first <= 0xF4:
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
        return 4 if left >= 4 and low <= p[1] <= high and utf8_is_tail(p[2]) and utf8_is_tail(p[3]) else 0
    return 0

cdef bint utf8_is_valid(const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t at = 0, step
    cdef uint64_t word
    while at < n:
        if p[at] < 0x80:
            at += 1
            while n - at >= 8:
                memcpy(&word, p + at, 8)
                if word & <uint64_t>0x8080808080808080ULL:
                    break
                at += 8
            continue
        step = utf8_sequence(p + at, n - at)
        if step == 0:
            return False
        at += step
    return True
