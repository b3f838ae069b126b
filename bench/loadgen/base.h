/* What every file of the generator uses: time, bytes, and the one way to give up. */
#ifndef LOADGEN_BASE_H
#define LOADGEN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* A run that cannot be trusted must not print figures: message to stderr, exit status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory lives until the process ends; running out of it is the end of the run. */
void *allocate(size_t count, size_t size_bytes);
void *enlarge(void *memory, size_t size_bytes);

static inline uint16_t read_u16(const uint8_t *from) {
    return (uint16_t)(from[0] << 8 | from[1]);
}

static inline uint8_t *write_u16(uint8_t *to, size_t value) {
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
    return to + 2;
}

static inline uint8_t *write_varint(uint8_t *to, uint64_t value) {
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

/* Returns the byte after the varint, or NULL when it does not end before `end` or within 9 bytes. */
static inline const uint8_t *read_varint(const uint8_t *from, const uint8_t *end, uint64_t *value) {
    uint64_t sum = 0;
    for (unsigned shift = 0; from < end && shift < 63; shift += 7) {
        sum |= (uint64_t)(*from & 0x7F) << shift;
        if (*from++ < 0x80) {
            *value = sum;
            return from;
        }
    }
    return NULL;
}

#endif
