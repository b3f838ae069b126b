/* Bytes of the lite client: a checked reader and a frame writer over the caller's buffers. */
#ifndef CHATD_LITE_WIRE_H
#define CHATD_LITE_WIRE_H
#include "chatd_schema.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HEADER CHATD_FRAME_HEADER_BYTES

/* ---- reading: a cursor that cannot pass its end; any violation sticks in bad ---- */
struct reader { const uint8_t *p, *end; int bad; };

static inline uint64_t read_fixed(struct reader *r, size_t n) {
    uint64_t v = 0;
    if ((size_t)(r->end - r->p) < n) { r->bad = 1; return 0; }
    while (n--) v = v << 8 | *r->p++;
    return v;
}

static inline uint64_t read_varint(struct reader *r) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (r->p == r->end) break;
        uint8_t byte = *r->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            if (shift && !byte) break; /* overlong */
            return v;
        }
    }
    r->bad = 1;
    return 0;
}

static inline const uint8_t *read_bytes(struct reader *r, size_t *n) {
    uint64_t length = read_varint(r);
    const uint8_t *start = r->p;
    if (r->bad || length > (uint64_t)(r->end - r->p)) { r->bad = 1; *n = 0; return r->p; }
    *n = (size_t)length;
    r->p += length;
    return start;
}

static inline void read_copy(struct reader *r, uint8_t *to, size_t room, size_t *n) {
    const uint8_t *from = read_bytes(r, n);
    if (*n > room) { r->bad = 1; *n = 0; return; }
    memcpy(to, from, *n);
}

/* An extension block may precede the payload: even tags are skipped, an odd one this client does not know is an error. */
static inline void read_extensions(struct reader *r, uint8_t flags) {
    size_t n;
    if (!(flags & CHATD_FLAG_EXT)) return;
    const uint8_t *block = read_bytes(r, &n);
    struct reader e = {block, block + n, r->bad};
    while (!e.bad && e.p < e.end) {
        uint64_t tag = read_varint(&e);
        (void)read_bytes(&e, &n);
        if (tag & 1) e.bad = 1;
    }
    r->bad |= e.bad;
}

/* ---- writing: a frame is built at the end of a buffer and counts only when it fitted ---- */
struct writer { uint8_t *start, *p, *end; int full; };

static inline void put_fixed(struct writer *w, uint64_t v, size_t n) {
    if ((size_t)(w->end - w->p) < n) { w->full = 1; return; }
    while (n--) *w->p++ = (uint8_t)(v >> (8 * n));
}

static inline void put_varint(struct writer *w, uint64_t v) {
    do {
        put_fixed(w, (v & 0x7f) | (v > 0x7f ? 0x80 : 0), 1);
        v >>= 7;
    } while (v);
}

static inline void put_raw(struct writer *w, const void *data, size_t n) {
    if ((size_t)(w->end - w->p) < n) { w->full = 1; return; }
    if (n) memcpy(w->p, data, n);
    w->p += n;
}

static inline void put_bytes(struct writer *w, const void *data, size_t n) {
    put_varint(w, n);
    put_raw(w, data, n);
}

static inline struct writer frame_in(uint8_t *start, uint8_t *end, uint8_t op, uint8_t flags) {
    struct writer w = {start, start, end, 0};
    put_fixed(&w, 0, 2);
    put_fixed(&w, op, 1);
    put_fixed(&w, flags, 1);
    return w;
}

static inline size_t frame_end(struct writer *w) {
    if (w->full) return 0;
    size_t body = (size_t)(w->p - w->start) - HEADER;
    w->start[0] = (uint8_t)(body >> 8);
    w->start[1] = (uint8_t)body;
    return body + HEADER;
}
#endif
